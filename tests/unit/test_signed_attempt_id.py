"""Ids of attempts that only the service can issue: signed, checked, required; older keys and unsigned ids."""

import uuid
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.attempt_id import attempt_id_suffix, task_execution_id
from tasklatch.domain.errors import AttemptIdRequiredError, AttemptNotOpenError
from tasklatch.domain.signed_attempt_id import AttemptIds
from tasklatch.domain.status import MAX_ATTEMPT

KEY, OLDER, FOREIGN = b"k" * 32, b"o" * 32, b"f" * 32
TASK: Final = ("tenant", "run", "task")
SIGNED: Final = AttemptIds((KEY,))
REQUIRED: Final = AttemptIds((KEY,), are_required=True)

names = st.text(min_size=1, max_size=20)


@given(names, names, names, st.integers(1, MAX_ATTEMPT), st.binary(min_size=32, max_size=64))
def test_signed_id_is_a_uuid_that_includes_its_attempt(
    tenant: str, execution_id: str, task_id: str, attempt: int, key: bytes
) -> None:
    ids = AttemptIds((key,), are_required=True)

    issued = ids.issue(tenant, execution_id, task_id, attempt)

    assert ids.decode(issued, tenant, execution_id, task_id) == attempt
    assert ids.decode(issued.upper(), tenant, execution_id, task_id) == attempt
    parsed = uuid.UUID(issued)
    assert (str(parsed), parsed.version, parsed.variant) == (issued, 8, uuid.RFC_4122)
    assert issued != task_execution_id(tenant, execution_id, task_id, attempt)
    assert list(ids.suffixes(issued, tenant)) == [attempt_id_suffix(tenant, execution_id, task_id)]


def test_id_is_always_the_same_for_the_same_attempt_and_key() -> None:
    assert SIGNED.issue(*TASK, 7) == REQUIRED.issue(*TASK, 7) == AttemptIds((KEY, OLDER)).issue(*TASK, 7)


def test_ids_of_two_attempts_have_nothing_in_common_by_which_one_leads_to_the_other() -> None:
    suffixes = {SIGNED.issue(*TASK, attempt)[6:] for attempt in range(1, 1000)}
    assert len(suffixes) == 999


@pytest.mark.parametrize(
    "forged",
    [
        task_execution_id(*TASK, 1),
        f"000002{REQUIRED.issue(*TASK, 1)[6:]}",
        REQUIRED.issue("tenant", "run", "other", 1),
        REQUIRED.issue("tenant", "other", "task", 1),
        REQUIRED.issue("other", "run", "task", 1),
        REQUIRED.issue(*TASK, 0),
        AttemptIds((FOREIGN,)).issue(*TASK, 1),
        None,
        "",
        "run-7",
        "0b9d7a5e-52c6-4f0e-9a35-2f9f4f1f6a11",
    ],
    ids=[
        "unsigned",
        "other-attempt",
        "task",
        "execution",
        "tenant",
        "zero",
        "other-key",
        "none",
        "empty",
        "text",
        "uuid",
    ],
)
def test_where_ids_are_required_nothing_but_the_attempts_own_counts(forged: str | None) -> None:
    with pytest.raises(AttemptIdRequiredError):
        REQUIRED.decode(forged, *TASK)


@pytest.mark.parametrize("position", range(36))
def test_no_changed_digit_of_an_id_is_accepted(position: int) -> None:
    issued = REQUIRED.issue(*TASK, 3)
    if issued[position] == "-":
        return
    for digit in "0123456789abcdef".replace(issued[position], ""):
        with pytest.raises(AttemptIdRequiredError):
            REQUIRED.decode(issued[:position] + digit + issued[position + 1 :], *TASK)


def test_ids_of_the_key_before_are_accepted_and_no_more_issued() -> None:
    before, after = AttemptIds((OLDER,), are_required=True), AttemptIds((KEY, OLDER), are_required=True)

    assert after.decode(before.issue(*TASK, 2), *TASK) == 2
    assert after.issue(*TASK, 2) == REQUIRED.issue(*TASK, 2)
    with pytest.raises(AttemptIdRequiredError):
        REQUIRED.decode(before.issue(*TASK, 2), *TASK)


def test_until_ids_are_required_unsigned_ones_count_and_a_report_may_have_none() -> None:
    assert SIGNED.decode(task_execution_id(*TASK, 2), *TASK) == 2
    assert SIGNED.decode(SIGNED.issue(*TASK, 2), *TASK) == 2
    assert SIGNED.decode(None, *TASK) is None
    assert SIGNED.decode("run-7", *TASK) is None
    with pytest.raises(AttemptNotOpenError):
        SIGNED.decode(SIGNED.issue("tenant", "run", "other", 2), *TASK)


def test_without_a_key_ids_are_those_of_before() -> None:
    assert AttemptIds().issue(*TASK, 5) == task_execution_id(*TASK, 5)
    assert list(AttemptIds().suffixes(task_execution_id(*TASK, 5), "tenant")) == [attempt_id_suffix(*TASK)]
    with pytest.raises(AttemptNotOpenError):
        AttemptIds().decode(task_execution_id(*TASK, 0), *TASK)
