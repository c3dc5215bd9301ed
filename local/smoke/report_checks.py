"""Checks of reports: verdicts, history, batches, sizes and ids."""

from typing import Any, Final

from local.api_client import ApiError
from local.smoke.check import Check, CheckFailedError, expect
from local.smoke.session import SmokeSession

_BATCH: Final = 100
_LARGE_OUTPUT: Final = {"text": "x" * (100 * 1024 - len('{"text":""}'))}
"""An output of exactly 100 KB of JSON, the largest that is accepted."""

_TOO_LARGE: Final = {"text": _LARGE_OUTPUT["text"] + "x"}
_LARGE_INPUT: Final = {"text": "x" * 20_000}
"""An input that does not fit into an event, which holds 16 KB of it."""

_PATH_IDS: Final = ("naïve 🔭 #1", 'a b:"c"')
_BODY_IDS: Final = ("a/b", "50%", "why? 🔭", "a;b", "back\\slash")
_OK: Final = 200


def check_success(session: SmokeSession) -> str:
    """Report a start and a success, and read the output."""
    execution_id = session.create("success", {"taskId": "work", "input": {"rows": 3}})
    session.report(execution_id, "work", status="IN_PROGRESS", attempt=1)
    session.report(execution_id, "work", status="COMPLETED", attempt=1, output={"rows": 3})
    task = session.task(execution_id, "work")
    state = (task["status"], task["input"], task["output"])
    expect(state == ("COMPLETED", {"rows": 3}, {"rows": 3}), f"status, input and output are {state}")
    return "applied; status and output can be read"


def check_late_failure(session: SmokeSession) -> str:
    """Report a failure after a success: the success must stand, and the failure must be in the history."""
    execution_id = session.create("late-failure", {"taskId": "work"})
    success = session.report(execution_id, "work", status="COMPLETED", attempt=1)
    failure = session.report(execution_id, "work", "ignored_after_success", status="FAILED", attempt=1)
    expect(failure["task"] == success["task"], "the task changed after its success")
    expect(session.task(execution_id, "work")["status"] == "COMPLETED", "the success does not stand")
    entry = session.wait_for_entry(execution_id, "work", "ignored_after_success")
    expect(entry["status"] == "FAILED", f"the history has {entry['status']} instead of the failure")
    return "ignored_after_success, and in the history"


def check_duplicate(session: SmokeSession) -> str:
    """Report a success twice: the second report must be kept too."""
    execution_id = session.create("duplicate", {"taskId": "work"})
    session.report(execution_id, "work", status="COMPLETED", attempt=1)
    session.report(execution_id, "work", "duplicate", status="COMPLETED", attempt=1)
    session.wait_for_entry(execution_id, "work", "duplicate")
    return "duplicate, and in the history"


def check_waiting_task(session: SmokeSession) -> str:
    """Report on a task that waits for another."""
    tasks = ({"taskId": "first"}, {"taskId": "second", "dependsOn": ["first"]})
    execution_id = session.create("waiting", *tasks)
    report = {"status": "COMPLETED", "attempt": 1}
    session.refused(409, "attempt-not-open", lambda: session.send(execution_id, "second", "status", report))
    task = session.task(execution_id, "second")
    expect(task["status"] == "PENDING", f"the waiting task is {task['status']}")
    return "409, and the task still waits"


def check_batch(session: SmokeSession) -> str:
    """Report on a hundred tasks in one request."""
    names = [f"task-{number:03d}" for number in range(_BATCH)]
    execution_id = session.create("batch", *({"taskId": name} for name in names))
    tasks = session.api.paginate("reader", "executions", execution_id, "tasks")
    ids = {task["taskId"]: task["taskExecutionId"] for task in tasks}
    statuses = [{"taskId": name, "status": "COMPLETED", "taskExecutionId": ids.get(name)} for name in names]
    path = ("executions", execution_id, "statuses")
    reply = session.api.request("worker", "POST", *path, body={"statuses": statuses})
    accepted = {"applied", "duplicate"} if reply.sends > 1 else {"applied"}
    applied = [item.get("taskId") for item in reply.body["results"] if item.get("verdict") in accepted]
    expect(applied == names, f"{len(applied)} of {_BATCH} reports were applied")
    counts = session.execution(execution_id)["counts"]
    expect(counts == {"COMPLETED": _BATCH}, f"the execution counts {counts}")
    return f"{_BATCH} applied in {reply.seconds * 1000:.0f} ms"


def check_odd_ids(session: SmokeSession) -> str:
    """Work on tasks whose ids a path can carry only encoded, or not at all."""
    names = (*_PATH_IDS, *_BODY_IDS)
    execution_id = session.create("ids", {"taskId": "a"}, *({"taskId": name} for name in names))
    for name in names:
        alive = session.send(execution_id, name, "heartbeat", {"attempt": 1}).body
        expect(alive["continue"], f"the heartbeat of {name!r} is answered {alive}")
        session.report(execution_id, name, status="COMPLETED", attempt=1, output={"id": name})
        task = session.task(execution_id, name)
        expect((task["taskId"], task["output"]) == (name, {"id": name}), f"{name!r} is read as {task['taskId']!r}")
        session.wait_for_entry(execution_id, name, "applied")
    _check_path(session, execution_id, "a/b")
    expect(session.task(execution_id, "a")["status"] == "SCHEDULED", "a report on 'a/b' changed 'a'")
    return f"{len(names)} ids, {len(_BODY_IDS)} of them in bodies"


def _check_path(session: SmokeSession, execution_id: str, task_id: str) -> None:
    """Report on a task by a path that cannot carry its id: no answer is right that says that something was done."""
    path = ("executions", execution_id, "tasks", task_id, "status")
    try:
        session.api.request("worker", "POST", *path, body={"status": "FAILED", "attempt": 1})
    except ApiError as error:
        expect(error.is_final, f"a path with {task_id!r} is answered {error.status}")
        return
    raise CheckFailedError(f"a path with {task_id!r} is accepted")


def check_large_output(session: SmokeSession) -> str:
    """Report an output of 100 KB, and one that is a character larger."""
    execution_id = session.create("output", {"taskId": "large"}, {"taskId": "too-large"})
    session.report(execution_id, "large", status="COMPLETED", attempt=1, output=_LARGE_OUTPUT)
    expect(session.task(execution_id, "large")["output"] == _LARGE_OUTPUT, "the output comes back changed")
    report: dict[str, Any] = {"status": "COMPLETED", "attempt": 1, "output": _TOO_LARGE}
    session.refused(413, "too-large", lambda: session.send(execution_id, "too-large", "status", report))
    return "100 KB comes back unchanged, more is 413"


def check_large_input(session: SmokeSession) -> str:
    """Create a task whose input is too large for an event, and read it as its worker does."""
    execution_id = session.create("input", {"taskId": "work", "input": _LARGE_INPUT})
    expect(session.task(execution_id, "work")["input"] == _LARGE_INPUT, "the input comes back changed")
    return "20 KB can be read at the task"


_REPORTS: Final = "the log of the function report_status"
_HISTORY: Final = "the lag of the function notifier (IteratorAge), its log, the bucket StreamFailures"

CHECKS: Final = (
    Check("success", check_success, _REPORTS),
    Check("late-failure", check_late_failure, f"{_REPORTS}; if the history lacks it: {_HISTORY}"),
    Check("duplicate-kept", check_duplicate, f"{_REPORTS}; if the history lacks it: {_HISTORY}"),
    Check("waiting-task", check_waiting_task, _REPORTS),
    Check("batch", check_batch, f"{_REPORTS}; throttled writes of the table"),
    Check("ids", check_odd_ids, f"{_REPORTS}; a proxy in front of the API that rewrites paths; {_HISTORY}"),
    Check("large-output", check_large_output, f"{_REPORTS}; a proxy in front of the API with a limit of its own"),
    Check("large-input", check_large_input, "the log of the function executions"),
)
