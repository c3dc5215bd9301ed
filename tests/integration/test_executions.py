"""Creating executions so that it can be repeated after any crash. Needs PartiQL, so it runs on one emulator."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tasklatch.domain.errors import ConflictError, InvalidRequestError, NotFoundError, ServiceBusyError
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.ledger import Ledger
from tests.factories import NOW, FakeTime, a_report, fixed_clock, fresh_name, some_tasks
from tests.integration.emulators import Table, counted_calls, intercepted, make_backoff

CHAIN: Final = [
    TaskDefinition("fetch", input='{"url":"a"}', timeout_seconds=60),
    TaskDefinition("parse", depends_on=("fetch",), retry_policy=RetryPolicy(max_attempts=5)),
    TaskDefinition("notify", input="{}"),
]


def creator_of(table: Table, client: Any = None, time_left: FakeTime | None = None) -> ExecutionCreator:
    return ExecutionCreator(client or table.client, table.settings, fixed_clock, make_backoff(time_left))


def reader_of(table: Table) -> ExecutionReader:
    return ExecutionReader(table.client, table.settings, fixed_clock, make_backoff())


def tasks_of(table: Table, execution_id: str = "nightly") -> dict[str, Task]:
    items = table.items(keys.execution_pk(table.tenant, execution_id))
    return {task.task_id: task for task in map(task_from_item, (item for item in items if is_task(item)))}


def is_task(item: dict[str, Any]) -> bool:
    return str(item["sk"]["S"]).startswith(keys.TASK_PREFIX)


def statuses(tasks: dict[str, Task]) -> dict[str, TaskStatus]:
    return {task_id: task.status for task_id, task in tasks.items()}


def is_committed(table: Table) -> bool:
    return table.item(keys.execution_pk(table.tenant, "nightly"), keys.EXECUTION_SK) is not None


def test_tasks_that_wait_for_nothing_are_scheduled(statements_table: Table) -> None:
    # when
    execution, created = creator_of(statements_table).create(
        NewExecution(statements_table.tenant, "nightly", CHAIN, name="Nightly", metadata='{"a":1}')
    )

    # then
    assert created
    assert (execution.status, execution.created_at) == (ExecutionStatus.RUNNING, NOW)
    assert (execution.name, execution.metadata) == ("Nightly", '{"a":1}')
    tasks = tasks_of(statements_table)
    assert statuses(tasks) == {
        "fetch": TaskStatus.SCHEDULED,
        "parse": TaskStatus.PENDING,
        "notify": TaskStatus.SCHEDULED,
    }
    assert {task.attempt for task in tasks.values()} == {1}
    assert tasks["parse"].retry_policy.max_attempts == 5
    assert tasks["fetch"].timeout_seconds == 60


def test_everything_created_expires_and_open_tasks_are_listed(statements_table: Table) -> None:
    # given
    table = statements_table

    # when
    creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))

    # then
    items = table.items(keys.execution_pk(table.tenant, "nightly"))
    kinds = Counter(item["sk"]["S"].partition("#")[0] for item in items)
    assert (kinds["EXEC"], kinds["TASK"], kinds["INPUT"]) == (1, 3, 3)
    expected = str(NOW // 1000 + table.settings.retention_days * 86_400)
    assert {item["expiresAt"]["N"] for item in items} == {expected}
    open_list = keys.open_list(table.tenant, "nightly")
    assert {item[keys.LIST_KEY]["S"] for item in items if is_task(item)} == {open_list}


def test_nothing_expires_without_a_retention(statements_table: Table) -> None:
    table = replace(statements_table, settings=statements_table.settings._replace(retention_days=0))
    creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))
    assert not any("expiresAt" in item for item in table.items(keys.execution_pk(table.tenant, "nightly")))


def test_repeat_returns_the_same_execution_and_resets_nothing(statements_table: Table) -> None:
    # given an execution whose tasks have moved on
    table = statements_table
    creator = creator_of(table)
    first, _ = creator.create(NewExecution(table.tenant, "nightly", CHAIN))
    ledger = Ledger(table.client, table.settings, fixed_clock, make_backoff())
    ledger.record(table.tenant, "nightly", a_report(task_id="fetch"), fresh_name())
    ledger.record(table.tenant, "nightly", a_report(TaskStatus.IN_PROGRESS, "notify"), fresh_name())
    before = table.items(keys.execution_pk(table.tenant, "nightly"))

    # when
    second, created = creator.create(NewExecution(table.tenant, "nightly", CHAIN))

    # then
    assert not created
    assert second == first
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == before


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Other"},
        {"metadata": '{"b":2}'},
        {"definitions": CHAIN[:1]},
        {"definitions": [replace(CHAIN[0], input='{"url":"b"}'), *CHAIN[1:]]},
        {"definitions": [CHAIN[0], replace(CHAIN[1], depends_on=("notify",)), CHAIN[2]]},
        {"definitions": [*CHAIN, TaskDefinition("more")]},
    ],
    ids=["name", "metadata", "fewer tasks", "input", "dependencies", "more tasks"],
)
def test_same_id_for_another_request_is_a_conflict_and_changes_nothing(
    statements_table: Table, other: dict[str, Any]
) -> None:
    # given
    table = statements_table
    creator = creator_of(table)
    creator.create(NewExecution(table.tenant, "nightly", CHAIN, name="Nightly"))
    before = table.items(keys.execution_pk(table.tenant, "nightly"))

    # when
    with pytest.raises(ConflictError):
        creator.create(NewExecution(table.tenant, "nightly", **({"definitions": CHAIN, "name": "Nightly"} | other)))

    # then
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == before


def test_tasks_that_do_not_fit_together_write_nothing(statements_table: Table) -> None:
    table = statements_table
    with pytest.raises(InvalidRequestError):
        creator_of(table).create(NewExecution(table.tenant, "nightly", [TaskDefinition("a", depends_on=("b",))]))
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == []


def test_five_hundred_tasks_are_created_at_once(statements_table: Table) -> None:
    # given
    table = statements_table
    definitions = some_tasks(*(f"task-{number:03d}" for number in range(500)))

    # when
    with counted_calls(table.client) as calls:
        creator_of(table).create(NewExecution(table.tenant, "nightly", definitions))

    # then
    assert statuses(tasks_of(table)) == {definition.task_id: TaskStatus.SCHEDULED for definition in definitions}
    assert calls["BatchExecuteStatement"] == 2 * 500 / 25
    assert calls.total() <= 2 * 500 / 25 + 4, "and a few more, however many tasks there are"
    assert reader_of(table).count_tasks(table.tenant, "nightly") == ({TaskStatus.SCHEDULED: 500}, None)


class Crash(Exception):  # noqa: N818 - nothing is wrong, but for the function's end
    """The function ends here."""


class DiesAt:
    """Ends the function at its n-th call, before it is sent or after it took effect; all later calls fail too."""

    def __init__(self, number: int, *, takes_effect: bool) -> None:
        self.number = number
        self.takes_effect = takes_effect
        self.calls = 0
        self.lock = threading.Lock()

    def __call__(self, _operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        with self.lock:
            self.calls += 1
            if self.calls > self.number or (self.calls == self.number and not self.takes_effect):
                raise Crash
            answer = call()
            if self.calls == self.number:
                raise Crash
            return answer


def crash_creation(table: Table, definitions: Sequence[TaskDefinition], when: Callable[[Table], bool]) -> Table:
    """Let creations crash after their first call, their second and so on, until one leaves behind what is wanted."""
    for number in range(1, 40):
        fresh = replace(table, tenant=fresh_name())
        client = intercepted(fresh.client, DiesAt(number, takes_effect=True))
        with pytest.raises(Crash):
            creator_of(fresh, client).create(NewExecution(fresh.tenant, "nightly", definitions))
        if when(fresh):
            return fresh
    raise AssertionError("no crash leaves that behind")


def test_creation_ends_right_wherever_an_earlier_try_crashed(statements_table: Table) -> None:
    # given enough tasks for two calls of each kind
    table = statements_table
    definitions = [
        *CHAIN,
        *(TaskDefinition(f"task-{number:02d}", input="{}") for number in range(27)),
    ]
    expected = {
        definition.task_id: TaskStatus.PENDING if definition.depends_on else TaskStatus.SCHEDULED
        for definition in definitions
    }
    crashes = 0

    for number in range(1, 40):
        survived = []
        for takes_effect in (False, True):
            # when it crashes at this call
            fresh = replace(table, tenant=fresh_name())
            client = intercepted(fresh.client, DiesAt(number, takes_effect=takes_effect))
            try:
                creator_of(fresh, client).create(NewExecution(fresh.tenant, "nightly", definitions))
            except Crash:
                crashes += 1
            else:
                survived.append(takes_effect)

            # then no task is worked on before the execution is committed
            if not is_committed(fresh):
                assert {task.status for task in tasks_of(fresh).values()} <= {TaskStatus.PENDING}

            # and when it is sent again, it ends as if nothing had happened
            creator_of(fresh).create(NewExecution(fresh.tenant, "nightly", definitions))
            assert is_committed(fresh)
            tasks = tasks_of(fresh)
            assert statuses(tasks) == expected
            assert {task.version for task in tasks.values()} <= {1, 2}
            inputs = [item for item in fresh.items(keys.execution_pk(fresh.tenant, "nightly")) if "payload" in item]
            assert len(inputs) == sum(definition.input is not None for definition in definitions)
        if survived == [False, True]:
            break
    assert crashes >= 2 * 6, "a read, two inserts, inputs, the commit, two schedulings"


def test_creation_resumed_after_a_crash_does_not_reset_what_was_worked_on(statements_table: Table) -> None:
    # given a creation that crashed between two calls that schedule, and a worker who was quick
    definitions = some_tasks(*(f"task-{number:02d}" for number in range(30)))
    half_way = {TaskStatus.PENDING, TaskStatus.SCHEDULED}
    table = crash_creation(
        statements_table, definitions, lambda left: set(statuses(tasks_of(left)).values()) == half_way
    )
    ledger = Ledger(table.client, table.settings, fixed_clock, make_backoff())
    done = ledger.record(table.tenant, "nightly", a_report(task_id="task-00"), fresh_name())
    assert done.verdict is Verdict.APPLIED

    # when
    creator_of(table).create(NewExecution(table.tenant, "nightly", definitions))

    # then
    tasks = tasks_of(table)
    assert tasks["task-00"] == done.task
    assert Counter(statuses(tasks).values()) == {TaskStatus.COMPLETED: 1, TaskStatus.SCHEDULED: 29}


def test_creation_that_was_never_finished_is_not_spoiled_by_another_request(statements_table: Table) -> None:
    # given a creation that crashed before its commit
    table = crash_creation(statements_table, CHAIN, lambda left: bool(tasks_of(left)) and not is_committed(left))

    # when another request comes under the same id, and then the first one again
    with pytest.raises(ConflictError):
        creator_of(table).create(NewExecution(table.tenant, "nightly", some_tasks("other")))
    _, created = creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))

    # then
    assert created
    assert set(tasks_of(table)) == {definition.task_id for definition in CHAIN}


class LosesAnswersOnce:
    """Performs each kind of call, but loses the first answer of each."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.lock = threading.Lock()

    def __call__(self, operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        refused: ClientError | None = None
        answer: Any = None
        try:
            answer = call()
        except ClientError as error:
            refused = error
        with self.lock:
            if operation not in self.lost:
                self.lost.add(operation)
                raise ReadTimeoutError(endpoint_url="http://localhost")
        if refused is not None:
            raise refused
        return answer


def test_lost_answers_do_not_spoil_a_creation(statements_table: Table) -> None:
    # given
    table = statements_table
    around = LosesAnswersOnce()

    # when
    execution, _ = creator_of(table, intercepted(table.client, around)).create(
        NewExecution(table.tenant, "nightly", CHAIN)
    )

    # then
    assert {"get_item", "batch_execute_statement", "batch_write_item", "put_item"} <= around.lost
    assert reader_of(table).get(table.tenant, "nightly") == execution
    assert Counter(statuses(tasks_of(table)).values()) == {TaskStatus.SCHEDULED: 2, TaskStatus.PENDING: 1}


class RefusesStatements:
    """Answers every statement with an error, `times` times; always where it is None."""

    def __init__(self, times: int | None) -> None:
        self.left = times

    def __call__(self, operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation != "batch_execute_statement" or self.left == 0:
            return call()
        if self.left is not None:
            self.left -= 1
        error = {"Error": {"Code": "ThrottlingError", "Message": "slow down"}}
        return {"Responses": [error for _ in arguments["Statements"]]}


def test_throttled_creation_goes_on_when_the_table_takes_it(statements_table: Table) -> None:
    table = statements_table
    client = intercepted(table.client, RefusesStatements(3))
    creator_of(table, client).create(NewExecution(table.tenant, "nightly", CHAIN))
    assert Counter(statuses(tasks_of(table)).values()) == {TaskStatus.SCHEDULED: 2, TaskStatus.PENDING: 1}


def test_creation_that_never_gets_through_is_busy_and_leaves_no_execution(statements_table: Table) -> None:
    # given
    table = statements_table
    time_left = FakeTime(left_ms=4_000)
    client = intercepted(table.client, RefusesStatements(None))

    # when
    with pytest.raises(ServiceBusyError):
        creator_of(table, client, time_left).create(NewExecution(table.tenant, "nightly", CHAIN))

    # then
    assert not is_committed(table)
    with pytest.raises(NotFoundError):
        reader_of(table).get(table.tenant, "nightly")


def below_execution(table: Table) -> list[dict[str, Any]]:
    """All that belongs to the execution, but for its own item."""
    items = table.items(keys.execution_pk(table.tenant, "nightly"))
    return [item for item in items if item["sk"]["S"] != keys.EXECUTION_SK]


def added(table: Table, *definitions: TaskDefinition) -> Sequence[Task]:
    return creator_of(table).add_tasks(table.tenant, "nightly", list(definitions))


def test_tasks_can_be_added_and_added_again(statements_table: Table) -> None:
    # given
    table = statements_table
    creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))
    more = [TaskDefinition("archive", input='{"to":"b"}'), TaskDefinition("report", depends_on=("parse", "archive"))]

    # when
    first = added(table, *more)
    before = below_execution(table)
    second = added(table, *more)

    # then
    assert [(task.task_id, task.status) for task in first] == [
        ("archive", TaskStatus.SCHEDULED),
        ("report", TaskStatus.PENDING),
    ]
    assert second == first
    assert below_execution(table) == before
    detail = reader_of(table).get_task_detail(table.tenant, "nightly", "report")
    assert detail.depends_on == ("parse", "archive")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ([TaskDefinition("fetch", input='{"url":"other"}'), TaskDefinition("new")], ConflictError),
        ([TaskDefinition("new", depends_on=("nowhere",))], InvalidRequestError),
        ([TaskDefinition("new"), TaskDefinition("new")], InvalidRequestError),
    ],
    ids=["another definition", "unknown dependency", "twice the same"],
)
def test_refused_addition_leaves_everything_as_it_was(
    statements_table: Table, changed: list[TaskDefinition], error: type[Exception]
) -> None:
    # given
    table = statements_table
    creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))
    before = table.items(keys.execution_pk(table.tenant, "nightly"))

    # when
    with pytest.raises(error):
        added(table, *changed)

    # then
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == before
    assert reader_of(table).get_task_detail(table.tenant, "nightly", "fetch").input == '{"url":"a"}'


def test_nothing_is_added_to_an_execution_that_is_not_there(statements_table: Table) -> None:
    table = statements_table
    with pytest.raises(NotFoundError):
        added(table, TaskDefinition("new"))
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == []


def test_nothing_is_added_to_an_execution_that_is_over(statements_table: Table) -> None:
    # given
    table = statements_table
    creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))
    item = table.item(keys.execution_pk(table.tenant, "nightly"), keys.EXECUTION_SK)
    assert item is not None
    table.put(item | {"status": {"S": "COMPLETED"}})

    # when / then
    with pytest.raises(ConflictError):
        added(table, TaskDefinition("new"))
    assert "new" not in tasks_of(table)


def test_tenants_can_use_the_same_names(statements_table: Table) -> None:
    # given
    table, other = statements_table, replace(statements_table, tenant=fresh_name())
    creator_of(table).create(NewExecution(table.tenant, "nightly", CHAIN))

    # when
    creator_of(other).create(NewExecution(other.tenant, "nightly", some_tasks("fetch")))
    ledger = Ledger(table.client, table.settings, fixed_clock, make_backoff())
    ledger.record(other.tenant, "nightly", a_report(task_id="fetch"), fresh_name())

    # then
    assert tasks_of(table)["fetch"].status is TaskStatus.SCHEDULED
    assert statuses(tasks_of(other)) == {"fetch": TaskStatus.COMPLETED}
    listed, _ = reader_of(table).list_executions(table.tenant, limit=100)
    assert [definition.tenant for definition in listed] == [table.tenant]
    with pytest.raises(NotFoundError):
        reader_of(table).get(fresh_name(), "nightly")


def test_payloads_of_any_text_come_back_as_they_were(statements_table: Table) -> None:
    # given
    table = statements_table
    text = json.dumps({"ä\u0000\U0001f600": ["\\", '"', 1e308, None]}, ensure_ascii=False)

    # when
    creator_of(table).create(NewExecution(table.tenant, "nightly", [TaskDefinition("a#b%/ü", input=text)]))

    # then
    assert reader_of(table).get_task_detail(table.tenant, "nightly", "a#b%/ü").input == text
