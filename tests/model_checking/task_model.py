"""Model of a task as the promises describe it, independent of the code of the service."""

from dataclasses import dataclass, field
from typing import Final

from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import SEALED, STATUS_RANK, TaskStatus

ATTEMPTS: Final = 2


@dataclass
class ModelTask:
    """Model of one task, as the promises describe it."""

    continues: bool = False
    waits_for: tuple[str, ...] = ()
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 1
    allowed: int = ATTEMPTS
    is_open: bool = False
    decided_by: str | None = None
    succeeded: int | None = None
    checkpoint: tuple[int, str] | None = None
    final: str | None = None
    message: str | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def opened(self) -> int:
        """Return the number of attempts that were handed to a worker."""
        return self.attempt - (not self.is_open)

    @property
    def retries_exhausted(self) -> bool:
        failed = self.status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT)
        return self.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR or (failed and self.attempt >= self.allowed)

    @property
    def will_retry(self) -> bool:
        return self.status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT) and not self.retries_exhausted

    @property
    def ends_execution(self) -> bool:
        return self.retries_exhausted and not self.continues

    @property
    def settled(self) -> bool:
        return self.status is TaskStatus.COMPLETED or self.status in SEALED or self.ends_execution

    def takes(self, report: Report) -> Verdict | None:
        """Return the verdict on a report, and the task after it; None if its attempt was never opened."""
        attempt = report.attempt or (1 if report.status is TaskStatus.COMPLETED else self.attempt)
        if attempt > self.opened:
            return None
        if self.status in SEALED:
            return Verdict.SEALED
        if self._is_moved_by(report, attempt):
            return self._become(report, attempt)
        return Verdict.APPLIED if self._learns_from(report, attempt) else self._ignores(report, attempt)

    def _ignores(self, report: Report, attempt: int) -> Verdict:
        if self.status is TaskStatus.COMPLETED:
            late_failure = report.status is not TaskStatus.COMPLETED
            return Verdict.IGNORED_AFTER_SUCCESS if late_failure else Verdict.DUPLICATE
        stale = attempt < self.attempt and report.fingerprint != self.decided_by
        return Verdict.STALE_ATTEMPT if stale else Verdict.DUPLICATE

    def _is_moved_by(self, report: Report, attempt: int) -> bool:
        if self.status is TaskStatus.COMPLETED or report.status is TaskStatus.COMPLETED:
            return self.status is not TaskStatus.COMPLETED
        return attempt == self.attempt and STATUS_RANK[report.status] > STATUS_RANK[self.status]

    def _become(self, report: Report, attempt: int) -> Verdict:
        self.status = report.status
        self.message = report.message
        if report.status is TaskStatus.IN_PROGRESS:
            self.checkpoint = (attempt, report.fingerprint) if report.output else self.checkpoint
            return Verdict.APPLIED
        self.decided_by = report.fingerprint
        if report.status is TaskStatus.COMPLETED:
            self.succeeded = report.attempt or self.opened
            self.final = None
        self.final = report.fingerprint if report.output else self.final
        return Verdict.APPLIED

    def _learns_from(self, report: Report, attempt: int) -> bool:
        """Return True if a report that moves nothing still adds to the attempt that decided."""
        is_any_success = report.status is TaskStatus.COMPLETED and report.attempt is None
        decided = self.succeeded or self.attempt
        if attempt != decided and not is_any_success:
            return False
        if report.status is not TaskStatus.IN_PROGRESS:
            alike = (self.status is TaskStatus.COMPLETED) == (report.status is TaskStatus.COMPLETED)
            fills = report.output is not None and self.final is None and alike
            self.final = report.fingerprint if fills else self.final
            return fills
        checkpoint = (decided, report.fingerprint)
        if self.status is TaskStatus.IN_PROGRESS:
            gives = report.output is not None and checkpoint != self.checkpoint
            says = report.message not in (None, self.message)
        else:
            is_shown = self.status is not TaskStatus.COMPLETED or self.final is None
            gives = report.output is not None and is_shown and (self.checkpoint or (0,))[0] != decided
            says = False
        self.checkpoint = checkpoint if gives else self.checkpoint
        self.message = report.message if says else self.message
        return gives or says

    @property
    def output(self) -> str | None:
        """Return the fingerprint of the report with the output."""
        attempt, fingerprint = self.checkpoint or (0, None)
        return self.final or (fingerprint if attempt == (self.succeeded or self.attempt) else None)

    def opens_next(self) -> None:
        self.attempt += 1
        self.schedule()

    def schedule(self) -> None:
        self.status = TaskStatus.SCHEDULED
        self.is_open = True
        self.final = self.message = None
