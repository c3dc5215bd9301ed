"""Translation between Cognite's workflow executions and the domain.

An execution is a run of a workflow's version; a task's id is the id of its attempt.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast
from uuid import UUID, uuid5

from tasklatch.domain.concurrency import MAX_SLOTS, ConcurrencyLimit
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution, ExecutionFilter
from tasklatch.domain.history import HistoryEntry
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FAILURES, TaskStatus
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.platforms.cognite.definitions.task_models import DefinitionView
from tasklatch.platforms.cognite.definitions.translation import definition_view
from tasklatch.platforms.cognite.executions.models import (
    SessionBody,
    SessionView,
    TaskExecutionView,
    WorkflowExecutionDetailView,
    WorkflowExecutionsListBody,
    WorkflowExecutionView,
)
from tasklatch.runtime.attempt_ids import attempt_ids

MAX_DETAIL_BYTES: Final = 4 * 1024 * 1024
"""Limit of inputs and outputs in one response: Lambda's holds 6 MB, and the definition needs room too."""

WAITS_FOR_A_SLOT: Final = "waiting: as many executions of this workflow run as its maxConcurrentExecutions allows"

_GROUP: Final = "workflow:"
_NAMESPACE: Final = UUID("2f1c9a77-54a5-4f1b-9d58-6b1d0d1f0a63")
_OTHER_KIND: Final = "native"
"""Type of a task that another contract added: the platform's client accepts any text."""


_HAS_BROUGHT: Final = frozenset({TaskStatus.PENDING, TaskStatus.IN_PROGRESS, TaskStatus.CANCELED, TaskStatus.COMPLETED})
"""Statuses of a task that brought others: the platform shows it completed since then, whatever becomes of them."""


@dataclass(frozen=True, slots=True)
class AttemptState:
    """State or result of one attempt at a task; times are milliseconds since the epoch."""

    attempt: int
    status: TaskStatus
    started_at: int | None
    ended_at: int | None
    reason: str | None
    output: str | None


def workflow_group(workflow_external_id: str) -> str:
    """Return the group of a workflow's executions."""
    return f"{_GROUP}{workflow_external_id}"


def concurrency_limit(workflow_external_id: str, max_executions: int | None) -> ConcurrencyLimit | None:
    """Return the limit of a workflow's executions; None if it has none."""
    if max_executions is None:
        return None
    return ConcurrencyLimit(workflow_group(workflow_external_id), min(max_executions, MAX_SLOTS))


def to_execution_filter(body: WorkflowExecutionsListBody) -> ExecutionFilter:
    """Return the filter of a list, which has only runs of workflows."""
    return ExecutionFilter(
        statuses=frozenset(body.criteria.status),
        group_versions=tuple(
            (workflow_group(workflow_filter.externalId), workflow_filter.version)
            for workflow_filter in body.criteria.workflowFilters
        ),
        group_prefix=_GROUP,
    )


def run_id(tenant: str, workflow_external_id: str, version: str, nonce: str) -> str:
    """Return the id of the execution that a run starts: the same for the same nonce."""
    return str(uuid5(_NAMESPACE, f"{tenant}\0{workflow_external_id}\0{version}\0{nonce}"))


def check_is_run(execution: Execution) -> Execution:
    """Check that an execution is a run of a workflow, and return it.

    Raises
    ------
    NotFoundError
        If it is not: this contract cannot show it.
    """
    if execution.group_version is None or not (execution.group or "").startswith(_GROUP):
        raise NotFoundError("execution", execution.execution_id)
    return execution


def workflow_execution_view(execution: Execution) -> WorkflowExecutionView:
    """Return the view of an execution."""
    view: WorkflowExecutionView = {
        "id": execution.execution_id,
        "engineExecutionId": execution.execution_id,
        "workflowExternalId": (execution.group or "").removeprefix(_GROUP),
        "version": execution.group_version or "",
        "status": execution.status,
        "createdTime": execution.created_at,
        "metadata": json.loads(execution.metadata) if execution.metadata else {},
    }
    if execution.waiting_since is None:
        view["startTime"] = execution.started_at or execution.created_at
    else:
        view["reasonForIncompletion"] = WAITS_FOR_A_SLOT
    if execution.ended_at is not None:
        view["endTime"] = execution.ended_at
    if execution.reason is not None:
        view["reasonForIncompletion"] = execution.reason
    return view


def workflow_execution_detail_view(
    execution: Execution, definition: str | None, execution_input: str | None, details: Iterable[TaskDetail]
) -> WorkflowExecutionDetailView:
    """Return the view of an execution with its definition, its input and its tasks.

    Parameters
    ----------
    definition, execution_input
        Definition and input of the run as JSON texts.
    """
    shown = definition_view(definition or '{"tasks":[]}')
    everything = list(details)
    parameters = _all_parameters(shown, everything)
    order = {external_id: index for index, external_id in enumerate(parameters)}
    executed = [detail for detail in _with_parents(everything, parameters) if _was_handed_out(detail.task)]
    executed.sort(key=lambda detail: (order.get(detail.task.task_id, len(order)), detail.task.task_id))
    fitted, omitted = _fit_payloads(executed, parameters)
    tasks = [workflow_task_view(detail, current_attempt_state(detail)) for detail in fitted]
    view = cast(
        "WorkflowExecutionDetailView",
        {**workflow_execution_view(execution), "workflowDefinition": shown, "executedTasks": tasks},
    )
    if execution_input is not None:
        view["input"] = json.loads(execution_input)
    if omitted:
        view["omittedPayloads"] = omitted
    return view


def _all_parameters(shown: DefinitionView, details: Iterable[TaskDetail]) -> dict[str, dict[str, Any]]:
    """Return the parameters of all tasks, in the definition's order, each followed by those that it brought."""
    inputs = {detail.task.task_id: json.loads(detail.input) for detail in details if detail.input is not None}
    parents = {detail.task.parent_id for detail in details}
    parameters: dict[str, dict[str, Any]] = {}
    for task in shown["tasks"]:
        parameters[task["externalId"]] = task["parameters"]
        if task["externalId"] in parents:
            brought = inputs[task["externalId"]][task["type"]]["tasks"]
            parameters |= {child["externalId"]: child["parameters"] for child in brought}
    return parameters


def _with_parents(details: Iterable[TaskDetail], parameters: Mapping[str, Mapping[str, Any]]) -> Iterator[TaskDetail]:
    """Yield the tasks; one that brought others is completed since then, and shows before what it was defined with."""
    brought_at: dict[str | None, int] = {}
    for detail in details:
        brought_at.setdefault(detail.task.parent_id, detail.task.created_at)
    for detail in details:
        task = detail.task
        if task.has_children and task.task_id in brought_at and task.status in _HAS_BROUGHT:
            completed = replace(task, status=TaskStatus.COMPLETED, ended_at=brought_at[task.task_id], message=None)
            yield detail._replace(task=completed)
        elif task.has_children and task.status is not TaskStatus.COMPLETED:
            yield detail._replace(input=json.dumps(parameters.get(task.task_id, {}), ensure_ascii=False))
        else:
            yield detail


def _was_handed_out(task: Task) -> bool:
    """Return False for a task whose attempt was never scheduled: it waits, or was cancelled while it did."""
    return task.scheduled_at is not None or task.status not in (TaskStatus.PENDING, TaskStatus.CANCELED)


def _fit_payloads(
    details: Iterable[TaskDetail], parameters: Mapping[str, Mapping[str, Any]]
) -> tuple[list[TaskDetail], list[str]]:
    """Return the tasks with as many payloads as fit into a response, and the ids of those without.

    Parameters
    ----------
    parameters
        Parameters of the tasks in the definition by task id: the input of a task whose payloads do not fit.
    """
    room = MAX_DETAIL_BYTES
    fitted: list[TaskDetail] = []
    omitted: list[str] = []
    for detail in details:
        task_id = detail.task.task_id
        room -= len((detail.input or "").encode()) + len((detail.output or "").encode())
        if room >= 0:
            fitted.append(detail)
        else:
            fitted.append(detail._replace(input=json.dumps(parameters.get(task_id, {})), output=None))
            omitted.append(task_id)
    return fitted, omitted


def is_earlier_attempt(task: Task, attempt: int) -> bool:
    """Return True if only the history has the result of an attempt; a success stands for every attempt."""
    return attempt != task.attempt and task.status is not TaskStatus.COMPLETED


def current_attempt_state(detail: TaskDetail, attempt: int | None = None) -> AttemptState:
    """Return the state of a task as that of `attempt`, by default the current one."""
    task = detail.task
    began_at = task.started_at or task.scheduled_at
    return AttemptState(
        attempt or task.attempt, task.status, began_at, task.ended_at, _incompletion_reason(task), detail.output
    )


def earlier_attempt_state(
    attempt: int, entry: HistoryEntry | None, output: str | None, reported_status: str
) -> AttemptState:
    """Return the result of an earlier attempt.

    Parameters
    ----------
    entry
        The attempt's last change in the history; None if it is not written yet.
    reported_status
        Status that the worker reports, used if there is no entry.
    """
    if entry is None:
        status = TaskStatus(reported_status) if reported_status in FAILURES else TaskStatus.FAILED
        return AttemptState(attempt, status, None, None, None, None)
    return AttemptState(attempt, entry.status, None, entry.at, entry.message, output)


def workflow_task_view(detail: TaskDetail, state: AttemptState) -> TaskExecutionView:
    """Return the view of one attempt at a task."""
    task = detail.task
    view: TaskExecutionView = {
        "id": attempt_ids().issue(task.tenant, task.execution_id, task.task_id, state.attempt),
        "externalId": task.task_id,
        "status": state.status,
        "taskType": detail.kind or _OTHER_KIND,
        "input": json.loads(detail.input) if detail.input else {},
        "output": json.loads(state.output) if state.output else {},
        "parentTaskExternalId": task.parent_id,
    }
    if state.started_at is not None:
        view["startTime"] = state.started_at
    if state.ended_at is not None:
        view["endTime"] = state.ended_at
    if state.reason is not None:
        view["reasonForIncompletion"] = state.reason
    return view


def session_view(body: SessionBody, session_id: int, nonce: str) -> SessionView:
    """Return the view of a session."""
    view: SessionView = {"id": session_id, "status": "READY", "nonce": nonce, "type": body.kind}
    if body.clientId is not None:
        view["clientId"] = body.clientId
    return view


def _incompletion_reason(task: Task) -> str | None:
    """Return the task's message or, after a final failure, the reason of the retry decision; None otherwise."""
    decision = decide_retry(task)
    return task.message or (decision.reason if decision is not None and not decision.will_retry else None)
