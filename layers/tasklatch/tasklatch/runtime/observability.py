"""Logger and metrics: one log line for each response, one count for each verdict. No payload, no token."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.verdict import prevented_overwrite

VERDICT_METRIC = {
    Verdict.APPLIED: "ReportsApplied",
    Verdict.DUPLICATE: "ReportsDuplicate",
    Verdict.IGNORED_AFTER_SUCCESS: "ReportsIgnoredAfterSuccess",
    Verdict.STALE_ATTEMPT: "ReportsStaleAttempt",
    Verdict.SEALED: "ReportsSealed",
}
PREVENTED_METRIC = "SuccessOverwritesPrevented"
UNHANDLED_METRIC = "UnhandledErrors"


@cache
def logger() -> Logger:
    """Return the function's logger; its service name and level come from Powertools' environment variables."""
    return Logger(utc=True)


@cache
def metrics() -> Metrics:
    """Return the function's metrics; namespace and service come from Powertools' environment variables."""
    return Metrics()


def count_verdicts(results: Iterable[tuple[Report, ReportResult]]) -> dict[str, object]:
    """Count the verdicts on reports in the metrics, and return the counts as fields of the request's log line."""
    verdicts: Counter[Verdict] = Counter()
    prevented = 0
    for report, result in results:
        verdicts[result.verdict] += 1
        prevented += prevented_overwrite(report.status, result.verdict)
    for verdict, count in verdicts.items():
        metrics().add_metric(VERDICT_METRIC[verdict], MetricUnit.Count, count)
    if prevented:
        metrics().add_metric(PREVENTED_METRIC, MetricUnit.Count, prevented)
    return {"verdicts": dict(verdicts)}


def report_unhandled(**fields: object) -> None:
    """Log the current error with its traceback, and count it in one metric for all functions, for one alarm."""
    logger().exception("unhandled error", extra=fields)
    # The function itself succeeds and responds, so Lambda's own error metric does not count this error.
    with single_metric(name=UNHANDLED_METRIC, unit=MetricUnit.Count, value=1, default_dimensions={"service": "api"}):
        pass
