"""The logger and the metrics: one line for each answer, one count for each verdict. No payload, no token."""

from functools import cache

from aws_lambda_powertools import Logger, Metrics

from tasklatch.domain.report import Verdict

VERDICT_METRIC = {
    Verdict.APPLIED: "ReportsApplied",
    Verdict.DUPLICATE: "ReportsDuplicate",
    Verdict.IGNORED_AFTER_SUCCESS: "ReportsIgnoredAfterSuccess",
    Verdict.STALE_ATTEMPT: "ReportsStaleAttempt",
    Verdict.SEALED: "ReportsSealed",
}
PREVENTED_METRIC = "SuccessOverwritesPrevented"


@cache
def logger() -> Logger:
    """The function's logger; its service name and level come from Powertools' environment variables."""
    return Logger(utc=True)


@cache
def metrics() -> Metrics:
    """The function's metrics; namespace and service come from Powertools' environment variables."""
    return Metrics()
