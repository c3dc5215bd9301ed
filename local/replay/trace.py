"""Reader of a recorded workflow run: an instance in WfCommons' WfFormat 1.5.

Of the format (https://github.com/wfcommons/WfFormat) only the fields that a replay needs are read: the tasks, their
dependencies, the running time of each, and its program, arguments and files.
"""

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCHEMA_VERSION: Final = "1.5"
_LONGEST_ID: Final = 255
_LONGEST_ID_BYTES: Final = 900
_LONGEST_PROGRAM: Final = 500
_LONGEST_TEXT: Final = 200
_MOST_TEXTS: Final = 20
_FAULTS_NAMED: Final = 5


class TraceError(Exception):
    """File that cannot be replayed; the message gives the reason, and its position in the file."""


@dataclass(frozen=True, slots=True)
class TraceTask:
    """One task of a run.

    Attributes
    ----------
    parents
        Tasks that it depended on.
    runtime_seconds
        Running time.
    starts_at
        Seconds from the run's beginning until the last of its parents was done.
    input
        Program, arguments and files, each cut to a bound.
    """

    task_id: str
    parents: tuple[str, ...]
    runtime_seconds: float
    starts_at: float
    input: dict[str, Any]

    @property
    def ends_at(self) -> float:
        """Return the seconds from the run's beginning to the task's end."""
        return self.starts_at + self.runtime_seconds


@dataclass(frozen=True)
class Trace:
    """Run: its tasks, each after the tasks that it depended on."""

    name: str
    tasks: tuple[TraceTask, ...]

    @cached_property
    def seconds(self) -> float:
        """Return the duration of the run, in seconds, if only dependencies delay a task."""
        return max(task.ends_at for task in self.tasks)


def read_trace(path: Path) -> Trace:
    """Read an instance.

    Raises
    ------
    TraceError
        If there is no such file, or it is not an instance in WfFormat 1.5 whose tasks fit together.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TraceError(f"{path}: file not found") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TraceError(f"{path}: is not JSON: {error}") from error
    try:
        return _parse_trace(document)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _SpecifiedTask(_Part):
    id: str
    parents: list[str]
    children: list[str]
    inputFiles: list[str] = []  # noqa: N815 - the format's own name
    outputFiles: list[str] = []  # noqa: N815


class _Command(_Part):
    program: str = ""
    arguments: list[str] = []


class _ExecutedTask(_Part):
    id: str
    runtimeInSeconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # noqa: N815
    command: _Command = _Command()


class _Specification(_Part):
    tasks: Annotated[list[_SpecifiedTask], Field(min_length=1)]


class _Execution(_Part):
    tasks: list[_ExecutedTask]


class _Workflow(_Part):
    specification: _Specification
    execution: _Execution


class _Version(_Part):
    schemaVersion: Literal["1.5"]  # noqa: N815


class _Instance(_Version):
    name: Annotated[str, Field(min_length=1)]
    workflow: _Workflow


M = TypeVar("M", bound=BaseModel)


def _parse_trace(document: Any) -> Trace:
    # Check the version first: in an instance of another version, the other errors mean nothing.
    _validate(_Version, document)
    instance = _validate(_Instance, document)
    specified = {task.id: task for task in instance.workflow.specification.tasks}
    executed = {task.id: task for task in instance.workflow.execution.tasks}
    _check_ids(instance)
    parents = _parents(specified)
    tasks: dict[str, TraceTask] = {}
    for task_id in _sort_by_dependencies(parents):
        before = tuple(sorted(parents[task_id]))
        tasks[task_id] = TraceTask(
            task_id=task_id,
            parents=before,
            runtime_seconds=executed[task_id].runtimeInSeconds,
            starts_at=max((tasks[parent].ends_at for parent in before), default=0.0),
            input=_task_input(specified[task_id], executed[task_id].command),
        )
    return Trace(instance.name, tuple(tasks.values()))


def _validate(model: type[M], document: Any) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise TraceError(f"is not WfFormat {SCHEMA_VERSION}: {_some(faults)}") from error


def _check_ids(instance: _Instance) -> None:
    specified = [task.id for task in instance.workflow.specification.tasks]
    executed = [task.id for task in instance.workflow.execution.tasks]
    faults = [f"{_short(task_id)}: {problem}" for task_id in specified if (problem := _id_error(task_id))]
    for section, ids in (("specification", specified), ("execution", executed)):
        faults += [f"{section}: {_short(name)} is repeated" for name, count in Counter(ids).items() if count > 1]
    faults += [f"{_short(name)} has no execution record" for name in sorted(set(specified) - set(executed))]
    faults += [f"{_short(name)} has no specification" for name in sorted(set(executed) - set(specified))]
    if faults:
        raise TraceError(_some(faults))


def _id_error(task_id: str) -> str | None:
    """Return the reason why a name cannot be a taskId of the service; None if it can."""
    if not 1 <= len(task_id) <= _LONGEST_ID:
        return f"an id must have 1 to {_LONGEST_ID} characters, not {len(task_id)}"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in task_id):
        return "an id must not have control characters"
    if len(task_id.replace("%", "%25").replace("#", "%23").encode()) > _LONGEST_ID_BYTES:
        return f"an id must not be longer than {_LONGEST_ID_BYTES} bytes"
    return None


def _parents(specified: dict[str, _SpecifiedTask]) -> dict[str, set[str]]:
    """Return the parents of each task, whichever of the two tasks names the other."""
    unknown = [
        f"{_short(task.id)} names an unknown task: {_short(name)}"
        for task in specified.values()
        for name in (*task.parents, *task.children)
        if name not in specified
    ]
    if unknown:
        raise TraceError(_some(unknown))
    parents = {task.id: set(task.parents) for task in specified.values()}
    for task in specified.values():
        for child in task.children:
            parents[child].add(task.id)
    return parents


def _sort_by_dependencies(parents: dict[str, set[str]]) -> list[str]:
    index = {task_id: number for number, task_id in enumerate(parents)}
    sorter = TopologicalSorter({task_id: sorted(before, key=index.__getitem__) for task_id, before in parents.items()})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        cycle = " -> ".join(map(_short, error.args[1]))
        raise TraceError(f"tasks depend on each other in a cycle: {cycle}") from error


def _task_input(task: _SpecifiedTask, command: _Command) -> dict[str, Any]:
    return {
        "program": _cut(command.program, _LONGEST_PROGRAM),
        "arguments": _bounded(command.arguments),
        "inputFiles": _bounded(task.inputFiles),
        "outputFiles": _bounded(task.outputFiles),
    }


def _bounded(texts: list[str]) -> list[str]:
    return [_cut(text, _LONGEST_TEXT) for text in texts[:_MOST_TEXTS]]


def _cut(text: str, longest: int) -> str:
    """Cut a text to a bound and to characters that JSON can carry: a lone surrogate becomes a question mark."""
    return text[:longest].encode("utf-8", "replace").decode()


def _short(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_ID else f"{name[:40]}...")


def _some(faults: list[str]) -> str:
    more = f" (and {len(faults) - _FAULTS_NAMED} more)" if len(faults) > _FAULTS_NAMED else ""
    return "; ".join(faults[:_FAULTS_NAMED]) + more
