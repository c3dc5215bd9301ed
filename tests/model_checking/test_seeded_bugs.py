"""The explorer detects bugs: each bug here is put into the shipped code, and a schedule that shows it is found.

A bug is one small change to the code that runs, as a person might make it by mistake.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from botocore.exceptions import HTTPClientError

from tasklatch.domain import conditional_write
from tasklatch.domain.advance import Advance, AdvanceMessage, SweepPosition, start_of_sweep
from tasklatch.domain.conditional_write import ConditionalWrite, next_attempt_write, system_write, write_for_report
from tasklatch.domain.dependencies import execution_outcome
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import (
    COMPLETED_PRECEDENCE,
    PRECEDENCE_PER_ATTEMPT,
    SEALED_PRECEDENCE,
    ExecutionStatus,
    TaskStatus,
)
from tasklatch.domain.task import OutputRef, Task
from tasklatch.domain.timer import Timer
from tasklatch.domain.verdict import decide_verdict
from tasklatch.dynamodb import write_expression
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.task_item import HEARTBEAT_MARK, task_from_item
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.executions import control
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.ledger import heartbeat, ledger, report_write
from tasklatch.ledger.history import History
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import Payloads
from tasklatch.ledger.task_table import TaskTable, WriteResult
from tasklatch.notifications import broadcast, stream, stream_consumer
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.retries import timer_handler, timer_sweep
from tasklatch.retries.due_list import DueList
from tasklatch.retries.lost_changes import LostChanges
from tasklatch.retries.planner import RetryPlanner
from tasklatch.retries.reconciler import Reconciler
from tasklatch.retries.timer_handler import TimerHandler
from tasklatch.retries.timer_sweep import TimerSweep
from tasklatch.runtime.backoff import Backoff
from tasklatch.workflow import cancellation, closer, dependency_counters, reopener, task_scheduler
from tasklatch.workflow.child_tasks import ChildTasks
from tasklatch.workflow.closer import ExecutionCloser
from tasklatch.workflow.dependency_counters import DependencyCounters
from tasklatch.workflow.reopener import ExecutionReopener
from tests.model_checking import (
    cases,
    children_cases,
    claim_bugs,
    claim_cases,
    sweep_cases,
    timer_cases,
    waiting_cases,
)
from tests.model_checking.case import Case
from tests.model_checking.cases import with_faults
from tests.model_checking.every_promise import EveryPromise
from tests.model_checking.explorer import Explorer

Seed = Callable[[pytest.MonkeyPatch], None]


def _without_condition(*dropped: str) -> Seed:
    """Leave ends of the latch's interval out of the condition, or all of it, in both of DynamoDB's languages."""

    def seed(patch: pytest.MonkeyPatch) -> None:
        parts = write_expression._parts

        def fewer(write: ConditionalWrite, pk: str, expires_at: int | None) -> Any:
            assigned, removed, conditions = parts(write, pk, expires_at)
            return assigned, removed, [term for term in conditions if dropped and term[1] not in dropped]

        patch.setattr(write_expression, "_parts", fewer)

    return seed


def _a_batch_does_not_compare_the_version(patch: pytest.MonkeyPatch) -> None:
    """Write the next version that a batch has read, whatever version the task has by then."""
    rendered = write_expression._parts

    def seed(write: ConditionalWrite, pk: str, expires_at: int | None) -> Any:
        assigned, removed, conditions = rendered(write, pk, expires_at)
        return assigned, removed, [term for term in conditions if term[0] != "version"]

    patch.setattr(write_expression, "_parts", seed)


def _without_lower_end(patch: pytest.MonkeyPatch) -> None:
    """Compare only the upper end and the attempt, as if an attempt that waits were open."""

    def from_waiting(*arguments: Any, **names: Any) -> ConditionalWrite:
        write = write_for_report(*arguments, **names)
        return write._replace(precedence_from=write.attempt * PRECEDENCE_PER_ATTEMPT)

    patch.setattr(report_write, "write_for_report", from_waiting)
    patch.setattr(ledger, "check_opened", lambda _task, _attempt: None)


def _a_write_leaves_the_mark_of_a_heartbeat(patch: pytest.MonkeyPatch) -> None:
    """Leave the attribute in place by which the stream's filters leave heartbeats out."""
    parts = write_expression._parts

    def fewer(*arguments: Any) -> Any:
        assigned, removed, conditions = parts(*arguments)
        return assigned, [attribute for attribute in removed if attribute != HEARTBEAT_MARK], conditions

    patch.setattr(write_expression, "_parts", fewer)


def _heartbeats_without_lower_end(patch: pytest.MonkeyPatch) -> None:
    """Accept heartbeats on a task that waits."""
    patch.setattr(heartbeat, "heartbeat_interval", lambda attempt: (attempt * 10, attempt * 10 + 3))


def _a_checkpoint_is_shown_of_whichever_attempt(patch: pytest.MonkeyPatch) -> None:
    """Show the last output of any attempt as the task's."""

    def last_output(self: Task, _attempt: int) -> OutputRef | None:
        return OutputRef(0, self.checkpoint_fingerprint) if self.checkpoint_fingerprint else None

    patch.setattr(Task, "output_of", last_output)


def _what_comes_later_adds_nothing(patch: pytest.MonkeyPatch) -> None:
    """Drop the additions of a report that does not raise the latch."""
    patch.setattr(report_write, "amendment_write", lambda *_arguments, **_named: None)


def _the_service_writes_whatever_version(patch: pytest.MonkeyPatch) -> None:
    created = system_write

    def wider(*arguments: Any, **names: Any) -> ConditionalWrite:
        return created(*arguments, **names)._replace(max_precedence=SEALED_PRECEDENCE)

    for module in (cancellation, task_scheduler):
        patch.setattr(module, "system_write", wider)
    _a_batch_does_not_compare_the_version(patch)


def _the_next_attempt_is_opened_whatever_version(patch: pytest.MonkeyPatch) -> None:
    def versionless(task: Task, *, now: int) -> ConditionalWrite:
        write = next_attempt_write(task, now=now)
        return write._replace(version=None, max_precedence=write.max_precedence + 1)

    patch.setattr(timer_handler, "next_attempt_write", versionless)


def _a_timer_opens_an_attempt_each_time_it_fires(patch: pytest.MonkeyPatch) -> None:
    def fire(self: TimerHandler, timer: Any) -> str:
        task = self._ledger.read(timer.tenant, timer.execution_id, timer.task_id)
        write = next_attempt_write(task, now=self._clock())._replace(
            precedence_from=0, max_precedence=COMPLETED_PRECEDENCE
        )
        self._ledger.write(task.tenant, task.execution_id, write)
        return "opened"

    patch.setattr(TimerHandler, "handle", fire)


def _answered_before_the_write_is_certain(patch: pytest.MonkeyPatch) -> None:
    """Treat a lost response as a success."""
    call = Backoff.run

    def once(self: Backoff, request: Callable[[], Any]) -> Any:
        def hopeful() -> Any:
            try:
                return request()
            except HTTPClientError:
                return None

        return call(self, hopeful)

    def write(self: TaskTable, tenant: str, execution_id: str, write: ConditionalWrite, _now: int) -> WriteResult:
        task = self.read(tenant, execution_id, write.task_id)
        request = write_expression.render_update_item(write, "ledger", f"EXEC#{tenant}#{execution_id}", None)
        answer = once(self._backoff, lambda: self._client.update_item(**request))
        return WriteResult(succeeded=True, task=task_from_item(answer["Attributes"]) if answer else task)

    patch.setattr(TaskTable, "write", write)


def _a_report_without_attempt_forgets_what_it_did(patch: pytest.MonkeyPatch) -> None:
    """Apply a repeated report without attempt to the attempt that is current by then."""
    patch.setattr(report_write, "_read_is_stale", lambda write, result: write.version not in (None, result.version))


def _ignored_reports_are_not_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Ledger,
        "_record_ignored",
        lambda _self, _report, write, result, _now: ReportResult(decide_verdict(write, result), result),
    )


def _a_record_is_acknowledged_and_not_stored(patch: pytest.MonkeyPatch) -> None:
    """Acknowledge stream records without a history entry from version 3 on."""
    put = History.put

    def late(self: History, entries: Any) -> None:
        put(
            self,
            [(task, entry) for task, entry in entries if entry.verdict is not Verdict.APPLIED or entry.version < 3],
        )

    patch.setattr(History, "put", late)


def _failures_are_not_published(patch: pytest.MonkeyPatch) -> None:
    """Do not publish failures: something follows them anyway."""
    read = stream.read_changes

    def without_failures(records: Any) -> Any:
        changes, failed = read(records)
        stored = {
            number: change
            for number, change in changes.items()
            if not (hasattr(change, "task") and change.task.status is TaskStatus.FAILED)
        }
        return stored, failed

    patch.setattr(stream_consumer, "read_changes", without_failures)


def _watchers_receive_nothing(patch: pytest.MonkeyPatch) -> None:
    """Take each watcher for gone."""
    patch.setattr(WatcherBroadcast, "_serve", lambda *_: broadcast._Outcome.GONE)


def _the_output_is_put_after_the_report(patch: pytest.MonkeyPatch) -> None:
    record, put_outputs = Ledger.record, Payloads.put_outputs

    def later(self: Ledger, tenant: str, execution_id: str, report: Report, request_id: str) -> Any:
        waiting: list[Any] = []
        with pytest.MonkeyPatch.context() as held:
            held.setattr(Payloads, "put_outputs", lambda _self, *arguments: waiting.append(arguments))
            recorded = record(self, tenant, execution_id, report, request_id)
        for arguments in waiting:
            put_outputs(self._payloads, *arguments)
        return recorded

    patch.setattr(Ledger, "record", later)


def _an_early_timer_is_not_scheduled_again(patch: pytest.MonkeyPatch) -> None:
    """Do not schedule a timer again whose deadline a heartbeat has moved."""
    fire = TimerHandler.handle

    def once(self: TimerHandler, timer: Timer) -> str:
        with pytest.MonkeyPatch.context() as held:
            held.setattr(self._timers, "schedule", lambda _timers: None)
            return fire(self, timer)

    patch.setattr(TimerHandler, "handle", once)


def _a_failed_task_is_not_closed(patch: pytest.MonkeyPatch) -> None:
    """Do not seal a task whose execution was to continue after its last failure."""
    patch.setattr(RetryPlanner, "_close_failed", lambda _self, _task: None)


def _a_settled_task_is_counted_each_time(patch: pytest.MonkeyPatch) -> None:
    """Count a pair down again at each event."""

    def count(self: DependencyCounters, pk: str, pairs: Any) -> bool:
        for pair in pairs:
            self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": pk}, "sk": {"S": f"WAITS#{pair['taskId']['S']}"}},
                UpdateExpression="SET #remaining = #remaining - :one",
                ExpressionAttributeNames={"#remaining": "remaining"},
                ExpressionAttributeValues={":one": {"N": "1"}},
            )
            self._client.update_item(
                TableName=self._table,
                Key={"pk": pair["pk"], "sk": pair["sk"]},
                UpdateExpression="SET #done = :yes",
                ExpressionAttributeNames={"#done": "done"},
                ExpressionAttributeValues={":yes": {"BOOL": True}},
            )
        return True

    patch.setattr(DependencyCounters, "_count_down_pairs", count)


def _the_index_is_trusted(patch: pytest.MonkeyPatch) -> None:
    """End an execution by the index alone."""

    def close(self: ExecutionCloser, tenant: str, execution_id: str, _position: object = None) -> None:
        execution = self._executions.read(tenant, execution_id)
        if execution.status == "RUNNING" and not self._tasks.has_open(tenant, execution_id):
            self._executions.change_status(execution, ExecutionStatus.COMPLETED, None)

    patch.setattr(ExecutionCloser, "complete_if_finished", close)


def _a_position_is_kept_before_its_page_is_done(patch: pytest.MonkeyPatch) -> None:
    """Hand a page on as done before its tasks are cancelled."""

    def cancel(self: ExecutionCloser, tenant: str, execution_id: str, position: SweepPosition | None = None) -> None:
        position = position or start_of_sweep(self._executions.read(tenant, execution_id))
        page = self._tasks.page(tenant, execution_id, position.after)
        if page.last is None:
            self._cancellation.cancel_page(tenant, execution_id, position)
        else:
            following = replace(position, after=page.last)
            self._queue.send([AdvanceMessage(Advance.CANCEL, tenant, execution_id, position=following)])

    patch.setattr(ExecutionCloser, "cancel_open_tasks", cancel)


def _a_sweep_goes_on_whatever_was_added(patch: pytest.MonkeyPatch) -> None:
    """Take the pages that were read before an addition for those of the execution as it is now."""
    patch.setattr(SweepPosition, "holds_for", lambda _self, _execution: True)


def _an_index_entry_counts_as_an_open_task(patch: pytest.MonkeyPatch) -> None:
    """Believe the index that another task is open: the last two to end believe it of each other."""

    def has_entries(self: ExecutionTasks, tenant: str, execution_id: str, **_: object) -> bool:
        return any(True for page in self._open_pages(tenant, execution_id) for _task in page)

    patch.setattr(ExecutionTasks, "has_open", has_entries)


def _what_follows_from_a_task_is_looked_up_before_it(patch: pytest.MonkeyPatch) -> None:
    """Expect nothing more from a task for which a client adds another."""
    patch.setattr(ExecutionTasks, "expect_dependents", lambda _self, *_arguments: None)


def _a_cancelled_task_counts_as_done(patch: pytest.MonkeyPatch) -> None:
    """Leave cancelled tasks out of an execution's outcome."""
    outcome = execution_outcome
    patch.setattr(
        closer,
        "execution_outcome",
        lambda tasks, so_far: outcome((task for task in tasks if task.status is not TaskStatus.CANCELED), so_far),
    )


def _a_late_success_is_too_late(patch: pytest.MonkeyPatch) -> None:
    """Leave an execution failed whatever becomes of the task that failed it."""
    patch.setattr(ExecutionReopener, "resume_if_rescued", lambda _self, *_: False)


def _a_rescue_that_died_is_not_continued(patch: pytest.MonkeyPatch) -> None:
    """Take an execution that runs for one of which nothing is left to schedule or to complete."""
    resume = ExecutionReopener._resume

    def resume_if_failed(self: ExecutionReopener, execution: Execution, position: SweepPosition | None) -> bool:
        return execution.failed_by is not None and resume(self, execution, position)

    patch.setattr(ExecutionReopener, "_resume", resume_if_failed)


def _any_success_takes_a_failure_back(patch: pytest.MonkeyPatch) -> None:
    """Set a failed execution to running again without a look at the tasks besides the one that failed it."""
    patch.setattr(reopener, "is_rescued", lambda _tasks, _failed_by: True)


def _a_cancellation_is_answered_at_once(patch: pytest.MonkeyPatch) -> None:
    """Leave the tasks of a cancelled execution to the event."""
    patch.setattr(control, "MAX_CANCELLED_AT_ONCE", 0)


def _the_reconciler_ignores_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reconciler, "_reconcile_page", lambda _self, _position, _entries, _summary: None)


def _a_success_keeps_its_timer_on_the_list(patch: pytest.MonkeyPatch) -> None:
    parts = write_expression._parts
    patch.setattr(
        write_expression,
        "_parts",
        lambda write, pk, expires_at: parts(write._replace(keeps_timer=True), pk, expires_at),
    )


def _the_sweep_forgets_a_shard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DueList, "read_page", lambda _self, _shard, _until, _start: ([], None))


def _a_timer_leaves_the_list_before_it_is_sent(patch: pytest.MonkeyPatch) -> None:
    send = TimerSweep._send

    def too_early(self: TimerSweep, entries: Any, summary: Any) -> None:
        item_keys = [{name: entry[name] for name in ("pk", "sk")} for entry in entries]
        items = batch_get(self._client, self._table, item_keys, self._backoff)
        listed = [item for item in items if "dueSort" in item]
        self._due_list.remove(listed)
        with pytest.MonkeyPatch.context() as held:
            held.setattr(timer_sweep, "batch_get", lambda *_: listed)
            held.setattr(DueList, "remove", lambda *_: None)
            send(self, entries, summary)

    patch.setattr(TimerSweep, "_send", too_early)


def _lost_changes_stay_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LostChanges, "publish", lambda _self, _tasks: (0, 0))


def _the_service_writes_in_a_clients_name(patch: pytest.MonkeyPatch) -> None:
    """Leave the client of the last report on the task when the service changes it."""
    patch.setattr(conditional_write, "AUTHORSHIP", ("request_id",))


def _a_parent_counts_one_child_too_few(patch: pytest.MonkeyPatch) -> None:
    reserve = ChildTasks._reserve
    patch.setattr(
        ChildTasks,
        "_reserve",
        lambda self, parent, count, max_tasks: reserve(self, parent, count - 1, max_tasks),
    )


def _children_are_counted_at_each_delivery(patch: pytest.MonkeyPatch) -> None:
    """Let a parent wait for as many tasks as it brings, whether it waits for them already or not."""

    def absent(**fields: Any) -> ItemUpdate:
        return ItemUpdate(**{**fields, "absent": ()})

    patch.setattr(dependency_counters, "ItemUpdate", absent)
    read = DependencyCounters.read

    def without_mark(self: DependencyCounters, *arguments: Any) -> Any:
        counters = read(self, *arguments)
        is_reservation = len(arguments[2]) == 1
        return {} if is_reservation else counters

    patch.setattr(DependencyCounters, "read", without_mark)


def _children_exist_before_their_inputs(patch: pytest.MonkeyPatch) -> None:
    inserts = ChildTasks._batch_insert
    held: list[Any] = []

    def children_first(self: ChildTasks, items: Any, now: int) -> set[str]:
        if not any("status" in item for item in items):
            held.append(items)
            return set()
        present = inserts(self, items, now)
        inserts(self, held.pop(), now)
        return present

    patch.setattr(ChildTasks, "_batch_insert", children_first)


def _children_that_exist_are_left_alone(patch: pytest.MonkeyPatch) -> None:
    go_on = ChildTasks._go_on

    def only_new(self: ChildTasks, execution: Any, parent: Any, task_ids: Any, existing: Any) -> None:
        if not existing:
            go_on(self, execution, parent, task_ids, existing)

    patch.setattr(ChildTasks, "_go_on", only_new)


@dataclass(frozen=True)
class SeededBug:
    """Bug, the case that shows it, and the promise that it breaks."""

    name: str
    seed: Seed
    case: Case
    promise: str


BUGS: Final = (
    SeededBug("the condition is removed", _without_condition(),
              cases.LATE_SUCCESS, "a_success_is_final"),
    SeededBug("the upper end of the interval is dropped", _without_condition("<"),
              cases.LATE_SUCCESS, "a_success_is_final"),
    SeededBug("the lower end of the interval is dropped", _without_condition(">="),
              cases.UNOPENED, "a_report_counts_only_for_the_current_attempt"),
    SeededBug("a task that waits can be failed", _without_lower_end,
              waiting_cases.WAITING_FAILED, "no_report_changes_a_task_that_waits"),
    SeededBug("a task that waits can succeed", _without_lower_end,
              waiting_cases.WAITING_COMPLETED, "no_report_changes_a_task_that_waits"),
    SeededBug("a task that waits accepts heartbeats", _heartbeats_without_lower_end,
              waiting_cases.WAITING_HEARTBEAT, "no_heartbeat_is_recorded_for_a_task_that_waits"),
    SeededBug("a change after a heartbeat passes for one", _a_write_leaves_the_mark_of_a_heartbeat,
              cases.SILENT, "nothing_is_stuck"),
    SeededBug("a checkpoint is shown as another attempt's output", _a_checkpoint_is_shown_of_whichever_attempt,
              cases.CHECKPOINTS_OF_TWO, "an_output_belongs_to_the_deciding_attempt"),
    SeededBug("a later checkpoint is not stored", _what_comes_later_adds_nothing,
              cases.CHECKPOINTS, "the_report_of_highest_precedence_stands"),
    SeededBug("an old attempt counts as the newer one", _without_condition("<", ">="),
              cases.OLD_FAILURE, "a_report_counts_only_for_the_current_attempt"),
    SeededBug("a batch does not compare the version that it read", _a_batch_does_not_compare_the_version,
              cases.TWO_BATCHES, "the_latch_only_rises"),
    SeededBug("a retry is opened each time its timer fires", _a_timer_opens_an_attempt_each_time_it_fires,
              with_faults(cases.STALE_FAILURE, twice=1), "an_attempt_is_opened_once_after_a_failure_that_is_retried"),
    SeededBug("a retry is opened whatever became of the failure", _the_next_attempt_is_opened_whatever_version,
              cases.STALE_FAILURE, "an_attempt_is_opened_once_after_a_failure_that_is_retried"),
    SeededBug("a report is acknowledged before its write is certain", _answered_before_the_write_is_certain,
              with_faults(cases.LATE_SUCCESS, lost_answers=1), "acknowledged_reports_are_in_the_table"),
    SeededBug("a report without attempt forgets what it did", _a_report_without_attempt_forgets_what_it_did,
              with_faults(cases.UNNAMED, lost_answers=1), "a_request_is_applied_once"),
    SeededBug("an ignored report is acknowledged and not stored", _ignored_reports_are_not_stored,
              cases.LATE_SUCCESS, "acknowledged_reports_are_in_the_table"),
    SeededBug("a record is acknowledged and missing in the history",
              _a_record_is_acknowledged_and_not_stored,
              cases.LATE_SUCCESS, "every_change_is_in_the_history"),
    SeededBug("the next attempt is put down to who reported before", _the_service_writes_in_a_clients_name,
              cases.LATE_SUCCESS, "the_history_names_the_client_of_each_change"),
    SeededBug("some changes are not published", _failures_are_not_published,
              cases.LATE_SUCCESS, "events_come_in_order"),
    SeededBug("watchers do not receive what was published", _watchers_receive_nothing,
              cases.WATCHED, "every_change_reaches_watchers"),
    SeededBug("the output is put after the report", _the_output_is_put_after_the_report,
              cases.REPORTED_TWICE, "an_output_is_stored_before_its_success"),
    SeededBug("a timer that is early is not scheduled again", _an_early_timer_is_not_scheduled_again,
              cases.SILENT, "nothing_is_stuck"),
    SeededBug("a task whose retries are exhausted is not closed", _a_failed_task_is_not_closed,
              cases.GONE_ON, "nothing_is_stuck"),
    SeededBug("a cancellation covers a success", _the_service_writes_whatever_version,
              cases.CANCEL, "a_success_is_final"),
    SeededBug("a settled task is counted at each of its events", _a_settled_task_is_counted_each_time,
              with_faults(cases.JOIN, redelivered=1), "a_task_is_scheduled_after_its_dependencies"),
    SeededBug("the index is trusted", _the_index_is_trusted,
              cases.lagging(sweep_cases.LAST_TWO), "an_execution_is_completed_when_all_its_tasks_are"),
    SeededBug("an entry of the index counts as an open task", _an_index_entry_counts_as_an_open_task,
              cases.lagging(sweep_cases.LAST_TWO), "nothing_is_stuck"),
    SeededBug("dependents that are added are not expected", _what_follows_from_a_task_is_looked_up_before_it,
              sweep_cases.ADDED_DEPENDENT, "nothing_is_stuck"),
    SeededBug("a position is kept before its page is done", _a_position_is_kept_before_its_page_is_done,
              sweep_cases.FAILURE, "nothing_is_stuck"),
    SeededBug("an outcome is of two versions of the execution", _a_sweep_goes_on_whatever_was_added,
              sweep_cases.ADDITION, "an_execution_is_completed_when_all_its_tasks_are"),
    SeededBug("a cancelled task counts as done", _a_cancelled_task_counts_as_done,
              cases.FAILURE_AND_RETRY, "an_execution_is_completed_when_all_its_tasks_are"),
    SeededBug("a late success is too late for its execution", _a_late_success_is_too_late,
              cases.RESCUE, "a_failure_that_was_taken_back_ends_no_execution"),
    SeededBug("a rescue that died is not continued", _a_rescue_that_died_is_not_continued,
              with_faults(cases.LATE_RESCUE_ALONE, crashes=1), "nothing_is_stuck"),
    SeededBug("any success takes a failure back", _any_success_takes_a_failure_back,
              cases.TWO_FAIL, "a_failure_is_taken_back_by_all_that_caused_it"),
    SeededBug("a cancellation is answered before its tasks are cancelled", _a_cancellation_is_answered_at_once,
              cases.CANCEL, "nothing_is_open_after_a_cancellation_was_answered"),
    SeededBug("the reconciler ignores overdue tasks", _the_reconciler_ignores_everything,
              cases.LOST_TIMER, "nothing_is_stuck"),
    SeededBug("a success keeps its timer on the list", _a_success_keeps_its_timer_on_the_list,
              timer_cases.LONG_TIMER, "an_attempt_that_ended_has_no_timer_on_the_list"),
    SeededBug("the sweep forgets a shard", _the_sweep_forgets_a_shard,
              timer_cases.RETRIED_LATER, "nothing_is_stuck"),
    SeededBug("a timer leaves the list before it is sent", _a_timer_leaves_the_list_before_it_is_sent,
              with_faults(timer_cases.RETRIED_LATER, crashes=1), "nothing_is_stuck"),
    SeededBug("changes that are lost stay lost", _lost_changes_stay_lost,
              timer_cases.NEVER_PUBLISHED, "nothing_is_stuck"),
    SeededBug("a task that runs is begun again", claim_bugs.a_task_that_runs_is_begun_again,
              claim_cases.TWO_CLAIMERS, "an_attempt_is_begun_by_one_worker"),
    SeededBug("a claim that lost gets the task of another", claim_bugs.a_failed_condition_counts_as_begun,
              claim_cases.TWO_CLAIMERS, "a_claim_gets_only_what_it_began"),
    SeededBug("a claim is not recorded", claim_bugs.a_claim_is_not_recorded,
              claim_cases.ASKED_AGAIN, "a_claim_gets_all_that_runs_under_it"),
    SeededBug("a claim is recorded too late", claim_bugs.a_claim_is_recorded_after_its_tasks_are_begun,
              claim_cases.ASKED_AGAIN, "a_claim_gets_all_that_runs_under_it"),
    SeededBug("a release opens the same attempt again", claim_bugs.a_release_opens_the_same_attempt_again,
              claim_cases.RELEASED, "the_latch_only_rises"),
    SeededBug("a task that is opened again is not listed", claim_bugs.an_attempt_that_is_opened_again_is_not_listed,
              claim_cases.SILENT_CLAIMER, "a_task_is_in_its_queue_while_it_waits_for_a_worker"),
    SeededBug("a task stays listed when it is begun", claim_bugs.a_task_stays_listed_when_it_is_begun,
              claim_cases.TWO_CLAIMERS, "a_task_is_in_its_queue_while_it_waits_for_a_worker"),
    SeededBug("a parent counts one child too few", _a_parent_counts_one_child_too_few,
              children_cases.TWO_BROUGHT, "a_parent_is_completed_after_all_its_children"),
    SeededBug("children are counted at each delivery", _children_are_counted_at_each_delivery,
              with_faults(children_cases.BROUGHT, twice=1), "nothing_is_stuck"),
    SeededBug("children exist before their inputs", _children_exist_before_their_inputs,
              with_faults(children_cases.BROUGHT, crashes=1), "a_child_has_its_input_when_it_is_scheduled"),
    SeededBug("children that exist are left alone", _children_that_exist_are_left_alone,
              with_faults(children_cases.BROUGHT, crashes=1), "nothing_is_stuck"),
)  # fmt: skip


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_seeded_bug_is_detected_with_a_schedule(
    bug: SeededBug, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    # given
    bug.seed(monkeypatch)

    # when
    result = Explorer(bug.case, EveryPromise(bug.case)).explore(150_000)

    # then
    print(result.violation)  # noqa: T201 - for a person to read: pytest -rP
    record_property("found after", f"{result.states:,} states, {result.seconds:.1f} s: {result.promise}")
    assert result.violation is not None
    assert result.promise == bug.promise
    assert "broken:" in result.violation
