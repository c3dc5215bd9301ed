"""Agreement of EventBridge Scheduler with the table, which is the truth.

A change of a schedule first puts a check into the queue, then changes the table, then EventBridge Scheduler. Wherever
it stops, the check arrives once no part of it can still be running, and makes EventBridge Scheduler agree. The check of
the last change of a schedule is after all changes, so that the two agree in the end in any order of changes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.domain.schedule import Schedule, ScheduleKind, ScheduleRef, parse_fire_time
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_sqs import SQSClient

CHECK_DELAY_SECONDS: Final = 60
"""Delay of a check: longer than any function runs that changes a schedule, or checks one."""

_FIRE_TIME: Final = "fireTime"
_FIRE_TIME_ATTRIBUTE: Final = "<aws.scheduler.scheduled-time>"
"""EventBridge Scheduler replaces it by the time for which it invokes the target, the same at each repetition."""

_SLOTS: Final = 2
"""Schedules of EventBridge Scheduler that one schedule can need."""

_COMPARED: Final = ("ScheduleExpression", "ScheduleExpressionTimezone", "State")


@dataclass(frozen=True, slots=True)
class ScheduleMessage:
    """Message of the queue: a time of a schedule, or a check.

    Attributes
    ----------
    generation, fire_time
        Generation of the schedule, and the scheduled time in milliseconds; None for a check.
    """

    ref: ScheduleRef
    generation: str | None = None
    fire_time: int | None = None


def parse_message(text: str) -> ScheduleMessage:
    """Return a message of the queue.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the text is no such message.
    """
    values = json.loads(text)
    ref = ScheduleRef(values["tenant"], ScheduleKind(values["kind"]), values["scheduleId"])
    if _FIRE_TIME not in values:
        return ScheduleMessage(ref)
    return ScheduleMessage(ref, values["generation"], parse_fire_time(values[_FIRE_TIME]))


class SchedulerSync:
    """Schedules of EventBridge Scheduler, one or two for each schedule.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(
        self, scheduler: "EventBridgeSchedulerClient", queue: "SQSClient", settings: Settings, backoff: Backoff
    ) -> None:
        self._scheduler = scheduler
        self._queue = queue
        self._settings = settings
        self._backoff = backoff

    def request_check(self, ref: ScheduleRef) -> None:
        """Send a check of a schedule, before the schedule changes.

        Raises
        ------
        ServiceBusyError
            If the queue stays busy until the deadline; nothing may be changed then.
        """
        request: dict[str, Any] = {
            "QueueUrl": self._settings.trigger_queue_url,
            "MessageBody": json.dumps(_ref_values(ref)),
            "DelaySeconds": CHECK_DELAY_SECONDS,
        }
        self._backoff.run(lambda: self._queue.send_message(**request))

    def apply(self, ref: ScheduleRef, schedule: Schedule | None) -> None:
        """Make EventBridge Scheduler agree with a schedule of the table; None if that does not exist.

        A schedule that agrees already stays as it is: an update would begin the intervals of a rate anew.

        Raises
        ------
        ServiceBusyError
            If EventBridge Scheduler stays busy until the deadline.
        """
        expressions = schedule.content.expressions if schedule is not None else ()
        for slot in range(_SLOTS):
            name = _slot_name(ref, slot)
            if schedule is not None and slot < len(expressions):
                self._put(name, self._request(schedule, expressions[slot]))
            else:
                self._delete(name)

    def _request(self, schedule: Schedule, expression: str) -> dict[str, Any]:
        return {
            "ScheduleExpression": expression,
            "ScheduleExpressionTimezone": schedule.content.time_zone,
            "State": "DISABLED" if schedule.is_paused else "ENABLED",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": self._settings.trigger_queue_arn,
                "RoleArn": self._settings.trigger_role_arn,
                "Input": _target_input(schedule),
                "DeadLetterConfig": {"Arn": self._settings.trigger_failures_arn},
            },
        }

    def _put(self, name: str, request: Mapping[str, Any]) -> None:
        names: dict[str, Any] = {"Name": name, "GroupName": self._settings.trigger_group}

        def put() -> None:
            try:
                existing = self._scheduler.get_schedule(**names)
                if not _agrees(existing, request):
                    self._scheduler.update_schedule(**names, **request)
            except ClientError as error:
                _check_missing(error)
                self._scheduler.create_schedule(**names, **request)

        self._backoff.run(partial(_again_after_conflict, put))

    def _delete(self, name: str) -> None:
        def delete() -> None:
            try:
                self._scheduler.delete_schedule(Name=name, GroupName=self._settings.trigger_group)
            except ClientError as error:
                _check_missing(error)

        self._backoff.run(partial(_again_after_conflict, delete))


def _again_after_conflict(change: Callable[[], None]) -> None:
    """Make a change; if another one of the same schedule is under way, have it made again."""
    try:
        change()
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConflictException":
            raise TryAgainError from error
        raise


def _check_missing(error: ClientError) -> None:
    """Raise the error again unless it is that of a schedule that does not exist."""
    if error.response["Error"]["Code"] != "ResourceNotFoundException":
        raise error


def _agrees(existing: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    return existing["Target"]["Input"] == request["Target"]["Input"] and all(
        existing.get(name) == request[name] for name in _COMPARED
    )


def _slot_name(ref: ScheduleRef, slot: int) -> str:
    digest = sha256(f"{ref.tenant}\0{ref.kind}\0{ref.schedule_id}".encode()).hexdigest()
    return f"{digest[:48]}-{slot}"


def _ref_values(ref: ScheduleRef) -> dict[str, str]:
    return {"tenant": ref.tenant, "kind": ref.kind, "scheduleId": ref.schedule_id}


def _target_input(schedule: Schedule) -> str:
    """Return the input of a target; names in it cannot be read as attributes to be replaced."""
    values = {**_ref_values(schedule.ref), "generation": schedule.generation}
    text = json.dumps(values).replace("<", "\\u003c")
    return f'{text[:-1]}, "{_FIRE_TIME}": "{_FIRE_TIME_ATTRIBUTE}"}}'
