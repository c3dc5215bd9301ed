"""Small cases to explore: tasks, the requests of their clients, and the faults."""

from dataclasses import replace
from typing import Final

from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.overdue import OVERDUE_MS
from tests.model_checking import children_cases, claim_cases, sweep_cases, timer_cases, waiting_cases
from tests.model_checking.case import EXECUTION, TENANT, Case, Faults, Request
from tests.model_checking.client_requests import (
    a_task,
    cancels,
    handed_out,
    reports,
    reports_batch,
    retries,
    sends_heartbeat,
)

RECONCILES: Final = (Request("reconciler", wait_ms=OVERDUE_MS + 1), Request("reconciler"))
RECONCILES_AT_LAST: Final = (Request("reconciler", wait_ms=OVERDUE_MS + 1, at_last=True), Request("reconciler")) * 2


def reconciled(case: Case) -> Case:
    """Return the case with a reconciler, which runs when nothing more happens by itself."""
    clients = {**case.clients, "reconciler": RECONCILES_AT_LAST}
    return replace(case, name=f"{case.name}, and the reconciler", clients=clients)


def kept_open(case: Case) -> Case:
    """Return the case in an execution that tasks do not end, as some platforms make: no failure is taken back."""
    return replace(case, name=f"{case.name}, in an execution that stays open", stays_open=True)


def lagging(case: Case) -> Case:
    """Return the case with an index that may also respond as if it had no task yet, or had missed every end."""
    return replace(case, name=f"{case.name}, by an index that lags", index_lags=True)


def with_faults(case: Case, **faults: int) -> Case:
    """Return the case with more faults."""
    initial = case.faults._replace(**faults)
    messages = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in faults.items())
    return replace(case, name=f"{case.name} ({messages})", faults=initial)


ONE_ATTEMPT = Case(
    "every report on one attempt",
    [a_task(attempts=1)],
    {
        "first": [reports("IN_PROGRESS", attempt=1), reports("FAILED", attempt=1)],
        "second": [reports("COMPLETED", attempt=1, output={"rows": 3})],
        "third": [reports("FAILED_WITH_TERMINAL_ERROR", attempt=1)],
    },
    one_attempt=True,
)
REPORTED_TWICE = Case(
    "a success and a failure, each reported twice",
    [a_task(attempts=1)],
    {
        "first": [reports("FAILED", attempt=1), reports("FAILED", attempt=1)],
        "second": [reports("COMPLETED", attempt=1, output={"rows": 3})],
        "again": [reports("COMPLETED", attempt=1, output={"rows": 3})],
    },
    one_attempt=True,
)
LATE_SUCCESS = Case(
    "a success and a failure of one attempt, and the next attempt",
    [a_task()],
    {
        "first": [reports("COMPLETED", attempt=1)],
        "duplicate": [reports("FAILED", attempt=1)],
        "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
    },
)
TWO_BATCHES = Case(
    "two batches on one task, which are written on the version that each read",
    [a_task(attempts=1)],
    {
        "first": [
            reports_batch(
                {"taskId": "a", "status": "IN_PROGRESS", "attempt": 1},
                {"taskId": "a", "status": "FAILED", "attempt": 1},
            )
        ],
        "second": [reports_batch({"taskId": "a", "status": "COMPLETED", "attempt": 1, "output": {"rows": 3}})],
    },
)
STALE_FAILURE = Case(
    "two workers fail the first attempt, one the second",
    [a_task(attempts=3)],
    {
        "first": [reports("FAILED", attempt=1)],
        "second": [reports("FAILED", attempt=1, message="again"), reports("FAILED_WITH_TERMINAL_ERROR", attempt=1)],
        "next": [reports("IN_PROGRESS", when=handed_out(2), attempt=2), reports("FAILED", attempt=2)],
        "last": [reports("COMPLETED", when=handed_out(3), attempt=3)],
    },
)
OLD_FAILURE = Case(
    "a duplicate of the first attempt's worker, after the second was handed out",
    [a_task()],
    {
        "first": [reports("FAILED", attempt=1)],
        "duplicate": [reports("FAILED", when=handed_out(2), attempt=1, message="late")],
        "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
    },
)
UNOPENED = Case(
    "reports on an attempt that may not be open yet",
    [a_task()],
    {
        "first": [reports("FAILED", attempt=1)],
        "early": [reports("FAILED", attempt=2)],
        "hasty": [reports("COMPLETED", attempt=2)],
    },
)
WATCHED = replace(OLD_FAILURE, name=f"{OLD_FAILURE.name}, watched", watched=True)
UNNAMED = Case(
    "reports that name no attempt",
    [a_task()],
    {
        "first": [reports("IN_PROGRESS"), reports("FAILED")],
        "second": [reports("COMPLETED")],
    },
)
LATE = Case(
    "a worker that is late, and another",
    [a_task(timeoutSeconds=30)],
    {
        "first": [reports("COMPLETED", attempt=1)],
        "next": [reports("FAILED", when=handed_out(2), attempt=2)],
    },
)
DEADLINE = Case(
    "a worker that is late, and the one that receives its task",
    [a_task(timeoutSeconds=30)],
    {
        "first": [reports("IN_PROGRESS", attempt=1), reports("COMPLETED", attempt=1)],
        "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
    },
)
HEARTBEAT = Case(
    "a worker that is silent, and reports again",
    [a_task(attempts=1, heartbeatTimeoutSeconds=10)],
    {"first": [reports("IN_PROGRESS", attempt=1), sends_heartbeat(), reports("COMPLETED", attempt=1)]},
)
SILENT = Case(
    "a worker that is silent for good after a heartbeat",
    [a_task(attempts=1, heartbeatTimeoutSeconds=10)],
    {"first": [reports("IN_PROGRESS", attempt=1), sends_heartbeat()]},
)
CANCEL = Case(
    "a cancellation against a success, a failure and a retry",
    [a_task()],
    {
        "first": [reports("COMPLETED", attempt=1)],
        "duplicate": [reports("FAILED", attempt=1)],
        "operator": [cancels()],
    },
)
CANCEL_AND_RETRY = Case(
    "a cancellation, a person's retry, and a worker that is not informed",
    [a_task(attempts=1)],
    {"first": [reports("COMPLETED", attempt=1)], "operator": [cancels(), retries()]},
)
FAILURE_AND_RETRY = Case(
    "a failure for good, and a person's retry",
    [a_task(attempts=1)],
    {
        "first": [reports("FAILED", attempt=1)],
        "operator": [retries()],
        "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
    },
)
RETRY_ALONE = Case(
    "a person's retry of a failure for good",
    FAILURE_AND_RETRY.tasks,
    {name: requests for name, requests in FAILURE_AND_RETRY.clients.items() if name != "next"},
)
RESCUE_AND_RETRY = Case(
    "a failure for good, a person's retry, and a late success",
    FAILURE_AND_RETRY.tasks,
    {**FAILURE_AND_RETRY.clients, "rescue": [reports("COMPLETED", attempt=1)]},
)
CHAIN = Case(
    "a task that waits for another",
    [a_task("a"), a_task("b", dependsOn=["a"])],
    {
        "first": [reports("COMPLETED", "a", attempt=1)],
        "duplicate": [reports("FAILED", "a", attempt=1)],
        "other": [reports("COMPLETED", "b", when=handed_out(1, "b"), attempt=1)],
    },
)
JOIN = Case(
    "a task that waits for two",
    [a_task("a", attempts=1), a_task("b", attempts=1), a_task("c", dependsOn=["a", "b"])],
    {
        "first": [reports("COMPLETED", "a", attempt=1)],
        "other": [reports("COMPLETED", "b", attempt=1)],
        "last": [reports("COMPLETED", "c", when=handed_out(1, "c"), attempt=1)],
    },
)
ABORT = Case(
    "a failure that ends the execution, and another task under way",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "other": [reports("COMPLETED", "b", attempt=1)],
    },
)
RESCUE_BESIDE = Case(
    "a failure that ends the execution of another task under way, and a success that takes it back",
    ABORT.tasks,
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "rescue": [reports("COMPLETED", "a", attempt=1)],
    },
)
RESCUE = Case(
    "a failure that ends the execution of a task that waits, and a success that takes it back",
    [a_task("a", attempts=1), a_task("b", attempts=1, dependsOn=["a"])],
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "rescue": [reports("COMPLETED", "a", attempt=1)],
    },
)
TWO_FAIL = Case(
    "two failures that end the execution, and a success that takes one of them back",
    ABORT.tasks,
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "other": [reports("FAILED", "b", attempt=1)],
        "rescue": [reports("COMPLETED", "a", attempt=1)],
    },
)
RESCUE_ALONE = Case(
    "a failure that ends the execution, and a success that takes it back",
    [a_task(attempts=1)],
    {"first": [reports("FAILED", attempt=1)], "rescue": [reports("COMPLETED", attempt=1)]},
)
LATE_RESCUE = Case(
    "a failure that has ended the execution, and a success that takes it back later",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "rescue": [reports("COMPLETED", "a", when=sweep_cases.all_closed, attempt=1)],
    },
)
LATE_RESCUE_ALONE = replace(LATE_RESCUE, name=f"{LATE_RESCUE.name}, of the only task", tasks=RESCUE_ALONE.tasks)
LATE_RESCUE_OF_PAGES = replace(LATE_RESCUE, name=f"{LATE_RESCUE.name}, of several pages", one_page=True)
RESCUE_AND_CANCEL = Case(
    "a failure that ends the execution, a success that takes it back, and a person's cancellation",
    RESCUE_ALONE.tasks,
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "rescue": [reports("COMPLETED", "a", attempt=1)],
        "operator": [cancels()],
    },
)
CONTINUE = Case(
    "a failure after which the execution continues, and its rescue",
    [a_task("a", attempts=1, onFailure="continue"), a_task("b", dependsOn=["a"])],
    {
        "first": [reports("FAILED", "a", attempt=1)],
        "rescue": [reports("COMPLETED", "a", attempt=1)],
        "other": [reports("COMPLETED", "b", when=handed_out(1, "b"), attempt=1)],
    },
)
GONE_ON = Case(
    "a failure after which the execution continues",
    CONTINUE.tasks,
    {name: requests for name, requests in CONTINUE.clients.items() if name != "rescue"},
)
LOST_TIMER = Case(
    "a message that goes to the dead-letter queue, and the reconciler",
    [a_task()],
    {
        "first": [reports("FAILED", attempt=1)],
        "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
        "reconciler": RECONCILES,
    },
    Faults(lost_messages=1),
)

OTHERS_ID = Case(
    "a report with the id of another task's attempt",
    [a_task("a", attempts=1), a_task("b", attempts=1)],
    {
        "first": [reports("COMPLETED", "a", attempt=1)],
        "confused": [reports("FAILED", "b", taskExecutionId=task_execution_id(TENANT, EXECUTION, "a", 1))],
        "other": [reports("COMPLETED", "b", taskExecutionId=task_execution_id(TENANT, EXECUTION, "b", 1))],
    },
)
PUT_OFF = Case(
    "a worker that requests a retry delay, and one that does not",
    [{"taskId": "a", "retryPolicy": {"maxAttempts": 2, "initialSeconds": 1, "maxSeconds": 30, "jitter": 0}}],
    {
        "first": [reports("FAILED", attempt=1, failureReason="RATE_LIMITED", retryAfterSeconds=20)],
        "second": [reports("FAILED", attempt=1)],
        "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
    },
)
CHECKPOINTS = Case(
    "checkpoints that are numbered, and a success without output",
    [a_task(attempts=1)],
    {
        "first": [reports("IN_PROGRESS", attempt=1, output={"ack": 1}, sequence=1)],
        "second": [reports("IN_PROGRESS", attempt=1, output={"ack": 2}, sequence=2)],
        "third": [reports("COMPLETED", attempt=1)],
    },
    one_attempt=True,
)
CHECKPOINT_AND_FAILURE = Case(
    "a checkpoint, a failure without output, and a success that has one",
    [a_task(attempts=1)],
    {
        "first": [reports("IN_PROGRESS", attempt=1, output={"ack": 1})],
        "second": [reports("FAILED", attempt=1)],
        "third": [reports("COMPLETED", attempt=1, output={"rows": 3})],
    },
    one_attempt=True,
)
CHECKPOINTS_OF_TWO = Case(
    "checkpoints of two attempts, and a late success of the first",
    [a_task()],
    {
        "first": [reports("IN_PROGRESS", attempt=1, output={"ack": 1}), reports("FAILED", attempt=1)],
        "late": [reports("COMPLETED", attempt=1)],
        "next": [reports("IN_PROGRESS", when=handed_out(2), attempt=2, output={"ack": 2})],
    },
)


IN_EVERY_RUN: Final = (
    kept_open(ONE_ATTEMPT),
    kept_open(REPORTED_TWICE),
    LATE_SUCCESS,
    STALE_FAILURE,
    OLD_FAILURE,
    UNOPENED,
    UNNAMED,
    HEARTBEAT,
    SILENT,
    CANCEL,
    FAILURE_AND_RETRY,
    CHAIN,
    JOIN,
    ABORT,
    RESCUE_ALONE,
    LATE_RESCUE_ALONE,
    LATE_RESCUE_OF_PAGES,
    CONTINUE,
    GONE_ON,
    LOST_TIMER,
    waiting_cases.WAITING_FAILED,
    waiting_cases.WAITING_COMPLETED,
    waiting_cases.WAITING_UNNAMED,
    waiting_cases.WAITING_HEARTBEAT,
    waiting_cases.WAITING_BATCH,
    waiting_cases.WAITING_UPDATED,
    waiting_cases.WAITING_INVOCATION,
    OTHERS_ID,
    PUT_OFF,
    CHECKPOINTS,
    kept_open(CHECKPOINT_AND_FAILURE),
    CHECKPOINTS_OF_TWO,
    with_faults(CHECKPOINTS_OF_TWO, lost_answers=1),
    lagging(CHAIN),
    with_faults(LATE_SUCCESS, twice=1, redelivered=1),
    with_faults(LATE_SUCCESS, crashes=1, redelivered=1),
    with_faults(LATE_SUCCESS, crashes=1, lost_answers=1),
    with_faults(STALE_FAILURE, twice=1),
    with_faults(OLD_FAILURE, crashes=1, twice=1),
    with_faults(WATCHED, crashes=1, redelivered=1),
    with_faults(UNNAMED, lost_answers=1),
    TWO_BATCHES,
    with_faults(kept_open(TWO_BATCHES), crashes=1),
    with_faults(kept_open(TWO_BATCHES), lost_answers=1),
    with_faults(SILENT, crashes=1),
    with_faults(reconciled(LATE_SUCCESS), lost_messages=1),
    with_faults(reconciled(CHAIN), lost_messages=1),
    with_faults(reconciled(CANCEL), lost_messages=1),
    timer_cases.LONG_TIMER,
    timer_cases.SWEPT_TWICE,
    timer_cases.SWEPT_AND_LOST,
    timer_cases.LONG_DEADLINE,
    timer_cases.NEVER_PUBLISHED,
    with_faults(timer_cases.LONG_TIMER, crashes=1),
    sweep_cases.LAST_TWO,
    lagging(sweep_cases.LAST_TWO),
    sweep_cases.END,
    with_faults(sweep_cases.END, crashes=1),
    with_faults(sweep_cases.END, twice=1),
    sweep_cases.CANCEL,
    sweep_cases.FAILURE,
    with_faults(sweep_cases.FAILURE, crashes=1),
    sweep_cases.RETRY,
    sweep_cases.ADDITION,
    sweep_cases.ADDED_DEPENDENT,
    *claim_cases.ALL,
    lagging(claim_cases.TWO_CLAIMERS),
    lagging(claim_cases.TWO_CLAIM_TWO),
    lagging(claim_cases.RELEASED),
    children_cases.BROUGHT,
    with_faults(children_cases.BROUGHT, crashes=1),
    with_faults(children_cases.BROUGHT, twice=1),
    with_faults(children_cases.BROUGHT, lost_answers=1),
    with_faults(reconciled(children_cases.BROUGHT), lost_messages=1),
    children_cases.AWAITED,
    children_cases.TWO_BROUGHT,
    children_cases.LISTED,
    with_faults(children_cases.LISTED, redelivered=1),
    children_cases.NO_LIST,
    with_faults(children_cases.NO_LIST, crashes=1),
    children_cases.CANCEL,
)
"""Cases that every test run explores: some seconds for each."""

ONLY_TO_PROVE: Final = (
    kept_open(DEADLINE),
    kept_open(LATE),
    waiting_cases.WAITING_AGAIN,
    waiting_cases.CANCEL_WAITING,
    with_faults(sweep_cases.CANCEL, crashes=1),
    CANCEL_AND_RETRY,
    with_faults(CHAIN, redelivered=1),
    lagging(JOIN),
    with_faults(kept_open(REPORTED_TWICE), twice=1),
    with_faults(STALE_FAILURE, crashes=1),
    with_faults(STALE_FAILURE, crashes=1, twice=1),
    with_faults(kept_open(UNOPENED), crashes=1),
    with_faults(kept_open(UNNAMED), crashes=1, lost_answers=1),
    with_faults(kept_open(HEARTBEAT), crashes=1),
    with_faults(CANCEL, crashes=1),
    with_faults(CANCEL, twice=1),
    with_faults(CHAIN, crashes=1),
    with_faults(CONTINUE, crashes=1),
    with_faults(GONE_ON, twice=1),
    with_faults(timer_cases.SWEPT_TWICE, crashes=1),
    with_faults(sweep_cases.ADDITION, twice=1),
    with_faults(children_cases.AWAITED, crashes=1),
    with_faults(children_cases.LISTED, crashes=1),
    with_faults(children_cases.LISTED, twice=1),
)
"""Cases that are explored besides where the promises are proved: up to some minutes for each."""

TOO_LARGE_TO_PROVE: Final = (
    with_faults(HEARTBEAT, crashes=1),
    with_faults(UNNAMED, crashes=1, lost_answers=1),
    with_faults(UNOPENED, crashes=1),
    with_faults(reconciled(RETRY_ALONE), lost_answers=1),
    LATE,
    DEADLINE,
    RESCUE_AND_RETRY,
    RESCUE_BESIDE,
    RESCUE,
    RESCUE_AND_CANCEL,
    ONE_ATTEMPT,
    with_faults(TWO_BATCHES, crashes=1),
    with_faults(TWO_BATCHES, lost_answers=1),
    with_faults(LATE_RESCUE_ALONE, crashes=1),
    with_faults(LATE_RESCUE_ALONE, twice=1),
    LATE_RESCUE,
    with_faults(LATE_RESCUE, crashes=1),
    with_faults(LATE_RESCUE, twice=1),
    with_faults(LATE_RESCUE_OF_PAGES, crashes=1),
    children_cases.CANCEL_MEANWHILE,
)
"""Cases of which the states near the beginning are searched for a broken promise, in order of the steps to them."""
