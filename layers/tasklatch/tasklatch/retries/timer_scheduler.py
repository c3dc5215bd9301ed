"""Timers: messages that come back through one queue when they are due.

SQS delays a message by at most 15 minutes, exact to the second; EventBridge Scheduler has no such limit, but is exact
only to the minute. So a longer timer is scheduled to reach the queue well before it is due, and the queue delays it for
the rest. No timer is ever cancelled.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.domain.timer import Timer, TimerKind
from tasklatch.dynamodb.batch_write import batched
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_sqs import SQSClient

LONGEST_DELAY_MS: Final = 900_000
_EARLY_MS: Final = 300_000
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
    """Scheduler of timers, by SQS and EventBridge Scheduler.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(
        self,
        queue: "SQSClient",
        scheduler: "EventBridgeSchedulerClient",
        settings: Settings,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._queue = queue
        self._scheduler = scheduler
        self._settings = settings
        self._clock = clock
        self._backoff = backoff

    def schedule(self, timers: Sequence[Timer]) -> None:
        """Schedule timers; the same timer twice does no harm.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline; some timers may be scheduled.
        """
        now = self._clock()
        near = [timer for timer in timers if timer.due - now <= LONGEST_DELAY_MS]
        for chunk in batched(near, _MESSAGES_A_CALL):
            self._send(chunk, now)
        for timer in timers:
            if timer.due - now > LONGEST_DELAY_MS:
                self._schedule(timer)

    def _send(self, timers: Sequence[Timer], now: int) -> None:
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

        self._backoff.run(send)

    def _schedule(self, timer: Timer) -> None:
        self._settings.check_set("timer_queue_arn", "schedule_group", "schedule_role_arn")
        text = timer_to_message(timer)
        # The name is derived from the timer, so a repeat meets the same schedule
        name = f"{timer.kind}-{sha256(text.encode()).hexdigest()[:48]}"
        at = datetime.fromtimestamp((timer.due - _EARLY_MS) / 1000, UTC)
        create = partial(
            self._scheduler.create_schedule,
            Name=name,
            GroupName=self._settings.schedule_group,
            ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={
                "Arn": self._settings.timer_queue_arn,
                "RoleArn": self._settings.schedule_role_arn,
                "Input": text,
            },
        )
        try:
            self._backoff.run(create)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConflictException":
                raise
