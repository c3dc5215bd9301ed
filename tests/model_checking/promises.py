"""Promises of the service as predicates, each named after its rule.

Some hold for every single change, some for every response, some for every state at rest: nothing more happens
by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tasklatch.api.v1.reports.models import BatchedReportBody, ReportBody
from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.dependencies import fails_execution, is_terminal, retries_exhausted
from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FINAL_STATUSES, SEALED, ExecutionStatus, TaskStatus, status_precedence
from tasklatch.domain.task import Task
from tasklatch.domain.timer import timer_for
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.task_item import task_from_item
from tests.model_checking.explorer import EXECUTION, TENANT, BrokenPromiseError, Case, Promises, Request, Told, View
from tests.model_checking.memory_table import Key, Table
from tests.model_checking.simulated_cloud import Change, Event

_PK: Final = keys.execution_pk(TENANT, EXECUTION)
_OK: Final = 200
_CONFLICT: Final = 409
TaskPredicate = Callable[[Task, Task, Table], bool]
ExecutionPredicate = Callable[[Execution, Execution, Table], bool]


def tasks_in(table: Table) -> dict[str, Task]:
    return {
        task.task_id: task
        for task in (task_from_item(item) for key, item in table.items() if key[1].startswith(keys.TASK_PREFIX))
    }


def reopened_by_a_person(before: Task, after: Task) -> bool:
    """Return True if a change is a person's grant of one more attempt: the only change that may take something back.

    An attempt that was never opened is not spent, and is the one that is granted.
    """
    return (
        after.status is TaskStatus.PENDING
        and after.attempt == before.opened_attempts + 1 == after.granted_attempts
        and (before.status is TaskStatus.CANCELED or fails_execution(before))
    )


def says_more(before: Task, after: Task) -> bool:
    """Return True if a change is a worker's addition: another output, message or label, and nothing else."""
    same = (before.status, before.attempt, before.precedence) == (after.status, after.attempt, after.precedence)
    body = [(task.output, task.checkpoint_fingerprint, task.message, task.platform_status) for task in (before, after)]
    return same and body[0] != body[1]


# ------------------------------------------------------------------ every change of a task


def a_success_is_final(before: Task, after: Task, _table: Table) -> bool:
    """Promise 1: nothing turns a success into anything else, in no field that shows it; its output can be filled."""
    return before.status is not TaskStatus.COMPLETED or (
        after.status is TaskStatus.COMPLETED
        and (after.attempt, after.decided_attempt, after.ended_at)
        == (before.attempt, before.decided_attempt, before.ended_at)
        and before.output_fingerprint in (None, after.output_fingerprint)
        and (after.version == before.version or after.output != before.output)
    )


def a_seal_is_broken_by_a_person_alone(before: Task, after: Task, _table: Table) -> bool:
    """Promise 6: a task that is sealed moves no more unless a person grants it an attempt."""
    return before.status not in SEALED or before.version == after.version or reopened_by_a_person(before, after)


def the_latch_only_rises(before: Task, after: Task, _table: Table) -> bool:
    """Promise 2: of all reports on one attempt the weightiest stays, so each change must weigh more."""
    if before.version == after.version:
        return (before.status, before.attempt, before.precedence) == (after.status, after.attempt, after.precedence)
    return (
        after.version == before.version + 1
        and after.precedence == status_precedence(after.status, after.attempt)
        and (after.precedence > before.precedence or reopened_by_a_person(before, after) or says_more(before, after))
    )


def an_attempt_is_opened_once_after_a_failure_that_is_retried(before: Task, after: Task, _table: Table) -> bool:
    """Promise 6: attempt n+1 follows attempt n, once that has failed and is to be retried, or by a person's request."""
    if after.attempt == before.attempt:
        return True
    decision = decide_retry(before)
    return reopened_by_a_person(before, after) or (
        after.attempt == before.attempt + 1
        and after.status is TaskStatus.SCHEDULED
        and decision is not None
        and decision.will_retry
        and decision.not_before is not None
        and after.updated_at >= decision.not_before
    )


def nothing_is_timed_out_early(before: Task, after: Task, _table: Table) -> bool:
    """Promise 8, its other side: an attempt that has time left is not timed out."""
    if after.status is not TaskStatus.TIMED_OUT or before.version == after.version:
        return True
    deadline = next_deadline(before)
    if deadline is not None and before.heartbeat_at is not None and before.heartbeat_at >= after.updated_at:
        # A heartbeat at the very moment of its attempt's time-out can lose.
        deadline = next_deadline(replace(before, heartbeat_at=None))
    return deadline is not None and after.updated_at >= deadline.due


def a_task_is_scheduled_when_what_it_waits_for_is_done(before: Task, after: Task, table: Table) -> bool:
    """Promise 3: no attempt at a task is handed out before all its dependencies are done."""
    if after.status is not TaskStatus.SCHEDULED or before.version == after.version:
        return True
    item = table.get((_PK, keys.input_sk(after.task_id)), {})
    awaited = [name["S"] for name in item["dependsOn"]["L"]] if "dependsOn" in item else []
    tasks = tasks_in(table)
    return all(is_terminal(tasks[name]) and not fails_execution(tasks[name]) for name in awaited)


def a_task_that_waits_is_alive_to_nobody(before: Task, after: Task, _table: Table) -> bool:
    """Promise 3: no heartbeat is recorded for an attempt that is not open."""
    waits = before.status is after.status is TaskStatus.PENDING
    return not waits or (before.heartbeat_at, before.progress) == (after.heartbeat_at, after.progress)


def an_output_is_there_before_the_success_that_names_it(_before: Task, after: Task, table: Table) -> bool:
    """Promise 4: the output of a recorded success is in the table."""
    if after.output is None:
        return True
    sort_key = keys.output_sk(after.task_id, *after.output)
    return (_PK, sort_key) in table


def a_task_is_on_the_list_of_open_ones_until_it_is_closed(_before: Task, after: Task, table: Table) -> bool:
    """Promise 8: the index that the reconciler scans holds all tasks that may still need it."""
    listed = keys.LIST_KEY in table[_PK, keys.task_sk(after.task_id)]
    if after.status in FINAL_STATUSES:
        return not listed
    return listed or retries_exhausted(after)


OF_A_TASK: Final[Sequence[TaskPredicate]] = (
    a_success_is_final,
    a_seal_is_broken_by_a_person_alone,
    the_latch_only_rises,
    an_attempt_is_opened_once_after_a_failure_that_is_retried,
    nothing_is_timed_out_early,
    a_task_is_scheduled_when_what_it_waits_for_is_done,
    a_task_that_waits_is_alive_to_nobody,
    an_output_is_there_before_the_success_that_names_it,
    a_task_is_on_the_list_of_open_ones_until_it_is_closed,
)

# ------------------------------------------------------------------ every change of an execution


def an_execution_is_completed_when_all_its_tasks_are(before: Execution, after: Execution, table: Table) -> bool:
    """An execution is completed when all its tasks are terminal, none of them failed it and none was cancelled."""
    if before.version == after.version or after.status is not ExecutionStatus.COMPLETED:
        return True
    return all(
        is_terminal(task) and not fails_execution(task) and task.status is not TaskStatus.CANCELED
        for task in tasks_in(table).values()
    )


def a_completed_execution_stays_so(before: Execution, after: Execution, _table: Table) -> bool:
    """A completed execution never changes."""
    return before.status is not ExecutionStatus.COMPLETED or after.status is ExecutionStatus.COMPLETED


def an_end_is_taken_back_by_a_retry_alone(before: Execution, after: Execution, _table: Table) -> bool:
    """An execution that is over changes only by running again."""
    ended = before.status is not ExecutionStatus.RUNNING and before.version != after.version
    return not ended or after.status is ExecutionStatus.RUNNING


OF_AN_EXECUTION: Final[Sequence[ExecutionPredicate]] = (
    an_execution_is_completed_when_all_its_tasks_are,
    a_completed_execution_stays_so,
    an_end_is_taken_back_by_a_retry_alone,
)

# ------------------------------------------------------------------ every response


def what_was_said(request: Request) -> Mapping[str, Report]:
    """Return the reports of a request, by the suffix of their request ids; empty for another request."""
    if request.route.endswith("/status"):
        try:
            return {"": ReportBody.model_validate(request.body).report(TENANT, EXECUTION, request.path["taskId"])}
        except AttemptNotOpenError:
            # It names an attempt at another task, and so concerns none.
            return {}
    if request.route.endswith("/statuses"):
        bodies = [BatchedReportBody.model_validate(body) for body in request.body["statuses"]]
        return {f"#{index}": body.report(TENANT, EXECUTION, body.taskId) for index, body in enumerate(bodies)}
    return {}


def what_was_told(response: Told) -> Iterable[tuple[Told, Report]]:
    """Yield each report of a request, with the response to it."""
    for suffix, report in what_was_said(response.request).items():
        if not suffix:
            yield response, report
            continue
        result = response.body["results"][int(suffix[1:])]
        yield (
            Told(
                response.request,
                response.request_id + suffix,
                result["status"],
                {**result, **result.get("problem", {})},
            ),
            report,
        )


def a_report_is_refused_only_for_an_attempt_that_is_not_open(
    response: Told, report: Report, stream: Sequence[Task]
) -> bool:
    """Promise 4: a report on an attempt that was handed out is accepted; promise 3: on any other it is refused."""
    if response.status == _OK:
        return True
    names = report.attempt or 1
    was_closed = any(task.opened_attempts < names or report.attempt is None for task in stream)
    return (
        response.status == _CONFLICT
        and "attempt-not-open" in response.body["type"]
        and was_closed
        and not response.knew_of_it
    )


def nothing_is_left_of_what_is_refused(response: Told, report: Report, view: View) -> bool:
    """Promise 3: a report that is refused leaves no history entry and no output."""
    if response.status != _CONFLICT:
        return True
    history = keys.history_pk(TENANT, EXECUTION, report.task_id)
    output = keys.output_sk(report.task_id, *report.output_ref)
    entries = [item for key, item in view.table.items() if key[0] == history]
    return (_PK, output) not in view.table and all(
        item.get("receipt") != {"S": response.request_id} for item in entries
    )


def what_is_acknowledged_is_in_the_table(response: Told, report: Report, view: View, stream: Sequence[Task]) -> bool:
    """Promises 4 and 5: an applied report made a change, any other is in the history with its verdict."""
    if response.status != _OK:
        return True
    verdict = Verdict(response.body["verdict"])
    if verdict is Verdict.APPLIED:
        return any(task.request_id == response.request_id for task in stream)
    index = keys.history_sk(response.body["task"]["version"], report.fingerprint)
    entry = view.table.get((keys.history_pk(TENANT, EXECUTION, report.task_id), index))
    return entry is not None and entry["verdict"]["S"] == verdict


def a_verdict_is_true(response: Told, report: Report, view: View) -> bool:
    """A verdict fits the task's state; a report of a success is applied, a duplicate, or meets a seal."""
    if response.status != _OK:
        return True
    verdict, met = Verdict(response.body["verdict"]), response.body["task"]
    if report.status is TaskStatus.COMPLETED:
        stands = view.tasks[report.task_id].status
        went_on = stands is TaskStatus.COMPLETED or verdict is Verdict.SEALED
        return went_on and verdict in (Verdict.APPLIED, Verdict.DUPLICATE, Verdict.SEALED)
    if verdict is Verdict.IGNORED_AFTER_SUCCESS:
        return bool(met["status"] == TaskStatus.COMPLETED)
    if verdict is Verdict.STALE_ATTEMPT:
        return bool(met["attempt"] > (report.attempt or met["attempt"]))
    if verdict is Verdict.SEALED:
        return met["status"] in SEALED
    return True


# ------------------------------------------------------------------ every state in which nothing more happens


def every_change_is_in_the_history(view: View, task_id: str, stream: Sequence[Task]) -> bool:
    """Promise 7: the history has an entry for each version, from the first on, with the change's values."""
    pk = keys.history_pk(TENANT, EXECUTION, task_id)
    entries = [view.table.get((pk, keys.history_sk(task.version))) for task in stream]
    versions = [task.version for task in stream]
    return versions == list(range(1, len(stream) + 1)) and all(
        entry is not None and entry["status"]["S"] == task.status and entry["verdict"]["S"] == Verdict.APPLIED
        for entry, task in zip(entries, stream, strict=True)
    )


def every_change_is_published(view: View, sort_key: str, versions: Iterable[int]) -> bool:
    """Promise 7: for every version there is an event on the bus."""
    published = {event.detail["version"] for event in view.events if event.subject == (EXECUTION, sort_key)}
    return published == set(versions)


def every_change_is_sent_to_watchers(view: View, task_id: str, versions: Iterable[int]) -> bool:
    """Promise 7: a WebSocket client receives every version."""
    return {message["version"] for message in view.messages if message.get("taskId") == task_id} == set(versions)


def nothing_is_left_hanging(view: View) -> bool:
    """Promise 8: a task that is not terminal waits for a worker with its event, or for another such task."""
    tasks = view.tasks
    unsettled = [task for task in tasks.values() if not is_terminal(task)]
    if view.execution_status != ExecutionStatus.RUNNING:
        return not unsettled
    for task in unsettled:
        if task.status is TaskStatus.PENDING:
            item = view.table.get((_PK, keys.input_sk(task.task_id)), {})
            awaited = [name["S"] for name in item["dependsOn"]["L"]] if "dependsOn" in item else []
            if all(is_terminal(tasks[name]) for name in awaited):
                return False
        elif (
            timer_for(task) is not None
            or retries_exhausted(task)
            or (task.task_id, task.attempt) not in view.handed_out
        ):
            return False
    return bool(unsettled)


def counters_fit_what_they_count(view: View) -> bool:
    """Dependents count a terminal task once, however often its event is delivered."""
    waiting: Counter[str] = Counter()
    for key, item in view.table.items():
        if key[1].startswith("NEXT#") and "done" not in item:
            waiting[item["taskId"]["S"]] += 1
    counters = [item for key, item in view.table.items() if key[1].startswith("WAITS#")]
    return all(int(item["remaining"]["N"]) == waiting[item["taskId"]["S"]] for item in counters)


def an_execution_fails_by_a_task_alone(executions: Sequence[Execution], streams: Iterable[Sequence[Task]]) -> bool:
    """An execution is failed only if one of its tasks failed for good or was cancelled; a success may come too late."""
    failed = any(execution.status is ExecutionStatus.FAILED for execution in executions)
    ending = any(fails_execution(task) or task.status is TaskStatus.CANCELED for stream in streams for task in stream)
    return not failed or ending


def an_execution_runs_again_only_if_a_person_asked(executions: Sequence[Execution], *, requested: bool) -> bool:
    """An execution that is over runs again only by a person's request."""
    again = any(execution.status is ExecutionStatus.RUNNING for execution in executions[1:])
    return requested or not again


class EveryPromise(Promises):
    """Promises that one execution's life can break, all together.

    Parameters
    ----------
    case
        Case with its clients' requests.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._requests = case.clients

    def changed(self, key: Key, change: Change, table: Table) -> None:
        if change.before is None:
            return
        if key[1] == keys.EXECUTION_SK:
            execution_before, execution_after = execution_from_item(change.before), execution_from_item(change.after)
            for of_execution in OF_AN_EXECUTION:
                if not of_execution(execution_before, execution_after, table):
                    raise BrokenPromiseError(
                        of_execution.__name__, f"{execution_before.status} became {execution_after.status}"
                    )
            return
        before, after = task_from_item(change.before), task_from_item(change.after)
        if not self.a_task_that_waits_is_moved_by_no_report(before, after):
            raise BrokenPromiseError(
                "a_task_that_waits_is_moved_by_no_report",
                f"{_as_it_stands(before)} became {_as_it_stands(after)} by {after.request_id}",
            )
        if not self.an_output_is_of_the_attempt_that_decided(after):
            raise BrokenPromiseError(
                "an_output_is_of_the_attempt_that_decided",
                f"{_as_it_stands(after)} has another's by {after.request_id}",
            )
        if not self.an_attempt_is_only_spoken_for_while_it_is_the_current_one(before, after):
            raise BrokenPromiseError(
                "an_attempt_is_only_spoken_for_while_it_is_the_current_one",
                f"{_as_it_stands(before)} became {_as_it_stands(after)} by {after.request_id}",
            )
        for of_task in OF_A_TASK:
            if not of_task(before, after, table):
                raise BrokenPromiseError(of_task.__name__, f"{_as_it_stands(before)} became {_as_it_stands(after)}")

    def a_task_that_waits_is_moved_by_no_report(self, before: Task, after: Task) -> bool:
        """Promise 3: no report moves a task that waits for others; but a success of an attempt that was open counts."""
        by_a_report = after.request_id is not None and after.version != before.version
        if before.status is not TaskStatus.PENDING or not by_a_report:
            return True
        report = self._report_of(after.request_id or "")
        late = report is None or (report.attempt or 1) <= before.opened_attempts
        return after.status is TaskStatus.COMPLETED and late and before.opened_attempts > 0

    def an_attempt_is_only_spoken_for_while_it_is_the_current_one(self, before: Task, after: Task) -> bool:
        """Promise 3: a report counts only for the attempt that it names; a success for any that was opened."""
        report = (
            self._report_of(after.request_id) if after.request_id and after.request_id != before.request_id else None
        )
        if report is None or report.attempt is None:
            return True
        late_success = report.status is TaskStatus.COMPLETED and report.attempt <= before.attempt
        of_what_decided = after.status is before.status and report.attempt == before.deciding_attempt
        return late_success or of_what_decided or report.attempt == before.attempt

    def an_output_is_of_the_attempt_that_decided(self, after: Task) -> bool:
        """The output of one attempt is never shown as another's."""
        reports = (
            report for report in self._reports() if report.task_id == after.task_id and report.output is not None
        )
        body = [item.attempt for item in reports if item.output_ref == after.output]
        return not body or bool({None, after.deciding_attempt} & {*body})

    def an_identical_report_is_applied_once(self, stream: Sequence[Task]) -> bool:
        """Promise 4: an identical report changes nothing more, whoever repeats it, in any order."""
        initial = [task.request_id for task in _new_request_ids(stream)]
        reports = [
            report for request_id in initial if request_id and (report := self._report_of(request_id)) is not None
        ]
        counted = Counter(report.fingerprint for report in reports if report.attempt is not None)
        return all(count == 1 for count in counted.values())

    def a_request_is_applied_once(self, stream: Sequence[Task]) -> bool:
        """Promise 4: a request whose response was lost recognises its own write, and does not make another."""
        initial = Counter(task.request_id for task in _new_request_ids(stream))
        return all(count == 1 for count in initial.values())

    def answered(self, response: Told, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        for item, report in what_was_told(response):
            self._report_answered(item, report, view, _stream(changes, report.task_id))

    def _report_answered(self, response: Told, report: Report, view: View, stream: Sequence[Task]) -> None:
        for name, holds in (
            (
                "a_report_is_refused_only_for_an_attempt_that_is_not_open",
                a_report_is_refused_only_for_an_attempt_that_is_not_open(response, report, stream),
            ),
            ("nothing_is_left_of_what_is_refused", nothing_is_left_of_what_is_refused(response, report, view)),
            (
                "what_is_acknowledged_is_in_the_table",
                what_is_acknowledged_is_in_the_table(response, report, view, stream),
            ),
            ("a_verdict_is_true", a_verdict_is_true(response, report, view)),
            ("an_identical_report_is_applied_once", self.an_identical_report_is_applied_once(stream)),
            ("a_request_is_applied_once", self.a_request_is_applied_once(stream)),
        ):
            if not holds:
                raise BrokenPromiseError(
                    name,
                    f"{response.request_id} said {report.status} of attempt {report.attempt} and was "
                    f"answered {response.status} {response.body.get('verdict') or response.body.get('detail')}; "
                    f"the task is {_as_it_stands(view.tasks[report.task_id])}",
                )

    def published(self, event: Event, before: Sequence[Event]) -> None:
        """Promise 7: events of one item come in order; a repeated event is an old version."""
        response = {item.detail["version"] for item in before if item.subject == event.subject}
        missing = set(range(1, event.detail["version"])) - response
        if missing:
            raise BrokenPromiseError(
                "events_come_in_order", f"version {event.detail['version']} of {event.subject} before {missing}"
            )

    def at_rest(self, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        result = [
            ("nothing_is_left_hanging", nothing_is_left_hanging(view)),
            ("counters_fit_what_they_count", counters_fit_what_they_count(view)),
        ]
        for task_id in view.tasks:
            stream = _stream(changes, task_id)
            versions = [task.version for task in stream]
            result += [
                ("every_change_is_in_the_history", every_change_is_in_the_history(view, task_id, stream)),
                ("every_change_is_published", every_change_is_published(view, keys.task_sk(task_id), versions)),
            ]
            if self._case.watched:
                response = every_change_is_sent_to_watchers(view, task_id, versions)
                result.append(("every_change_is_sent_to_watchers", response))
            if self._case.one_attempt:
                result.append(
                    ("the_weightiest_report_stands_in_every_order", self._the_weightiest_stands(view.tasks[task_id]))
                )
        executions = [execution_from_item(change.after) for change in changes[_PK, keys.EXECUTION_SK]]
        versions = [execution.version for execution in executions]
        streams = [_stream(changes, task_id) for task_id in view.tasks]
        requested = any(
            request.route.endswith("/retry") for requests in self._requests.values() for request in requests
        )
        result += [
            ("every_change_is_published", every_change_is_published(view, keys.EXECUTION_SK, versions)),
            ("an_execution_fails_by_a_task_alone", an_execution_fails_by_a_task_alone(executions, streams)),
            (
                "an_execution_runs_again_only_if_a_person_asked",
                an_execution_runs_again_only_if_a_person_asked(executions, requested=requested),
            ),
        ]
        for name, holds in result:
            if not holds:
                tasks = ", ".join(f"{task_id} {_as_it_stands(task)}" for task_id, task in view.tasks.items())
                raise BrokenPromiseError(name, f"at rest: {tasks}; the execution is {view.execution_status}")

    def _the_weightiest_stands(self, task: Task) -> bool:
        """Promise 2: in any order, of all reports on one attempt the weightiest stays."""
        body = [report for report in self._reports() if report.task_id == task.task_id]
        weights = {status_precedence(report.status, task.attempt): report.status for report in body}
        return task.attempt == 1 and task.status is weights[max(weights)] and self._its_output_stands(body, task)

    @staticmethod
    def _its_output_stands(body: Sequence[Report], task: Task) -> bool:
        """Return True if the output is the final report's that decided, or else the last checkpoint's, by sequence."""
        final = [item for item in body if item.output is not None and item.status is task.status]
        checkpoints = [
            element for element in body if element.output is not None and element.status is TaskStatus.IN_PROGRESS
        ]
        checkpoints.sort(key=lambda entry: entry.sequence or 0)
        expected = [first.output_ref for first in (final or checkpoints)[-1:]]
        return ([task.output] if task.output is not None else []) == expected

    def _reports(self) -> Iterable[Report]:
        for requests in self._requests.values():
            for request in requests:
                yield from what_was_said(request).values()

    def _report_of(self, request_id: str) -> Report | None:
        """Return the report of a request id: client, step, try, and position in a batch."""
        client, _, step = request_id.rpartition("-")[0].rpartition("-")
        if client not in self._requests:
            return None
        _, hash_sign, index = request_id.partition("#")
        return what_was_said(self._requests[client][int(step) - 1]).get(hash_sign + index)


def _stream(changes: Mapping[Key, Sequence[Change]], task_id: str) -> list[Task]:
    """Return the states of a task, change by change."""
    versions: dict[int, Task] = {}
    for change in changes[_PK, keys.task_sk(task_id)]:
        task = task_from_item(change.after)
        versions.setdefault(task.version, task)
    return list(versions.values())


def _new_request_ids(stream: Sequence[Task]) -> Iterable[Task]:
    last = None
    for task in stream:
        if task.request_id is not None and task.request_id != last:
            yield task
        last = task.request_id


def _as_it_stands(task: Task) -> str:
    return f"{task.status} (attempt {task.attempt}, version {task.version})"
