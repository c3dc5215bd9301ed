"""How tasks hang together: when one is settled, what that means for its execution, and what inputs refer to."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FAILURES, SEALED, ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, Task

REFERENCE_BEGINS: Final = "${"
WORKFLOW_NAME: Final = "workflow"
"""In a reference, the execution's own input: ``${workflow.input}``."""

_REFERENCE: Final = re.compile(r"\$\{(?P<name>[^{}]+?)\.(?P<part>input|output)(?P<path>(?:\.[^{}.]+)*)\}")

_STEP: Final = re.compile(r"\A.+?(?=(?:\[\d{1,9}\])*\Z)|\[\d{1,9}\]", re.DOTALL)
"""A key, then the places behind it."""


def gave_up(task: Task) -> bool:
    """Whether a task's last attempt has failed and no other follows."""
    decision = decide_retry(task)
    return decision is not None and not decision.will_retry


def is_settled(task: Task) -> bool:
    """Whether nothing more is awaited of a task: those that depend on it can go on, or never will.

    A task that gave up but lets its execution go on is settled once it is sealed as such.
    """
    if task.status is TaskStatus.COMPLETED or task.status in SEALED:
        return True
    return gave_up(task) and task.on_failure is OnFailure.ABORT


def aborts(task: Task) -> bool:
    """Whether a task's failure ends its execution."""
    return task.status in FAILURES and is_settled(task)


def can_be_retried(task: Task) -> bool:
    """Whether a person may give a task one more attempt: it failed for good, or was cancelled."""
    return task.status is TaskStatus.CANCELED or aborts(task)


def outcome_of(tasks: Iterable[Task]) -> ExecutionStatus | None:
    """How an execution ends, or None while something is awaited.

    A task that is cancelled in an execution that runs was reopened by a person, and cancelled all the same for the end
    before: that is no completion, and failed it can be retried again.
    """
    ended = ExecutionStatus.COMPLETED
    for task in tasks:
        if aborts(task):
            return ExecutionStatus.FAILED
        if not is_settled(task):
            return None
        if task.status is TaskStatus.CANCELED:
            ended = ExecutionStatus.FAILED
    return ended


class Reference(NamedTuple):
    """A place in an input where something of another task belongs: ``${task.output.key}``."""

    name: str
    part: str
    path: tuple[str, ...]


def references(text: str) -> Iterator[Reference]:
    """Find what the JSON text of an input refers to."""
    for found in _REFERENCE.finditer(text):
        yield _reference(found)


def resolve(value: Any, look_up: Callable[[Reference], Any]) -> Any:
    """Put what an input refers to in its place.

    A text that is one reference becomes what it refers to, whatever its type; a reference inside a longer text becomes
    text, JSON where it is none.

    Parameters
    ----------
    look_up
        Gives what a reference stands for; raises `LookupError` for one that is none of ours, which is left as it is.
    """
    if isinstance(value, dict):
        return {key: resolve(one, look_up) for key, one in value.items()}
    if isinstance(value, list):
        return [resolve(one, look_up) for one in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    try:
        if whole:
            return look_up(_reference(whole))
        return _REFERENCE.sub(lambda found: _as_text(look_up(_reference(found))), value)
    except LookupError:
        return value


def follow(value: Any, path: Iterable[str]) -> Any:
    """Go down into a payload, by keys and places in lists (``items[0]``); what is not there is None, as in JSON."""
    for step in path:
        key, *places = _STEP.findall(step)
        value = value.get(key) if isinstance(value, dict) else None
        for place in places:
            value = _at(value, int(place[1:-1]))
    return value


def _at(value: Any, place: int) -> Any:
    return value[place] if isinstance(value, list) and place < len(value) else None


def _reference(found: "re.Match[str]") -> Reference:
    return Reference(found["name"], found["part"], tuple(found["path"].split(".")[1:]))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
