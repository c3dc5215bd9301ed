"""Checks of executions: dependencies, cancellation, retry by a person, lists."""

from datetime import datetime, timedelta
from typing import Any, Final

from local.smoke.check import Check, expect
from local.smoke.session import SmokeSession

_TASKS: Final = 5
_PAGE: Final = 2
_PAGES: Final = 50


def check_dependent(session: SmokeSession) -> str:
    """Complete a task, and wait for the task that depends on it and then for the end of the execution."""
    second = {"taskId": "second", "dependsOn": ["first"], "input": {"rows": "${first.output.rows}"}}
    execution_id = session.create("dependent", {"taskId": "first"}, second)
    session.report(execution_id, "first", status="COMPLETED", attempt=1, output={"rows": 3})
    task = session.wait_for_task(execution_id, "second", "SCHEDULED")
    expect(task["input"] == {"rows": 3}, f"the input refers to the output, and is {task['input']}")
    session.report(execution_id, "second", status="COMPLETED", attempt=1)
    _wait_for_end(session, execution_id, "COMPLETED")
    return "scheduled with its input resolved; the execution is COMPLETED"


def check_cancel(session: SmokeSession) -> str:
    """Cancel an execution: its open task must be cancelled, and a later report must be ignored."""
    execution_id = session.create("cancel", {"taskId": "work"})
    path = ("executions", execution_id, "cancel")
    shown = session.api.request("operator", "POST", *path, body={"reason": "check"}).body
    expect(shown["status"] == "TERMINATED", f"the execution is {shown['status']}")
    session.wait_for_task(execution_id, "work", "CANCELED")
    session.report(execution_id, "work", "sealed", status="FAILED", attempt=1)
    return "TERMINATED, its open task CANCELED, a later report sealed"


def check_persons_retry(session: SmokeSession) -> str:
    """Fail an execution for good and retry it: the failed task must have one more attempt."""
    execution_id = session.create("persons-retry", {"taskId": "work"})
    session.report(execution_id, "work", status="FAILED_WITH_TERMINAL_ERROR", attempt=1)
    _wait_for_end(session, execution_id, "FAILED")
    shown = session.api.request("operator", "POST", "executions", execution_id, "retry").body
    expect(shown["status"] == "RUNNING", f"the execution is {shown['status']}")
    session.wait_for_task(execution_id, "work", "SCHEDULED", attempt=2)
    return "FAILED, then RUNNING with attempt 2 open"


def check_pages(session: SmokeSession) -> str:
    """Read lists of tasks and of executions page by page."""
    names = [f"task-{number}" for number in range(_TASKS)]
    execution_id = session.create("pages", *({"taskId": name} for name in names))
    other_id = session.create("pages-other", {"taskId": "work"})
    tasks = [item["taskId"] for item in _read_pages(session, {}, "executions", execution_id, "tasks")]
    expect(tasks == names, f"pages of {_PAGE} tasks list {tasks}")
    created_at = datetime.fromisoformat(session.execution(execution_id)["createdAt"]) - timedelta(seconds=1)
    query = {"createdAfter": created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}

    def look() -> bool:
        listed = [item["executionId"] for item in _read_pages(session, query, "executions")]
        expect(len(listed) == len(set(listed)), "an execution is on two pages")
        return {execution_id, other_id} <= set(listed)

    session.poll(look, lambda: "the list of executions lacks a new one")
    return f"{_TASKS} tasks and the new executions, in pages of {_PAGE}"


def _wait_for_end(session: SmokeSession, execution_id: str, status: str) -> None:
    session.poll(
        lambda: session.execution(execution_id)["status"] == status,
        lambda: f"the execution is {session.execution(execution_id)['status']}, not {status}",
    )


def _read_pages(session: SmokeSession, query: dict[str, str], *path: str) -> list[dict[str, Any]]:
    """Return the items of a list, read in small pages up to a limit."""
    items: list[dict[str, Any]] = []
    query = {**query, "limit": str(_PAGE)}
    for _ in range(_PAGES):
        page = session.api.request("reader", "GET", *path, query=query).body
        expect(len(page["items"]) <= _PAGE, f"a page of {_PAGE} has {len(page['items'])} items")
        items += page["items"]
        if "nextCursor" not in page:
            break
        query["cursor"] = page["nextCursor"]
    return items


_ADVANCE: Final = "the log of notifier and workflow_advancer; the queue AdvanceFailures; the rules on the event bus"

CHECKS: Final = (
    Check("dependent", check_dependent, _ADVANCE),
    Check("cancel", check_cancel, f"the log of execution_control; {_ADVANCE}"),
    Check("persons-retry", check_persons_retry, f"the log of execution_control; {_ADVANCE}"),
    Check("pages", check_pages, "the log of executions; the table's index lists"),
)
