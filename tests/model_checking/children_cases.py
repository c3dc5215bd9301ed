"""Cases of tasks that bring others."""

from typing import Final

from tasklatch.dynamodb import keys
from tests.model_checking.case import EXECUTION, TENANT, Case, View
from tests.model_checking.client_requests import a_task, cancels, handed_out, reports

_PARENT: Final = {"taskId": "m", "children": [a_task("x", attempts=1, input={"n": 1})]}
"""A task that brings one."""

BROUGHT = Case(
    "a task that brings another",
    [_PARENT],
    {"first": [reports("COMPLETED", "x", when=handed_out(1, "x"), attempt=1)]},
    children=("x",),
)
AWAITED = Case(
    "a task that brings another, and one that waits for it",
    [_PARENT, a_task("n", attempts=1, dependsOn=["m"])],
    BROUGHT.clients,
    children=("x",),
)
TWO_BROUGHT = Case(
    "a task that brings two, of which one waits for the other",
    [
        {
            "taskId": "m",
            "children": [a_task("x", attempts=1, input={}), a_task("y", attempts=1, input={}, dependsOn=["x"])],
        }
    ],
    {
        "first": [reports("COMPLETED", "x", when=handed_out(1, "x"), attempt=1)],
        "other": [reports("COMPLETED", "y", when=handed_out(1, "y"), attempt=1)],
    },
    children=("x", "y"),
)
LISTED = Case(
    "a task that brings what another has listed",
    [a_task("a", attempts=1), {"taskId": "m", "dependsOn": ["a"], "children": "${a.output.tasks}"}],
    {
        "first": [reports("COMPLETED", "a", attempt=1, output={"tasks": [a_task("x", attempts=1, input={"n": 1})]})],
        "other": [reports("COMPLETED", "x", when=handed_out(1, "x"), attempt=1)],
    },
    children=("x",),
)
NO_LIST = Case(
    "a task that is to bring what is no list",
    LISTED.tasks,
    {"first": [reports("COMPLETED", "a", attempt=1, output={"tasks": 7})]},
)


def _is_about_to_bring(view: View) -> bool:
    """Return True once the parent waits for its child, which does not exist yet."""
    return (keys.execution_pk(TENANT, EXECUTION), keys.waits_sk("m")) in view.table


CANCEL_MEANWHILE = Case(
    "a cancellation while a task brings another",
    [_PARENT],
    {"operator": [cancels(when=_is_about_to_bring)]},
    children=("x",),
)
CANCEL = Case(
    "a cancellation of a task and of what it brought",
    [_PARENT],
    {"operator": [cancels(when=handed_out(1, "x"))]},
    children=("x",),
)
