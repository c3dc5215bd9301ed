"""Changes that were never published, because the stream's record of them was lost or discarded.

The publisher writes a change into the history after the bus has it, so a change without an entry was not published.
Only the last change of a task can be published from the table.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasklatch.domain.changes import Change
from tasklatch.domain.overdue import LOST_CHANGE_MS, STREAM_MS
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.items import key_texts, primary_key
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class LostChanges:
    """Publication of the last changes of tasks, where the stream did not bring it about.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        publisher: ChangePublisher,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._table = settings.table_name
        self._publisher = publisher
        self._clock = clock
        self._backoff = backoff

    def publish(self, tasks: Sequence[Task]) -> tuple[int, int]:
        """Publish the last changes of tasks that are lost.

        A change is lost if it is `LOST_CHANGE_MS` old and was not published although the change before it was. While
        that one is missing too, the stream may only be late, and the order of changes would break; after `STREAM_MS`
        the stream has none of them. What a later version of the service stored is left to that version.

        Returns
        -------
        int, int
            The changes that were published now, and those of which it is not certain yet that they were.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline.
        """
        now = self._clock()
        own = [task for task in tasks if not task.is_of_later_version]
        late = [task for task in own if now - task.updated_at > LOST_CHANGE_MS]
        missing = self._unpublished(late, 0)
        waiting = self._unpublished([task for task in missing if task.version > 1], 1)
        lost = [task for task in missing if task not in waiting or now - task.updated_at > STREAM_MS]
        if lost:
            self._publisher.publish([Change(task, None) for task in lost])
        return len(lost), len(tasks) - len(late) + len(missing) - len(lost)

    def _unpublished(self, tasks: Iterable[Task], versions_before: int) -> list[Task]:
        """Return the tasks of which the history has no entry of the last version, or of one before it."""
        entries = {_entry_key(task, versions_before): task for task in tasks}
        item_keys = [primary_key(pk, sk) for pk, sk in entries]
        items = batch_get(self._client, self._table, item_keys, self._backoff)
        published = {key_texts(item) for item in items}
        return [task for key, task in entries.items() if key not in published]


def _entry_key(task: Task, versions_before: int) -> tuple[str, str]:
    pk = keys.history_pk(task.tenant, task.execution_id, task.task_id)
    return pk, keys.history_sk(task.version - versions_before)
