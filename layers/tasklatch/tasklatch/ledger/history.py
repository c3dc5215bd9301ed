"""History of a task: each change, and each report that changed nothing, with its verdict.

Changes come from the table's stream and are keyed by version. Ignored reports are written before their response is
sent, and are keyed by the task's version at that time and the report's fingerprint. So a repeat of either writes the
same item again. Reports with ever different content are stored up to a limit for each version.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasklatch.domain.failure import FailureReason
from tasklatch.domain.history import MAX_IGNORED_ENTRIES, HistoryEntry
from tasklatch.domain.later_values import read_value
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor
from tasklatch.dynamodb.items import Item, from_item, key_texts, primary_key, sort_key_of, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import begins_with, partition_query
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class History:
    """Store of the history entries.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._backoff = backoff

    def put(self, entries: Iterable[tuple[Task, HistoryEntry]]) -> None:
        """Store entries, each paired with its task; the same entry twice is stored once.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some entries may be stored.
        """
        items = {key_texts(item): item for item in (self._item(task, entry) for task, entry in entries)}
        batch_put(self._client, self._settings.table_name, list(items.values()), self._backoff)

    def put_ignored(self, ignored: Sequence[tuple[Task, HistoryEntry]]) -> list[bool]:
        """Store ignored reports, each with its task, up to about `MAX_IGNORED_ENTRIES` for one version of a task.

        Requests that are handled at the same moment may each store one more.

        Returns
        -------
        list
            For each report, in order, True if it is stored.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some may be stored.
        """
        stored = map_concurrently(lambda pair: self._has_room(*pair), ignored)
        self.put(pair for pair, is_stored in zip(ignored, stored, strict=True) if is_stored)
        return stored

    def _has_room(self, task: Task, entry: HistoryEntry) -> bool:
        """Return True if the entry may be stored: a repeat of the deciding report always may, as it has one key."""
        if entry.fingerprint == task.outcome:
            return True
        pk = keys.history_pk(task.tenant, task.execution_id, task.task_id)
        query = partition_query(self._settings.table_name, pk, begins_with(keys.ignored_prefix(entry.version)))
        query |= {"Select": "COUNT", "Limit": MAX_IGNORED_ENTRIES}
        count: int = self._backoff.run(lambda: self._client.query(**query))["Count"]
        return count < MAX_IGNORED_ENTRIES

    def list_entries(
        self, tenant: str, execution_id: str, task_id: str, *, limit: int, cursor: str | None
    ) -> tuple[Sequence[HistoryEntry], str | None]:
        """List a task's entries, oldest first.

        Returns
        -------
        Sequence[HistoryEntry], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        pk = keys.history_pk(tenant, execution_id, task_id)
        query = {**partition_query(self._settings.table_name, pk), "Limit": limit}
        if cursor is not None:
            sk = decode_cursor(cursor, pk)
            query["ExclusiveStartKey"] = primary_key(pk, sk)
        response = self._backoff.run(lambda: self._client.query(**query))
        last_key = response.get("LastEvaluatedKey")
        next_cursor = encode_cursor(pk, sort_key_of(last_key)) if last_key else None
        return [_entry_from_item(item) for item in response["Items"]], next_cursor

    def last_change(self, tenant: str, execution_id: str, task_id: str, attempt: int) -> HistoryEntry | None:
        """Return the last change of one attempt; None while the history has no change of it yet.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        query = partition_query(self._settings.table_name, keys.history_pk(tenant, execution_id, task_id))
        query |= {"FilterExpression": "attempt = :attempt AND verdict = :applied", "ScanIndexForward": False}
        query["ExpressionAttributeValues"] |= to_item({":attempt": attempt, ":applied": Verdict.APPLIED})
        items = paginate(self._client, query, self._backoff)
        return next(map(_entry_from_item, items), None)

    def _item(self, task: Task, entry: HistoryEntry) -> Item:
        values = {
            "version": entry.version,
            "at": entry.at,
            "attempt": entry.attempt,
            "verdict": entry.verdict,
            "status": entry.status,
            "previousStatus": entry.previous_status,
            "failureReason": entry.failure_reason,
            "message": entry.message,
            "label": entry.platform_status,
            "receipt": entry.request_id,
            "client": entry.reported_by,
            "outputAttempt": entry.output_attempt,
            "outputFingerprint": entry.output_fingerprint,
            "expiresAt": self._settings.expires_at(entry.at),
        }
        pk = keys.history_pk(task.tenant, task.execution_id, task.task_id)
        return {**primary_key(pk, keys.history_sk(entry.version, entry.fingerprint)), **to_item(values)}


def _entry_from_item(item: Item) -> HistoryEntry:
    values = from_item(item)
    previous, reason = values.get("previousStatus"), values.get("failureReason")
    return HistoryEntry(
        version=values["version"],
        verdict=read_value(Verdict, values["verdict"]),
        status=read_value(TaskStatus, values["status"]),
        attempt=values.get("attempt"),
        at=values["at"],
        previous_status=read_value(TaskStatus, previous) if previous else None,
        failure_reason=read_value(FailureReason, reason) if reason else None,
        message=values.get("message"),
        platform_status=values.get("label"),
        request_id=values.get("receipt"),
        reported_by=values.get("client"),
        output_attempt=values.get("outputAttempt"),
        output_fingerprint=values.get("outputFingerprint"),
    )
