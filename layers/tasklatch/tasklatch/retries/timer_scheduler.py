"""Timers: messages that come back through one queue when they are due.

SQS delays a message by at most 15 minutes, exact to the second. So a longer timer waits on a list in the table
(`tasklatch.retries.due_list`), from which a sweep sends it to the queue well before it is due, and the queue delays it
for the rest. A message in the queue is never cancelled.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.timer import Timer, TimerKind
from tasklatch.dynamodb.batch_write import batched
from tasklatch.retries.due_list import DueList
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

LONGEST_DELAY_MS: Final = 900_000
_MESSAGES_A_CALL: Final = 10


def timer_to_message(timer: Timer) -> str:
    """Return a timer as the JSON text of its message."""
    return json.dumps(
        {
            "kind": timer.kind,
            "tenant": timer.tenant,
            "executionId": timer.execution_id,
            "taskId": timer.task_id,
            "attempt": timer.attempt,
            "due": timer.due,
        },
        ensure_ascii=False,
    )


def timer_from_message(text: str) -> Timer:
    """Parse a timer's message.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the text is not a timer's message.
    """
    message: Mapping[str, Any] = json.loads(text)
    return Timer(
        kind=TimerKind(message["kind"]),
        tenant=message["tenant"],
        execution_id=message["executionId"],
        task_id=message["taskId"],
        attempt=int(message["attempt"]),
        due=int(message["due"]),
    )


class TimerScheduler:
    """Scheduler of timers: soon ones in the queue, later ones on the list.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(
        self, queue: "SQSClient", due_list: DueList, settings: Settings, clock: Clock, backoff: Backoff
    ) -> None:
        self._queue = queue
        self._due_list = due_list
        self._settings = settings
        self._clock = clock
        self._backoff = backoff

    def schedule(self, timers: Sequence[Timer]) -> list[Timer]:
        """Schedule timers, those for the queue first; the same timer twice does no harm.

        Returns
        -------
        list[Timer]
            The timers that a busy service did not take; all others are scheduled.
        """
        now = self._clock()
        near = [timer for timer in timers if timer.due - now <= LONGEST_DELAY_MS]
        far = [timer for timer in timers if timer.due - now > LONGEST_DELAY_MS]
        left = map_concurrently(partial(self._send, now), batched(near, _MESSAGES_A_CALL))
        left += map_concurrently(self._list, far)
        return [timer for some in left for timer in some]

    def _send(self, now: int, timers: Sequence[Timer]) -> Sequence[Timer]:
        """Send timers to the queue; return those that it did not take."""
        entries: list[Any] = [
            {
                "Id": str(index),
                "MessageBody": timer_to_message(timer),
                "DelaySeconds": max(ceil((timer.due - now) / 1000), 0),
            }
            for index, timer in enumerate(timers)
        ]

        def send() -> None:
            nonlocal entries
            response = self._queue.send_message_batch(QueueUrl=self._settings.timer_queue_url, Entries=entries)
            failed = {failure["Id"] for failure in response.get("Failed", [])}
            entries = [entry for entry in entries if entry["Id"] in failed]
            if entries:
                raise TryAgainError

        try:
            self._backoff.run(send)
        except ServiceBusyError:
            return [timers[int(entry["Id"])] for entry in entries]
        return ()

    def _list(self, timer: Timer) -> Sequence[Timer]:
        """Put a timer on the list; return it if the table did not take it."""
        try:
            self._due_list.add(timer)
        except ServiceBusyError:
            return (timer,)
        return ()
