"""Releases: a worker gives back an attempt that it cannot do, and another worker gets the next one."""

from typing import NamedTuple

from tasklatch.domain.claim import release_verdict, release_write
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.report import Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.verdict import check_form, check_opened
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock


class ReleasedAttempt(NamedTuple):
    """Attempt at a task that a worker gives back."""

    task_id: str
    attempt: int


class Releases:
    """Releases of attempts.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, ledger: Ledger, clock: Clock, backoff: Backoff) -> None:
        self._ledger = ledger
        self._clock = clock
        self._backoff = backoff

    def release(
        self, tenant: str, queue: str, execution_id: str, released: ReleasedAttempt, request_id: str, client: str | None
    ) -> ReportResult:
        """Give a running attempt back to its queue; the next attempt opens at once.

        Raises
        ------
        NotFoundError
            If there is no such task in the queue.
        AttemptNotOpenError
            If the attempt was never opened.
        ConflictError
            If a later version of the service stored the task.
        ServiceBusyError
            If the table stays busy until the deadline; nothing was acknowledged.
        """

        def release_once() -> ReportResult:
            task = self._ledger.read(tenant, execution_id, released.task_id)
            if task.queue != queue:
                raise NotFoundError("task", released.task_id)
            check_form(task)
            check_opened(task, released.attempt)
            verdict = release_verdict(task, released.attempt, request_id)
            if verdict is not None:
                return ReportResult(verdict, task)
            write = release_write(task, now=self._clock(), request_id=request_id, client=client)
            written = self._ledger.write(tenant, execution_id, write)
            if written is None:
                raise TryAgainError
            return ReportResult(Verdict.APPLIED, written)

        return self._backoff.run(release_once)
