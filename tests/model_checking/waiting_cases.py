"""Cases of tasks that wait for others, and of requests about them before they are open."""

from typing import Final

from tests.model_checking.case import Case
from tests.model_checking.client_requests import (
    a_task,
    cancels,
    handed_out,
    reports,
    reports_batch,
    retries,
    sends_forge_result,
    sends_heartbeat,
    sends_superai_updates,
)

_UUID: Final = "00000000-0000-4000-8000-00000000000b"
WAITING: Final = [a_task("a", attempts=1), a_task("b", dependsOn=["a"], input={"v": "${a.output.v}"})]
"""A task, and one that depends on it and is retried at once if it fails."""

FREES: Final = reports("COMPLETED", "a", attempt=1, output={"v": 1})
WAITING_FAILED = Case(
    "failures of a task that waits",
    WAITING,
    {
        "first": [FREES],
        "early": [reports("FAILED", "b", attempt=1), reports("FAILED_WITH_TERMINAL_ERROR", "b", attempt=1)],
        "next": [reports("COMPLETED", "b", when=handed_out(2, "b"), attempt=2)],
    },
)
WAITING_COMPLETED = Case(
    "a success of a task that waits, and another that waits for it",
    [*WAITING, a_task("c", dependsOn=["b"])],
    {
        "first": [FREES],
        "early": [reports("IN_PROGRESS", "b", attempt=1), reports("COMPLETED", "b", attempt=1, output={"w": 2})],
    },
)
WAITING_UNNAMED = Case(
    "reports that name no attempt of a task that waits",
    WAITING,
    {
        "first": [FREES],
        "early": [reports("FAILED", "b", output={"w": 2})],
        "hasty": [reports("COMPLETED", "b")],
    },
)
WAITING_HEARTBEAT = Case(
    "heartbeats of a task that waits, and of no attempt",
    [WAITING[0], {**WAITING[1], "heartbeatTimeoutSeconds": 10}],
    {
        "first": [FREES],
        "early": [sends_heartbeat("b"), sends_heartbeat("b", progress=0.5)],
        "other": [reports("COMPLETED", "b", when=handed_out(1, "b"), attempt=1)],
    },
)
WAITING_AGAIN = Case(
    "a task that a person gave another attempt, and a report on that before it is open",
    [a_task(attempts=1)],
    {
        "first": [reports("FAILED", attempt=1)],
        "operator": [retries()],
        "early": [reports("FAILED", attempt=2)],
    },
)
WAITING_BATCH = Case(
    "a batch of reports on a task and on one that waits for it",
    WAITING,
    {
        "first": [
            reports_batch(
                {"taskId": "b", "status": "IN_PROGRESS", "attempt": 1},
                {"taskId": "a", "status": "COMPLETED", "attempt": 1},
                {"taskId": "b", "status": "FAILED", "attempt": 1},
            )
        ],
        "next": [reports("COMPLETED", "b", when=handed_out(1, "b"))],
    },
)
WAITING_UPDATED = Case(
    "another platform's updates of a task that waits",
    WAITING,
    {
        "first": [FREES],
        "early": [
            sends_superai_updates("queued", "running", "failed", task_name="b"),
            sends_superai_updates("skipped", task_name="b"),
        ],
    },
)
WAITING_INVOCATION = Case(
    "another platform's invocations that end a task that waits",
    [WAITING[0], a_task(_UUID, dependsOn=["a"])],
    {
        "first": [FREES],
        "early": [sends_forge_result("failure", _UUID), sends_forge_result("success", _UUID)],
    },
)
CANCEL_WAITING = Case(
    "a cancellation of tasks that wait, against what frees them",
    WAITING,
    {
        "first": [FREES],
        "operator": [cancels()],
        "early": [reports("COMPLETED", "b", attempt=1)],
    },
)
