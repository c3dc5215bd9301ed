"""What is left of an execution that did not end: whether the service is still at it, or at rest with something lost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from local.cloud.stack import Stack
from local.replay.summary import ReplayResult

_DEPTHS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_OPEN: Final = ("PENDING", "SCHEDULED", "IN_PROGRESS", "FAILED", "TIMED_OUT")


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What an execution waits for.

    Attributes
    ----------
    open_tasks
        In words: each with its status, and whether the attempt ever came out of the workers' queue.
    messages
        How many are in each of the queues that hold any.
    driven_on
        What the safety net found in one more run.
    """

    open_tasks: Sequence[str]
    messages: Mapping[str, int]
    driven_on: Mapping[str, int]

    @classmethod
    def of(cls, stack: Stack, outcome: ReplayResult, work_queue_url: str) -> Self:
        """Look at the queues, at the tasks and at what the safety net would still do."""
        sqs = stack.aws("sqs")
        urls = {**stack.queues, "workers": work_queue_url}
        depths = {name: _depth(sqs, url) for name, url in urls.items()}
        handed_out = {(taken.task_id, taken.attempt) for taken in outcome.received}
        shown = [task for task in outcome.ledger.tasks.values() if task["status"] in _OPEN]
        return cls(
            open_tasks=[_in_words(task, (task["taskId"], task["attempt"]) in handed_out) for task in shown],
            messages={name: depth for name, depth in depths.items() if depth},
            driven_on=drive_on(stack),
        )

    @property
    def verdict(self) -> str:
        """Late, where something would still move it; else lost."""
        is_moving = any(self.messages.values()) or any(self.driven_on.values())
        return "late" if is_moving else "lost for good"

    def __str__(self) -> str:
        tasks = "; ".join(self.open_tasks) or "no task"
        return f"{self.verdict}: open: {tasks}. Messages: {self.messages}. Driven on just now: {self.driven_on}."


def left_behind_by(stack: Stack, outcome: ReplayResult, work_queue_url: str) -> LeftBehind | None:
    """Look at what an execution left that did not end; None where it ended."""
    is_over = outcome.ledger.execution["status"] != "RUNNING"
    return None if is_over else LeftBehind.of(stack, outcome, work_queue_url)


def drive_on(stack: Stack) -> dict[str, int]:
    """Run the safety net once, as its schedule does every five minutes; give what it found."""
    answer = stack.aws("lambda").invoke(FunctionName=stack.functions["reconciler"], Payload=b"{}")
    messages = json.loads(answer["Payload"].read())
    return {name: messages[name] for name in ("overdue_tasks", "stuck_executions")}


def _depth(sqs: Any, url: str) -> int:
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))["Attributes"]
    return sum(int(attributes[name]) for name in _DEPTHS)


def _in_words(task: Mapping[str, Any], was_handed_out: bool) -> str:
    name = f"{task['taskId']} #{task['attempt']} {task['status']} since {task['updatedAt']}"
    return f"{name}, {'handed out' if was_handed_out else 'never handed out'}"
