"""Cancelling, retrying and watching an execution, as adapters and as routes. Needs PartiQL: one emulator."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import pytest

from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tasklatch.executions import control, execution_tasks
from tasklatch.runtime.attempt_ids import current_attempt_id
from tests.api_description import check_answer
from tests.factories import Reply, api_event, call_api, fresh_name, some_tasks
from tests.integration.emulators import Table, intercepted
from tests.workflow_helpers import ONCE, World

CANCEL: Final = "POST /v1/executions/{executionId}/cancel"
RETRY: Final = "POST /v1/executions/{executionId}/retry"
WATCH: Final = "POST /v1/executions/{executionId}/watch"


@pytest.fixture
def world(statements_table: Table) -> World:
    return World(statements_table)


def cancel(world: World, reason: str | None = "no longer needed") -> None:
    world.control.cancel(world.tenant, "nightly", reason)
    world.closer.cancel_open_tasks(world.tenant, "nightly")


def retry(world: World) -> None:
    world.reopener.retry(world.tenant, "nightly")


# ---------------------------------------------------------------- cancel


def test_cancelled_execution_seals_what_is_open_and_keeps_what_is_done(world: World) -> None:
    # given
    world.create(
        *some_tasks("done", "running", "ready"),
        TaskDefinition("waiting", depends_on=("ready",)),
        TaskDefinition("resting", retry_policy=RetryPolicy(max_attempts=3)),
        TaskDefinition("broken", retry_policy=ONCE),
    )
    world.report("done")
    world.report("running", TaskStatus.IN_PROGRESS, attempt=1)
    world.report("resting", TaskStatus.FAILED, attempt=1)
    world.report("broken", TaskStatus.FAILED, attempt=1)

    # when
    cancel(world)

    # then
    assert (world.status(), world.execution().reason) == (ExecutionStatus.TERMINATED, "no longer needed")
    assert world.statuses() == {
        "done": TaskStatus.COMPLETED,
        "running": TaskStatus.CANCELED,
        "ready": TaskStatus.CANCELED,
        "waiting": TaskStatus.CANCELED,
        "resting": TaskStatus.CANCELED,
        "broken": TaskStatus.FAILED,
    }
    assert world.task("running").message == "no longer needed"


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.IN_PROGRESS])
def test_late_report_on_a_cancelled_task_is_sealed(world: World, status: TaskStatus) -> None:
    # given
    world.create(*some_tasks("late"))
    cancel(world)

    # when
    recorded = world.report("late", status, attempt=1)

    # then
    assert recorded.verdict is Verdict.SEALED
    assert world.task("late").status is TaskStatus.CANCELED


def test_cancelling_twice_is_cancelling_once(world: World) -> None:
    # given
    world.create(*some_tasks("only"))
    cancel(world)
    versions = (world.execution().version, world.task("only").version)

    # when
    cancel(world, "for another reason")

    # then
    assert (world.execution().version, world.task("only").version) == versions
    assert world.execution().reason == "no longer needed"


def test_execution_that_is_over_cannot_be_cancelled(world: World) -> None:
    # given
    world.create(*some_tasks("only"))
    world.complete("only")

    # then
    with pytest.raises(ConflictError, match="COMPLETED"):
        cancel(world)
    assert world.status() is ExecutionStatus.COMPLETED


def test_announcement_that_a_running_execution_ended_cancels_nothing(world: World) -> None:
    # given: the announcement is from before a retry
    world.create(*some_tasks("only"))

    # when
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # then
    assert world.task("only").status is TaskStatus.SCHEDULED


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.IN_PROGRESS, TaskStatus.FAILED])
def test_no_report_counts_after_a_cancellation_was_answered(world: World, status: TaskStatus) -> None:
    world.create(*some_tasks("a", "b"), TaskDefinition("c", depends_on=("a",)))

    world.control.cancel(world.tenant, "nightly", "enough")

    assert set(world.statuses().values()) == {TaskStatus.CANCELED}
    assert world.report("a", status, attempt=1).verdict is Verdict.SEALED


def test_cancellation_that_is_overtaken_tries_again_before_it_is_answered(world: World) -> None:
    # given a worker that begins between the read and the write
    world.create(*some_tasks("a"))
    began: list[bool] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and not began:
            began.append(True)
            world.report("a", TaskStatus.IN_PROGRESS, attempt=1)
        return send()

    # when
    world.through(intercepted(world.table.client, around)).control.cancel(world.tenant, "nightly", None)

    # then
    assert began
    assert world.task("a").status is TaskStatus.CANCELED


def test_cancellation_of_very_many_goes_over_the_first_before_it_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_tasks, "TASKS_A_PAGE", 2)
    monkeypatch.setattr(control, "MAX_CANCELLED_AT_ONCE", 2)
    world.create(*some_tasks("a", "b", "c"))

    world.control.cancel(world.tenant, "nightly", None)

    assert world.statuses() == {"a": TaskStatus.CANCELED, "b": TaskStatus.CANCELED, "c": TaskStatus.SCHEDULED}


def test_success_that_arrives_while_tasks_are_cancelled_stays(world: World) -> None:
    # given
    world.create(*some_tasks("quick", "slow"))
    arrived: list[Verdict] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and not arrived:
            arrived.append(world.report("quick").verdict)
        return send()

    # when
    world.through(intercepted(world.table.client, around)).control.cancel(world.tenant, "nightly", None)

    # then
    assert arrived == [Verdict.APPLIED]
    assert world.statuses() == {"quick": TaskStatus.COMPLETED, "slow": TaskStatus.CANCELED}


@pytest.mark.parametrize("moment", ["query", "get_item", "batch_execute_statement"])
def test_retry_in_the_middle_of_cancelling_is_not_undone(world: World, moment: str) -> None:
    # given
    world.create(*some_tasks("only", "other"))
    execution = world.execution()
    world.execution_table.change_status(execution, ExecutionStatus.TERMINATED, None)
    retried: list[bool] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == moment and not retried:
            retried.append(True)
            retry(world)
        return send()

    # when
    world.through(intercepted(world.table.client, around)).closer.cancel_open_tasks(world.tenant, "nightly")

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert set(world.statuses().values()) == {TaskStatus.SCHEDULED}


def test_execution_whose_retry_was_cancelled_on_the_way_is_not_called_completed(world: World) -> None:
    # given
    world.create(*some_tasks("only"))
    world.report("only", TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt=1)
    world.advance("only")
    cancelled: list[bool] = []

    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "update_item" and arguments["Key"]["sk"]["S"] == keys.EXECUTION_SK and not cancelled:
            # The task is open again, and the execution is not yet running: who cancels for its end is at work now.
            cancelled.append(True)
            world.closer.cancel_open_tasks(world.tenant, "nightly")
        return send()

    # when
    world.through(intercepted(world.table.client, around)).reopener.retry(world.tenant, "nightly")

    # then
    assert cancelled == [True]
    assert (world.task("only").status, world.status()) == (TaskStatus.CANCELED, ExecutionStatus.FAILED)
    retry(world)
    assert (world.task("only").status, world.status()) == (TaskStatus.SCHEDULED, ExecutionStatus.RUNNING)


# ---------------------------------------------------------------- retry


def test_what_failed_or_was_cancelled_gets_one_more_attempt_and_a_success_none(world: World) -> None:
    # given
    world.create(
        *some_tasks("done", "cancelled"),
        TaskDefinition("spent", retry_policy=ONCE),
        TaskDefinition("terminal"),
        TaskDefinition("excused", retry_policy=ONCE, on_failure=OnFailure.CONTINUE),
    )
    world.complete("done")
    excused = world.report("excused", TaskStatus.FAILED, attempt=1).task
    world.retry_planner.plan([excused])
    world.report("spent", TaskStatus.FAILED, attempt=1)
    world.report("terminal", TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt=1)
    world.advance("spent")
    before = world.tasks()

    # when
    retry(world)

    # then
    after = world.tasks()
    assert world.status() is ExecutionStatus.RUNNING
    assert world.execution().reason is None
    assert world.execution().ended_at is None
    for name in ("cancelled", "spent", "terminal"):
        assert (after[name].status, after[name].attempt) == (TaskStatus.SCHEDULED, 2), name
        assert current_attempt_id(after[name]) != current_attempt_id(before[name])
        assert after[name].ended_at is None
        assert after[name].failure_reason is None
    assert after["done"] == before["done"]
    assert after["excused"] == before["excused"]


def test_attempt_is_granted_beyond_the_policy_and_only_one(world: World) -> None:
    # given
    world.create(TaskDefinition("stubborn", retry_policy=ONCE))
    world.report("stubborn", TaskStatus.FAILED, attempt=1)
    world.advance("stubborn")
    retry(world)
    assert world.task("stubborn").max_attempts == 2

    # when
    failed = world.report("stubborn", TaskStatus.FAILED, attempt=2).task
    world.retry_planner.plan([failed])
    world.advance("stubborn")

    # then
    assert world.status() is ExecutionStatus.FAILED
    assert not world.queue.calls


def test_retried_task_is_open_again_for_the_safety_net(world: World) -> None:
    # given
    world.create(TaskDefinition("again", retry_policy=ONCE))
    failed = world.report("again", TaskStatus.FAILED, attempt=1).task
    world.retry_planner.plan([failed])
    world.advance("again")
    sk = keys.task_sk("again")
    closed = world.table.item(keys.execution_pk(world.tenant, "nightly"), sk)
    assert closed is not None
    assert keys.LIST_KEY not in closed

    # when
    retry(world)

    # then
    opened = world.table.item(keys.execution_pk(world.tenant, "nightly"), sk)
    assert opened is not None
    assert (opened[keys.LIST_KEY]["S"], opened[keys.LIST_SORT]["S"]) == (keys.open_list(world.tenant, "nightly"), sk)


def test_tasks_that_wait_wait_for_their_parents_again(world: World) -> None:
    # given
    world.create(
        TaskDefinition("breaks", retry_policy=ONCE),
        TaskDefinition("after", depends_on=("breaks",)),
        TaskDefinition("last", depends_on=("after",)),
    )
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    world.advance("breaks")
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # when
    retry(world)

    # then
    assert world.statuses() == {
        "breaks": TaskStatus.SCHEDULED,
        "after": TaskStatus.PENDING,
        "last": TaskStatus.PENDING,
    }
    assert list(world.run_to_end()) == ["breaks", "after", "last"]
    assert world.status() is ExecutionStatus.COMPLETED


def test_parent_that_succeeded_while_the_execution_was_over_is_not_waited_for(world: World) -> None:
    # given: a success that came just before the end, so that nobody counted it
    world.create(TaskDefinition("parent"), TaskDefinition("child", depends_on=("parent",)))
    world.report("parent")
    cancel(world)
    world.advance("parent")

    # when
    retry(world)

    # then
    assert world.task("child").status is TaskStatus.SCHEDULED


def test_retry_of_an_execution_whose_failure_was_rescued_completes_it(world: World) -> None:
    # given
    world.create(TaskDefinition("late", retry_policy=ONCE))
    world.report("late", TaskStatus.FAILED, attempt=1)
    world.advance("late")
    assert world.report("late").verdict is Verdict.APPLIED
    assert world.status() is ExecutionStatus.FAILED

    # when
    retry(world)

    # then
    assert world.status() is ExecutionStatus.COMPLETED


def test_retry_that_dies_anywhere_can_be_repeated(world: World) -> None:
    class DyingClientError(Exception):
        pass

    for fatal in range(1, 14):
        # given
        execution_id = f"dies-at-{fatal}"
        world.create(
            TaskDefinition("breaks", retry_policy=ONCE),
            TaskDefinition("after", depends_on=("breaks",)),
            execution_id=execution_id,
        )
        world.report("breaks", TaskStatus.FAILED, execution_id, attempt=1)
        world.advance("breaks", execution_id=execution_id)
        created = [0]

        def around(
            _operation: str,
            send: Callable[[], Any],
            _arguments: dict[str, Any],
            created: list[int] = created,
            at: int = fatal,
        ) -> Any:
            created[0] += 1
            if created[0] >= at:
                raise DyingClientError
            return send()

        # when
        with pytest.raises(DyingClientError):
            world.through(intercepted(world.table.client, around)).reopener.retry(world.tenant, execution_id)
        if world.status(execution_id) is not ExecutionStatus.RUNNING:
            world.reopener.retry(world.tenant, execution_id)
        else:
            pending = [name for name, status in world.statuses(execution_id).items() if status is TaskStatus.PENDING]
            world.advancer.schedule_unblocked(world.tenant, execution_id, pending)

        # then
        assert world.statuses(execution_id) == {"breaks": TaskStatus.SCHEDULED, "after": TaskStatus.PENDING}
        assert world.task("breaks", execution_id).attempt > 1


@pytest.mark.parametrize("ended", [False, True])
def test_execution_that_runs_or_completed_has_nothing_to_retry(world: World, *, ended: bool) -> None:
    # given
    world.create(*some_tasks("only"))
    if ended:
        world.complete("only")
    before = world.tasks()

    # then
    with pytest.raises(ConflictError):
        retry(world)
    assert world.tasks() == before


def test_unknown_execution_can_be_neither_cancelled_nor_retried(world: World) -> None:
    for action in (cancel, retry):
        with pytest.raises(NotFoundError):
            action(world)


# ---------------------------------------------------------------- routes


@pytest.fixture
def call(load: Callable[[str, Any], ModuleType], world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reply]:
    """Call a route of the function; the answer is held to the API's description."""
    monkeypatch.setenv("LIVE_URL", "wss://example.org/live")
    monkeypatch.setenv("LIVE_CALLBACK_URL", "https://example.org/live")
    monkeypatch.setenv("TENANT_CLAIM", "tenant")

    def call_route(route: str, execution_id: str = "nightly", body: Any = None, **more: Any) -> Reply:
        claims = {
            "scope": more.pop("scope", "tasklatch/manage tasklatch/read"),
            "tenant": more.pop("tenant", world.tenant),
        }
        event = api_event(route, path={"executionId": execution_id}, body=body, claims=claims, **more)
        reply = call_api(load("execution_control", world.table.client).handler, event)
        check_answer(route, reply)
        return reply

    return call_route


def test_route_cancels_with_a_reason(world: World, call: Callable[..., Reply]) -> None:
    # given
    world.create(*some_tasks("only"))

    # when
    reply = call(CANCEL, body={"reason": "wrong input"})

    # then
    assert reply.status == 200
    assert (reply.body["executionId"], reply.body["status"]) == ("nightly", "TERMINATED")
    assert world.execution().reason == "wrong input"
    assert call(CANCEL).status == 200


def test_route_retries(world: World, call: Callable[..., Reply]) -> None:
    # given
    world.create(*some_tasks("only"))
    cancel(world)

    # when
    reply = call(RETRY)

    # then
    assert (reply.status, reply.body["status"]) == (200, "RUNNING")
    assert world.task("only").status is TaskStatus.SCHEDULED
    again = call(RETRY)
    assert (again.status, again.body["type"].rpartition("/")[2].rpartition(":")[2]) == (409, "conflict")


def test_route_gives_a_ticket_for_one_connection(world: World, call: Callable[..., Reply]) -> None:
    # given
    world.create(*some_tasks("only"))

    # when
    first, second = call(WATCH).body, call(WATCH).body

    # then
    assert first["ticket"] != second["ticket"]
    assert first["url"] == f"wss://example.org/live?ticket={first['ticket']}"
    key = keys.ticket_pk(first["ticket"])
    item = world.table.item(key, key)
    assert item is not None
    assert (item["tenant"]["S"], item["executionId"]["S"]) == (world.tenant, "nightly")


@pytest.mark.parametrize("route", [CANCEL, RETRY, WATCH])
def test_route_does_not_know_an_execution_of_another_tenant(
    world: World, call: Callable[..., Reply], route: str
) -> None:
    # given
    world.create(*some_tasks("only"))

    # then
    assert call(route, tenant=fresh_name()).status == 404
    assert world.status() is ExecutionStatus.RUNNING


@pytest.mark.parametrize("route", [CANCEL, RETRY])
def test_reader_may_watch_but_not_intervene(world: World, call: Callable[..., Reply], route: str) -> None:
    # given
    world.create(*some_tasks("only"))

    # then
    assert call(route, scope="tasklatch/read").status == 403
    assert call(WATCH, scope="tasklatch/read").status == 200
    assert world.status() is ExecutionStatus.RUNNING


@pytest.mark.parametrize("body", [{"reason": ""}, {"reason": "x" * 1025}, {"reason": 5}, {"why": "x"}, []])
def test_route_refuses_a_reason_that_is_none(world: World, call: Callable[..., Reply], body: Any) -> None:
    # given
    world.create(*some_tasks("only"))

    # then
    assert call(CANCEL, body=body).status == 422
    assert world.status() is ExecutionStatus.RUNNING
