"""Checks after a run with faults: the outcome of the same run without them, and the promises themselves."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasklatch.dynamodb import keys
from tests.fault_injection.records import AcknowledgedReport, RecordedResponse
from tests.fault_injection.stream_failures import each_unreadable_record_is_kept_once
from tests.fault_injection.whole_service import WholeService

_TIMES: Final = frozenset(
    {
        "at",
        "createdAt",
        "deletedAt",
        "dueSort",
        "endedAt",
        "expiresAt",
        "heartbeatAt",
        "scheduledAt",
        "startedAt",
        "updatedAt",
    }
)
# Id of the request that wrote it; and the number of additions of tasks, which counts a repeated one twice
_NOT_COMPARED: Final = _TIMES | {"additions", "receipt"}
_OF_WATCHERS: Final = ("TICKET#", "LIVE#", "CONNECTION#", "RECONCILER")
_HISTORY: Final = "HIST#"
_STORED_STATUSES: Final = {"FAILED": ("FAILED", "FAILED_WITH_TERMINAL_ERROR")}
"""A failure whose reason is not retried is stored as a terminal error."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run: the table and the published events, without times and request ids."""

    items: Mapping[tuple[str, str], str]
    statuses: Mapping[tuple[str, str], str]
    history: Counter[tuple[str, str]]
    events: frozenset[str]
    messages: frozenset[str]
    watchers: int
    answers: tuple[RecordedResponse, ...]
    schedules: frozenset[str]


def outcome_of(service: WholeService) -> Outcome:
    """Read the outcome of a run."""
    items: dict[tuple[str, str], str] = {}
    statuses: dict[tuple[str, str], str] = {}
    history: Counter[tuple[str, str]] = Counter()
    for item in service.items():
        pk, sk = item[keys.PK]["S"], item[keys.SK]["S"]
        stored = {name: value for name, value in item.items() if name not in _NOT_COMPARED}
        if pk.startswith(_HISTORY):
            history[pk, _text({name: value for name, value in stored.items() if name != keys.SK})] += 1
        elif not pk.startswith(_OF_WATCHERS):
            items[pk, sk] = _text(stored)
            if "status" in item:
                statuses[pk, sk] = item["status"]["S"]
    return Outcome(
        items=items,
        statuses=statuses,
        history=history,
        events=frozenset(_text(_without_times(event)) for event in service.aws.events),
        messages=frozenset(
            _text(_without_times(message)) for name, message in service.aws.messages if name in service.aws.connected
        ),
        watchers=len(service.aws.connected),
        answers=tuple(service.answers),
        schedules=frozenset(_schedule_text(item) for item in service.aws.schedules().values()),
    )


def differences(expected: Outcome, result: Outcome, service: WholeService) -> Iterator[str]:
    """Return all differences from the run without faults.

    A person's retry that was interrupted half way, and sent again, may meet tasks that have been granted an attempt
    already, and grants them one more: their numbers differ then, and the statuses alone are compared.
    """
    if any(answered.was_resent and answered.route.endswith("/retry") for answered in result.answers):
        yield from (
            f"{key} is {result.statuses.get(key)}, not {status}"
            for key, status in expected.statuses.items()
            if result.statuses.get(key) != status
        )
        return
    for key in sorted(expected.items.keys() | result.items.keys()):
        if expected.items.get(key) != result.items.get(key):
            yield f"{key} is {result.items.get(key)}, not {expected.items.get(key)}"
    yield from (f"the history lacks {entry}" for entry in expected.history - result.history)
    extra = Counter(result.history - expected.history)
    for pk, text in _of_resent_requests(service):
        extra[pk, text] -= 1
    yield from (f"the history has {entry}, which no worker sent" for entry, count in extra.items() if count > 0)
    yield from (f"not published: {event}" for event in expected.events - result.events)
    yield from (f"published without a change: {event}" for event in result.events - expected.events)
    yield from (f"the scheduler lacks {schedule}" for schedule in expected.schedules - result.schedules)
    yield from (f"the scheduler has {schedule}" for schedule in result.schedules - expected.schedules)
    if result.watchers:
        yield from (f"a watcher did not receive {message}" for message in expected.messages - result.messages)
    for planned, answered in zip(expected.answers, result.answers, strict=False):
        was_alone = not answered.was_resent and planned.route == answered.route
        # A repeated creation that meets the execution of its own lost call is answered 200 instead of 201
        is_same = planned.status == answered.status or {planned.status, answered.status} == {200, 201}
        if was_alone and not (is_same and planned.verdicts == answered.verdicts):
            yield f"{answered.route} was answered {answered}, not {planned}"


def broken_promises(service: WholeService) -> Iterator[str]:
    """Return each promise that a run has broken, whatever else it did."""
    yield from success_is_final(service.aws.stream)
    yield from each_attempt_is_opened_once(service.aws.stream)
    yield from acknowledged_reports_are_in_the_history(service.acknowledged, service.items())
    yield from no_change_is_claimed_twice(service.acknowledged)
    yield from changes_are_published_in_order(service.aws.events)
    yield from each_unreadable_record_is_kept_once(service.aws.stream, service.aws.objects)
    yield from (
        f"{name} was told nothing and is still connected" for name in service.aws.silent & service.aws.connected
    )


def success_is_final(stream: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Check that no change of a task follows its success."""
    for record in _task_changes(stream):
        old, new = record.get("OldImage"), record["NewImage"]
        if old is not None and old["status"]["S"] == "COMPLETED" and new["status"]["S"] != "COMPLETED":
            yield f"{new['taskId']['S']} was COMPLETED, then became {new['status']['S']}"


def each_attempt_is_opened_once(stream: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Check that no attempt is scheduled twice, nor after one that followed it."""
    opened: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in _task_changes(stream):
        old, new = record.get("OldImage"), record["NewImage"]
        if new["status"]["S"] == "SCHEDULED" and (old is None or old["version"] != new["version"]):
            opened[new[keys.PK]["S"], new["taskId"]["S"]].append(int(new["attempt"]["N"]))
    for task, attempts in opened.items():
        if attempts != sorted(set(attempts)):
            yield f"the attempts of {task} were opened as {attempts}"


def acknowledged_reports_are_in_the_history(
    messages: Iterable[AcknowledgedReport], items: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Check that each report that was answered is in its task's history, with the response's verdict and version."""
    stored: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for item in items:
        if item[keys.PK]["S"].startswith(_HISTORY):
            stored[item[keys.PK]["S"], item["verdict"]["S"], item["version"]["N"]].add(item["status"]["S"])
    for message in messages:
        pk = keys.history_pk("default", message.execution_id, message.task_id)
        if stored[pk, message.verdict, str(message.version)].isdisjoint(
            _STORED_STATUSES.get(message.status, (message.status,))
        ):
            yield f"{message} was acknowledged and is missing"


def no_change_is_claimed_twice(messages: Iterable[AcknowledgedReport]) -> Iterator[str]:
    """Check that no two reports were answered with the same version as their own change."""
    claims = Counter(
        (message.execution_id, message.task_id, message.version) for message in messages if message.verdict == "applied"
    )
    yield from (f"{claim} was claimed by {count} reports" for claim, count in claims.items() if count > 1)


def changes_are_published_in_order(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Check that a consumer that drops older versions sees each task's versions in order, and none left out."""
    latest: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        detail = event["detail"]
        name = (detail["executionId"], detail.get("taskId", ""))
        if detail["version"] > latest[name] + 1:
            yield f"{name} was published at version {detail['version']} after {latest[name]}"
        latest[name] = max(latest[name], detail["version"])


def _task_changes(stream: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for record in stream:
        messages = record["dynamodb"]
        if messages["Keys"][keys.SK]["S"].startswith(keys.TASK_PREFIX) and "NewImage" in messages:
            yield messages


def _of_resent_requests(service: WholeService) -> Iterator[tuple[str, str]]:
    """Return the entries of reports that were ignored because the same had been sent before."""
    for item in service.items():
        pk = item[keys.PK]["S"]
        request_id = item.get("receipt", {}).get("S", "").partition("#")[0]
        if pk.startswith(_HISTORY) and item["verdict"]["S"] != "applied" and request_id in service.resent:
            stored = {name: value for name, value in item.items() if name not in {*_NOT_COMPARED, keys.SK}}
            yield pk, _text(stored)


def _schedule_text(schedule: Mapping[str, Any]) -> str:
    fields = ("Name", "ScheduleExpression", "ScheduleExpressionTimezone", "State", "Target")
    return _text({name: schedule[name] for name in fields})


def _without_times(messages: Any) -> Any:
    if isinstance(messages, dict):
        return {name: _without_times(value) for name, value in messages.items() if name not in {*_TIMES, "notBefore"}}
    return messages


def _text(messages: Any) -> str:
    return json.dumps(messages, sort_keys=True)
