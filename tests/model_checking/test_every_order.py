"""Every order of small cases keeps every promise: the shipped handlers, over a table that is a value.

The scope, its limits, and the format of a schedule that breaks a promise: docs/proof.md.
"""

import os
from collections.abc import Callable
from typing import Final

import pytest

from tests.model_checking import cases
from tests.model_checking.case import Case
from tests.model_checking.cases import with_faults
from tests.model_checking.every_promise import EveryPromise
from tests.model_checking.explorer import Explored, Explorer

PROVES: Final = "TASKLATCH_PROVE" in os.environ
MOST_STATES: Final = 1_500_000 if PROVES else 150_000
MOST_SEARCHED: Final = 500_000 if PROVES else 30_000
CASES: Final = cases.IN_EVERY_RUN + (cases.ONLY_TO_PROVE if PROVES else ())


def explored(case: Case, *, private_at_once: bool = True) -> Explored:
    return Explorer(case, EveryPromise(case), private_at_once=private_at_once).explore(MOST_STATES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_order_keeps_every_promise(case: Case, record_property: Callable[[str, object], None]) -> None:
    # when
    result = explored(case)

    # then
    record_property("explored", str(result))
    assert result.violation is None, result.violation
    assert result.ends


@pytest.mark.parametrize("case", cases.TOO_LARGE_TO_PROVE, ids=lambda case: case.name)
def test_search_of_the_states_nearest_to_the_beginning_finds_no_broken_promise(case: Case) -> None:
    # when
    try:
        result = Explorer(case, EveryPromise(case)).explore(MOST_SEARCHED)
    except RuntimeError:
        # There are more states: this is a search and no proof
        return

    # then
    assert result.violation is None, result.violation


@pytest.mark.parametrize(
    "case",
    [
        cases.LATE_SUCCESS,
        cases.SILENT,
        with_faults(cases.OLD_FAILURE, crashes=1),
        with_faults(cases.UNNAMED, redelivered=1),
        *([with_faults(cases.UNNAMED, crashes=1)] if PROVES else []),
    ],
    ids=lambda case: case.name,
)
def test_making_private_calls_at_once_leaves_no_end_out(
    case: Case, record_property: Callable[[str, object], None]
) -> None:
    # when
    short, long = explored(case), explored(case, private_at_once=False)

    # then
    record_property("states, all calls in every place", long.states)
    assert short.ends == long.ends
    assert long.violation is None, long.violation
    assert short.states < long.states


def test_exploring_twice_finds_the_same() -> None:
    # given
    case = with_faults(cases.LATE_SUCCESS, crashes=1)

    # when
    first, second = explored(case), explored(case)

    # then
    assert (first.schedules, first.states, first.steps, first.ends) == (
        second.schedules,
        second.states,
        second.steps,
        second.ends,
    )


def test_more_states_than_allowed_is_no_proof() -> None:
    # when
    with pytest.raises(RuntimeError, match="nothing is proved"):
        Explorer(cases.LATE_SUCCESS, EveryPromise(cases.LATE_SUCCESS)).explore(50)
