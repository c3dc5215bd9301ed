"""Promises of the service as predicates, each named after its rule.

Some hold for every single change, some for every response, some for every state at rest: nothing more happens
by itself.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.dependencies import fails_execution, is_terminal, retries_exhausted
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FINAL_STATUSES, SEALED, ExecutionStatus, TaskStatus, status_precedence
from tasklatch.domain.task import Task
from tasklatch.domain.timer import timer_for
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tests.model_checking.case import ADDED, EXECUTION, TENANT, View
from tests.model_checking.checks import ClientResponse
from tests.model_checking.memory_table import Table
from tests.model_checking.simulated_cloud import Event

_PK: Final = keys.execution_pk(TENANT, EXECUTION)
_OK: Final = 200
_CONFLICT: Final = 409
Streams = Mapping[str, Sequence[Task]]
TaskPredicate = Callable[[Task, Task, Table], bool]
ExecutionPredicate = Callable[[Execution, Execution, Table], bool]


def tasks_in(table: Table) -> dict[str, Task]:
    return {
        task.task_id: task
        for task in (task_from_item(item) for key, item in table.items() if key[1].startswith(keys.TASK_PREFIX))
    }


def is_granted_an_attempt(before: Task, after: Task) -> bool:
    """Return True if a change is the grant of one more attempt: the only change that may take something back.

    An attempt that was never opened is not spent, and is the one that is granted.
    """
    return (
        after.status is TaskStatus.PENDING
        and after.attempt == before.opened_attempts + 1 == after.granted_attempts
        and (before.status is TaskStatus.CANCELED or fails_execution(before))
    )


def is_given_back(before: Task, after: Task) -> bool:
    """Return True if a change is a worker's release of a running attempt: the next one opens, and none is spent."""
    return (
        before.status is TaskStatus.IN_PROGRESS
        and after.status is TaskStatus.SCHEDULED
        and after.attempt == before.attempt + 1
        and after.spent_attempts == before.spent_attempts
    )


def adds_information(before: Task, after: Task) -> bool:
    """Return True if a change is a worker's addition: another output, message or label, and nothing else."""
    same = (before.status, before.attempt, before.precedence) == (after.status, after.attempt, after.precedence)
    body = [(task.output, task.checkpoint_fingerprint, task.message, task.platform_status) for task in (before, after)]
    return same and body[0] != body[1]


def is_of_a_parent(before: Task, after: Task) -> bool:
    """Return True if a task that brings others starts, or fails: no attempt is open, so neither weighs anything."""
    steps = (TaskStatus.PENDING, TaskStatus.IN_PROGRESS, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    is_next = (before.status, after.status) in pairwise(steps)
    return after.has_children and is_next and after.precedence == before.precedence


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


def only_a_grant_reopens_a_sealed_task(before: Task, after: Task, _table: Table) -> bool:
    """Promise 6: a task that is sealed moves no more unless it is granted an attempt."""
    return before.status not in SEALED or before.version == after.version or is_granted_an_attempt(before, after)


def the_latch_only_rises(before: Task, after: Task, _table: Table) -> bool:
    """Promise 2: of all reports on one attempt the weightiest stays, so each change must weigh more."""
    if before.version == after.version:
        return (before.status, before.attempt, before.precedence) == (after.status, after.attempt, after.precedence)
    return (
        after.version == before.version + 1
        and (is_of_a_parent(before, after) or after.precedence == status_precedence(after.status, after.attempt))
        and (
            is_of_a_parent(before, after)
            or after.precedence > before.precedence
            or is_granted_an_attempt(before, after)
            or adds_information(before, after)
        )
    )


def an_attempt_is_opened_once_after_a_failure_that_is_retried(before: Task, after: Task, _table: Table) -> bool:
    """Promise 6: attempt n+1 follows attempt n, once that has failed and is to be retried, or by a person's request."""
    if after.attempt == before.attempt:
        return True
    if is_granted_an_attempt(before, after) or is_given_back(before, after):
        return True
    decision = decide_retry(before)
    return (
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


def a_task_is_scheduled_after_its_dependencies(before: Task, after: Task, table: Table) -> bool:
    """Promise 3: no attempt at a task is handed out before all its dependencies are done."""
    if after.status is not TaskStatus.SCHEDULED or before.version == after.version:
        return True
    item = table.get((_PK, keys.input_sk(after.task_id)), {})
    awaited = [name["S"] for name in item["dependsOn"]["L"]] if "dependsOn" in item else []
    tasks = tasks_in(table)
    return all(is_terminal(tasks[name]) and not fails_execution(tasks[name]) for name in awaited)


def a_parent_is_completed_after_all_its_children(before: Task, after: Task, table: Table) -> bool:
    """What waits for a task that brings others starts once all of these exist and have ended, and none failed it."""
    if not after.has_children or after.status is not TaskStatus.COMPLETED or before.version == after.version:
        return True
    content = table[_PK, keys.input_sk(after.task_id)]
    defined = json.loads((content.get("resolved") or content["payload"])["S"])["children"]
    tasks = tasks_in(table)
    children = [tasks.get(child["taskId"]) for child in defined]
    return all(child is not None and is_terminal(child) and not fails_execution(child) for child in children)


def a_child_has_its_input_when_it_is_scheduled(before: Task, after: Task, table: Table) -> bool:
    """No worker receives a child before all parts of it exist."""
    is_scheduled = after.parent_id is not None and after.status is TaskStatus.SCHEDULED
    return not is_scheduled or before.version == after.version or (_PK, keys.input_sk(after.task_id)) in table


def no_heartbeat_is_recorded_for_a_task_that_waits(before: Task, after: Task, _table: Table) -> bool:
    """Promise 3: no heartbeat is recorded for an attempt that is not open."""
    waits = before.status is after.status is TaskStatus.PENDING
    return not waits or (before.heartbeat_at, before.progress) == (after.heartbeat_at, after.progress)


def an_output_is_stored_before_its_success(_before: Task, after: Task, table: Table) -> bool:
    """Promise 4: the output of a recorded success is in the table."""
    if after.output is None:
        return True
    partition = keys.output_pk(TENANT, EXECUTION, after.task_id)
    return (partition, keys.output_sk(*after.output)) in table


def an_open_task_is_in_the_index(_before: Task, after: Task, table: Table) -> bool:
    """Promise 8: the index that the reconciler scans holds all tasks that may still need it."""
    listed = keys.LIST_KEY in table[_PK, keys.task_sk(after.task_id)]
    if after.status in FINAL_STATUSES:
        return not listed
    return listed or retries_exhausted(after)


def an_attempt_that_ended_has_no_timer_on_the_list(_before: Task, after: Task, table: Table) -> bool:
    """No timer is left on the list of a task that needs none."""
    return timer_for(after) is not None or keys.DUE_KEY not in table[_PK, keys.task_sk(after.task_id)]


def a_task_is_in_its_queue_while_it_waits_for_a_worker(_before: Task, after: Task, table: Table) -> bool:
    """No task is forgotten: a queue lists each of its tasks that waits for a worker, and no other."""
    waits = after.status is TaskStatus.SCHEDULED and after.queue is not None
    return (keys.WORK_KEY in table[_PK, keys.task_sk(after.task_id)]) is waits


def an_attempt_is_begun_by_one_worker(before: Task, after: Task, _table: Table) -> bool:
    """No attempt is handed out twice: while it runs, it runs under one claim, or under none."""
    runs = before.status is after.status is TaskStatus.IN_PROGRESS and before.attempt == after.attempt
    return not runs or before.claim == after.claim


def no_report_changes_a_task_that_waits(before: Task, after: Task, report: Report | None) -> bool:
    """Promise 3: no report moves a task that waits for others; but a success of an attempt that was open counts."""
    by_a_report = after.request_id is not None and after.version != before.version
    if before.status is not TaskStatus.PENDING or not by_a_report:
        return True
    late = report is None or (report.attempt or 1) <= before.opened_attempts
    return after.status is TaskStatus.COMPLETED and late and before.opened_attempts > 0


def a_report_counts_only_for_the_current_attempt(before: Task, after: Task, report: Report | None) -> bool:
    """Promise 3: a report counts only for the attempt that it names; a success for any that was opened."""
    if report is None or report.attempt is None or after.request_id == before.request_id:
        return True
    late_success = report.status is TaskStatus.COMPLETED and report.attempt <= before.attempt
    of_deciding_attempt = after.status is before.status and report.attempt == before.deciding_attempt
    return late_success or of_deciding_attempt or report.attempt == before.attempt


def an_output_belongs_to_the_deciding_attempt(after: Task, reports: Iterable[Report]) -> bool:
    """The output of one attempt is never shown as another's; `reports` are those on the task."""
    attempts = {report.attempt for report in reports if report.output is not None and report.output_ref == after.output}
    return not attempts or bool({None, after.deciding_attempt} & attempts)


TASK_PROMISES: Final[Sequence[TaskPredicate]] = (
    a_success_is_final,
    only_a_grant_reopens_a_sealed_task,
    the_latch_only_rises,
    an_attempt_is_opened_once_after_a_failure_that_is_retried,
    nothing_is_timed_out_early,
    a_task_is_scheduled_after_its_dependencies,
    a_parent_is_completed_after_all_its_children,
    a_child_has_its_input_when_it_is_scheduled,
    no_heartbeat_is_recorded_for_a_task_that_waits,
    an_output_is_stored_before_its_success,
    an_open_task_is_in_the_index,
    an_attempt_that_ended_has_no_timer_on_the_list,
    a_task_is_in_its_queue_while_it_waits_for_a_worker,
    an_attempt_is_begun_by_one_worker,
)

# ------------------------------------------------------------------ every change of an execution


def an_execution_is_completed_when_all_its_tasks_are(before: Execution, after: Execution, table: Table) -> bool:
    """An execution is completed when all its tasks are terminal, none of them failed it and none was cancelled."""
    if before.version == after.version or after.status is not ExecutionStatus.COMPLETED:
        return True
    return all(
        is_terminal(task) and not fails_execution(task) and task.status is not TaskStatus.CANCELED
        for task in tasks_in(table).values()
        # Tasks belong to the execution once their addition is counted: until then, it may end without them
        if task.task_id != ADDED or after.additions
    )


def a_completed_execution_stays_so(before: Execution, after: Execution, _table: Table) -> bool:
    """A completed execution never changes."""
    return before.status is not ExecutionStatus.COMPLETED or after.status is ExecutionStatus.COMPLETED


def an_ended_execution_changes_only_by_running_again(before: Execution, after: Execution, _table: Table) -> bool:
    """An execution that is over changes only by running again."""
    ended = before.status is not ExecutionStatus.RUNNING and before.version != after.version
    return not ended or after.status is ExecutionStatus.RUNNING


def a_failure_is_taken_back_by_all_that_caused_it(before: Execution, after: Execution, table: Table) -> bool:
    """An execution that failed runs on by itself only if none of its tasks fails it any more."""
    restarted = before.status is ExecutionStatus.FAILED and after.status is ExecutionStatus.RUNNING
    by_rescue = restarted and after.failed_by is not None
    return not by_rescue or not any(map(fails_execution, tasks_in(table).values()))


EXECUTION_PROMISES: Final[Sequence[ExecutionPredicate]] = (
    an_execution_is_completed_when_all_its_tasks_are,
    a_completed_execution_stays_so,
    an_ended_execution_changes_only_by_running_again,
    a_failure_is_taken_back_by_all_that_caused_it,
)

# ------------------------------------------------------------------ every response


def a_report_is_refused_only_for_an_attempt_that_is_not_open(
    response: ClientResponse, report: Report, stream: Sequence[Task]
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
        and not response.was_conditional
    )


def refused_reports_leave_nothing(response: ClientResponse, report: Report, view: View) -> bool:
    """Promise 3: a report that is refused leaves no history entry and no output."""
    if response.status != _CONFLICT:
        return True
    history = keys.history_pk(TENANT, EXECUTION, report.task_id)
    output = keys.output_pk(TENANT, EXECUTION, report.task_id), keys.output_sk(*report.output_ref)
    entries = [item for key, item in view.table.items() if key[0] == history]
    return output not in view.table and all(item.get("receipt") != {"S": response.request_id} for item in entries)


def acknowledged_reports_are_in_the_table(
    response: ClientResponse, report: Report, view: View, stream: Sequence[Task]
) -> bool:
    """Promises 4 and 5: an applied report made a change, any other is in the history with its verdict."""
    if response.status != _OK:
        return True
    verdict = Verdict(response.body["verdict"])
    if verdict is Verdict.APPLIED:
        return any(task.request_id == response.request_id for task in stream)
    index = keys.history_sk(response.body["task"]["version"], report.fingerprint)
    entry = view.table.get((keys.history_pk(TENANT, EXECUTION, report.task_id), index))
    return entry is not None and entry["verdict"]["S"] == verdict


def verdicts_fit_the_state(response: ClientResponse, report: Report, view: View) -> bool:
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


def an_identical_report_is_applied_once(applied: Iterable[Report]) -> bool:
    """Promise 4: an identical report changes nothing more, whoever repeats it, in any order."""
    counts = Counter(report.fingerprint for report in applied if report.attempt is not None)
    return all(count == 1 for count in counts.values())


def a_request_is_applied_once(request_ids: Iterable[str]) -> bool:
    """Promise 4: a request whose response was lost recognises its own write, and does not make another."""
    return all(count == 1 for count in Counter(request_ids).values())


def a_claim_gets_only_what_it_began(items: Iterable[Mapping[str, Any]], mark: str, streams: Streams) -> bool:
    """No attempt is handed out twice: what a claim gets was begun by that claim, whoever else asks."""
    return all(
        any((task.attempt, task.claim) == (item["attempt"], mark) for task in streams[item["taskId"]]) for item in items
    )


def a_claim_gets_all_that_runs_under_it(items: Iterable[Mapping[str, Any]], mark: str, view: View) -> bool:
    """No task is forgotten: a worker whose answer was lost gets all that was begun for it, when it asks again."""
    running = {
        (task.task_id, task.attempt)
        for task in view.tasks.values()
        if task.claim == mark and task.status is TaskStatus.IN_PROGRESS
    }
    return running <= {(item["taskId"], item["attempt"]) for item in items}


# ------------------------------------------------------------------ every publication


def events_come_in_order(event: Event, before: Iterable[Event]) -> bool:
    """Promise 7: events of one item come in order; a repeated event is an old version."""
    published = {other.detail["version"] for other in before if other.subject == event.subject}
    return set(range(1, event.detail["version"])) <= published


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


def the_history_names_the_client_of_each_change(view: View, task_id: str, stream: Sequence[Task]) -> bool:
    """Promise 7: an entry has the client of the request that made the change; none if the service made it itself."""
    pk = keys.history_pk(TENANT, EXECUTION, task_id)
    entries = [view.table.get((pk, keys.history_sk(task.version)), {}) for task in stream]
    clients = [entry["client"]["S"] if "client" in entry else None for entry in entries]
    return clients == [task.request_id and task.request_id.rsplit("-", 2)[0] for task in stream]


def every_change_is_published(view: View, sort_key: str, versions: Iterable[int]) -> bool:
    """Promise 7: for every version there is an event on the bus."""
    published = {event.detail["version"] for event in view.events if event.subject == (EXECUTION, sort_key)}
    return published == set(versions)


def every_change_reaches_watchers(view: View, task_id: str, versions: Iterable[int]) -> bool:
    """Promise 7: a WebSocket client receives every version."""
    return {message["version"] for message in view.messages if message.get("taskId") == task_id} == set(versions)


def nothing_is_stuck(view: View) -> bool:
    """Promise 8: a task that is not terminal waits for a worker with its event, or for another such task."""
    tasks = view.tasks
    unsettled = [task for task in tasks.values() if not is_terminal(task)]
    if view.execution_status != ExecutionStatus.RUNNING:
        return not unsettled
    for task in unsettled:
        if task.has_children and task.status is TaskStatus.IN_PROGRESS:
            if not any(child.parent_id == task.task_id for child in unsettled):
                return False
        elif task.status is TaskStatus.PENDING:
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
    return bool(unsettled) or view.execution.keep_open


def counters_match_the_dependencies(view: View) -> bool:
    """Dependents count a terminal task once, however often its event is delivered.

    A parent that was cancelled may count children that were not created.
    """
    waiting: Counter[str] = Counter()
    for key, item in view.table.items():
        if key[1].startswith("NEXT#") and "done" not in item:
            waiting[item["taskId"]["S"]] += 1
    counters = [
        item
        for key, item in view.table.items()
        if key[1].startswith("WAITS#") and view.tasks[item["taskId"]["S"]].status is not TaskStatus.CANCELED
    ]
    return all(int(item["remaining"]["N"]) == waiting[item["taskId"]["S"]] for item in counters)


def an_execution_fails_only_by_a_task(executions: Sequence[Execution], streams: Iterable[Sequence[Task]]) -> bool:
    """An execution is failed only if one of its tasks failed for good or was cancelled."""
    failed = any(execution.status is ExecutionStatus.FAILED for execution in executions)
    ending = any(fails_execution(task) or task.status is TaskStatus.CANCELED for stream in streams for task in stream)
    return not failed or ending


def only_a_person_or_a_rescue_restarts_an_execution(
    executions: Sequence[Execution], tasks: Mapping[str, Task], *, requested: bool
) -> bool:
    """An execution that is over runs again by a person's request, or because the task that failed it has succeeded."""
    restarted = [
        before
        for before, after in pairwise(executions)
        if before.status is not ExecutionStatus.RUNNING and after.status is ExecutionStatus.RUNNING
    ]
    rescued = all(
        execution.status is ExecutionStatus.FAILED
        and execution.failed_by is not None
        and tasks[execution.failed_by].status is TaskStatus.COMPLETED
        for execution in restarted
    )
    return requested or rescued


def only_what_a_failure_cancelled_is_open_again(streams: Iterable[Sequence[Task]], *, requested: bool) -> bool:
    """Promise 6: unless a person asks, only what a failure of another task cancelled gets another attempt."""
    reopened = [
        before
        for stream in streams
        for before, after in pairwise(stream)
        if before.status is TaskStatus.CANCELED and after.status is TaskStatus.PENDING
    ]
    by_failure = all(task.request_id is None and " ended " in (task.message or "") for task in reopened)
    return requested or by_failure


def a_failure_that_was_taken_back_ends_no_execution(view: View) -> bool:
    """Promise 1: an execution that a task failed is a failure no longer once no task fails it."""
    execution = view.execution
    if execution.status is not ExecutionStatus.FAILED or execution.failed_by is None:
        return execution.failed_by is None
    return any(fails_execution(task) for task in view.tasks.values())


def nothing_is_open_after_a_cancellation_was_answered(response: ClientResponse, view: View) -> bool:
    """Promise 6: when a person's cancellation is answered, no task can be reported on, unless it was retried since.

    A child that was being created then waits until it is cancelled too.
    """
    answered = response.request.route.endswith("/cancel") and response.status == _OK
    if not answered or view.execution_status == ExecutionStatus.RUNNING:
        return True
    return all(
        is_terminal(task) or (task.parent_id is not None and task.status is TaskStatus.PENDING)
        for task in view.tasks.values()
    )


def the_report_of_highest_precedence_stands(task: Task, reports: Sequence[Report]) -> bool:
    """Promise 2: in any order, of all reports on one attempt that of the highest precedence stays."""
    statuses = {status_precedence(report.status, task.attempt): report.status for report in reports}
    return task.attempt == 1 and task.status is statuses[max(statuses)] and _output_fits(task, reports)


def _output_fits(task: Task, reports: Sequence[Report]) -> bool:
    """Return True if the output is the final report's that decided, or else the last checkpoint's, by sequence."""
    with_output = [report for report in reports if report.output is not None]
    final = [report for report in with_output if report.status is task.status]
    checkpoints = [report for report in with_output if report.status is TaskStatus.IN_PROGRESS]
    checkpoints.sort(key=lambda report: report.sequence or 0)
    expected = [report.output_ref for report in (final or checkpoints)[-1:]]
    return ([task.output] if task.output is not None else []) == expected
