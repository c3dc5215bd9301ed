"""Reports in batches: the tasks are read at once, then written 25 in a call, each on the version that was read.

A report that its task, as it was read, does not take gets its verdict without a write. Each report has a result or an
error of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.errors import NotFoundError, ServiceBusyError, TasklatchError
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.task import Task
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.ledger.report_write import decide_rejected, derive_write, is_worth_another_attempt
from tasklatch.ledger.task_table import TaskTable, WriteResult
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock


@dataclass(slots=True)
class PendingReport:
    """One report of a batch, until it has a result.

    Attributes
    ----------
    request_id
        Id of the request and the report's position in it.
    write
        The write, derived from the task as it was read last and on condition of its version; None before.
    rejected
        The last write and the task that it does not match, if no further write can succeed.
    result
        The result, or the error of this report alone.
    """

    report: Report
    request_id: str
    write: ConditionalWrite | None = None
    rejected: tuple[ConditionalWrite, Task] | None = None
    result: ReportResult | TasklatchError | None = None

    def take_task(self, current: Task, now: int) -> None:
        """Take the task as it was read, and derive the write; a report that does not match the task is rejected.

        So a report that is ignored, or about an attempt that is not open, costs no write and leaves no output.
        """
        write = derive_write(self.report, current, now, self.request_id)
        if write.allows(current):
            self.write = write.on_version(current.version)
        else:
            self.rejected = (write, current)

    def take_result(self, write: ConditionalWrite, written: WriteResult | None, now: int) -> None:
        """Take the result of the write; None if the task does not exist. The report may have to be written again."""
        if written is None:
            self.result = NotFoundError("task", self.report.task_id)
        elif written.succeeded:
            self.result = ReportResult(Verdict.APPLIED, written.task)
        elif self._can_be_written(write, written.task, now):
            self.take_task(written.task, now)
        else:
            self.rejected = (write, written.task)

    def _can_be_written(self, write: ConditionalWrite, conflicting: Task, now: int) -> bool:
        """Return True if a write whose condition failed may succeed on the task that made it fail, or anew on it."""
        return write.allows(conflicting) or is_worth_another_attempt(self.report, write, conflicting, now)


class BatchRecorder:
    """Recorder of batches of reports on tasks of one execution."""

    def __init__(self, tasks: TaskTable, history: History, payloads: Payloads, clock: Clock, backoff: Backoff) -> None:
        self._tasks = tasks
        self._history = history
        self._payloads = payloads
        self._clock = clock
        self._backoff = backoff

    def record_all(
        self,
        tenant: str,
        execution_id: str,
        reports: Iterable[Report],
        request_id: str,
        read_tasks: Mapping[str, Task],
    ) -> list[ReportResult | TasklatchError]:
        """Record reports; see `tasklatch.ledger.ledger.Ledger.record_all`."""
        pending = [PendingReport(report, f"{request_id}#{index}") for index, report in enumerate(reports)]
        current_tasks = {**read_tasks, **self._read_unread(tenant, execution_id, pending, read_tasks)}
        for part in _split_by_task(item for item in pending if item.result is None):
            self._record_part(tenant, execution_id, part, current_tasks)
            results = (item.result for item in part)
            current_tasks.update(
                {result.task.task_id: result.task for result in results if isinstance(result, ReportResult)}
            )
        return [item.result for item in pending if item.result is not None]

    def _read_unread(
        self, tenant: str, execution_id: str, pending: Sequence[PendingReport], read_tasks: Mapping[str, Task]
    ) -> Mapping[str, Task]:
        """Read the tasks that have not been read already; reports on those that do not exist fail."""
        unread = [item for item in pending if item.report.task_id not in read_tasks]
        names = list(dict.fromkeys(item.report.task_id for item in unread))
        try:
            tasks = self._tasks.read_all(tenant, execution_id, names)
        except ServiceBusyError as busy:
            _fail(unread, busy)
            return {}
        for item in unread:
            if item.report.task_id not in tasks:
                item.result = NotFoundError("task", item.report.task_id)
        return tasks

    def _record_part(
        self, tenant: str, execution_id: str, part: Sequence[PendingReport], current_tasks: Mapping[str, Task]
    ) -> None:
        """Record reports that are each on another task."""
        now = self._clock()
        for item in part:
            item.take_task(current_tasks[item.report.task_id], now)
        self._put_outputs(tenant, execution_id, part, now)
        self._write(tenant, execution_id, part, now)
        self._record_ignored(part, now)

    def _put_outputs(self, tenant: str, execution_id: str, part: Sequence[PendingReport], now: int) -> None:
        with_output = [item for item in _waiting(part) if item.report.output is not None]
        try:
            self._payloads.put_outputs(tenant, execution_id, [item.report for item in with_output], now)
        except ServiceBusyError as busy:
            _fail(with_output, busy)

    def _write(self, tenant: str, execution_id: str, part: Sequence[PendingReport], now: int) -> None:
        """Write the reports until each has a result or is rejected for good."""
        if not _waiting(part):
            return
        try:
            self._backoff.run(lambda: self._write_once(tenant, execution_id, _waiting(part), now))
        except ServiceBusyError as busy:
            _fail(_waiting(part), busy)

    def _write_once(self, tenant: str, execution_id: str, waiting: Sequence[PendingReport], now: int) -> None:
        writes = [(item, item.write) for item in waiting if item.write is not None]
        results = self._tasks.write_all(tenant, execution_id, [write for _, write in writes], now)
        completed = self._tasks.complete(tenant, execution_id, results)
        for item, write in writes:
            if write.task_id in completed:
                item.take_result(write, completed[write.task_id], now)
            elif write.task_id in results:
                item.result = results[write.task_id].error
        if _waiting(waiting):
            raise TryAgainError

    def _record_ignored(self, part: Sequence[PendingReport], now: int) -> None:
        """Decide the verdicts on rejected writes, and store the reports before the response is sent."""
        ignored: list[tuple[PendingReport, ReportResult]] = []
        entries = []
        for item in part:
            if item.rejected is None:
                continue
            write, conflicting = item.rejected
            try:
                result, entry = decide_rejected(item.report, write, conflicting, now)
            except TasklatchError as error:
                item.result = error
                continue
            item.result = result
            if entry is not None:
                ignored.append((item, result))
                entries.append((conflicting, entry))
        try:
            stored = self._history.put_ignored(entries)
        except ServiceBusyError as busy:
            _fail([item for item, _ in ignored], busy)
            return
        for (item, result), is_stored in zip(ignored, stored, strict=True):
            item.result = result._replace(is_stored=is_stored)


def _waiting(reports: Iterable[PendingReport]) -> list[PendingReport]:
    """Return the reports that are to be written."""
    return [item for item in reports if item.result is None and item.rejected is None]


def _fail(reports: Iterable[PendingReport], error: TasklatchError) -> None:
    for item in reports:
        item.result = error


def _split_by_task(reports: Iterable[PendingReport]) -> list[list[PendingReport]]:
    """Split a batch so that no part has two reports on one task, and reports on one task keep their order."""
    parts: dict[int, list[PendingReport]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for item in reports:
        parts[counts[item.report.task_id]].append(item)
        counts[item.report.task_id] += 1
    return list(parts.values())
