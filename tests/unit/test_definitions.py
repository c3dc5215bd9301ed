"""What executions are made from: tasks that can be told apart and all be reached."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.errors import ConflictError, InvalidRequestError
from tasklatch.domain.execution import WorkflowRun
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition, check_definitions, check_unchanged, new_children, new_task
from tests.factories import NOW, some_tasks


def waiting(task_id: str, *names: str) -> TaskDefinition:
    return TaskDefinition(task_id, depends_on=names)


def faults(*definitions: TaskDefinition, existing: tuple[str, ...] = ()) -> list[tuple[object, object]]:
    with pytest.raises(InvalidRequestError) as caught:
        check_definitions(definitions, existing)
    return [(error["type"], error["loc"]) for error in caught.value.errors]


def test_tasks_that_fit_together_pass() -> None:
    check_definitions([waiting("c", "a", "b"), waiting("b", "a"), *some_tasks("a")])
    check_definitions([waiting("c", "a")], existing=["a"])
    check_definitions([])


def test_each_repeated_task_is_named() -> None:
    assert faults(*some_tasks("a", "b", "a", "a")) == [
        ("duplicate_task_id", ["body", "tasks", 2, "taskId"]),
        ("duplicate_task_id", ["body", "tasks", 3, "taskId"]),
    ]


def test_each_unknown_dependency_is_named() -> None:
    assert faults(waiting("a", "b", "c"), waiting("b", "d")) == [
        ("unknown_dependency", ["body", "tasks", 0, "dependsOn"]),
        ("unknown_dependency", ["body", "tasks", 1, "dependsOn"]),
    ]


@pytest.mark.parametrize("length", [1, 2, 5, 500])
def test_cycle_of_any_length_is_detected(length: int) -> None:
    cycle = [waiting(f"{number}", f"{(number + 1) % length}") for number in range(length)]
    ((kind, _),) = faults(*cycle, waiting("outside", "0"))
    assert kind == "dependency_cycle"


def test_long_chain_is_no_cycle() -> None:
    check_definitions([waiting(f"{number}", *([f"{number - 1}"] if number else [])) for number in range(500)])


def test_task_ids_are_case_sensitive() -> None:
    check_definitions(some_tasks("a", "A"))


def creation(name: str | None, metadata: str | None, definitions: list[TaskDefinition]) -> NewExecution:
    return NewExecution("tenant", "nightly", definitions, name=name, metadata=metadata)


ANY = TaskDefinition("a", input="{}", timeout_seconds=1)
OTHERS = [
    replace(ANY, task_id="b"),
    replace(ANY, input=None),
    replace(ANY, input='{"a":1}'),
    replace(ANY, depends_on=("b",)),
    replace(ANY, retry_policy=RetryPolicy(max_attempts=4)),
    replace(ANY, timeout_seconds=2),
    replace(ANY, timeout_seconds=None, heartbeat_timeout_seconds=1),
    replace(ANY, on_failure=OnFailure.CONTINUE),
]


def test_different_definitions_have_different_fingerprints() -> None:
    assert replace(ANY).fingerprint == ANY.fingerprint
    assert len({item.fingerprint for item in [ANY, *OTHERS]}) == 1 + len(OTHERS)


def test_fingerprint_of_a_definition_is_the_one_that_tasks_are_stored_with() -> None:
    assert ANY.fingerprint == "a6f6a12cd3f0"


def test_fingerprints_are_the_same_in_whatever_order_the_keys_of_an_object_came() -> None:
    item, other = '{"a":{"x":1,"y":2},"b":"é"}', '{"b":"é","a":{"y":2,"x":1}}'
    runs = [WorkflowRun("1", text, text) for text in (item, other)]

    assert replace(ANY, input=item).fingerprint == replace(ANY, input=other).fingerprint
    assert creation("n", item, [ANY]).fingerprint == creation("n", other, [ANY]).fingerprint
    assert (
        replace(creation("n", item, []), run=runs[0]).fingerprint
        == replace(creation("n", other, []), run=runs[1]).fingerprint
    )


@pytest.mark.parametrize("other", OTHERS[1:])
def test_task_that_was_created_from_something_else_is_a_conflict(other: TaskDefinition) -> None:
    check_unchanged(ANY, new_task(ANY, "tenant", "nightly", NOW))
    with pytest.raises(ConflictError):
        check_unchanged(ANY, new_task(other, "tenant", "nightly", NOW))


def test_new_task_waits_with_its_first_attempt_open() -> None:
    task = new_task(ANY, "tenant", "nightly", NOW)
    assert (task.status, task.attempt, task.version, task.precedence) == (TaskStatus.PENDING, 1, 1, 10)
    assert (task.created_at, task.updated_at) == (NOW, NOW)


_METADATA = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(json.dumps)


@given(st.none() | st.text(max_size=3), st.none() | _METADATA, st.lists(st.sampled_from([ANY, *OTHERS])))
def test_creation_has_the_fingerprint_of_its_request(
    name: str | None, metadata: str | None, definitions: list[TaskDefinition]
) -> None:
    fingerprint = creation(name, metadata, definitions).fingerprint
    assert fingerprint == creation(name, metadata, list(definitions)).fingerprint
    assert fingerprint != creation((name or "") + "x", metadata, definitions).fingerprint
    assert fingerprint != creation(name, json.dumps([metadata]), definitions).fingerprint
    assert fingerprint != creation(name, metadata, [*definitions, ANY]).fingerprint


def test_children_wait_in_the_queue_of_their_parent_unless_they_name_one() -> None:
    # given
    parent = replace(new_task(ANY, "tenant", "nightly", NOW), queue="work", priority=7)
    definitions = [replace(ANY, task_id="a"), replace(ANY, task_id="b", queue="other", priority=0)]

    # when
    children = new_children(definitions, parent, NOW)

    # then
    assert [(child.queue, child.priority) for child in children] == [("work", 7), ("other", 0)]
