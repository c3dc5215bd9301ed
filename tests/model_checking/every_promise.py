"""All promises together, checked in one exploration."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from tasklatch.domain.claim import ClaimRequest
from tasklatch.domain.report import Report
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.task_item import task_from_item
from tests.model_checking import promises
from tests.model_checking.case import EXECUTION, TENANT, Case, View
from tests.model_checking.checks import BrokenPromiseError, ClientResponse, Promises
from tests.model_checking.client_requests import QUEUE
from tests.model_checking.memory_table import Key, Table
from tests.model_checking.reports import ClientReports, reports_with_responses
from tests.model_checking.simulated_cloud import Change, Event

_PK: Final = keys.execution_pk(TENANT, EXECUTION)
Result = tuple[Callable[..., bool], bool]
"""Promise, and whether it holds."""


class EveryPromise(Promises):
    """Promises that one execution's life can break, all together.

    Parameters
    ----------
    case
        Case with its clients' requests.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._reports = ClientReports(case)

    def changed(self, key: Key, change: Change, table: Table) -> None:
        if change.before is None:
            return
        if key[1] == keys.EXECUTION_SK:
            execution_before, execution_after = execution_from_item(change.before), execution_from_item(change.after)
            for promise in promises.EXECUTION_PROMISES:
                if not promise(execution_before, execution_after, table):
                    situation = f"{execution_before.status} became {execution_after.status}"
                    raise BrokenPromiseError(promise.__name__, situation)
            return
        before, after = task_from_item(change.before), task_from_item(change.after)
        _require(
            self._of_reported_change(before, after),
            lambda: f"{_describe(before)} became {_describe(after)} by {after.request_id}",
        )
        for task_promise in promises.TASK_PROMISES:
            if not task_promise(before, after, table):
                raise BrokenPromiseError(task_promise.__name__, f"{_describe(before)} became {_describe(after)}")

    def _of_reported_change(self, before: Task, after: Task) -> Iterator[Result]:
        report = self._reports.of_request(after.request_id)
        on_task = self._reports.of_task(after.task_id)
        waits = promises.no_report_changes_a_task_that_waits
        yield waits, waits(before, after, report)
        output = promises.an_output_belongs_to_the_deciding_attempt
        yield output, output(after, on_task)
        current = promises.a_report_counts_only_for_the_current_attempt
        yield current, current(before, after, report)

    def answered(self, response: ClientResponse, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        cancelled = promises.nothing_is_open_after_a_cancellation_was_answered
        _require(
            [(cancelled, cancelled(response, view))],
            lambda: ", ".join(f"{task_id} {_describe(task)}" for task_id, task in view.tasks.items()),
        )
        if response.request.route.endswith("/claim") and response.status == HTTPStatus.OK:
            self._check_claim(response, view, changes)
        for part, report in reports_with_responses(response):
            self._check_report(part, report, view, _stream(changes, report.task_id))

    @staticmethod
    def _check_claim(response: ClientResponse, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        body, client = response.request.body, response.request_id.rpartition("-")[0].rpartition("-")[0]
        claim = ClaimRequest(TENANT, QUEUE, body["max"], 0, body.get("claimId"), client, response.request_id)
        items = response.body["items"]
        streams = {task_id: _stream(changes, task_id) for task_id in view.tasks}
        only, every = promises.a_claim_gets_only_what_it_began, promises.a_claim_gets_all_that_runs_under_it
        _require(
            [(only, only(items, claim.mark, streams)), (every, every(items, claim.mark, view))],
            lambda: f"{response.request_id} got {[(item['taskId'], item['attempt']) for item in items]}",
        )

    def _check_report(self, response: ClientResponse, report: Report, view: View, stream: Sequence[Task]) -> None:
        _require(
            self._of_response(response, report, view, stream),
            lambda: (
                f"{response.request_id} reported {report.status} of attempt {report.attempt} and got "
                f"{response.status} {response.body.get('verdict') or response.body.get('detail')}; "
                f"the task is {_describe(view.tasks[report.task_id])}"
            ),
        )

    def _of_response(
        self, response: ClientResponse, report: Report, view: View, stream: Sequence[Task]
    ) -> Iterator[Result]:
        refused = promises.a_report_is_refused_only_for_an_attempt_that_is_not_open
        yield refused, refused(response, report, stream)
        nothing = promises.refused_reports_leave_nothing
        yield nothing, nothing(response, report, view)
        stored = promises.acknowledged_reports_are_in_the_table
        yield stored, stored(response, report, view, stream)
        verdict = promises.verdicts_fit_the_state
        yield verdict, verdict(response, report, view)
        request_ids = list(_applied_request_ids(stream))
        reports = (self._reports.of_request(request_id) for request_id in request_ids)
        applied = [applied_report for applied_report in reports if applied_report is not None]
        identical = promises.an_identical_report_is_applied_once
        yield identical, identical(applied)
        once = promises.a_request_is_applied_once
        yield once, once(request_ids)

    def published(self, event: Event, before: Sequence[Event]) -> None:
        if not promises.events_come_in_order(event, before):
            situation = f"version {event.detail['version']} of {event.subject} before an earlier one"
            raise BrokenPromiseError("events_come_in_order", situation)

    def at_rest(self, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        def situation() -> str:
            tasks = ", ".join(f"{task_id} {_describe(task)}" for task_id, task in view.tasks.items())
            return f"at rest: {tasks}; the execution is {view.execution_status}"

        _require(self._of_rest(view), situation)
        for task in view.tasks.values():
            _require(self._of_task_at_rest(view, task, _stream(changes, task.task_id)), situation)
        _require(self._of_execution_at_rest(view, changes), situation)

    @staticmethod
    def _of_rest(view: View) -> Iterator[Result]:
        stuck = promises.nothing_is_stuck
        yield stuck, stuck(view)
        counters = promises.counters_match_the_dependencies
        yield counters, counters(view)

    def _of_task_at_rest(self, view: View, task: Task, stream: Sequence[Task]) -> Iterator[Result]:
        versions = [state.version for state in stream]
        history = promises.every_change_is_in_the_history
        yield history, history(view, task.task_id, stream)
        clients = promises.the_history_names_the_client_of_each_change
        yield clients, clients(view, task.task_id, stream)
        published = promises.every_change_is_published
        yield published, published(view, keys.task_sk(task.task_id), versions)
        if self._case.watched:
            watchers = promises.every_change_reaches_watchers
            yield watchers, watchers(view, task.task_id, versions)
        if self._case.one_attempt:
            highest = promises.the_report_of_highest_precedence_stands
            yield highest, highest(task, self._reports.of_task(task.task_id))

    def _of_execution_at_rest(self, view: View, changes: Mapping[Key, Sequence[Change]]) -> Iterator[Result]:
        items = (execution_from_item(change.after) for change in changes[_PK, keys.EXECUTION_SK])
        # An addition of tasks is counted in a version that exists already
        executions = list({execution.version: execution for execution in items}.values())
        published = promises.every_change_is_published
        yield published, published(view, keys.EXECUTION_SK, [execution.version for execution in executions])
        streams = [_stream(changes, task_id) for task_id in view.tasks]
        failed = promises.an_execution_fails_only_by_a_task
        yield failed, failed(executions, streams)
        taken_back = promises.a_failure_that_was_taken_back_ends_no_execution
        yield taken_back, taken_back(view)
        requested = any(
            request.route.endswith("/retry") for requests in self._case.clients.values() for request in requests
        )
        restarted = promises.only_a_person_or_a_rescue_restarts_an_execution
        yield restarted, restarted(executions, view.tasks, requested=requested)
        reopened = promises.only_what_a_failure_cancelled_is_open_again
        yield reopened, reopened(streams, requested=requested)


def _require(results: Iterable[Result], situation: Callable[[], str]) -> None:
    for promise, holds in results:
        if not holds:
            raise BrokenPromiseError(promise.__name__, situation())


def _stream(changes: Mapping[Key, Sequence[Change]], task_id: str) -> list[Task]:
    """Return the states of a task, change by change."""
    versions: dict[int, Task] = {}
    for change in changes[_PK, keys.task_sk(task_id)]:
        task = task_from_item(change.after)
        versions.setdefault(task.version, task)
    return list(versions.values())


def _applied_request_ids(stream: Sequence[Task]) -> Iterator[str]:
    last = None
    for task in stream:
        if task.request_id is not None and task.request_id != last:
            yield task.request_id
        last = task.request_id


def _describe(task: Task) -> str:
    return f"{task.status} (attempt {task.attempt}, version {task.version})"
