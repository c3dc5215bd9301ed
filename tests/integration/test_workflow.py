"""What follows when tasks are settled: dependents go on, executions end. Needs PartiQL, so it runs on one emulator."""

import itertools
import json
import re
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tasklatch.domain.errors import ConflictError, NotFoundError, ServiceBusyError
from tasklatch.domain.json_text import MAX_NESTING
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tasklatch.runtime import services
from tasklatch.workflow.input_resolver import MAX_REFERRED_BYTES
from tests.factories import Context, FakeTime, some_tasks
from tests.integration.emulators import Table, counted_calls, intercepted
from tests.workflow_helpers import ONCE, World, diamond


@pytest.fixture
def world(statements_table: Table) -> World:
    return World(statements_table)


def input_of(world: World, task_id: str, execution_id: str = "nightly", *, attribute: str = "resolved") -> Any:
    item = world.table.item(keys.execution_pk(world.tenant, execution_id), keys.input_sk(task_id))
    return json.loads(item[attribute]["S"]) if item and attribute in item else None


class DyingClientError(Exception):
    """The function's end, in the middle of its work."""


def dying_at(call: int) -> Callable[[str, Callable[[], Any], dict[str, Any]], Any]:
    """Let a client die at its n-th call, before it is made."""
    created = itertools.count(1)

    def around(_operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if next(created) >= call:
            raise DyingClientError
        return send()

    return around


def test_chain_runs_in_order_and_its_execution_completes(world: World) -> None:
    # given
    names = [f"step{number}" for number in range(5)]
    world.create(
        *(
            TaskDefinition(name, depends_on=(before,) if before else ())
            for before, name in zip(["", *names], names, strict=False)
        )
    )

    # when
    order = world.run_to_end()

    # then
    assert list(order) == names
    assert world.status() is ExecutionStatus.COMPLETED
    assert world.execution().ended_at == world.clock()


def test_dependents_wait_until_the_last_of_their_parents_is_done(world: World) -> None:
    # given
    world.create(*diamond())
    world.complete("top")
    world.complete("left")

    # then
    assert world.statuses() == {
        "top": TaskStatus.COMPLETED,
        "left": TaskStatus.COMPLETED,
        "right": TaskStatus.SCHEDULED,
        "bottom": TaskStatus.PENDING,
    }

    # when
    world.complete("right")

    # then
    assert world.task("bottom").status is TaskStatus.SCHEDULED
    assert world.status() is ExecutionStatus.RUNNING
    world.complete("bottom")
    assert world.status() is ExecutionStatus.COMPLETED


def test_fan_out_to_two_hundred(world: World) -> None:
    # given
    leaves = [f"leaf{number}" for number in range(200)]
    world.create(TaskDefinition("root"), *(TaskDefinition(name, depends_on=("root",)) for name in leaves))

    # when
    world.complete("root")

    # then
    assert Counter(world.statuses().values()) == {TaskStatus.COMPLETED: 1, TaskStatus.SCHEDULED: 200}
    assert {task.version for task in world.tasks().values()} == {2, 3}


def test_fan_in_of_a_hundred(world: World) -> None:
    # given
    parents = [f"parent{number}" for number in range(100)]
    world.create(*some_tasks(*parents), TaskDefinition("join", depends_on=tuple(parents)))
    world.report_all(parents)

    # when
    world.advance(*parents[:99])

    # then
    assert world.task("join").status is TaskStatus.PENDING

    # when
    world.advance(parents[99])

    # then
    assert (world.task("join").status, world.task("join").version) == (TaskStatus.SCHEDULED, 2)
    world.complete("join")
    assert world.status() is ExecutionStatus.COMPLETED


def cost_of_a_task(world: World, tasks: int) -> float:
    """DynamoDB calls that follow from one task in the middle of many that each have a dependent."""
    parents = [f"parent{number}" for number in range(tasks)]
    execution_id = f"of-{tasks}"
    world.create(
        *some_tasks(*parents),
        *(TaskDefinition(f"child-of-{name}", depends_on=(name,)) for name in parents),
        execution_id=execution_id,
    )
    some = parents[:5]
    for name in some:
        world.report(name, execution_id=execution_id)
    with counted_calls(world.table.client) as calls:
        world.advance(*some, execution_id=execution_id)
    return calls.total() / len(some)


def test_cost_of_a_task_does_not_grow_with_their_number(world: World) -> None:
    # when
    few, many = cost_of_a_task(world, 10), cost_of_a_task(world, 100)

    # then
    assert few == many
    assert many <= 16


@pytest.mark.parametrize("order", list(itertools.permutations(["left", "right", "left", "right"]))[:6])
def test_announcements_may_come_twice_and_in_any_order(world: World, order: tuple[str, ...]) -> None:
    # given
    world.create(*diamond())
    world.complete("top")
    world.report("left")
    world.report("right")

    # when
    world.advance("top", *order, "top")

    # then
    assert world.task("bottom").status is TaskStatus.SCHEDULED
    assert world.task("bottom").version == 2
    world.complete("bottom")
    version = world.execution().version
    world.advance("bottom", *order, "top", "bottom")
    assert (world.status(), world.execution().version) == (ExecutionStatus.COMPLETED, version)


def test_announcement_that_is_older_than_the_task_changes_nothing(world: World) -> None:
    # given
    world.create(TaskDefinition("first"), TaskDefinition("second", depends_on=("first",)))
    world.report("first", TaskStatus.FAILED, attempt=1)

    # when: somebody says that it is settled
    world.advance("first")

    # then
    assert world.task("second").status is TaskStatus.PENDING
    assert world.status() is ExecutionStatus.RUNNING


def test_whatever_call_the_advancer_dies_at_redelivery_ends_right(world: World) -> None:
    names = ("top", "left", "right", "bottom")
    for call in itertools.count(1):
        # given
        execution_id = f"dies-at-{call}"
        world.create(*diamond(), execution_id=execution_id)
        deaths = 0
        for name in names:
            world.report(name, execution_id=execution_id)

            # when
            dying = world.through(intercepted(world.table.client, dying_at(call)))
            try:
                dying.advance(name, execution_id=execution_id)
            except DyingClientError:
                deaths += 1
                world.advance(name, execution_id=execution_id)

        # then
        assert set(world.statuses(execution_id).values()) == {TaskStatus.COMPLETED}
        assert world.status(execution_id) is ExecutionStatus.COMPLETED
        assert world.execution(execution_id).version == 2
        waits = world.table.item(keys.execution_pk(world.tenant, execution_id), keys.waits_sk("bottom"))
        assert waits is not None
        assert waits["remaining"]["N"] == "0"
        if not deaths:
            break
    assert call > len(names)


def test_no_task_starts_before_its_parents_whatever_call_the_advancer_dies_at(world: World) -> None:
    for call in itertools.count(1):
        # given
        execution_id = f"early-{call}"
        world.create(*diamond(), execution_id=execution_id)
        world.report("top", execution_id=execution_id)
        world.advance("top", execution_id=execution_id)
        world.report("left", execution_id=execution_id)

        # when: its announcement comes twice, the first time to an advancer that dies
        died = False
        try:
            world.through(intercepted(world.table.client, dying_at(call))).advance("left", execution_id=execution_id)
        except DyingClientError:
            died = True
        world.advance("left", execution_id=execution_id)

        # then
        assert world.task("bottom", execution_id).status is TaskStatus.PENDING
        if not died:
            break
    assert call > 1


def test_two_advancers_with_the_same_announcement_count_it_once(world: World) -> None:
    # given: between one's reading and its counting, the other does all of it
    world.create(*some_tasks("one", "two"), TaskDefinition("join", depends_on=("one", "two")))
    world.report("one")
    counted: list[bool] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "transact_write_items" and not counted:
            counted.append(True)
            world.advance("one")
        return send()

    # when
    world.through(intercepted(world.table.client, around)).advance("one")

    # then
    assert counted
    assert world.task("join").status is TaskStatus.PENDING
    world.complete("two")
    assert world.task("join").status is TaskStatus.SCHEDULED


def test_advancers_side_by_side_count_each_parent_once_and_end_the_execution_once(world: World) -> None:
    # given
    parents = [f"parent{number}" for number in range(8)]
    world.create(*some_tasks(*parents), TaskDefinition("join", depends_on=tuple(parents)))
    for name in parents:
        world.report(name)

    # when
    map_concurrently(*(lambda name=name: world.advance(name) for name in parents))

    # then
    world.advance(*parents)
    assert (world.task("join").status, world.task("join").version) == (TaskStatus.SCHEDULED, 2)
    world.report("join")
    map_concurrently(*[lambda: world.advance("join")] * 6)
    assert (world.status(), world.execution().version) == (ExecutionStatus.COMPLETED, 2)


def map_concurrently(*actions: Callable[[], Any]) -> None:
    """Do all at once; what is busy is left for another time, as the queue does it."""
    failures: list[BaseException] = []

    def run(action: Callable[[], Any]) -> None:
        try:
            action()
        except ServiceBusyError:
            pass
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that can fail the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_failure_for_good_ends_the_execution_and_the_rest_is_cancelled(world: World) -> None:
    # given
    world.create(
        TaskDefinition("breaks", retry_policy=ONCE),
        TaskDefinition("runs"),
        TaskDefinition("waits", depends_on=("breaks",)),
    )
    world.report("runs", TaskStatus.IN_PROGRESS, attempt=1)

    # when
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    world.advance("breaks")

    # then
    assert world.status() is ExecutionStatus.FAILED
    assert world.execution().reason == "task 'breaks' ended FAILED"

    # when: it is announced that the execution is over
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # then
    assert world.statuses() == {
        "breaks": TaskStatus.FAILED,
        "runs": TaskStatus.CANCELED,
        "waits": TaskStatus.CANCELED,
    }
    assert world.task("waits").message == "task 'breaks' ended FAILED"
    assert world.report("runs").verdict is Verdict.SEALED


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
def test_failure_of_a_task_that_may_fail_lets_its_dependents_go_on(world: World, status: TaskStatus) -> None:
    # given
    world.create(
        TaskDefinition("breaks", retry_policy=ONCE, on_failure=OnFailure.CONTINUE),
        TaskDefinition("waits", depends_on=("breaks",)),
    )
    failed = world.report("breaks", status, attempt=1, message="no luck").task
    world.advance("breaks")
    assert world.task("waits").status is TaskStatus.PENDING

    # when
    world.retry_planner.plan([failed])
    world.advance("breaks")

    # then
    sealed = world.task("breaks")
    assert (sealed.status, sealed.message) == (TaskStatus.COMPLETED_WITH_ERRORS, "no luck")
    assert world.task("waits").status is TaskStatus.SCHEDULED
    world.complete("waits")
    assert world.status() is ExecutionStatus.COMPLETED


def test_failure_with_attempts_left_ends_nothing(world: World) -> None:
    # given
    world.create(TaskDefinition("tries", retry_policy=RetryPolicy(max_attempts=2)))
    world.report("tries", TaskStatus.FAILED, attempt=1)

    # when
    world.advance("tries")

    # then
    assert world.status() is ExecutionStatus.RUNNING


def test_advance_of_what_is_not_there_is_an_error(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.advance("nobody")


# ---------------------------------------------------------------- references


def given_references(world: World, **inputs: Any) -> None:
    world.create(
        TaskDefinition("source", input='{"url":"here","depth":3}'),
        *(
            TaskDefinition(name, input=json.dumps(value, ensure_ascii=False), depends_on=("source",))
            for name, value in inputs.items()
        ),
    )


def test_references_are_resolved_when_a_task_is_scheduled(world: World) -> None:
    # given
    given_references(
        world,
        sink={
            "whole": "${source.output}",
            "part": "${source.output.rows.first}",
            "given": "${source.input.depth}",
            "text": "see ${source.input.url} and ${source.output.rows}",
            "list": ["${source.output.n}", {"deep": "${source.output.n}"}],
            "missing": "${source.output.nothing.at.all}",
            "stranger": "${nobody.output.n}",
            "plain": "$ {not.one}",
        },
    )
    assert input_of(world, "sink") is None

    # when
    world.report("source", output='{"rows":{"first":"é"},"n":42}')
    world.advance("source")

    # then
    assert input_of(world, "sink") == {
        "whole": {"rows": {"first": "é"}, "n": 42},
        "part": "é",
        "given": 3,
        "text": 'see here and {"first": "é"}',
        "list": [42, {"deep": 42}],
        "missing": None,
        "stranger": "${nobody.output.n}",
        "plain": "$ {not.one}",
    }


def test_reference_finds_the_checkpoint_that_a_success_without_output_keeps(world: World) -> None:
    # given
    given_references(world, sink={"rows": "${source.output.rows}"})
    world.report("source", TaskStatus.IN_PROGRESS, output='{"rows":3}')

    # when
    world.report("source", attempt=1)
    world.advance("source")

    # then
    assert input_of(world, "sink") == {"rows": 3}


def test_reference_to_a_task_without_output_is_nothing(world: World) -> None:
    # given
    given_references(world, sink={"whole": "${source.output}", "part": "${source.output.n}"})

    # when
    world.complete("source")

    # then
    assert input_of(world, "sink") == {"whole": None, "part": None}


def test_input_is_resolved_once(world: World) -> None:
    # given
    given_references(world, sink={"n": "${source.output.n}"})
    world.report("source", output='{"n":1}')
    world.advance("source")

    # when: it is announced again, and the output is another by now
    (item,) = world.table.items(keys.output_pk(world.tenant, "nightly", "source"))
    world.table.put({**item, "payload": {"S": '{"n":2}'}})
    world.advance("source")

    # then
    assert input_of(world, "sink") == {"n": 1}


def test_many_references_to_one_payload_cost_one_read(world: World) -> None:
    # given
    given_references(world, sink={f"key{number}": "${source.output.n}" for number in range(500)})
    world.report("source", output='{"n":1}')

    # when
    with counted_calls(world.table.client) as calls:
        world.advance("source")

    # then
    assert set(input_of(world, "sink").values()) == {1}
    assert calls.total() < 25


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({f"key{number}": "${source.output}" for number in range(5)}, id="more than an item holds"),
        pytest.param({"text": "${source.output}" * 5_000}, id="more than memory holds"),
    ],
)
def test_task_whose_input_would_grow_too_large_fails_and_says_so(world: World, value: Any) -> None:
    # given
    given_references(world, sink=value, other={"n": "${source.output.n}"})
    world.report("source", output=json.dumps({"n": 1, "much": "x" * 90_000}))

    # when
    world.advance("source")

    # then
    failed = world.task("sink")
    assert failed.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert failed.message is not None
    assert re.search(r"its input.* [\d,]+ bytes of JSON", failed.message)
    assert world.task("other").status is TaskStatus.SCHEDULED
    world.advance("sink")
    assert world.status() is ExecutionStatus.FAILED


def test_input_that_would_grow_too_large_is_given_up_before_it_has_grown(world: World) -> None:
    # given: references that would make it 450 MB
    given_references(world, sink={"text": "${source.output}" * 5_000})
    world.report("source", output=json.dumps({"much": "x" * 90_000}))

    # when
    tracemalloc.start()
    world.advance("source")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # then
    assert world.task("sink").status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert peak < 50_000_000


def test_large_reference_that_fits_is_resolved(world: World) -> None:
    # given
    given_references(world, sink={"one": "${source.output}", "two": "${source.output.much}"})
    much = "x" * (MAX_REFERRED_BYTES // 2 - 1_000)
    world.report("source", output=json.dumps({"much": much}))

    # when
    world.advance("source")

    # then
    assert world.task("sink").status is TaskStatus.SCHEDULED
    assert input_of(world, "sink") == {"one": {"much": much}, "two": much}


def wrapped(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = {"a": value}
    return value


def given_chain_of_inputs(world: World, *levels: int) -> list[str]:
    """Tasks of which each wraps the input of the one before into some more levels."""
    names = [f"step{number}" for number in range(len(levels))]
    world.create(
        *(
            TaskDefinition(
                name,
                input=json.dumps(wrapped(deep, f"${{{before}.input}}" if before else 1)),
                depends_on=(before,) if before else (),
            )
            for before, name, deep in zip(["", *names], names, levels, strict=False)
        )
    )
    return names


def test_input_that_would_be_nested_too_deep_fails_for_good_and_can_be_retried(world: World) -> None:
    # given
    last = given_chain_of_inputs(world, 30, 20, 20)[-1]
    world.complete("step0")
    assert world.task("step1").status is TaskStatus.SCHEDULED

    # when
    world.complete("step1")

    # then
    failed = world.task(last)
    assert failed.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert failed.message == f"its input, with its references resolved, is nested more than {MAX_NESTING} levels deep"
    world.advance(last)
    assert world.status() is ExecutionStatus.FAILED

    # when a person tries it again
    world.reopener.retry(world.tenant, "nightly")

    # then it is tried, and comes to the same end; an attempt that was never opened is not spent
    again = world.task(last)
    assert (again.status, again.attempt) == (TaskStatus.FAILED_WITH_TERMINAL_ERROR, 1)
    assert again.version > failed.version
    world.advance(last)
    assert world.status() is ExecutionStatus.FAILED


def test_input_of_the_greatest_depth_is_made(world: World) -> None:
    # given
    last = given_chain_of_inputs(world, MAX_NESTING // 2, MAX_NESTING // 2)[-1]

    # when
    world.complete("step0")

    # then
    assert input_of(world, last) == wrapped(MAX_NESTING, 1)


def test_what_was_kept_before_depth_was_bounded_fails_what_refers_to_it(world: World) -> None:
    # given an input that no parser here reads
    given_references(world, sink={"v": "${source.input}"}, other={"v": "${source.output}"})
    deep = '{"a":' * 20_000 + "1" + "}" * 20_000
    pk = keys.execution_pk(world.tenant, "nightly")
    item = world.table.item(pk, keys.input_sk("source"))
    assert item is not None
    world.table.put({**item, "payload": {"S": deep}})

    # when
    world.complete("source")

    # then
    failed = world.task("sink")
    assert failed.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert failed.message == "its input, with its references resolved, is nested too deep"
    assert world.task("other").status is TaskStatus.SCHEDULED


def test_inputs_that_double_with_each_task_end_at_the_bound(world: World) -> None:
    # given: the last would be two to the power of 30
    names = [f"step{number}" for number in range(30)]
    world.create(
        TaskDefinition(names[0], input=json.dumps({"v": "x" * 1_000})),
        *(
            TaskDefinition(
                name,
                input=json.dumps({"l": f"${{{before}.input}}", "r": f"${{{before}.input}}"}),
                depends_on=(before,),
            )
            for before, name in itertools.pairwise(names)
        ),
    )

    # when
    done = 0
    while world.task(names[done]).status is TaskStatus.SCHEDULED:
        world.complete(names[done])
        done += 1

    # then
    assert 5 < done < 10
    assert world.task(names[done]).status is TaskStatus.FAILED_WITH_TERMINAL_ERROR


NAMES_IN_REFERENCES = ("a", "a.output", "a{b}", "}", "${", 'say "hi"', "back\\slash", " a [0] ", "workflow")


def test_tasks_of_any_name_can_be_referred_to(world: World) -> None:
    # given a task for each name, and one that refers to each by itself, at one remove
    world.create(
        *some_tasks(*NAMES_IN_REFERENCES),
        TaskDefinition("between", depends_on=NAMES_IN_REFERENCES),
        *(
            TaskDefinition(
                f"sink {index}",
                input=json.dumps({"v": f"${{{name}.output.v}}"}),
                depends_on=("between",) if name not in ("a", "a.output") else (name,),
            )
            for index, name in enumerate(NAMES_IN_REFERENCES)
        ),
    )

    # when
    for index, name in enumerate(NAMES_IN_REFERENCES):
        world.report(name, output=json.dumps({"v": index}))
        world.advance(name)
    world.complete("between")

    # then
    inputs = [input_of(world, f"sink {index}") for index in range(len(NAMES_IN_REFERENCES))]
    assert inputs == [{"v": index} for index in range(len(NAMES_IN_REFERENCES))]


def test_names_that_are_no_tasks_cost_no_reads(world: World) -> None:
    # given
    strangers = "".join(f"${{stranger{number}.output}}${{workflow.input}}" for number in range(500))
    given_references(world, sink={"v": strangers})
    world.report("source", output='{"n":1}')

    # when
    with counted_calls(world.table.client) as calls:
        world.advance("source")

    # then
    assert world.task("sink").status is TaskStatus.SCHEDULED
    assert calls.total() < 25


def test_tasks_added_again_keep_the_input_that_they_were_handed_out_with(world: World) -> None:
    # given
    world.create(*some_tasks("done"))
    world.report("done", output='{"n":1}')
    added = TaskDefinition("more", input='{"n":"${done.output.n}"}')
    world.creator.add_tasks(world.tenant, "nightly", [added])
    assert input_of(world, "more") == {"n": 1}

    # when
    world.creator.add_tasks(world.tenant, "nightly", [added])

    # then
    assert input_of(world, "more") == {"n": 1}


# ---------------------------------------------------------------- the queue


def test_announcement_that_no_try_can_serve_holds_up_no_other(
    world: World, load: Callable[[str, Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two executions; a task of one of them cannot be read
    world.create(*some_tasks("good"))
    world.report("good")
    world.creator.create(NewExecution(world.tenant, "spoilt", some_tasks("bad", "beside")))
    item = world.table.item(keys.execution_pk(world.tenant, "spoilt"), keys.task_sk("bad"))
    assert item is not None
    world.table.put({**item, "attempt": {"S": "none"}})
    module = load("workflow_advancer", world.table.client)
    world.queue.answers["send_message"] = {"MessageId": "1"}
    monkeypatch.setattr(services, "sqs", lambda: world.queue)
    texts = [
        json.dumps({"detail": {"tenant": world.tenant, "executionId": execution, "taskId": task}})
        for execution, task in (("spoilt", "bad"), ("nightly", "good"))
    ]

    # when
    records = [{"messageId": text, "body": text} for text in (*texts, "no message")]
    answer = module.handler({"Records": records}, Context(60_000))

    # then
    assert answer == {"batchItemFailures": []}
    assert [request["MessageBody"] for request in world.queue.requests("send_message")] == [texts[0], "no message"]
    assert world.status() is ExecutionStatus.COMPLETED


# ---------------------------------------------------------------- adding tasks


def test_tasks_added_that_wait_for_settled_tasks_are_scheduled(world: World) -> None:
    # given
    world.create(*some_tasks("done", "open"))
    world.complete("done")

    # when
    added = world.creator.add_tasks(
        world.tenant,
        "nightly",
        [
            TaskDefinition("after", depends_on=("done",)),
            TaskDefinition("later", depends_on=("done", "open")),
            TaskDefinition("free"),
        ],
    )

    # then
    assert [task.status for task in added] == [TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.SCHEDULED]
    world.complete("open")
    assert world.task("later").status is TaskStatus.SCHEDULED
    world.complete("after", "later", "free")
    assert world.status() is ExecutionStatus.COMPLETED


def test_execution_does_not_end_while_tasks_are_added(world: World) -> None:
    # given
    world.create(*some_tasks("only"))
    world.report("only")

    # when: tasks are added between the look at all tasks and the end
    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "update_item" and arguments["Key"]["sk"] == {"S": "EXEC"}:
            world.creator.add_tasks(world.tenant, "nightly", [TaskDefinition("more", depends_on=("only",))])
        return send()

    world.through(intercepted(world.table.client, around)).advance("only")

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert world.task("more").status is TaskStatus.SCHEDULED
    world.complete("more")
    assert world.status() is ExecutionStatus.COMPLETED


def test_tasks_that_come_too_late_are_withdrawn(world: World) -> None:
    # given
    world.create(*some_tasks("only"))
    world.report("only")
    ended: list[bool] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and not ended:
            ended.append(True)
            world.advance("only")
        return send()

    # when: the execution ends just before the tasks are there
    late = world.through(intercepted(world.table.client, around))
    with pytest.raises(ConflictError, match="ended"):
        late.creator.add_tasks(world.tenant, "nightly", [TaskDefinition("more", depends_on=("only",))])

    # then
    assert world.status() is ExecutionStatus.COMPLETED
    assert world.task("more").status is TaskStatus.CANCELED


def test_adding_that_dies_anywhere_holds_up_nothing_and_can_be_repeated(world: World) -> None:
    # given
    more = [TaskDefinition("more", depends_on=("first",)), TaskDefinition("last", depends_on=("more", "first"))]
    for call in itertools.count(1):
        execution_id = f"dies-at-{call}"
        world.create(
            TaskDefinition("first"), TaskDefinition("second", depends_on=("first",)), execution_id=execution_id
        )
        dying = world.through(intercepted(world.table.client, dying_at(call)))

        # when
        died = False
        try:
            dying.creator.add_tasks(world.tenant, execution_id, more)
        except DyingClientError:
            died = True
        world.report("first", execution_id=execution_id)
        world.advance("first", execution_id=execution_id)

        # then
        assert world.task("second", execution_id).status is TaskStatus.SCHEDULED
        world.creator.add_tasks(world.tenant, execution_id, more)
        assert world.task("more", execution_id).status is TaskStatus.SCHEDULED
        for name in ("more", "second", "last"):
            world.report(name, execution_id=execution_id)
            world.advance(name, execution_id=execution_id)
        assert world.status(execution_id) is ExecutionStatus.COMPLETED
        if not died:
            break
    assert call > len(more)


def test_added_task_that_is_freed_at_any_moment_of_its_addition_has_its_input(world: World) -> None:
    # given
    more = [TaskDefinition("more", depends_on=("first",), input='{"n":"${first.output.n}"}')]
    for moment in itertools.count(1):
        execution_id = f"freed-at-{moment}"
        world.create(*some_tasks("first", "second"), execution_id=execution_id)
        calls = itertools.count(1)

        def around(
            _operation: str, send: Callable[[], Any], _arguments: dict[str, Any], *, name: str = execution_id
        ) -> Any:
            answer = send()
            if next(calls) == moment:  # noqa: B023 - each round has its own
                world.report("first", execution_id=name, output='{"n":1}')
                world.advance("first", execution_id=name)
            return answer

        # when
        world.through(intercepted(world.table.client, around)).creator.add_tasks(world.tenant, execution_id, more)

        # then
        assert world.task("more", execution_id).status is (
            TaskStatus.SCHEDULED if next(calls) > moment else TaskStatus.PENDING
        )
        if world.task("more", execution_id).status is TaskStatus.PENDING:
            break
        assert input_of(world, "more", execution_id) == {"n": 1}
    assert moment > 5


def test_input_that_an_addition_left_behind_is_replaced_by_that_of_the_task(world: World) -> None:
    # given
    for call in itertools.count(1):
        execution_id = f"dies-at-{call}"
        world.create(*some_tasks("first"), execution_id=execution_id)
        dying = world.through(intercepted(world.table.client, dying_at(call)))
        died = False
        try:
            dying.creator.add_tasks(world.tenant, execution_id, [TaskDefinition("more", input='{"of":"the dead"}')])
        except DyingClientError:
            died = True
        if "more" in world.tasks(execution_id):
            break

        # when
        world.creator.add_tasks(world.tenant, execution_id, [TaskDefinition("more", input='{"of":"the living"}')])

        # then
        assert died
        assert input_of(world, "more", execution_id, attribute="payload") == {"of": "the living"}


def test_pair_is_never_there_without_its_counter(world: World) -> None:
    # given
    world.create(*some_tasks("first"))
    lost: list[Any] = []

    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        # A busy table takes what it likes of a batch: here, everything but the counters.
        if operation == "batch_execute_statement":
            statements = arguments["Statements"]
            taken = [statement for statement in statements if not statement["Parameters"][1]["S"].startswith("WAITS#")]
            if len(taken) < len(statements):
                lost.append(taken)
                if taken:
                    world.table.client.batch_execute_statement(Statements=taken)
                raise ReadTimeoutError(endpoint_url="http://localhost")
        return send()

    dying = world.through(intercepted(world.table.client, around), FakeTime(6_000))
    with pytest.raises(ServiceBusyError):
        dying.creator.add_tasks(world.tenant, "nightly", [TaskDefinition("more", depends_on=("first",))])

    # when
    assert lost
    world.complete("first")

    # then
    assert world.status() is ExecutionStatus.COMPLETED
