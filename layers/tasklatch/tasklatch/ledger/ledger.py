"""The only write path for reports on tasks, shared by all contracts."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.errors import TasklatchError
from tasklatch.domain.report import Report, Verdict, with_merged_output
from tasklatch.domain.results import HeartbeatResult, ReportResult
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import check_form, check_opened
from tasklatch.ledger.batch import BatchRecorder
from tasklatch.ledger.heartbeat import heartbeat_request, stop_reason
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.ledger.report_write import decide_rejected, derive_write, is_read_first, is_worth_another_attempt
from tasklatch.ledger.task_table import TaskTable, task_key
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Ledger:
    """The table of tasks, changed only by conditional writes.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._tasks = TaskTable(client, settings, backoff)
        self._history = History(client, settings, backoff)
        self._payloads = Payloads(client, settings, backoff)
        self._batches = BatchRecorder(self._tasks, self._history, self._payloads, clock, backoff)

    def record(self, tenant: str, execution_id: str, report: Report, request_id: str) -> ReportResult:
        """Record a report by one conditional write; its output, if any, is stored first.

        Parameters
        ----------
        request_id
            Id of the request that carries the report.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        AttemptNotOpenError
            If the report's attempt is not open; nothing was written.
        ConflictError
            If a later version of the service stored the task; nothing was written.
        PayloadTooLargeError
            If its output is too large once merged over the earlier output.
        ServiceBusyError
            If the table stays busy until the deadline; nothing was acknowledged.
        """
        now = self._clock()
        current = self.read(tenant, execution_id, report.task_id) if is_read_first(report) else None
        return self._backoff.run(self._writer(tenant, execution_id, report, request_id, current, now))

    def _writer(
        self, tenant: str, execution_id: str, report: Report, request_id: str, current: Task | None, now: int
    ) -> Callable[[], ReportResult]:
        """Return a function that writes a report once, each time on the task that it found the time before."""
        adds = report.merges_output and report.output is not None
        stored: Report | None = None

        def write_once() -> ReportResult:
            nonlocal current, stored
            full_report = self._merge_output(report, current) if adds and current else report
            write = derive_write(full_report, current, now, request_id)
            if current is not None and not write.allows(current):
                return self._record_ignored(full_report, write, current, now)
            if full_report.output is not None and full_report != stored:
                self._payloads.put_outputs(tenant, execution_id, [full_report], now)
                stored = full_report
            written = self._tasks.write(tenant, execution_id, write, now)
            if written.succeeded:
                return ReportResult(Verdict.APPLIED, written.task)
            if is_worth_another_attempt(full_report, write, written.task, now):
                current = written.task
                raise TryAgainError
            return self._record_ignored(full_report, write, written.task, now)

        return write_once

    def record_all(
        self,
        tenant: str,
        execution_id: str,
        reports: Sequence[Report],
        request_id: str,
        read_tasks: Mapping[str, Task] | None = None,
    ) -> list[ReportResult | TasklatchError]:
        """Record up to 100 reports: the tasks are read in one call, then written 25 in a call, each on its version.

        Reports on one task keep their order.

        Parameters
        ----------
        read_tasks
            Tasks by id that the caller has read already; they are not read again.

        Returns
        -------
        list
            The result of each report, in order, or the error of that report alone.
        """
        return self._batches.record_all(tenant, execution_id, reports, request_id, read_tasks or {})

    def heartbeat(
        self, tenant: str, execution_id: str, task_id: str, attempt: int | None, progress: float | None
    ) -> HeartbeatResult:
        """Record a heartbeat and decide whether the worker should continue. Status and version stay the same.

        Parameters
        ----------
        attempt
            The attempt that is alive; None for the current attempt.
        progress
            Completed share of the work, 0 to 1.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        AttemptNotOpenError
            If the attempt is not open; nothing was written.
        ConflictError
            If a later version of the service stored the task; nothing was written.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key, table = task_key(tenant, execution_id, task_id), self._settings.table_name
        written = self._tasks.update(task_id, heartbeat_request(table, key, attempt, progress, self._clock()))
        if written.succeeded:
            return HeartbeatResult(should_continue=True, reason=None, task=written.task)
        check_form(written.task)
        check_opened(written.task, attempt or written.task.attempt)
        return HeartbeatResult(should_continue=False, reason=stop_reason(written.task, attempt), task=written.task)

    def write(self, tenant: str, execution_id: str, write: ConditionalWrite) -> Task | None:
        """Make one write of the service itself; return None if the task has changed and the condition failed.

        A task that a later version of the service stored stays as it is.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        if write.is_of_later_version:
            return None
        written = self._tasks.write(tenant, execution_id, write, self._clock())
        return written.task if written.succeeded else None

    def write_all(self, tenant: str, execution_id: str, writes: Sequence[ConditionalWrite]) -> None:
        """Make writes of the service itself, each on another task.

        A task that has changed, or that a later version of the service stored, stays as it is.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some writes may be made.
        UnexpectedError
            If DynamoDB refused a write for another reason; the others are made.
        """
        now = self._clock()
        waiting = [write for write in writes if not write.is_of_later_version]
        errors: list[TasklatchError] = []

        def write_waiting() -> None:
            nonlocal waiting
            results = self._tasks.write_all(tenant, execution_id, waiting, now)
            errors.extend(result.error for result in results.values() if result.error is not None)
            waiting = [write for write in waiting if write.task_id not in results]
            if waiting:
                raise TryAgainError

        if waiting:
            self._backoff.run(write_waiting)
        if errors:
            raise errors[0]

    def close(self, task: Task) -> None:
        """Remove a task whose retries are exhausted from the list of open tasks, unless its version has changed.

        Status and version stay the same.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        if not task.is_of_later_version:
            self._tasks.remove_from_open_list(task)

    def read(self, tenant: str, execution_id: str, task_id: str) -> Task:
        """Read a task with a consistent read.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        return self._tasks.read(tenant, execution_id, task_id)

    def _merge_output(self, report: Report, current: Task) -> Report:
        """Return the report with its output merged over the attempt's earlier output.

        The result holds only for the version of the task that was read.
        """
        output = current.output_of(report.attempt or current.attempt)
        if output is None:
            return report
        return with_merged_output(report, self._payloads.get_output_at(current, output))

    def _record_ignored(self, report: Report, write: ConditionalWrite, conflicting: Task, now: int) -> ReportResult:
        """Decide the verdict on a rejected write, and store the report in the history before the response is sent."""
        result, entry = decide_rejected(report, write, conflicting, now)
        if entry is None:
            return result
        (is_stored,) = self._history.put_ignored([(conflicting, entry)])
        return result._replace(is_stored=is_stored)
