"""Items of schedules, and their number: a tenant never has more than its limit, however many are created at once."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from botocore.exceptions import ClientError

from tasklatch.domain.errors import ConflictError
from tasklatch.domain.schedule import MAX_SCHEDULES, Schedule, ScheduleContent, ScheduleKind, ScheduleRef
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor
from tasklatch.dynamodb.items import Item, Value, from_item, key_of, primary_key, sort_key_of, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import greater_than, list_query
from tasklatch.dynamodb.transaction import transact
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_COUNT: Final = "scheduleCount"


class ScheduleTable:
    """Store of schedules.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def find(self, ref: ScheduleRef) -> Schedule | None:
        """Read a schedule; None if it does not exist."""
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._table, Key=_key(ref), ConsistentRead=True),
        )
        item = response.get("Item")
        return _schedule_from_item(item) if item else None

    def insert(self, schedule: Schedule) -> bool:
        """Create a schedule; return False if there is one of its name.

        Raises
        ------
        ConflictError
            If the tenant has as many as it can have.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        ref = schedule.ref
        put = {
            "Put": {
                "TableName": self._table,
                "Item": _schedule_to_item(schedule),
                "ConditionExpression": "attribute_not_exists(#pk)",
                "ExpressionAttributeNames": {"#pk": keys.PK},
            }
        }
        counted = self._count(ref, 1, f"attribute_not_exists({_COUNT}) OR {_COUNT} < :limit", MAX_SCHEDULES)
        failed = self._transact(put, counted)
        if failed and not failed[0]:
            raise ConflictError(f"limit reached: {MAX_SCHEDULES} schedules")
        return not failed

    def replace(self, ref: ScheduleRef, content: ScheduleContent, now: int) -> Schedule | None:
        """Replace the content of a schedule and return it; None if it does not exist."""
        assigned = to_item({**_content_values(content), "updatedAt": now})
        removed = () if content.workflow else ("workflowExternalId", "workflowVersion")
        return self._update(ref, ItemUpdate(assigned=assigned, removed=removed))

    def set_paused(self, ref: ScheduleRef, now: int, *, is_paused: bool) -> Schedule | None:
        """Pause or resume a schedule and return it; None if it does not exist."""
        return self._update(ref, ItemUpdate(assigned=to_item({"isPaused": is_paused, "updatedAt": now})))

    def delete(self, ref: ScheduleRef) -> bool:
        """Delete a schedule; return False if it does not exist."""
        delete = {
            "Delete": {
                "TableName": self._table,
                "Key": _key(ref),
                "ConditionExpression": "attribute_exists(#pk)",
                "ExpressionAttributeNames": {"#pk": keys.PK},
            }
        }
        return not self._transact(delete, self._count(ref, -1, f"{_COUNT} > :limit", 0))

    def list_page(
        self, tenant: str, kind: ScheduleKind, *, limit: int, cursor: str | None
    ) -> tuple[list[Schedule], str | None]:
        """List a tenant's schedules by id. The index follows writes within about a second.

        Returns
        -------
        list[Schedule], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        scope = keys.schedule_list(tenant, kind)
        after = "" if cursor is None else decode_cursor(cursor, scope)
        entries = list(islice(self._query_list(scope, after), limit + 1))
        page = entries[:limit]
        item_keys = [key_of(entry) for entry in page]
        read = [_schedule_from_item(item) for item in batch_get(self._client, self._table, item_keys, self._backoff)]
        last = sort_key_of(page[-1], keys.LIST_SORT) if len(entries) > limit else None
        schedules = sorted(read, key=lambda schedule: schedule.ref.schedule_id.encode())
        return schedules, encode_cursor(scope, last) if last is not None else None

    def _query_list(self, list_key: str, after: str) -> Iterator[Item]:
        query = list_query(self._table, list_key, greater_than(after or "\x01"))
        return paginate(self._client, query, self._backoff)

    def _update(self, ref: ScheduleRef, update: ItemUpdate) -> Schedule | None:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _key(ref),
            **update.expressions(),
            "ReturnValues": "ALL_NEW",
        }
        try:
            return _schedule_from_item(self._backoff.run(lambda: self._client.update_item(**request))["Attributes"])
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return None

    def _count(self, ref: ScheduleRef, change: int, condition: str, limit: int) -> Any:
        return {
            "Update": {
                "TableName": self._table,
                "Key": primary_key(keys.schedule_list(ref.tenant, ref.kind), keys.SCHEDULE_COUNT_SK),
                "UpdateExpression": f"SET {_COUNT} = if_not_exists({_COUNT}, :zero) + :change",
                "ConditionExpression": condition,
                "ExpressionAttributeValues": to_item({":zero": 0, ":change": change, ":limit": limit}),
            }
        }

    def _transact(self, *actions: Any) -> list[bool]:
        """Write all or nothing; return, if a condition failed, for each action whether its own did."""
        # The same token for all attempts: one that took effect although its response was lost succeeds again
        return transact(self._client, actions, self._backoff, token=uuid4().hex)


def _key(ref: ScheduleRef) -> Item:
    return primary_key(keys.schedule_pk(ref.tenant, ref.kind, ref.schedule_id), keys.SCHEDULE_SK)


def _content_values(content: ScheduleContent) -> dict[str, Value | None]:
    workflow, version = content.workflow or (None, None)
    return {
        "expressions": list(content.expressions),
        "scheduleZone": content.time_zone,
        "body": content.body,
        "workflowExternalId": workflow,
        "workflowVersion": version,
    }


def _schedule_to_item(schedule: Schedule) -> Item:
    ref = schedule.ref
    values: Mapping[str, Value | None] = {
        **_content_values(schedule.content),
        "tenant": ref.tenant,
        "kind": ref.kind,
        "scheduleId": ref.schedule_id,
        "generation": schedule.generation,
        "definition": schedule.definition,
        "isPaused": schedule.is_paused,
        "createdAt": schedule.created_at,
        "updatedAt": schedule.updated_at,
        keys.LIST_KEY: keys.schedule_list(ref.tenant, ref.kind),
        keys.LIST_SORT: ref.schedule_id,
    }
    return {**_key(ref), **to_item(values)}


def _schedule_from_item(item: Mapping[str, Any]) -> Schedule:
    values = from_item(item)
    workflow = values.get("workflowExternalId")
    return Schedule(
        ref=ScheduleRef(values["tenant"], ScheduleKind(values["kind"]), values["scheduleId"]),
        content=ScheduleContent(
            expressions=tuple(values["expressions"]),
            time_zone=values["scheduleZone"],
            body=values["body"],
            workflow=(workflow, values["workflowVersion"]) if workflow is not None else None,
        ),
        generation=values["generation"],
        definition=values["definition"],
        is_paused=values["isPaused"],
        created_at=values["createdAt"],
        updated_at=values["updatedAt"],
    )
