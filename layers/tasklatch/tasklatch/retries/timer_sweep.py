"""Sweep of the list of timers: sends those that are due soon to their queue, and takes them off the list.

It has no position to keep. What was sent is no longer on the list, so a sweep that is interrupted, or that runs beside
another, leaves the rest to the next, and no entry is passed over because it came into the index late.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasklatch.domain.timer import Timer, timer_for
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.items import Item, key_of, sort_key_of
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.retries.due_list import DueList
from tasklatch.retries.timer_scheduler import TimerScheduler
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.observability import logger
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AHEAD_MS: Final = 600_000
"""Time in milliseconds that a timer is sent before it is due. Sweeps may fail for this long, and no timer is late."""


@dataclass(slots=True)
class SweepSummary:
    """Counts of one sweep.

    Attributes
    ----------
    sent
        Timers that were scheduled, and entries whose tasks need no timer any more.
    left
        Timers that a busy service did not take; they stay on the list.
    faults
        Entries whose tasks cannot be read; they stay on the list.
    """

    sent: int = 0
    left: int = 0
    faults: int = 0


class TimerSweep:
    """Sweep of all shards of the list.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        due_list: DueList,
        timers: TimerScheduler,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._table = settings.table_name
        self._due_list = due_list
        self._timers = timers
        self._clock = clock
        self._backoff = backoff

    def run(self, has_time: Iterable[bool]) -> SweepSummary:
        """Send what is due, a page of each shard in turn, so that no shard waits for the whole of another.

        Parameters
        ----------
        has_time
            Yields one value for each page that there is still time for.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; the next sweep starts with what is left.
        """
        summary = SweepSummary()
        until = self._clock() + AHEAD_MS
        waiting: deque[tuple[int, Item | None]] = deque((shard, None) for shard in range(keys.SHARDS))
        for _ in has_time:
            shard, start = waiting.popleft()
            entries, start = self._due_list.read_page(shard, until, start)
            self._send(entries, summary)
            if start is not None:
                waiting.append((shard, start))
            if not waiting:
                break
        return summary

    def _send(self, entries: Sequence[Item], summary: SweepSummary) -> None:
        item_keys = [key_of(entry) for entry in entries]
        ready: dict[Timer | None, list[Item]] = defaultdict(list)
        for item in batch_get(self._client, self._table, item_keys, self._backoff):
            # The index can lag: a task that is not listed any more has its timer already, or needs none
            if keys.DUE_SORT not in item:
                continue
            try:
                task = task_from_item(item)
                # What a later version stored stays on the list for that version
                if not task.is_of_later_version:
                    ready[timer_for(task)].append(item)
            except (AttributeError, KeyError, TypeError, ValueError):
                logger.exception("invalid task on the list of timers", extra={"task": sort_key_of(item)})
                summary.faults += 1
        left = self._timers.schedule([timer for timer in ready if timer is not None])
        for timer in left:
            del ready[timer]
        done = [item for items in ready.values() for item in items]
        self._due_list.remove(done)
        summary.sent += len(done)
        summary.left += len(left)
