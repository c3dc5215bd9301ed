"""Promises about executions of which only so many may run at once, checked in one exploration."""

from collections.abc import Mapping, Sequence

from tasklatch.domain.concurrency import slot_name
from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.items import from_item
from tasklatch.dynamodb.task_item import task_from_item
from tests.model_checking.case import KEY, LIMIT, TENANT, Case, View
from tests.model_checking.checks import BrokenPromiseError, ClientResponse, Promises
from tests.model_checking.limit_cases import execution_in
from tests.model_checking.memory_table import Key, Table
from tests.model_checking.simulated_cloud import Change, Event

_OK = 200


class LimitPromises(Promises):
    """Promises of a limit. Those of each execution by itself are checked in the cases of one execution.

    Parameters
    ----------
    case
        Case of limited executions.
    """

    def __init__(self, case: Case) -> None:
        self._case = case

    def changed(self, key: Key, change: Change, table: Table) -> None:
        executions = self._executions(table)
        active = [name for name, execution in executions.items() if execution.is_active]
        if len(active) > LIMIT:
            raise BrokenPromiseError("never_more_than_the_limit_at_once", f"{' and '.join(active)} run")
        if key[1].startswith(keys.TASK_PREFIX):
            self._check_task(change, executions)
        elif change.before is not None:
            before, after = execution_from_item(change.before), execution_from_item(change.after)
            started = before.waiting_since is not None and after.is_active
            # One that ran before may come back to the line while another is being started
            passed = [other for other in _waiting(executions) if other.slot is None]
            if started and any(other.created_at < after.created_at for other in passed):
                raise BrokenPromiseError("executions_start_in_order", f"{after.execution_id} started first")

    @staticmethod
    def _check_task(change: Change, executions: Mapping[str, Execution]) -> None:
        task = task_from_item(change.after)
        execution = executions.get(task.execution_id)
        waits = execution is not None and execution.waiting_since is not None
        if task.status is TaskStatus.SCHEDULED and waits:
            raise BrokenPromiseError("nothing_is_scheduled_while_it_waits", f"{task.task_id} is scheduled")

    def published(self, event: Event, before: Sequence[Event]) -> None:
        """Check nothing: what is published is checked in the cases of one execution."""

    def answered(self, response: ClientResponse, view: View, _changes: Mapping[Key, Sequence[Change]]) -> None:
        if not response.request.route.endswith("/cancel") or response.status != _OK:
            return
        execution = execution_in(view.table, response.request.path["executionId"])
        if execution.status is ExecutionStatus.RUNNING:
            raise BrokenPromiseError("a_cancellation_ends_what_waits_at_once", f"{execution.execution_id} runs")

    def at_rest(self, view: View, _changes: Mapping[Key, Sequence[Change]]) -> None:
        executions = self._executions(view.table)
        active = {execution.execution_id for execution in executions.values() if execution.is_active}
        waiting = [execution.execution_id for execution in _waiting(executions)]
        if waiting and len(active) < LIMIT:
            raise BrokenPromiseError("no_run_waits_while_a_slot_is_free", f"{' and '.join(waiting)} wait")
        held = from_item(view.table[keys.slots_pk(TENANT, KEY), keys.SLOTS_SK]).get("heldSlots", frozenset())
        expected = {slot_name(name, executions[name].slot or 0) for name in active}
        if held != expected:
            raise BrokenPromiseError("the_slots_are_those_of_what_runs", f"{held} are held, not {expected}")
        for name in active:
            self._check_progress(name, executions[name], view.table)

    @staticmethod
    def _check_progress(name: str, execution: Execution, table: Table) -> None:
        pk = keys.execution_pk(TENANT, name)
        tasks = [task_from_item(item) for key, item in table.items() if key[0] == pk and key[1].startswith("TASK#")]
        if execution.is_resuming or not any(task.status is TaskStatus.SCHEDULED for task in tasks):
            states = ", ".join(f"{task.task_id} {task.status}" for task in tasks)
            raise BrokenPromiseError("what_runs_has_work", f"{name} runs: {states}")
        if all(map(is_terminal, tasks)):
            raise BrokenPromiseError("what_runs_has_work", f"{name} runs, and all its tasks have ended")

    def _executions(self, table: Table) -> dict[str, Execution]:
        # While they are created, some do not exist yet
        created = [name for name in self._case.limited if (keys.execution_pk(TENANT, name), keys.EXECUTION_SK) in table]
        return {name: execution_in(table, name) for name in created}


def _waiting(executions: Mapping[str, Execution]) -> list[Execution]:
    return [execution for execution in executions.values() if execution.waiting_since is not None]
