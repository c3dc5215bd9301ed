"""Publication of a change: one event on the bus, one message to each watcher, and then one history entry."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tasklatch.domain.addressing import fits_path
from tasklatch.domain.changes import Change, DetailType, ExecutionChange, attention_reason, detail_type_for
from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.history import change_entry
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.event_bus import MAX_INPUT_BYTES, BusEvent, EventBus
from tasklatch.notifications.stream import AnyChange
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.clock import format_timestamp


class ChangePublisher:
    """Publisher of changes. A repeated change writes the same entry and publishes the same event and version."""

    def __init__(self, history: History, bus: EventBus, watchers: WatcherBroadcast, payloads: Payloads) -> None:
        self._history = history
        self._bus = bus
        self._watchers = watchers
        self._payloads = payloads

    def publish(self, changes: Sequence[AnyChange]) -> None:
        """Publish changes, in order.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline; retry all the changes.
        """
        task_changes = [change for change in changes if isinstance(change, Change)]
        scheduled = [change.task for change in task_changes if change.task.status is TaskStatus.SCHEDULED]
        # All of it is built before any of it leaves: a change that cannot be published has published no other
        entries = [(change.task, change_entry(change.task, change.before)) for change in task_changes]
        inputs = self._payloads.get_inputs(scheduled)
        events = [_event(change, inputs) for change in changes]
        messages = _messages_by_execution(changes)
        self._bus.publish(events)
        self._watchers.broadcast(messages)
        # At last: the entry shows that its change was published, and that watchers were told or cut off
        self._history.put(entries)


def _event(change: AnyChange, inputs: Mapping[str, str]) -> BusEvent:
    if isinstance(change, ExecutionChange):
        return BusEvent(DetailType.EXECUTION_STATUS_CHANGED, _execution_detail(change))
    return BusEvent(detail_type_for(change.task), _task_detail(change, inputs.get(current_attempt_id(change.task))))


def _task_detail(change: Change, task_input: str | None) -> dict[str, Any]:
    task = change.task
    detail = {"tenant": task.tenant, **_task_message(task), "settled": is_terminal(task)}
    detail["previousStatus"] = change.before.status if change.before else None
    detail["message"] = task.message
    detail["label"] = task.platform_status
    detail["needsAttention"] = attention_reason(task)
    if task.status is TaskStatus.SCHEDULED:
        if task_input is None or len(task_input.encode()) <= MAX_INPUT_BYTES:
            detail["input"] = json.loads(task_input) if task_input is not None else {}
        else:
            detail |= _input_request(task)
    decision = decide_retry(task)
    if decision is not None:
        detail["willRetry"] = decision.will_retry
        detail["retryReason"] = decision.reason
        detail["notBefore"] = format_timestamp(decision.not_before) if decision.not_before is not None else None
    return {name: value for name, value in detail.items() if value is not None}


def _input_request(task: Task) -> dict[str, Any]:
    """Return the request that reads the input: a GET of a path, or a POST if the id does not fit into a path."""
    tasks = f"/v1/executions/{task.execution_id}/tasks"
    if fits_path(task.task_id):
        return {"inputPath": f"{tasks}/{quote(task.task_id, safe='')}"}
    return {"inputPath": f"{tasks}/read", "inputBody": {"taskId": task.task_id}}


def _execution_detail(change: ExecutionChange) -> dict[str, Any]:
    execution = change.execution
    detail = {"tenant": execution.tenant, **_execution_message(change)}
    if change.before is not None:
        detail["previousStatus"] = change.before.status
    return detail


def _task_message(task: Task) -> dict[str, Any]:
    message: dict[str, Any] = {
        "executionId": task.execution_id,
        "taskId": task.task_id,
        "status": task.status,
        "attempt": task.attempt,
        "taskExecutionId": current_attempt_id(task),
        "version": task.version,
        "at": format_timestamp(task.updated_at),
    }
    if task.failure_reason is not None:
        message["failureReason"] = task.failure_reason
    return message


def _execution_message(change: ExecutionChange) -> dict[str, Any]:
    execution = change.execution
    message: dict[str, Any] = {
        "executionId": execution.execution_id,
        "status": execution.status,
        "version": execution.version,
        "at": format_timestamp(execution.updated_at),
    }
    if execution.reason is not None:
        message["reason"] = execution.reason
    if execution.waiting_since is not None:
        message["waitingSince"] = format_timestamp(execution.waiting_since)
    return message


def _messages_by_execution(changes: Iterable[AnyChange]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the messages to watchers, in order, by tenant and execution."""
    messages: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for change in changes:
        if isinstance(change, Change):
            task = change.task
            messages[task.tenant, task.execution_id].append({"type": "task.status", **_task_message(task)})
        else:
            execution = change.execution
            message = {"type": "execution.status", **_execution_message(change)}
            messages[execution.tenant, execution.execution_id].append(message)
    return messages
