"""Logger and metrics: one log line for each response, one count for each verdict. No payload, no token."""

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.verdict import prevented_overwrite

VERDICT_METRIC: Final = {
    Verdict.APPLIED: "ReportsApplied",
    Verdict.DUPLICATE: "ReportsDuplicate",
    Verdict.IGNORED_AFTER_SUCCESS: "ReportsIgnoredAfterSuccess",
    Verdict.STALE_ATTEMPT: "ReportsStaleAttempt",
    Verdict.SEALED: "ReportsSealed",
}
NOT_STORED_METRIC: Final = "IgnoredReportsNotStored"
_TASKS_A_LINE: Final = 5
PREVENTED_METRIC: Final = "SuccessOverwritesPrevented"
UNHANDLED_METRIC: Final = "UnhandledErrors"
SET_ASIDE_METRIC: Final = "RecordsSetAside"
WATCHERS_CUT_OFF_METRIC: Final = "WatchersCutOff"


logger: Final = Logger(utc=True)
"""The function's logger; its service name and level come from Powertools' environment variables."""

metrics: Final = Metrics()
"""The function's metrics; namespace and service come from Powertools' environment variables."""

FIRST_RECORD: Final = "Records[0].eventID"
"""Path in a stream's event to the correlation id of an invocation, which is about a whole batch."""

# Most invocations count nothing
warnings.filterwarnings("ignore", "No application metrics to publish")


def count_verdicts(results: Iterable[tuple[Report, ReportResult]]) -> dict[str, object]:
    """Count the verdicts on reports in the metrics, and return the counts as fields of the request's log line."""
    verdicts: Counter[Verdict] = Counter()
    prevented = 0
    not_stored: list[str] = []
    for report, result in results:
        verdicts[result.verdict] += 1
        prevented += prevented_overwrite(report.status, result.verdict)
        if not result.is_stored:
            not_stored.append(report.task_id)
    for verdict, count in verdicts.items():
        metrics.add_metric(VERDICT_METRIC[verdict], MetricUnit.Count, count)
    if prevented:
        metrics.add_metric(PREVENTED_METRIC, MetricUnit.Count, prevented)
    if not not_stored:
        return {"verdicts": dict(verdicts)}
    _count_for_all(NOT_STORED_METRIC, len(not_stored))
    return {"verdicts": dict(verdicts), "not_stored": not_stored[:_TASKS_A_LINE]}


def report_unhandled(**fields: object) -> None:
    """Log the current error with its traceback, and count it in one metric for all functions, for one alarm."""
    logger.exception("unhandled error", extra=fields)  # noqa: LOG004 - it is called while an error is handled
    # The function itself succeeds and responds, so Lambda's own error metric does not count this error.
    _count_for_all(UNHANDLED_METRIC)


def report_unexpected(message: str, **fields: object) -> None:
    """Log an error that a service should not have answered, and count it as `report_unhandled` does."""
    logger.error("unhandled error", extra={"error": message, **fields})
    _count_for_all(UNHANDLED_METRIC)


def _count_for_all(name: str, count: int = 1) -> None:
    """Count in one metric for all functions, which one alarm can watch."""
    with single_metric(name=name, unit=MetricUnit.Count, value=count, default_dimensions={"service": "api"}):
        pass
