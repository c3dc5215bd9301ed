"""At most so many executions of one concurrency key at once; the others wait. Needs PartiQL: one emulator."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.changes import ExecutionChange
from tasklatch.domain.concurrency import ConcurrencyLimit
from tasklatch.domain.execution import Execution
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tests.integration.emulators import Table, intercepted
from tests.workflow_helpers import ONCE, World

KEY = "key:customer-1"
FAILED, RUNNING = TaskStatus.FAILED, ExecutionStatus.RUNNING


@dataclass
class Line:
    """Executions of one key, and the delivery of their changes as the stream and the queue deliver them."""

    world: World
    delivered: dict[str, Execution] = field(default_factory=dict)
    handled: int = 0

    def create(self, execution_id: str, limit: int = 1, *definitions: TaskDefinition) -> Execution:
        """Create an execution, a second after the one before."""
        self.world.clock.now += 1_000
        tasks = definitions or (TaskDefinition("a", retry_policy=ONCE),)
        new = NewExecution(self.world.tenant, execution_id, tasks, concurrency=ConcurrencyLimit(KEY, limit))
        execution, _ = self.world.creator.create(new)
        self.delivered.setdefault(execution_id, execution)
        self.world.follow_ups.send([ExecutionChange(execution, None)])
        return execution

    def deliver(self) -> None:
        """Deliver the changes of all executions, and handle the messages that follow, until nothing more follows."""
        while self._deliver_changes() or self._handle_messages():
            pass

    def _deliver_changes(self) -> bool:
        changed = False
        for execution_id, before in self.delivered.items():
            execution = self.world.execution(execution_id)
            if execution.version != before.version:
                self.world.follow_ups.send([ExecutionChange(execution, before)])
                self.delivered[execution_id] = execution
                changed = True
        return changed

    def _handle_messages(self) -> bool:
        messages = self.world.sent_messages()[self.handled :]
        self.handled += len(messages)
        for message in messages:
            self.world.handle(message)
        return bool(messages)

    def complete(self, execution_id: str, status: TaskStatus = TaskStatus.COMPLETED) -> None:
        """Report the end of an execution's task, with all that follows."""
        self.report(execution_id, status)
        self.deliver()

    def report(self, execution_id: str, status: TaskStatus = TaskStatus.COMPLETED) -> None:
        self.world.report("a", status, execution_id, attempt=1)
        self.world.advance("a", execution_id=execution_id)

    def reconcile(self) -> None:
        """Let time pass and the reconciler run, without any change or message being delivered."""
        self.world.clock.now += OVERDUE_MS + 1
        self.world.reconciler.run([True] * 1_000)

    @property
    def active(self) -> list[str]:
        """The executions that run, and wait for nothing."""
        return [name for name in self.delivered if self.world.execution(name).is_active]

    @property
    def waiting(self) -> list[str]:
        return [name for name in self.delivered if self.world.execution(name).waiting_since is not None]


@pytest.fixture
def line(statements_table: Table) -> Line:
    return Line(World(statements_table))


def test_executions_over_the_limit_wait_and_start_in_the_order_of_their_creation(line: Line) -> None:
    # given
    for name in ("first", "second", "third"):
        line.create(name)

    # when
    line.deliver()

    # then nothing of those that wait is scheduled
    assert (line.active, line.waiting) == (["first"], ["second", "third"])
    assert line.world.statuses("first") == {"a": TaskStatus.SCHEDULED}
    assert line.world.statuses("second") == {"a": TaskStatus.PENDING}
    assert line.world.status("second") is RUNNING

    # and each starts when the one before has ended
    line.complete("first")
    assert (line.active, line.waiting) == (["second"], ["third"])
    assert line.world.statuses("second") == {"a": TaskStatus.SCHEDULED}
    line.complete("second")
    line.complete("third")
    assert {line.world.status(name) for name in line.delivered} == {ExecutionStatus.COMPLETED}


def test_executions_of_other_keys_and_without_one_do_not_count(line: Line) -> None:
    # given
    line.create("first")
    other = NewExecution(
        line.world.tenant, "other", [TaskDefinition("a")], concurrency=ConcurrencyLimit("key:other", 1)
    )
    line.delivered["other"] = line.world.creator.create(other)[0]
    line.world.follow_ups.send([ExecutionChange(line.delivered["other"], None)])
    line.delivered["free"] = line.world.create(TaskDefinition("a"), execution_id="free")

    # when
    line.deliver()

    # then
    assert line.active == ["first", "other", "free"]


def test_position_is_that_in_the_line(line: Line) -> None:
    # given
    for name in ("first", "second", "third"):
        line.create(name)
    line.deliver()

    # when
    positions = {name: line.world.slots.find_position(line.world.execution(name)) for name in line.delivered}

    # then
    assert positions["first"] is None
    assert [(positions[name].position, positions[name].running, positions[name].limit) for name in line.waiting] == [  # type: ignore[union-attr]
        (1, 1, 1),
        (2, 1, 1),
    ]


def test_execution_that_is_cancelled_while_it_waits_ends_at_once_and_never_starts(line: Line) -> None:
    # given
    for name in ("first", "second", "third"):
        line.create(name)
    line.deliver()

    # when
    line.world.control.cancel(line.world.tenant, "second", "enough")

    # then
    assert line.world.status("second") is ExecutionStatus.TERMINATED
    assert line.world.statuses("second") == {"a": TaskStatus.CANCELED}
    line.deliver()
    assert line.world.slots.find_position(line.world.execution("third")).position == 1  # type: ignore[union-attr]
    line.complete("first")
    assert line.active == ["third"]
    assert line.world.status("second") is ExecutionStatus.TERMINATED


def test_cancellation_against_the_start_wins(line: Line) -> None:
    # given
    line.create("first")

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "update_item" and line.world.execution("first").waiting_since is not None:
            line.world.slot_assigner.assign(line.world.tenant, KEY)
        return send()

    # when the execution starts between the read and the write of the cancellation
    world = line.world.through(intercepted(line.world.table.client, around))
    execution = world.control.cancel(world.tenant, "first", "enough")

    # then
    assert execution.status is ExecutionStatus.TERMINATED
    line.create("second")
    line.deliver()
    assert line.active == ["second"]


def test_messages_that_come_twice_and_late_start_nothing_more(line: Line) -> None:
    # given
    for name in ("first", "second", "third"):
        line.create(name)
    line.deliver()
    line.complete("first")

    # when all messages come again, in both directions
    messages = line.world.sent_messages()
    for message in [*messages, *reversed(messages)]:
        line.world.handle(message)

    # then
    assert (line.active, line.waiting) == (["second"], ["third"])
    assert line.world.slots.read(line.world.tenant, KEY).free == 0


def test_late_message_about_an_end_does_not_free_the_slot_of_the_next_run(line: Line) -> None:
    # given an execution that failed, and was retried
    line.create("first")
    line.create("second")
    line.deliver()
    line.complete("first", FAILED)
    line.complete("second")
    late = AdvanceMessage(Advance.SLOT, line.world.tenant, "first", concurrency_key=KEY)
    line.world.reopener.retry(line.world.tenant, "first")
    line.deliver()
    assert line.active == ["first"]
    line.create("third")
    line.deliver()

    # when
    line.world.handle(late)

    # then
    assert (line.active, line.waiting) == (["first"], ["third"])


def test_higher_limit_starts_as_many_as_fit(line: Line) -> None:
    # given
    for name in ("first", "second", "third", "fourth"):
        line.create(name)
    line.deliver()

    # when
    assert line.world.slots.set_limit(line.world.tenant, KEY, 3)
    line.world.handle(AdvanceMessage(Advance.SLOT, line.world.tenant, "", concurrency_key=KEY))
    line.deliver()

    # then
    assert (line.active, line.waiting) == (["first", "second", "third"], ["fourth"])


def test_lower_limit_lets_what_runs_go_on(line: Line) -> None:
    # given
    for name in ("first", "second"):
        line.create(name, 2)
    line.deliver()

    # when the newest request's limit is lower
    line.create("third", 1)
    line.create("fourth", 1)
    line.deliver()

    # then
    assert line.active == ["first", "second"]
    line.complete("first")
    assert line.active == ["second"]
    line.complete("second")
    assert line.active == ["third"]


def test_lifted_limit_starts_all_that_wait(line: Line) -> None:
    # given
    for name in ("first", "second", "third"):
        line.create(name)
    line.deliver()

    # when
    line.world.slots.set_limit(line.world.tenant, KEY, None)
    line.world.handle(AdvanceMessage(Advance.SLOT, line.world.tenant, "", concurrency_key=KEY))

    # then
    assert line.active == ["first", "second", "third"]


def test_limit_of_a_key_that_was_never_used_is_not_stored(line: Line) -> None:
    assert not line.world.slots.set_limit(line.world.tenant, KEY, None)

    assert line.world.table.items(keys.slots_pk(line.world.tenant, KEY)) == []


def test_what_lost_messages_left_behind_is_repaired_from_the_table_alone(line: Line) -> None:
    # given executions of which no change was ever delivered
    for name in ("first", "second", "third"):
        line.create(name)

    # when
    line.reconcile()

    # then
    assert (line.active, line.waiting) == (["first"], ["second", "third"])
    line.reconcile()
    assert line.world.statuses("first") == {"a": TaskStatus.SCHEDULED}

    # and an end of which nobody heard frees its slot
    line.report("first")
    line.reconcile()
    assert (line.active, line.waiting) == (["second"], ["third"])


def test_slot_of_an_execution_that_is_gone_is_freed(line: Line) -> None:
    # given an execution whose time to live has passed while it ran
    line.create("first")
    line.create("second")
    line.deliver()
    table = line.world.table
    pk = keys.execution_pk(line.world.tenant, "first")
    for item in table.items(pk):
        table.client.delete_item(TableName=table.settings.table_name, Key={"pk": item["pk"], "sk": item["sk"]})
    del line.delivered["first"]

    # when
    line.reconcile()

    # then
    assert line.active == ["second"]


def test_retry_waits_for_a_slot_and_opens_nothing_before(line: Line) -> None:
    # given
    for name in ("first", "second", "third"):
        line.create(name)
    line.deliver()
    line.complete("first", FAILED)
    assert (line.active, line.waiting) == (["second"], ["third"])

    # when
    execution, is_reopened = line.world.reopener.retry(line.world.tenant, "first")
    line.deliver()

    # then
    assert (execution.status, is_reopened) == (RUNNING, False)
    assert line.waiting == ["first", "third"]
    assert line.world.statuses("first") == {"a": FAILED}

    # and it is first in the line, as it was created first
    line.complete("second")
    assert (line.active, line.waiting) == (["first"], ["third"])
    assert (line.world.task("a", "first").status, line.world.task("a", "first").attempt) == (TaskStatus.SCHEDULED, 2)
    line.world.report("a", TaskStatus.COMPLETED, "first", attempt=2)
    line.world.advance("a", execution_id="first")
    line.deliver()
    assert (line.world.status("first"), line.active) == (ExecutionStatus.COMPLETED, ["third"])


def test_failure_that_is_announced_again_does_not_end_an_execution_that_waits_for_its_retry(line: Line) -> None:
    # given
    line.create("first")
    line.create("second")
    line.deliver()
    line.complete("first", FAILED)
    line.world.reopener.retry(line.world.tenant, "first")

    # when
    line.world.advance("a", execution_id="first")
    line.world.closer.complete_if_finished(line.world.tenant, "first")

    # then
    assert line.world.status("first") is RUNNING


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_late_success_counts_while_its_execution_waits_for_a_retry(line: Line, *, is_cancelled: bool) -> None:
    # given
    line.create("first")
    line.create("second")
    line.deliver()
    line.complete("first", FAILED)
    line.world.reopener.retry(line.world.tenant, "first")
    line.deliver()

    # when
    result = line.world.report("a", TaskStatus.COMPLETED, "first", attempt=1)
    line.world.advance("a", execution_id="first")
    line.deliver()

    # then it stands, and what follows from it has its turn
    assert result.verdict is Verdict.APPLIED
    assert line.active == ["second"]
    if is_cancelled:
        line.world.control.cancel(line.world.tenant, "first", "enough")
        line.complete("second")
        assert line.world.status("first") is ExecutionStatus.TERMINATED
    else:
        line.complete("second")
        assert line.world.status("first") is ExecutionStatus.COMPLETED
    assert line.active == []


def test_success_that_takes_a_failure_back_waits_for_a_slot(line: Line) -> None:
    # given an execution that failed, with another task under way
    line.create("first", 1, TaskDefinition("a", retry_policy=ONCE), TaskDefinition("b", retry_policy=ONCE))
    line.create("second")
    line.deliver()
    line.complete("first", FAILED)
    assert line.active == ["second"]

    # when
    line.complete("first")

    # then the success stands, and what the failure cancelled waits
    assert line.world.statuses("first") == {"a": TaskStatus.COMPLETED, "b": TaskStatus.CANCELED}
    assert (line.active, line.waiting) == (["second"], ["first"])

    # and goes on
    line.complete("second")
    assert line.active == ["first"]
    assert (line.world.task("b", "first").status, line.world.task("b", "first").attempt) == (TaskStatus.SCHEDULED, 2)
    line.world.report("b", TaskStatus.COMPLETED, "first", attempt=2)
    line.world.advance("b", execution_id="first")
    assert line.world.status("first") is ExecutionStatus.COMPLETED


def test_tasks_that_are_added_while_it_waits_start_with_it(line: Line) -> None:
    # given
    line.create("first")
    line.create("second")
    line.deliver()

    # when
    line.world.creator.add_tasks(
        line.world.tenant, "second", [TaskDefinition("b"), TaskDefinition("c", depends_on=("a",))]
    )

    # then
    assert set(line.world.statuses("second").values()) == {TaskStatus.PENDING}
    line.complete("first")
    assert line.world.statuses("second") == {
        "a": TaskStatus.SCHEDULED,
        "b": TaskStatus.SCHEDULED,
        "c": TaskStatus.PENDING,
    }


def test_repeat_of_the_request_changes_nothing(line: Line) -> None:
    # given
    line.create("first")
    line.create("second")
    line.deliver()

    # when it is sent again after the limit was changed
    line.world.slots.set_limit(line.world.tenant, KEY, 5)
    line.create("second")

    # then
    assert line.world.slots.read(line.world.tenant, KEY).limit == 5
    assert line.world.statuses("second") == {"a": TaskStatus.PENDING}


class DiedError(Exception):
    """A function that is gone."""


def died(world: World, calls: int, action: Callable[[World], object], *, lands: bool) -> bool:
    """Run an action that dies at a call, which takes effect or not; return False if it needs no more calls."""
    left = [calls]

    def around(_operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        left[0] -= 1
        if left[0] < 0:
            if left[0] == -1 and lands:
                send()
            raise DiedError
        return send()

    try:
        action(world.through(intercepted(world.table.client, around)))
    except DiedError:
        return True
    return False


@pytest.mark.parametrize("lands", [False, True])
def test_every_step_that_dies_anywhere_is_continued(line: Line, *, lands: bool) -> None:
    # given
    names = ("first", "second", "third")
    for name in names:
        line.create(name)

    # when each message dies at each of its calls in turn, and comes again
    def handle_all(world: World) -> None:
        for message in line.world.sent_messages():
            world.handle(message)

    calls = 0
    while died(line.world, calls, handle_all, lands=lands):
        calls += 1
        line._deliver_changes()
        assert len(line.active) <= 1
    line.deliver()

    # then
    assert calls > 5
    assert (line.active, line.waiting) == (["first"], ["second", "third"])
    for name in names:
        line.complete(name)
    assert {line.world.status(name) for name in names} == {ExecutionStatus.COMPLETED}


@pytest.mark.parametrize("lands", [False, True])
def test_retry_that_dies_anywhere_is_continued(line: Line, *, lands: bool) -> None:
    # given
    line.create("first", 1, TaskDefinition("a", retry_policy=ONCE), TaskDefinition("b", retry_policy=ONCE))
    line.deliver()
    line.complete("first", FAILED)
    line.create("second")
    line.deliver()

    # when
    calls = 0
    while line.world.status("first") is not RUNNING:
        died(line.world, calls, lambda world: world.reopener.retry(world.tenant, "first"), lands=lands)
        calls += 1
    line.complete("second")

    # then each task has one more attempt
    assert line.active == ["first"]
    assert [task.attempt for task in line.world.tasks("first").values()] == [2, 2]
    assert set(line.world.statuses("first").values()) == {TaskStatus.SCHEDULED}


def test_many_at_once_never_exceed_the_limit(line: Line) -> None:
    # given
    names = [f"run-{number:02}" for number in range(12)]
    for name in names:
        line.create(name, 3)
    tenant = line.world.tenant
    most: list[int] = []

    def work(name: str) -> None:
        world = line.world.through(line.world.table.client)
        world.slot_assigner.assign(tenant, KEY)
        slots = world.slots.read(tenant, KEY)
        most.append(len(slots.held))
        world.slot_assigner.assign(tenant, KEY, name)

    # when
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, names))

    # then
    assert max(most) <= 3
    assert len(line.active) == 3
    assert line.active == names[:3]
