"""History of schedules: what became of each time, written once."""

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from tasklatch.domain.schedule import Firing, Schedule
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_item, primary_key, sort_key_of, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import less_than, partition_query
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class ScheduleHistory:
    """Store of the results of schedules.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._backoff = backoff

    def has(self, schedule: Schedule, fire_time: int) -> bool:
        """Return True if the result of a time (milliseconds since the epoch) is recorded."""
        key = _key(schedule, fire_time)
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        return "Item" in response

    def record(self, schedule: Schedule, firing: Firing, now: int) -> None:
        """Record the result of a time; the first one stays.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        workflow, version = firing.workflow or (None, None)
        values = {
            "fireTime": firing.fire_time,
            "executionId": firing.execution_id,
            "reason": firing.reason,
            "workflowExternalId": workflow,
            "workflowVersion": version,
        }
        item = with_expiry(
            {**_key(schedule, firing.fire_time), **to_item(values)},
            self._settings.expires_at(now),
        )
        self._backoff.run_conditional(
            lambda: self._client.put_item(
                TableName=self._settings.table_name,
                Item=item,
                ConditionExpression="attribute_not_exists(#pk)",
                ExpressionAttributeNames={"#pk": keys.PK},
            ),
        )

    def list_page(self, schedule: Schedule, *, limit: int, cursor: str | None) -> tuple[list[Firing], str | None]:
        """List the results of a schedule, newest first.

        Returns
        -------
        list[Firing], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        pk = _pk(schedule)
        before = "~" if cursor is None else decode_cursor(cursor, pk)
        query = partition_query(self._settings.table_name, pk, less_than(before))
        query |= {"ScanIndexForward": False, "Limit": limit + 1}
        items = list(islice(paginate(self._client, query, self._backoff), limit + 1))
        more = len(items) > limit
        page = items[:limit]
        return [_firing_from_item(item) for item in page], encode_cursor(pk, sort_key_of(page[-1])) if more else None


def _key(schedule: Schedule, fire_time: int) -> Item:
    return primary_key(_pk(schedule), keys.firing_sk(fire_time))


def _pk(schedule: Schedule) -> str:
    ref = schedule.ref
    return keys.firings_pk(ref.tenant, ref.kind, ref.schedule_id, schedule.generation)


def _firing_from_item(item: Mapping[str, Any]) -> Firing:
    values = from_item(item)
    workflow = values.get("workflowExternalId")
    return Firing(
        fire_time=values["fireTime"],
        execution_id=values.get("executionId"),
        reason=values.get("reason"),
        workflow=(workflow, values["workflowVersion"]) if workflow is not None else None,
    )
