"""Tasks that bring others: what a request may say of them, and the writes of a parent."""

from typing import Any

import pytest

from tasklatch.api.body import validate
from tasklatch.api.v1.executions.task_models import TasksBody
from tasklatch.domain.conditional_write import ConditionalWrite, manual_retry_write
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.parent_writes import parent_end_write, parent_start_write
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.task_definition import TaskDefinition, new_children, new_task
from tests.factories import NOW


def definitions_of(*tasks: dict[str, Any]) -> list[TaskDefinition]:
    return validate(TasksBody, {"tasks": list(tasks)}).definitions()


def after(task: Task, write: ConditionalWrite) -> Task:
    """Return a task after a write, as far as these tests look at it."""
    assert write.allows(task)
    values = {"version": task.version + 1, "precedence": write.precedence, "status": write.status}
    written = {name: value for name, value in write.values.items() if name in Task.__dataclass_fields__}
    fields = {name: getattr(task, name) for name in Task.__dataclass_fields__}
    return Task(**{**fields, **written, **values})


def test_children_are_in_their_parents_input_as_they_were_sent() -> None:
    (parent,) = definitions_of({"taskId": "p", "children": [{"taskId": "x", "input": {"from": "${workflow.input.n}"}}]})

    assert parent.input == '{"children":[{"taskId":"x","input":{"from":"${workflow.input.n}"}}]}'
    assert parent.children is not None
    assert parent.children.is_declared


def test_what_brings_others_is_another_definition() -> None:
    first, second = (
        definitions_of({"taskId": "p", "children": [{"taskId": name}]})[0].fingerprint for name in ("x", "y")
    )

    assert len({first, second, definitions_of({"taskId": "p"})[0].fingerprint}) == 3


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"children": []}, ["body", "tasks", 0, "children"]),
        ({"children": "list"}, ["body", "tasks", 0, "children"]),
        ({"children": 7}, ["body", "tasks", 0, "children"]),
        ({"children": [{"taskId": "x"}], "input": {}}, ["body", "tasks", 0]),
        ({"children": [{"taskId": "x"}], "timeoutSeconds": 5}, ["body", "tasks", 0]),
        ({"children": [{"taskId": "x"}], "heartbeatTimeoutSeconds": 5}, ["body", "tasks", 0]),
        ({"children": [{"taskId": "x"}], "retryPolicy": {}}, ["body", "tasks", 0]),
        ({"children": [{"taskId": "x", "children": [{"taskId": "y"}]}]}, ["body", "tasks", 0, "children"]),
        ({"children": [{"taskId": "other"}]}, ["body", "tasks", 0, "children", 0]),
        ({"children": [{"taskId": "p"}]}, ["body", "tasks", 0, "children", 0]),
        ({"children": [{"taskId": "x"}, {"taskId": "x"}]}, ["body", "tasks", 0, "children", 1]),
        ({"children": [{"taskId": "x", "dependsOn": ["other"]}]}, ["body", "tasks", 0, "children", 0]),
        (
            {"children": [{"taskId": "x", "input": {"from": "${y.output}"}}, {"taskId": "y"}]},
            ["body", "tasks", 0, "children", 0],
        ),
    ],
)
def test_children_that_could_not_run_are_refused_where_they_are(fields: dict[str, Any], location: list[Any]) -> None:
    with pytest.raises(InvalidRequestError) as error:
        definitions_of({"taskId": "p", **fields}, {"taskId": "other"})

    locations: list[Any] = [entry["loc"] for entry in error.value.errors]
    assert locations
    assert all(path[: len(location)] == location for path in locations), locations


def test_children_of_two_parents_have_different_ids() -> None:
    with pytest.raises(InvalidRequestError):
        definitions_of({"taskId": "p", "children": [{"taskId": "x"}]}, {"taskId": "q", "children": [{"taskId": "x"}]})


def test_children_may_refer_to_what_their_parent_waits_for() -> None:
    child = {"taskId": "x", "input": {"from": "${other.output}"}}

    assert definitions_of({"taskId": "other"}, {"taskId": "p", "dependsOn": ["other"], "children": [child]})


def a_parent() -> Task:
    (definition,) = definitions_of({"taskId": "p", "children": [{"taskId": "x"}]})
    return new_task(definition, "t", "e", NOW)


def test_parent_opens_no_attempt() -> None:
    # given
    parent = a_parent()

    # when
    started = after(parent, parent_start_write(parent, now=NOW))

    # then
    assert (started.status, started.precedence) == (TaskStatus.IN_PROGRESS, parent.precedence)
    assert started.opened_attempts == 0
    assert not parent_start_write(parent, now=NOW).allows(started)


def test_release_that_does_not_know_parents_leaves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = a_parent()
    assert not parent.is_of_later_version

    monkeypatch.setattr("tasklatch.domain.task.FORM", 1)

    assert parent.is_of_later_version


def test_parent_is_completed_for_good_also_while_it_waits_again() -> None:
    for parent in (a_parent(), after(a_parent(), parent_start_write(a_parent(), now=NOW))):
        completed = after(parent, parent_end_write(parent, now=NOW))

        assert completed.status is TaskStatus.COMPLETED
        with pytest.raises(ValueError, match="a success is final"):
            manual_retry_write(completed, now=NOW)


def test_child_knows_its_parent_which_waits_for_it() -> None:
    (child,) = new_children(definitions_of({"taskId": "x"}), a_parent(), NOW)

    assert (child.parent_id, child.execution_id, child.follow_up) == ("p", "e", None)
