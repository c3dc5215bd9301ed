"""What each log line carries, and that nothing passes from one invocation to the next."""

import contextlib
from typing import Any, Final

import pytest

from local.handlers import FUNCTIONS, load_handler
from tasklatch.domain.report import Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.runtime.observability import count_verdicts, logger, metrics
from tests.factories import Context, a_report, a_task, api_event
from tests.untrusted_input import LogLines

NAMES: Final = sorted(path.parent.name for path in FUNCTIONS.glob("*/handler.py"))
HEALTH: Final = "GET /v1/health"
CARRIED: Final = {"correlation_id", "cold_start", "function_name", "function_request_id", "service"}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> LogLines:
    return LogLines.capture(monkeypatch)


def invoke(request_id: str, context: Context | None = None) -> None:
    load_handler("api_description").handler(api_event(HEALTH, request_id=request_id), context or Context())


def test_a_line_joins_the_callers_id_to_lambdas_own_lines(log: LogLines) -> None:
    invoke("caller-7", Context(aws_request_id="lambda-7"))

    (line,) = log.objects()
    assert line.keys() >= CARRIED
    assert (line["correlation_id"], line["function_request_id"]) == ("caller-7", "lambda-7")


def test_only_the_first_invocation_is_a_cold_start(log: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aws_lambda_powertools.logging.logger.is_cold_start", True)

    invoke("a")
    invoke("b")

    assert [line["cold_start"] for line in log.objects()] == [True, False]


def test_no_key_passes_to_the_next_invocation(log: LogLines) -> None:
    # given an invocation that adds a key to its lines
    logger.append_keys(of_the_first="x")
    logger.set_correlation_id("first")
    logger.info("first")

    # when
    invoke("second")

    # then
    first, second = log.objects()
    assert first["of_the_first"] == "x"
    assert "of_the_first" not in second
    assert second["correlation_id"] == "second"


def test_counts_are_written_once_at_the_end_of_their_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    # given counts of a report, in an invocation
    log = LogLines.capture(monkeypatch)
    result = ReportResult(Verdict.APPLIED, a_task())

    @metrics.log_metrics
    def handler(_event: Any, _context: Any) -> None:
        count_verdicts([(a_report(), result)] * 2)

    # when
    handler({}, Context())
    invoke("next")

    # then
    counted, line = log.objects()
    assert counted["ReportsApplied"] == [2]
    assert "ReportsApplied" not in line
    assert log.metric_lines == 1


@pytest.mark.parametrize("function", NAMES)
def test_every_handler_puts_its_invocation_into_the_lines(function: str) -> None:
    # when an event comes that it cannot read, or with no time left
    context = Context(remaining_ms=0, aws_request_id=f"request of {function}")
    with contextlib.suppress(Exception):
        load_handler(function).handler({}, context)

    # then
    assert logger.get_current_keys()["function_request_id"] == f"request of {function}"
    assert not metrics.metric_set


def test_ignored_reports_that_are_not_stored_are_one_metric_of_all_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    log = LogLines.capture(monkeypatch)
    not_stored = ReportResult(Verdict.DUPLICATE, a_task(), is_stored=False)

    # when
    fields = count_verdicts([(a_report(task_id="mad"), not_stored), (a_report(task_id="mad"), not_stored)])

    # then
    (counted,) = log.objects()
    assert (counted["IgnoredReportsNotStored"], counted["service"]) == ([2], "api")
    assert fields["not_stored"] == ["mad", "mad"], "who to look for"
