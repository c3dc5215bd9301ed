"""Reports in batches: written 25 in a call, each with a result or an error of its own."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError, ServiceBusyError, TasklatchError
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import check_opened, reported_attempt
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.ledger.report_write import decide_rejected, derive_write, is_read_first, is_worth_another_attempt
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
    current
        The task as it was read; None if it was not.
    rejected
        The last write and the task that made its condition fail, if no further write can succeed.
    result
        The result, or the error of this report alone.
    """

    report: Report
    request_id: str
    current: Task | None = None
    rejected: tuple[ConditionalWrite, Task] | None = None
    result: ReportResult | TasklatchError | None = None

    @property
    def is_waiting(self) -> bool:
        """True while the report is to be written."""
        return self.result is None and self.rejected is None

    def check_attempt_open(self) -> None:
        """Fail a report with an output whose attempt is not open, so that the output is not stored."""
        if self.current is None or self.report.output is None:
            return
        try:
            check_opened(self.current, reported_attempt(self.report, self.current))
        except AttemptNotOpenError as error:
            self.result = error

    def take_result(self, write: ConditionalWrite, written: WriteResult | None, now: int) -> None:
        """Take the result of the report's write; None if the task does not exist. The report may have to wait on."""
        if written is None:
            self.result = NotFoundError("task", self.report.task_id)
        elif written.succeeded:
            self.result = ReportResult(Verdict.APPLIED, written.task)
        elif is_worth_another_attempt(self.report, write, written.task, now):
            self.current = written.task
        elif not write.allows(written.task):
            # Otherwise the task was created or changed after the condition failed, and the same write can succeed
            self.rejected = (write, written.task)


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
        current_tasks = dict(read_tasks)
        for part in _split_by_task(pending):
            self._record_part(tenant, execution_id, part, current_tasks)
            results = (item.result for item in part)
            current_tasks.update(
                {result.task.task_id: result.task for result in results if isinstance(result, ReportResult)}
            )
        return [item.result for item in pending if item.result is not None]

    def _record_part(
        self, tenant: str, execution_id: str, part: Sequence[PendingReport], current_tasks: Mapping[str, Task]
    ) -> None:
        """Record reports that are each on another task."""
        now = self._clock()
        self._read_current(tenant, execution_id, part, current_tasks)
        self._put_outputs(tenant, execution_id, part, now)
        self._write(tenant, execution_id, part, now)
        self._record_ignored(part, now)

    def _read_current(
        self, tenant: str, execution_id: str, part: Sequence[PendingReport], current_tasks: Mapping[str, Task]
    ) -> None:
        """Read the tasks that must be read before they are written, unless they have been read already."""
        read_first = [item for item in part if is_read_first(item.report)]
        for item in read_first:
            item.current = current_tasks.get(item.report.task_id)
        unread = [item for item in read_first if item.current is None]
        try:
            tasks = self._tasks.read_all(tenant, execution_id, [item.report.task_id for item in unread])
        except ServiceBusyError as busy:
            _fail(unread, busy)
        else:
            for item in unread:
                item.current = tasks.get(item.report.task_id)
                item.result = NotFoundError("task", item.report.task_id) if item.current is None else None
        for item in read_first:
            item.check_attempt_open()

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
        writes = [derive_write(item.report, item.current, now, item.request_id) for item in waiting]
        results = self._tasks.write_all(tenant, execution_id, writes, now)
        completed = self._tasks.complete(tenant, execution_id, results)
        for item, write in zip(waiting, writes, strict=True):
            if write.task_id in completed:
                item.take_result(write, completed[write.task_id], now)
        if _waiting(waiting):
            raise TryAgainError

    def _record_ignored(self, part: Sequence[PendingReport], now: int) -> None:
        """Decide the verdicts on rejected writes, and store the reports before the response is sent."""
        decided, entries = [], []
        for item in part:
            if item.rejected is None:
                continue
            write, conflicting = item.rejected
            try:
                item.result, entry = decide_rejected(item.report, write, conflicting, now)
            except TasklatchError as error:
                item.result = error
                continue
            decided.append(item)
            if entry is not None:
                entries.append((conflicting, entry))
        try:
            self._history.put(entries)
        except ServiceBusyError as busy:
            _fail(decided, busy)


def _waiting(reports: Iterable[PendingReport]) -> list[PendingReport]:
    return [item for item in reports if item.is_waiting]


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
