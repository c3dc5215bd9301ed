"""What workers say, in the one form that the ledger knows; why attempts fail; whose attempt an id names."""

import re
import uuid
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.attempt_id import attempt_id_suffix, decode_attempt, parse_attempt_id, task_execution_id
from tasklatch.domain.errors import AttemptNotOpenError, PayloadTooLargeError
from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.report import MAX_MESSAGE_CHARACTERS, MAX_OUTPUT_BYTES, make_report, with_merged_output
from tasklatch.domain.status import MAX_ATTEMPT, TaskStatus
from tests.factories import a_report

FORGE_REASONS: Final = {
    "ENTITY_NOT_FOUND": (False, False),
    "RETRY_LIMIT_EXCEEDED": (False, False),
    "NON_RETRYABLE_ERROR": (False, False),
    "UNAUTHORIZED": (False, True),
    "AUTH_TOKEN_REVOKED": (False, True),
    "AUTH_TOKEN_EXPIRED": (False, True),
    "RATE_LIMITED": (True, False),
    "RETRYABLE_ERROR": (True, False),
}
"""As Atlassian Forge documents `updateTaskStatus`: whether it is retried, whether an administrator must act."""

FORGE_DOCUMENT: Final = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "forge-update-task-status.txt"


def test_failure_reasons_are_those_that_forge_documents() -> None:
    assert {
        reason.value: (item.retryable, item.needs_attention) for reason, item in FAILURE_POLICY.items()
    } == FORGE_REASONS
    assert set(FailureReason) == set(FAILURE_POLICY)


@pytest.mark.skipif(not FORGE_DOCUMENT.exists(), reason="Forge's document is not part of this repository")
def test_failure_reasons_are_those_of_the_document_itself() -> None:
    table = FORGE_DOCUMENT.read_text().partition("failureReasonWhen to use")[2].partition("Usage examples")[0]
    assert set(re.findall(r"^([A-Z_]+)[A-Z][a-z ]", table, re.MULTILINE)) == set(FORGE_REASONS)


@pytest.mark.parametrize("reason", FailureReason)
def test_failure_for_a_reason_that_is_not_retried_is_terminal(reason: FailureReason) -> None:
    report = a_report(TaskStatus.FAILED, failure_reason=reason)
    expected = TaskStatus.FAILED if FAILURE_POLICY[reason].retryable else TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert (report.status, report.failure_reason) == (expected, reason)


def test_failure_without_a_reason_gets_one() -> None:
    assert a_report(TaskStatus.FAILED).failure_reason is FailureReason.RETRYABLE_ERROR
    terminal = a_report(TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    assert terminal.failure_reason is FailureReason.NON_RETRYABLE_ERROR


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.IN_PROGRESS])
def test_reason_and_wait_mean_nothing_but_on_a_failure(status: TaskStatus) -> None:
    report = a_report(status, failure_reason=FailureReason.RATE_LIMITED, retry_after_seconds=30)
    assert report == a_report(status)


@pytest.mark.parametrize(
    ("length", "stored", "truncated"),
    [(0, None, False), (1024, 1024, False), (1025, 1024, True), (100_000, 1024, True)],
)
def test_long_message_is_cut_and_says_so(length: int, stored: int | None, truncated: bool) -> None:
    report = a_report(message="\U0001f600" * length)
    assert (report.message and len(report.message), report.message_truncated) == (stored, truncated)
    assert MAX_MESSAGE_CHARACTERS == 1024


VARIATIONS: Final[list[dict[str, Any]]] = [
    {},
    {"attempt": 1},
    {"attempt": 2},
    {"failure_reason": FailureReason.RATE_LIMITED},
    {"message": "a"},
    {"output": "{}"},
    {"retry_after_seconds": 1.0},
    {"platform_status": "a"},
]


def test_fingerprint_is_the_same_for_the_same_report_and_for_no_other() -> None:
    prints = [a_report(TaskStatus.FAILED, **body).fingerprint for body in VARIATIONS]
    assert prints == [make_report("another", TaskStatus.FAILED, **payload).fingerprint for payload in VARIATIONS]
    assert len(set(prints)) == len(VARIATIONS)
    assert a_report(TaskStatus.COMPLETED).fingerprint not in prints
    assert all(re.fullmatch("[0-9a-f]{16}", item) for item in prints)


names = st.text(min_size=1, max_size=20)
attempts = st.integers(1, MAX_ATTEMPT)


@given(names, names, names, attempts)
def test_task_execution_id_includes_its_attempt(tenant: str, execution_id: str, task_id: str, attempt: int) -> None:
    issued = task_execution_id(tenant, execution_id, task_id, attempt)
    assert decode_attempt(issued, tenant, execution_id, task_id) == attempt
    assert decode_attempt(issued.upper(), tenant, execution_id, task_id) == attempt
    parsed = uuid.UUID(issued)
    assert (str(parsed), parsed.version, parsed.variant) == (issued, 8, uuid.RFC_4122)


@pytest.mark.parametrize("other", [("b", "run", "task"), ("a", "other", "task"), ("a", "run", "other")])
def test_id_of_another_task_is_refused(other: tuple[str, str, str]) -> None:
    issued = task_execution_id("a", "run", "task", 1)
    with pytest.raises(AttemptNotOpenError):
        decode_attempt(issued, *other)


def test_ids_of_all_attempts_share_what_leads_to_their_task() -> None:
    issued = {attempt: task_execution_id("a", "run", "task", attempt) for attempt in (1, 2, 77)}

    parts = {attempt: parse_attempt_id(item) for attempt, item in issued.items()}

    shared = attempt_id_suffix("a", "run", "task")
    assert parts == {attempt: (attempt, shared) for attempt in issued}
    assert shared != attempt_id_suffix("a", "run", "other")


def test_attempt_zero_does_not_count_as_attempt_one() -> None:
    with pytest.raises(AttemptNotOpenError):
        decode_attempt(task_execution_id("a", "run", "task", 0), "a", "run", "task")


@pytest.mark.parametrize(
    "foreign",
    ["", "run-7", "0b9d7a5e-52c6-4f0e-9a35-2f9f4f1f6a11", str(uuid.uuid5(uuid.NAMESPACE_DNS, "a")), "x" * 255],
)
def test_id_that_this_service_never_issues_names_no_attempt(foreign: str) -> None:
    assert decode_attempt(foreign, "a", "run", "task") is None


def test_ids_of_all_attempts_differ() -> None:
    ids = {task_execution_id("a", "run", "task", attempt) for attempt in range(1, 2000)}
    assert len(ids) == 1999


@pytest.mark.parametrize(
    ("earlier", "body", "together"),
    [
        (None, '{"a":1}', '{"a":1}'),
        ('{"a":1}', None, None),
        ('{"a":1,"b":2}', '{"b":3,"c":4}', '{"a":1,"b":3,"c":4}'),
        ('{"a":{"deep":1}}', '{"a":{"other":2}}', '{"a":{"other":2}}'),
    ],
)
def test_output_is_put_over_the_earlier_one_key_by_key(
    earlier: str | None, body: str | None, together: str | None
) -> None:
    report = with_merged_output(a_report(output=body), earlier)

    assert report.output == together


def test_output_that_says_the_same_again_is_the_same_report() -> None:
    first = with_merged_output(a_report(output='{"a":1,"b":2}'), None)

    again = with_merged_output(a_report(output='{"a":1,"b":2}'), first.output)

    assert again.fingerprint == first.fingerprint


def test_outputs_that_are_too_large_together_are_refused() -> None:
    half = "x" * (MAX_OUTPUT_BYTES // 2)
    with pytest.raises(PayloadTooLargeError):
        with_merged_output(a_report(output=f'{{"b":"{half}"}}'), f'{{"a":"{half}"}}')
