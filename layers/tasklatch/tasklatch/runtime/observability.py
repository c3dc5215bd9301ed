"""The logger and the metrics: one line for each answer, one count for each verdict. No payload, no token."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from tasklatch.domain.conditional_write import prevented_overwrite
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult

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
    """The function's logger; its service name and level come from Powertools' environment variables."""
    return Logger(utc=True)


@cache
def metrics() -> Metrics:
    """The function's metrics; namespace and service come from Powertools' environment variables."""
    return Metrics()


def count_verdicts(results: Iterable[tuple[Report, ReportResult]]) -> dict[str, object]:
    """Count what became of reports in the metrics, and say it for the log line of the request."""
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
    """Log the error that is being handled, with its traceback, and count it: all functions' together, for one alarm."""
    logger().exception("unhandled error", extra=fields)
    # The function itself ends well, with an answer, so Lambda's own count of errors does not know of it.
    with single_metric(name=UNHANDLED_METRIC, unit=MetricUnit.Count, value=1, default_dimensions={"service": "api"}):
        pass
