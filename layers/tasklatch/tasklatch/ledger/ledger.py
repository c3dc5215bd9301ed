"""The only write path for reports on tasks, shared by all contracts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from tasklatch.domain.amendment import amendment_write
from tasklatch.domain.conditional_write import ConditionalWrite, heartbeat_interval, write_for_report
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError, ServiceBusyError, TasklatchError
from tasklatch.domain.history import ignored_entry
from tasklatch.domain.report import Report, Verdict, with_merged_output
from tasklatch.domain.results import HeartbeatResult, ReportResult
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import check_opened, decide_verdict, reported_attempt
from tasklatch.dynamodb import keys, write_expression
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_insert import STATEMENTS_A_CALL
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.task_item import Item, task_from_item
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.runtime.backoff import BUSY_CODES, Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_UNDER_WAY: Final = (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS)


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
        self._client = client
        self._settings = settings
        self._clock = clock
        self._patience = backoff
        self._history = History(client, settings, backoff)
        self._payloads = Payloads(client, settings, backoff)

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
        PayloadTooLargeError
            If its output is too large once merged over the earlier output.
        ServiceBusyError
            If the table stays busy until the deadline; nothing was acknowledged.
        """
        now = self._clock()
        adds = report.merges_output and report.output is not None
        current = self.read(tenant, execution_id, report.task_id) if _is_read_first(report) else None
        if current is not None and report.output is not None:
            check_opened(current, reported_attempt(report, current))
        stored: Report | None = None
        for _ in self._patience.attempts():
            full_report = self._merge_output(report, current) if adds and current else report
            if full_report.output is not None and full_report != stored:
                self._payloads.put_outputs(tenant, execution_id, [full_report], now)
                stored = full_report
            write = _write_of(full_report, current, now, request_id)
            try:
                return ReportResult(Verdict.APPLIED, self._write(tenant, execution_id, write, now))
            except ClientError as error:
                task = _conflicting_task(report.task_id, error)
            if not _is_worth_another_try(full_report, write, task, now):
                return self._record_ignored(full_report, write, task, now)
            current = task
        raise AssertionError("tries end by raising")

    def _merge_output(self, report: Report, current: Task) -> Report:
        """Return the report with its output merged over the attempt's earlier output.

        The result holds only for the version of the task that was read.
        """
        index = current.output_of(report.attempt or current.attempt)
        if index is None:
            return report
        sk = keys.output_sk(report.task_id, *index)
        return with_merged_output(report, self._payloads.get_text(current.tenant, current.execution_id, sk))

    def record_all(
        self,
        tenant: str,
        execution_id: str,
        reports: Sequence[Report],
        request_id: str,
        read_tasks: Mapping[str, Task] | None = None,
    ) -> list[ReportResult | TasklatchError]:
        """Record up to 100 reports, 25 in a call; reports on one task keep their order.

        Parameters
        ----------
        read_tasks
            Tasks by id that the caller has read already; they are not read again.

        Returns
        -------
        list
            The result of each report, in order, or the error of that report alone.
        """
        results: list[ReportResult | TasklatchError | None] = [None] * len(reports)
        current_tasks = dict(read_tasks or {})
        for part in _split_by_task(reports):
            for index, result in self._record_part(tenant, execution_id, part, request_id, current_tasks):
                results[index] = result
                if isinstance(result, ReportResult):
                    current_tasks[result.task.task_id] = result.task
        return [result for result in results if result is not None]

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
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request = self._heartbeat_request(tenant, execution_id, task_id, attempt, progress)
        try:
            response = self._patience.run(lambda: self._client.update_item(**request))
        except ClientError as error:
            task = _conflicting_task(task_id, error)
            check_opened(task, attempt or task.attempt)
            return HeartbeatResult(should_continue=False, reason=_stop_reason(task, attempt), task=task)
        return HeartbeatResult(should_continue=True, reason=None, task=task_from_item(response["Attributes"]))

    def _heartbeat_request(
        self, tenant: str, execution_id: str, task_id: str, attempt: int | None, progress: float | None
    ) -> dict[str, Any]:
        names = {"#pk": keys.PK, "#heartbeat": "heartbeatAt"}
        values: Item = {":now": {"N": str(self._clock())}}
        update = "SET #heartbeat = :now"
        if attempt is not None:
            lowest, below = heartbeat_interval(attempt)
            names["#precedence"] = "precedence"
            values |= {":lowest": {"N": str(lowest)}, ":below": {"N": str(below)}}
            condition = "#precedence >= :lowest AND #precedence < :below"
        else:
            # The current attempt's number is not known, so the precedence interval cannot be computed
            names["#status"] = "status"
            values |= {f":{status}": {"S": status} for status in _UNDER_WAY}
            condition = f"#status IN ({', '.join(f':{status}' for status in _UNDER_WAY)})"
        if progress is not None:
            names["#progress"] = "progress"
            values[":progress"] = {"N": str(progress)}
            update += ", #progress = :progress"
        return {
            "TableName": self._settings.table_name,
            "Key": _task_key(tenant, execution_id, task_id),
            "UpdateExpression": update,
            "ConditionExpression": f"attribute_exists(#pk) AND {condition}",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _write(self, tenant: str, execution_id: str, write: ConditionalWrite, now: int) -> Task:
        request = write_expression.render_update_item(
            write,
            self._settings.table_name,
            keys.execution_pk(tenant, execution_id),
            self._settings.expires_at(now),
        )
        return task_from_item(self._patience.run(lambda: self._client.update_item(**request))["Attributes"])

    def _record_ignored(self, report: Report, write: ConditionalWrite, task: Task, now: int) -> ReportResult:
        """Decide the verdict on a rejected write, and store the report in the history before the response is sent."""
        verdict = decide_verdict(write, task)
        if verdict is not Verdict.APPLIED:
            entry = ignored_entry(report, verdict, task, now=now, request_id=str(write.values["request_id"]))
            self._history.put([(task, entry)])
        return ReportResult(verdict, task)

    def write(self, tenant: str, execution_id: str, write: ConditionalWrite) -> Task | None:
        """Make one write of the service itself; return None if the task has changed and the condition failed.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        try:
            return self._write(tenant, execution_id, write, self._clock())
        except ClientError as error:
            _conflicting_task(write.task_id, error)
            return None

    def write_all(self, tenant: str, execution_id: str, writes: Sequence[ConditionalWrite]) -> None:
        """Make writes of the service itself, each on another task; a task that has changed stays as it is.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some writes may be made.
        """
        now = self._clock()
        waiting = dict(enumerate(writes))
        for _ in self._patience.attempts() if waiting else ():
            for index in self._execute(tenant, execution_id, waiting, now):
                del waiting[index]
            if not waiting:
                break

    def close(self, task: Task) -> None:
        """Remove a task whose retries are exhausted from the list of open tasks, unless its version has changed.

        Status and version stay the same.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request: dict[str, Any] = {
            "TableName": self._settings.table_name,
            "Key": _task_key(task.tenant, task.execution_id, task.task_id),
            "UpdateExpression": "REMOVE #list, #sort",
            "ConditionExpression": "#version = :version",
            "ExpressionAttributeNames": {"#list": keys.LIST_KEY, "#sort": keys.LIST_SORT, "#version": "version"},
            "ExpressionAttributeValues": {":version": {"N": str(task.version)}},
        }
        try:
            self._patience.run(lambda: self._client.update_item(**request))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def read(self, tenant: str, execution_id: str, task_id: str) -> Task:
        """Read a task with a consistent read.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key = _task_key(tenant, execution_id, task_id)
        response = self._patience.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        return _task_or_not_found(task_id, response.get("Item"))

    def _record_part(
        self,
        tenant: str,
        execution_id: str,
        part: Sequence[tuple[int, Report]],
        request_id: str,
        current_tasks: Mapping[str, Task],
    ) -> Iterator[tuple[int, ReportResult | TasklatchError]]:
        """Record reports that are each on another task; yield the index and the result of each."""
        now = self._clock()
        current, failed = self._prepare(tenant, execution_id, dict(part), current_tasks, now)
        waiting = {index: report for index, report in part if index not in failed}
        refused: dict[int, tuple[ConditionalWrite, Task]] = {}
        try:
            for _ in self._patience.attempts() if waiting else ():
                writes = {
                    index: _write_of(report, current.get(index), now, f"{request_id}#{index}")
                    for index, report in waiting.items()
                }
                results = self._execute(tenant, execution_id, writes, now)
                for index, succeeded, task in self._complete(tenant, execution_id, waiting, results):
                    if task is None:
                        failed[index] = NotFoundError("task", waiting[index].task_id)
                    elif succeeded:
                        yield index, ReportResult(Verdict.APPLIED, task)
                    elif _is_worth_another_try(waiting[index], writes[index], task, now):
                        current[index] = task
                        continue
                    elif writes[index].allows(task):
                        # The task was created or changed after the condition failed, so the next attempt can succeed
                        continue
                    else:
                        refused[index] = (writes[index], task)
                    del waiting[index]
                if not waiting:
                    break
        except ServiceBusyError as busy:
            failed.update(dict.fromkeys(waiting, busy))
        yield from failed.items()
        yield from self._record_all_ignored(dict(part), refused, now)

    def _prepare(
        self, tenant: str, execution_id: str, reports: dict[int, Report], current_tasks: Mapping[str, Task], now: int
    ) -> tuple[dict[int, Task], dict[int, TasklatchError]]:
        """Read the tasks that must be read before they are written, and store the outputs.

        Returns
        -------
        dict, dict
            By index: the tasks that were read, and the errors of the reports that cannot be recorded.
        """
        needed = {index: report for index, report in reports.items() if _is_read_first(report)}
        current = {
            index: current_tasks[report.task_id] for index, report in needed.items() if report.task_id in current_tasks
        }
        failed: dict[int, TasklatchError] = {}
        unread = {index: report for index, report in needed.items() if index not in current}
        try:
            for index, task in self._read_all(tenant, execution_id, unread):
                if task is None:
                    failed[index] = NotFoundError("task", unread[index].task_id)
                else:
                    current[index] = task
        except ServiceBusyError as busy:
            failed.update(dict.fromkeys(unread, busy))
        failed.update(_unopened(reports, current))
        with_output = {
            index: report for index, report in reports.items() if report.output is not None and index not in failed
        }
        try:
            self._payloads.put_outputs(tenant, execution_id, list(with_output.values()), now)
        except ServiceBusyError as busy:
            failed.update(dict.fromkeys(with_output, busy))
        return current, failed

    def _record_all_ignored(
        self, reports: dict[int, Report], refused: dict[int, tuple[ConditionalWrite, Task]], now: int
    ) -> Iterator[tuple[int, ReportResult | TasklatchError]]:
        """Decide the verdicts on rejected writes, and store the reports before the response is sent."""
        judged: dict[int, ReportResult] = {}
        entries = []
        for index, (write, task) in refused.items():
            try:
                verdict = decide_verdict(write, task)
            except TasklatchError as error:
                yield index, error
                continue
            judged[index] = ReportResult(verdict, task)
            if verdict is not Verdict.APPLIED:
                report_request_id = str(write.values["request_id"])
                entries.append(
                    (task, ignored_entry(reports[index], verdict, task, now=now, request_id=report_request_id))
                )
        try:
            self._history.put(entries)
        except ServiceBusyError as busy:
            yield from dict.fromkeys(judged, busy).items()
        else:
            yield from judged.items()

    def _execute(
        self, tenant: str, execution_id: str, writes: dict[int, ConditionalWrite], now: int
    ) -> dict[int, "_StatementResult"]:
        """Send the writes, 25 in a call and the calls concurrently; leave out those that a busy table did not take."""
        pk = keys.execution_pk(tenant, execution_id)
        table, expires_at = self._settings.table_name, self._settings.expires_at(now)

        def send(indexes: list[int]) -> dict[int, _StatementResult]:
            statements = [write_expression.render_statement(writes[index], table, pk, expires_at) for index in indexes]
            try:
                responses = self._patience.run(lambda: self._client.batch_execute_statement(Statements=statements))
            except ServiceBusyError:
                return {}
            results = {}
            for index, response in zip(indexes, responses["Responses"], strict=True):
                error = response.get("Error")
                if error is None:
                    results[index] = _StatementResult(succeeded=True, item=response.get("Item"))
                elif error["Code"] == "ConditionalCheckFailed":
                    results[index] = _StatementResult(succeeded=False, item=error.get("Item"))
                elif error["Code"] not in BUSY_CODES:
                    raise RuntimeError(f"DynamoDB refused a statement: {error['Code']}: {error['Message']}")
            return results

        statement_results: dict[int, _StatementResult] = {}
        for part in map_concurrently(send, batched(writes, STATEMENTS_A_CALL)):
            statement_results.update(part)
        return statement_results

    def _complete(
        self, tenant: str, execution_id: str, reports: dict[int, Report], results: dict[int, "_StatementResult"]
    ) -> Iterator[tuple[int, bool, Task | None]]:
        """Yield for each statement its index, its success and the task; None if the task does not exist.

        A result without the item says nothing about whether the task exists, so that task is read.
        """
        without = {index: reports[index] for index, response in results.items() if not response.item}
        read = dict(self._read_all(tenant, execution_id, without))
        for index, result in results.items():
            yield index, result.succeeded, task_from_item(result.item) if result.item else read[index]

    def _read_all(
        self, tenant: str, execution_id: str, reports: dict[int, Report]
    ) -> Iterator[tuple[int, Task | None]]:
        """Read the tasks of reports; yield None for a task that does not exist."""
        item_keys = [_task_key(tenant, execution_id, report.task_id) for report in reports.values()]
        read = batch_get(self._client, self._settings.table_name, item_keys, self._patience)
        tasks = {task.task_id: task for task in map(task_from_item, read)}
        for index, report in reports.items():
            yield index, tasks.get(report.task_id)


@dataclass(frozen=True, slots=True)
class _StatementResult:
    """DynamoDB's response to one statement; it may come without the item."""

    succeeded: bool
    item: Item | None


def _has_attempt(report: Report) -> bool:
    """Return True if the write needs no read to find its attempt: a success counts for any opened attempt."""
    return report.attempt is not None or report.status is TaskStatus.COMPLETED


def _is_read_first(report: Report) -> bool:
    """Return True if the task is read before it is written: no output is stored for an attempt that is not open."""
    return report.output is not None or not _has_attempt(report)


def _unopened(reports: Mapping[int, Report], current: Mapping[int, Task]) -> Iterator[tuple[int, AttemptNotOpenError]]:
    """Yield the index and the error of each report that has an output and whose attempt is not open."""
    for index, task in current.items():
        if reports[index].output is None:
            continue
        try:
            check_opened(task, reported_attempt(reports[index], task))
        except AttemptNotOpenError as error:
            yield index, error


def _write_of(report: Report, current: Task | None, now: int, request_id: str) -> ConditionalWrite:
    """Derive the write of a report, from its task where that was read."""
    amendment = amendment_write(report, current, now=now, request_id=request_id) if current is not None else None
    if amendment is not None:
        return amendment
    if current is None or (_has_attempt(report) and not report.merges_output):
        return write_for_report(report, now=now, request_id=request_id)
    attempt = report.attempt or current.attempt
    return write_for_report(report, now=now, request_id=request_id, attempt=attempt, version=current.version)


def _is_worth_another_try(report: Report, write: ConditionalWrite, task: Task, now: int) -> bool:
    """Return True if a rejected write can succeed when it is derived again from the conflicting task."""
    request_id = str(write.values["request_id"])
    return _read_is_stale(write, task) or amendment_write(report, task, now=now, request_id=request_id) is not None


def _read_is_stale(write: ConditionalWrite, task: Task) -> bool:
    """Return True if the task changed between the read and the write of a report that depends on that read.

    False if an equal report has decided the attempt that was read, and a next attempt followed: this may be that same
    report, sent again after its response was lost, and it must not count for the next attempt.
    """
    already_counted = write.attempt < task.attempt and write.fingerprint == task.outcome
    return write.version is not None and write.version != task.version and not already_counted


def _stop_reason(task: Task, attempt: int | None) -> str:
    if attempt is not None and attempt != task.attempt:
        return f"attempt {attempt} is stale: the current attempt is {task.attempt}"
    return f"the task is {task.status}"


def _conflicting_task(task_id: str, error: ClientError) -> Task:
    """Return the task that made the condition fail; raise any other error again."""
    if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
        raise error
    return _task_or_not_found(task_id, cast("Item | None", error.response.get("Item")))


def _task_or_not_found(task_id: str, item: Item | None) -> Task:
    if not item:
        raise NotFoundError("task", task_id)
    return task_from_item(item)


def _task_key(tenant: str, execution_id: str, task_id: str) -> Item:
    return {keys.PK: {"S": keys.execution_pk(tenant, execution_id)}, keys.SK: {"S": keys.task_sk(task_id)}}


def _split_by_task(reports: Iterable[Report]) -> Iterator[list[tuple[int, Report]]]:
    """Split a batch so that no part has two reports on one task, and reports on one task keep their order."""
    parts: dict[int, list[tuple[int, Report]]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for index, report in enumerate(reports):
        parts[counts[report.task_id]].append((index, report))
        counts[report.task_id] += 1
    for number in sorted(parts):
        yield parts[number]
