"""Cases of tasks that workers claim: two claimers, answers that are lost, claimers that are silent, and releases."""

from typing import Final

from tests.model_checking.case import Case, Faults
from tests.model_checking.client_requests import QUEUE, a_task, claims, handed_out, releases, reports

TWO_CLAIMERS: Final = Case(
    "two workers that claim one task",
    [a_task(attempts=1, queue=QUEUE)],
    {"first": [claims("mine"), reports("COMPLETED", attempt=1)], "second": [claims("mine")]},
)
TWO_CLAIM_TWO: Final = Case(
    "two workers that claim two tasks, and name no claim",
    [a_task(attempts=1, queue=QUEUE), a_task("b", attempts=1, queue=QUEUE)],
    {"first": [claims()], "second": [claims()]},
)
ASKED_AGAIN: Final = Case(
    "a claim that dies at any call and is repeated, beside another",
    [a_task(attempts=1, queue=QUEUE), a_task("b", attempts=1, queue=QUEUE)],
    {"first": [claims("mine"), claims("mine")], "second": [claims("other")]},
    Faults(crashes=1),
)
LOST_ANSWER: Final = Case(
    "a claim, of which the table's answer to any call is lost",
    [a_task(attempts=1, queue=QUEUE)],
    {"first": [claims("mine"), reports("COMPLETED", attempt=1)], "second": [claims("other")]},
    Faults(lost_answers=1),
)
SILENT_CLAIMER: Final = Case(
    "a worker that claims and is silent, and the next",
    [a_task(queue=QUEUE, heartbeatTimeoutSeconds=10)],
    {"silent": [claims("mine")], "next": [claims("mine", when=handed_out(2))]},
)
BOTH_WAYS: Final = Case(
    "an attempt that the bus and a queue hand out",
    [a_task(attempts=1, queue=QUEUE)],
    {"bus": [reports("IN_PROGRESS", attempt=1)], "first": [claims("mine"), reports("COMPLETED", attempt=1)]},
)
RELEASED: Final = Case(
    "a worker that gives its only attempt back and fails it later, and the next",
    [a_task(attempts=1, queue=QUEUE)],
    {
        "first": [claims("mine"), releases(1), reports("FAILED", attempt=1)],
        "next": [claims("mine", when=handed_out(2)), reports("COMPLETED", when=handed_out(2), attempt=2)],
    },
)
RELEASED_TWICE: Final = Case(
    "a release that dies at any call and is repeated, and the next worker",
    [a_task(attempts=1, queue=QUEUE)],
    {"first": [claims(), releases(1)], "next": [claims("mine", when=handed_out(2))]},
    Faults(crashes=1),
)
ENDED_MEANWHILE: Final = Case(
    "a claim that dies at any call and is repeated, while its task succeeds",
    [a_task(attempts=1, queue=QUEUE)],
    {"first": [claims("mine"), claims("mine")], "reporter": [reports("COMPLETED", attempt=1)]},
    Faults(crashes=1),
)
RELEASED_BESIDE_SUCCESS: Final = Case(
    "a task that is given back while it succeeds, and a repeat of its claim",
    [a_task(attempts=1, queue=QUEUE)],
    {"first": [claims("mine"), releases(1), claims("mine")], "reporter": [reports("COMPLETED", attempt=1)]},
)
ALL: Final = (
    TWO_CLAIMERS,
    TWO_CLAIM_TWO,
    ASKED_AGAIN,
    LOST_ANSWER,
    SILENT_CLAIMER,
    BOTH_WAYS,
    RELEASED,
    RELEASED_TWICE,
    ENDED_MEANWHILE,
    RELEASED_BESIDE_SUCCESS,
)
