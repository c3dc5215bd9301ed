"""Cases of executions that are larger than a page: an invocation does one page of one task, the next goes on."""

from dataclasses import replace

from tasklatch.domain.dependencies import is_terminal
from tests.model_checking.case import ADDED, Case, View
from tests.model_checking.client_requests import a_task, adds, cancels, handed_out, over, reports, retries


def all_closed(view: View) -> bool:
    """Return True once a person sees that an execution has ended with all its tasks."""
    return over(view) and all(map(is_terminal, view.tasks.values()))


END = Case(
    "the end of an execution of several pages",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("COMPLETED", "a", attempt=1)],
        "other": [reports("COMPLETED", "b", attempt=1)],
    },
    one_page=True,
)
CANCEL = Case(
    "a cancellation of several pages",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("COMPLETED", "b", attempt=1)],
        "operator": [cancels()],
    },
    one_page=True,
)
FAILURE = Case(
    "a failure that ends an execution of several pages",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {"first": [reports("FAILED", "b", attempt=1)]},
    one_page=True,
)
RETRY = Case(
    "a person's retry of several pages",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "operator": [retries(when=all_closed)],
    },
    one_page=True,
)
ADDITION = Case(
    "tasks that are added while the pages of an execution are read",
    [a_task("m", attempts=1)],
    {
        "first": [reports("COMPLETED", "m", attempt=1)],
        "adder": [adds(a_task(ADDED, attempts=1))],
        "other": [reports("COMPLETED", ADDED, when=handed_out(1, ADDED), attempt=1)],
    },
    one_page=True,
    adds=True,
)
ADDED_DEPENDENT = Case(
    "a task that is added to wait for one that ends",
    [a_task("m", attempts=1), a_task("n", attempts=1)],
    {
        "first": [reports("COMPLETED", "m", attempt=1)],
        "adder": [adds(a_task(ADDED, attempts=1, dependsOn=["m"]))],
    },
    adds=True,
)
LAST_TWO = replace(END, name="the last two tasks of an execution end", one_page=False)
