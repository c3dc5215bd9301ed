"""Cases of executions of one concurrency key, of which one may run at once."""

from dataclasses import replace
from typing import Final

from tasklatch.domain.execution import Execution
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_from_item
from tests.model_checking.case import EXECUTION, TENANT, Case, Faults, Request, at_once
from tests.model_checking.cases import with_faults
from tests.model_checking.client_requests import a_task, cancels, handed_out, reports, retries
from tests.model_checking.memory_table import Table

SECOND: Final = "second"
THIRD: Final = "third"


def execution_in(table: Table, execution_id: str) -> Execution:
    return execution_from_item(table[keys.execution_pk(TENANT, execution_id), keys.EXECUTION_SK])


ONE_AFTER_THE_OTHER = Case(
    "two executions of which one may run at once",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("COMPLETED", "a", attempt=1)],
        "other": [reports("COMPLETED", "b", when=handed_out(1, "b"), attempt=1, execution_id=SECOND)],
    },
    limited=(EXECUTION, SECOND),
)
CANCELLED = Case(
    "a cancellation of an execution that waits, or has just started",
    ONE_AFTER_THE_OTHER.tasks,
    {
        "first": [reports("COMPLETED", "a", attempt=1)],
        "operator": [cancels(SECOND)],
    },
    limited=(EXECUTION, SECOND),
)
CANCELLED_STARTING = Case(
    "a cancellation of an execution that waits while a slot is free",
    [a_task("a", attempts=1)],
    {"operator": [cancels()]},
    limited=(EXECUTION,),
)
RETRIED = Case(
    "a person's retry of an execution for whose slot another waits",
    ONE_AFTER_THE_OTHER.tasks,
    {"operator": [retries(when=at_once)]},
    limited=(EXECUTION, SECOND),
    fails_first=True,
)
RETRIED_ALONE = replace(
    RETRIED,
    name="a person's retry of an execution whose slot was not freed yet",
    tasks=RETRIED.tasks[:1],
    limited=(EXECUTION,),
)
RESCUED = Case(
    "a success that takes back the failure of an execution whose slot was not freed yet",
    RETRIED.tasks[:1],
    {"first": [reports("COMPLETED", "a", attempt=1)]},
    limited=(EXECUTION,),
    fails_first=True,
)
THREE = Case(
    "three executions of which one may run at once",
    [a_task("a", attempts=1), a_task("b", attempts=1), a_task("c", attempts=1)],
    {"operator": [cancels(SECOND)]},
    limited=(EXECUTION, SECOND, THIRD),
)
THREE_ENDS = replace(
    THREE,
    name="three executions of which one may run at once: one is cancelled while it waits, one ends",
    clients={**THREE.clients, "first": [reports("COMPLETED", "a", attempt=1)]},
)
LOST = replace(
    ONE_AFTER_THE_OTHER,
    name="two executions of which one may run at once, a message that is lost, and the reconciler",
    clients={
        "first": [reports("COMPLETED", "a", attempt=1)],
        "reconciler": (Request("reconciler", wait_ms=OVERDUE_MS + 1, at_last=True), Request("reconciler")) * 2,
    },
    faults=Faults(lost_messages=1),
)

IN_EVERY_RUN: Final = (
    ONE_AFTER_THE_OTHER,
    with_faults(ONE_AFTER_THE_OTHER, crashes=1),
    with_faults(ONE_AFTER_THE_OTHER, twice=1),
    RETRIED,
    RETRIED_ALONE,
    RESCUED,
    THREE,
    with_faults(THREE, twice=1),
    LOST,
)
ONLY_TO_PROVE: Final = (
    CANCELLED,
    CANCELLED_STARTING,
    with_faults(ONE_AFTER_THE_OTHER, lost_answers=1),
    with_faults(THREE, crashes=1),
)
