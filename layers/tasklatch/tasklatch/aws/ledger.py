"""The one write path: whatever reports on a task, through whichever contract, comes through here."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from tasklatch.aws import keys, latch_expression
from tasklatch.aws.batch_get import get_all
from tasklatch.aws.batch_put import chunks
from tasklatch.aws.history import History
from tasklatch.aws.insertion import STATEMENTS_A_CALL
from tasklatch.aws.patience import BUSY_CODES, Patience
from tasklatch.aws.payloads import Payloads
from tasklatch.aws.side_by_side import side_by_side
from tasklatch.aws.task_item import Item, task_of
from tasklatch.clock import Clock
from tasklatch.domain.amendment import amendment_latch
from tasklatch.domain.errors import AttemptNotOpenError, BusyError, NotFoundError, TasklatchError
from tasklatch.domain.history import ignored_entry
from tasklatch.domain.latch import Latch, attempt_spoken_of, check_opened, heartbeat_interval, judge, latch_of
from tasklatch.domain.outcome import Pulse, Recorded
from tasklatch.domain.report import Report, Verdict, added_to
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_UNDER_WAY: Final = (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS)


class Ledger:
    """The table, and the conditional write that guards it.

    Parameters
    ----------
    patience
        How long to wait for a busy table.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._patience = patience
        self._history = History(client, settings, patience)
        self._payloads = Payloads(client, settings, patience)

    def record(self, tenant: str, execution_id: str, report: Report, receipt: str) -> Recorded:
        """Take one report: one conditional write, after its output if it has one.

        Parameters
        ----------
        receipt
            Names the request that brought it.

        Raises
        ------
        NotFoundError
            If there is no such task.
        AttemptNotOpenError
            If the report speaks about an attempt that is not open; nothing was written.
        PayloadTooLargeError
            If its output is too large with the earlier one that it is put over.
        BusyError
            If the table would not take it in time; nothing was acknowledged.
        """
        now = self._clock()
        adds = report.adds_to_output and report.output is not None
        current = self.read(tenant, execution_id, report.task_id) if _is_read_first(report) else None
        if current is not None and report.output is not None:
            check_opened(current, attempt_spoken_of(report, current))
        kept: Report | None = None
        for _ in self._patience.tries():
            said = self._added_to_earlier_output(report, current) if adds and current else report
            if said.output is not None and said != kept:
                self._payloads.put_outputs(tenant, execution_id, [said], now)
                kept = said
            latch = _write_of(said, current, now, receipt)
            try:
                return Recorded(Verdict.APPLIED, self._write(tenant, execution_id, latch, now))
            except ClientError as error:
                found = _in_the_way(report.task_id, error)
            if not _is_worth_another_try(said, latch, found, now):
                return self._settle(said, latch, found, now)
            current = found
        raise AssertionError("tries end by raising")

    def _added_to_earlier_output(self, report: Report, current: Task) -> Report:
        """Put a report's output over what was said of its attempt before; on the version that was read alone."""
        place = current.output_of(report.attempt or current.attempt)
        if place is None:
            return report
        sk = keys.output_sk(report.task_id, *place)
        return added_to(report, self._payloads.text_of(current.tenant, current.execution_id, sk))

    def record_all(
        self,
        tenant: str,
        execution_id: str,
        reports: Sequence[Report],
        receipt: str,
        known: Mapping[str, Task] | None = None,
    ) -> list[Recorded | TasklatchError]:
        """Take up to 100 reports, 25 to a call; those on one task in the order given.

        Parameters
        ----------
        known
            Tasks, by their ids, that the caller has read for these reports: they are not read again.

        Returns
        -------
        list
            For each report, in order, what became of it, or the error that concerns it alone.
        """
        results: list[Recorded | TasklatchError | None] = [None] * len(reports)
        seen = dict(known or {})
        for wave in _waves(reports):
            for index, result in self._record_wave(tenant, execution_id, wave, receipt, seen):
                results[index] = result
                if isinstance(result, Recorded):
                    seen[result.task.task_id] = result.task
        return [result for result in results if result is not None]

    def heartbeat(
        self, tenant: str, execution_id: str, task_id: str, attempt: int | None, progress: float | None
    ) -> Pulse:
        """Note that an attempt is alive, and tell its worker whether to go on. It changes no status and no version.

        Parameters
        ----------
        attempt
            The attempt that is alive; None for the current one.
        progress
            How much is done, 0 to 1.

        Raises
        ------
        NotFoundError
            If there is no such task.
        AttemptNotOpenError
            If the attempt is not open; nothing was written.
        BusyError
            If the table would not take it in time.
        """
        request = self._heartbeat_request(tenant, execution_id, task_id, attempt, progress)
        try:
            answer = self._patience.call(lambda: self._client.update_item(**request))
        except ClientError as error:
            task = _in_the_way(task_id, error)
            check_opened(task, attempt or task.attempt)
            return Pulse(goes_on=False, reason=_why_stop(task, attempt), task=task)
        return Pulse(goes_on=True, reason=None, task=task_of(answer["Attributes"]))

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
            # Of whichever attempt is the current one: no interval says that it is under way.
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

    def _write(self, tenant: str, execution_id: str, latch: Latch, now: int) -> Task:
        request = latch_expression.update_item(
            latch,
            self._settings.table_name,
            keys.execution_pk(tenant, execution_id),
            self._settings.expires_at(now),
        )
        return task_of(self._patience.call(lambda: self._client.update_item(**request))["Attributes"])

    def _settle(self, report: Report, latch: Latch, found: Task, now: int) -> Recorded:
        """Judge a report that was not let through, and keep it before it is answered."""
        verdict = judge(latch, found)
        if verdict is not Verdict.APPLIED:
            entry = ignored_entry(report, verdict, found, now=now, receipt=str(latch.values["receipt"]))
            self._history.put([(found, entry)])
        return Recorded(verdict, found)

    def apply(self, tenant: str, execution_id: str, latch: Latch) -> Task | None:
        """Make a write of the service's own; None where the task has moved on and it was not let through.

        Raises
        ------
        NotFoundError
            If there is no such task.
        BusyError
            If the table would not take it in time.
        """
        try:
            return self._write(tenant, execution_id, latch, self._clock())
        except ClientError as error:
            _in_the_way(latch.task_id, error)
            return None

    def apply_all(self, tenant: str, execution_id: str, latches: Sequence[Latch]) -> None:
        """Make writes of the service's own on tasks that differ; one that has moved on stays as it is.

        Raises
        ------
        BusyError
            If the table would not take them all in time; those that it took are made.
        """
        now = self._clock()
        waiting = dict(enumerate(latches))
        for _ in self._patience.tries() if waiting else ():
            for index in self._execute(tenant, execution_id, waiting, now):
                del waiting[index]
            if not waiting:
                break

    def close(self, task: Task) -> None:
        """Take a task that gave up off the list of open ones, unless it has moved on; no status and no version changes.

        Raises
        ------
        BusyError
            If the table would not take it in time.
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
            self._patience.call(lambda: self._client.update_item(**request))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def read(self, tenant: str, execution_id: str, task_id: str) -> Task:
        """Read a task as it stands now.

        Raises
        ------
        NotFoundError
            If there is none.
        BusyError
            If the table would not answer in time.
        """
        key = _task_key(tenant, execution_id, task_id)
        answer = self._patience.call(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        return _found(task_id, answer.get("Item"))

    def _record_wave(
        self,
        tenant: str,
        execution_id: str,
        wave: Sequence[tuple[int, Report]],
        receipt: str,
        seen: Mapping[str, Task],
    ) -> Iterator[tuple[int, Recorded | TasklatchError]]:
        """Take reports on tasks that differ; yield each one's place and what became of it."""
        now = self._clock()
        current, failed = self._prepare(tenant, execution_id, dict(wave), seen, now)
        waiting = {index: report for index, report in wave if index not in failed}
        refused: dict[int, tuple[Latch, Task]] = {}
        try:
            for _ in self._patience.tries() if waiting else ():
                latches = {
                    index: _write_of(report, current.get(index), now, f"{receipt}#{index}")
                    for index, report in waiting.items()
                }
                answers = self._execute(tenant, execution_id, latches, now)
                for index, let_through, task in self._complete(tenant, execution_id, waiting, answers):
                    if task is None:
                        failed[index] = NotFoundError("task", waiting[index].task_id)
                    elif let_through:
                        yield index, Recorded(Verdict.APPLIED, task)
                    elif _is_worth_another_try(waiting[index], latches[index], task, now):
                        current[index] = task
                        continue
                    elif latches[index].lets_through(task):
                        # It was created, or moved on, since the write was refused: the next try will tell.
                        continue
                    else:
                        refused[index] = (latches[index], task)
                    del waiting[index]
                if not waiting:
                    break
        except BusyError as busy:
            failed.update(dict.fromkeys(waiting, busy))
        yield from failed.items()
        yield from self._settle_all(dict(wave), refused, now)

    def _prepare(
        self, tenant: str, execution_id: str, reports: dict[int, Report], seen: Mapping[str, Task], now: int
    ) -> tuple[dict[int, Task], dict[int, TasklatchError]]:
        """Read what must be read first, and put the outputs of what can be reported; tell what cannot go on, and why.

        Returns
        -------
        dict, dict
            The tasks as they were read; and the errors.
        """
        needed = {index: report for index, report in reports.items() if _is_read_first(report)}
        current = {index: seen[report.task_id] for index, report in needed.items() if report.task_id in seen}
        failed: dict[int, TasklatchError] = {}
        unread = {index: report for index, report in needed.items() if index not in current}
        try:
            for index, task in self._read_all(tenant, execution_id, unread):
                if task is None:
                    failed[index] = NotFoundError("task", unread[index].task_id)
                else:
                    current[index] = task
        except BusyError as busy:
            failed.update(dict.fromkeys(unread, busy))
        failed.update(_unopened(reports, current))
        with_output = {
            index: report for index, report in reports.items() if report.output is not None and index not in failed
        }
        try:
            self._payloads.put_outputs(tenant, execution_id, list(with_output.values()), now)
        except BusyError as busy:
            failed.update(dict.fromkeys(with_output, busy))
        return current, failed

    def _settle_all(
        self, reports: dict[int, Report], refused: dict[int, tuple[Latch, Task]], now: int
    ) -> Iterator[tuple[int, Recorded | TasklatchError]]:
        """Judge reports that were not let through, and keep them before they are answered."""
        judged: dict[int, Recorded] = {}
        entries = []
        for index, (latch, found) in refused.items():
            try:
                verdict = judge(latch, found)
            except TasklatchError as error:
                yield index, error
                continue
            judged[index] = Recorded(verdict, found)
            if verdict is not Verdict.APPLIED:
                given = str(latch.values["receipt"])
                entries.append((found, ignored_entry(reports[index], verdict, found, now=now, receipt=given)))
        try:
            self._history.put(entries)
        except BusyError as busy:
            yield from dict.fromkeys(judged, busy).items()
        else:
            yield from judged.items()

    def _execute(
        self, tenant: str, execution_id: str, latches: dict[int, Latch], now: int
    ) -> dict[int, "_StatementAnswer"]:
        """Send the writes, 25 to a call and the calls side by side; what a busy table did not take is left out."""
        pk = keys.execution_pk(tenant, execution_id)
        table, expires_at = self._settings.table_name, self._settings.expires_at(now)

        def send(indexes: list[int]) -> dict[int, _StatementAnswer]:
            statements = [latch_expression.statement(latches[index], table, pk, expires_at) for index in indexes]
            try:
                responses = self._patience.call(lambda: self._client.batch_execute_statement(Statements=statements))
            except BusyError:
                return {}
            answers = {}
            for index, response in zip(indexes, responses["Responses"], strict=True):
                refusal = response.get("Error")
                if refusal is None:
                    answers[index] = _StatementAnswer(let_through=True, item=response.get("Item"))
                elif refusal["Code"] == "ConditionalCheckFailed":
                    answers[index] = _StatementAnswer(let_through=False, item=refusal.get("Item"))
                elif refusal["Code"] not in BUSY_CODES:
                    raise RuntimeError(f"DynamoDB refused a statement: {refusal['Code']}: {refusal['Message']}")
            return answers

        answers: dict[int, _StatementAnswer] = {}
        for part in side_by_side(send, chunks(latches, STATEMENTS_A_CALL)):
            answers.update(part)
        return answers

    def _complete(
        self, tenant: str, execution_id: str, reports: dict[int, Report], answers: dict[int, "_StatementAnswer"]
    ) -> Iterator[tuple[int, bool, Task | None]]:
        """Tell for each answer whether the write was let through, and the task; None where there is no such task.

        An answer that came without the item is read: so is told whether there is a task at all.
        """
        without = {index: reports[index] for index, answer in answers.items() if not answer.item}
        read = dict(self._read_all(tenant, execution_id, without))
        for index, answer in answers.items():
            yield index, answer.let_through, task_of(answer.item) if answer.item else read[index]

    def _read_all(
        self, tenant: str, execution_id: str, reports: dict[int, Report]
    ) -> Iterator[tuple[int, Task | None]]:
        """Read the tasks of reports."""
        wanted = [_task_key(tenant, execution_id, report.task_id) for report in reports.values()]
        read = get_all(self._client, self._settings.table_name, wanted, self._patience)
        found = {task.task_id: task for task in map(task_of, read)}
        for index, report in reports.items():
            yield index, found.get(report.task_id)


@dataclass(frozen=True, slots=True)
class _StatementAnswer:
    """What DynamoDB said to one statement; it may come without the item."""

    let_through: bool
    item: Item | None


def _names_its_attempt(report: Report) -> bool:
    """Whether it can be written without a read: a success stands whichever opened attempt it is of."""
    return report.attempt is not None or report.status is TaskStatus.COMPLETED


def _is_read_first(report: Report) -> bool:
    """Whether its task is read before it is written: nothing is put for an attempt that is not open."""
    return report.output is not None or not _names_its_attempt(report)


def _unopened(reports: Mapping[int, Report], current: Mapping[int, Task]) -> Iterator[tuple[int, AttemptNotOpenError]]:
    """The reports with an output whose attempt is not open, and what they are answered."""
    for index, task in current.items():
        if reports[index].output is None:
            continue
        try:
            check_opened(task, attempt_spoken_of(reports[index], task))
        except AttemptNotOpenError as error:
            yield index, error


def _write_of(report: Report, current: Task | None, now: int, receipt: str) -> Latch:
    """The write that a report asks for, from what is known of its task."""
    amendment = amendment_latch(report, current, now=now, receipt=receipt) if current is not None else None
    if amendment is not None:
        return amendment
    if current is None or (_names_its_attempt(report) and not report.adds_to_output):
        return latch_of(report, now=now, receipt=receipt)
    attempt = report.attempt or current.attempt
    return latch_of(report, now=now, receipt=receipt, attempt=attempt, version=current.version)


def _is_worth_another_try(report: Report, latch: Latch, found: Task, now: int) -> bool:
    """Whether a write that was not let through can be made from the task that was in its way."""
    receipt = str(latch.values["receipt"])
    return _overtaken(latch, found) or amendment_latch(report, found, now=now, receipt=receipt) is not None


def _overtaken(latch: Latch, found: Task) -> bool:
    """Whether the task moved on between the read and the write of a report that rests on what was read.

    Not so where such a report has decided the attempt that was read, and led to another: it may be this very one, its
    answer lost and sent again, and must not be taken for a word on the other.
    """
    counted = latch.attempt < found.attempt and latch.fingerprint == found.outcome
    return latch.version is not None and latch.version != found.version and not counted


def _why_stop(task: Task, attempt: int | None) -> str:
    if attempt is not None and attempt != task.attempt:
        return f"attempt {attempt} is stale: the current one is {task.attempt}"
    return f"the task is {task.status}"


def _in_the_way(task_id: str, error: ClientError) -> Task:
    """The task that a failed condition met; any other refusal is passed on."""
    if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
        raise error
    return _found(task_id, cast("Item | None", error.response.get("Item")))


def _found(task_id: str, item: Item | None) -> Task:
    if not item:
        raise NotFoundError("task", task_id)
    return task_of(item)


def _task_key(tenant: str, execution_id: str, task_id: str) -> Item:
    return {keys.PK: {"S": keys.execution_pk(tenant, execution_id)}, keys.SK: {"S": keys.task_sk(task_id)}}


def _waves(reports: Iterable[Report]) -> Iterator[list[tuple[int, Report]]]:
    """Cut a batch so that no two reports on one task are under way at once, and their order is kept."""
    waves: dict[int, list[tuple[int, Report]]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for index, report in enumerate(reports):
        waves[seen[report.task_id]].append((index, report))
        seen[report.task_id] += 1
    for number in sorted(waves):
        yield waves[number]
