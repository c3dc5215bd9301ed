"""Dynamic tasks and subworkflows in Cognite's contract, over an emulated table."""

from typing import Any

import pytest

from tests.factories import fresh_name
from tests.integration.test_cognite import (
    CANCEL,
    EXECUTION,
    NATIVE_ADD,
    NATIVE_TASK,
    RETRY,
    RUN,
    VERSION,
    Api,
    a_task,
    api,
)

__all__ = ["api"]


def a_dynamic(external_id: str, reference: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    dependencies = [{"externalId": name} for name in depends_on]
    parameters = {"dynamic": {"tasks": reference}}
    return {"externalId": external_id, "type": "dynamic", "parameters": parameters, "dependsOn": dependencies, **fields}


def a_subworkflow(external_id: str, **content: Any) -> dict[str, Any]:
    return {"externalId": external_id, "type": "subworkflow", "parameters": {"subworkflow": content}}


def executed(api: Api, execution_id: str) -> dict[str, Any]:
    """Let all follow from what was reported, and return the tasks as they are shown, by external id."""
    api.world.settle(execution_id)
    shown = api(EXECUTION, execution_id).body["executedTasks"]
    return {task["externalId"]: task for task in shown}


def complete(api: Api, execution_id: str, external_id: str, **more: Any) -> dict[str, Any]:
    reply = api.update(executed(api, execution_id)[external_id]["id"], "COMPLETED", **more)
    assert reply.status == 200, reply.text
    return executed(api, execution_id)


def test_dynamic_task_is_completed_at_once_and_its_tasks_follow(api: Api) -> None:
    # given
    api.define(a_task("list"), a_dynamic("fan", "${list.output.tasks}", "list"), a_task("report", "fan"))
    execution_id = api.run()["id"]
    brought = [a_task("x", data={"n": 1}), a_task("y", "x", data={"from": "${x.output.rows}"})]

    # when
    shown = complete(api, execution_id, "list", output={"tasks": brought})

    # then
    assert list(shown) == ["list", "fan", "x"]
    fan = shown["fan"]
    assert (fan["status"], fan["taskType"], fan["output"]) == ("COMPLETED", "dynamic", {})
    assert fan["input"] == {"dynamic": {"tasks": brought}}
    assert fan["endTime"] >= fan["startTime"]
    assert (fan["parentTaskExternalId"], shown["x"]["parentTaskExternalId"]) == (None, "fan")
    assert shown["x"]["input"]["function"]["data"]["n"] == 1

    # and what waits for it waits for all of them
    shown = complete(api, execution_id, "x", output={"rows": 3})
    assert shown["y"]["input"]["function"]["data"]["from"] == 3
    assert "report" not in shown
    shown = complete(api, execution_id, "y")
    assert list(shown) == ["list", "fan", "x", "y", "report"]
    complete(api, execution_id, "report")
    assert api(EXECUTION, execution_id).body["status"] == "COMPLETED"


def test_nobody_can_update_a_dynamic_task(api: Api) -> None:
    api.define(a_dynamic("fan", "${workflow.input.tasks}"))
    execution_id = api.run(input={"tasks": [a_task("x")]})["id"]

    reply = api.update(executed(api, execution_id)["fan"]["id"], "FAILED")

    # then, as for every task that is not handed out
    assert reply.status == 404
    assert executed(api, execution_id)["fan"]["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        (None, "tasks: Field required"),
        ("x", "valid list"),
        ([7], "valid dictionary"),
        ([{"externalId": "x"}], "tasks.0.type"),
        ([a_task("x"), a_task("x")], "duplicate"),
        ([a_task("x", "list")], "'list' not found"),
        ([a_dynamic("x", "${workflow.input}")], "a dynamic task cannot be in another task"),
        ([a_subworkflow("x", tasks=[a_task("y")])], "a subworkflow task cannot be in another task"),
        ([a_task("fan")], "another task with the id 'fan'"),
        ([a_task(f"x{number}") for number in range(199)], "more than the execution may have"),
    ],
)
def test_what_is_no_list_of_valid_tasks_fails_the_dynamic_task(api: Api, tasks: Any, reason: str) -> None:
    # given
    api.define(a_task("list"), a_dynamic("fan", "${list.output.tasks}", "list"))
    execution_id = api.run()["id"]

    # when
    fan = complete(api, execution_id, "list", output={"tasks": tasks})["fan"]

    # then
    assert fan["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert reason in fan["reasonForIncompletion"]
    assert fan["input"] == {"dynamic": {"tasks": "${list.output.tasks}"}}
    assert api(EXECUTION, execution_id).body["status"] == "FAILED"


def test_with_dynamic_tasks_there_are_at_most_two_hundred(api: Api) -> None:
    api.define(a_task("list"), a_dynamic("fan", "${list.output.tasks}", "list"))
    execution_id = api.run()["id"]

    shown = complete(api, execution_id, "list", output={"tasks": [a_task(f"x{number}") for number in range(198)]})

    assert (len(shown), shown["fan"]["status"]) == (200, "COMPLETED")


def test_subworkflow_has_its_tasks_in_the_definition(api: Api) -> None:
    # given
    inner = [{**a_task("x", data={"v": "${workflow.input.n}"}), "retries": 0}, a_task("y", "x")]
    api.define(a_subworkflow("sub", tasks=inner), a_task("after", "sub"))

    # when
    execution_id = api.run(input={"n": 7})["id"]
    shown = executed(api, execution_id)

    # then
    assert (shown["sub"]["status"], shown["sub"]["taskType"], shown["sub"]["output"]) == (
        "COMPLETED",
        "subworkflow",
        {},
    )
    assert shown["x"]["parentTaskExternalId"] == "sub"
    assert shown["x"]["input"]["function"]["data"]["v"] == 7
    assert list(shown) == ["sub", "x"]
    complete(api, execution_id, "x")
    assert "after" in complete(api, execution_id, "y")

    # and what was left out of the definition is shown
    (stored, _) = api(VERSION, "nightly", "1").body["workflowDefinition"]["tasks"]
    first, second = stored["parameters"]["subworkflow"]["tasks"]
    assert (first["retries"], second["retries"], first["timeout"]) == (0, 3, 3600)


def test_subworkflow_of_another_version_has_the_tasks_of_the_start(api: Api) -> None:
    # given
    api.define(a_task("x"), workflow="inner", version="7")
    api.define(a_subworkflow("sub", workflowExternalId="inner", version="7"))
    execution_id = api.run()["id"]

    # when that is replaced
    api.define(a_task("other"), workflow="inner", version="7")

    # then
    assert set(executed(api, execution_id)) == {"sub", "x"}
    assert set(executed(api, api.run()["id"])) == {"sub", "other"}


def test_run_is_refused_if_its_subworkflow_cannot_be_run(api: Api) -> None:
    api.define(a_task("x"), a_subworkflow("sub", workflowExternalId="inner", version="7"))
    body = {"authentication": {"nonce": fresh_name()}}

    unknown = api(RUN, "nightly", "1", body=body)
    api.define(a_dynamic("fan", "${workflow.input}"), workflow="inner", version="7")
    nested = api(RUN, "nightly", "1", body=body)
    api.define(a_task("x"), workflow="inner", version="7")
    repeated = api(RUN, "nightly", "1", body=body)
    api.define(*(a_task(f"y{number}") for number in range(199)), workflow="inner", version="7")
    too_many = api(RUN, "nightly", "1", body=body)

    assert (unknown.status, "inner:7" in unknown.text) == (404, True)
    assert (nested.status, "cannot be in another task" in nested.text) == (400, True)
    assert (repeated.status, "duplicate task: 'x'" in repeated.text) == (409, True)
    assert (too_many.status, "the limit is 200" in too_many.text) == (400, True)


def test_retry_of_a_failed_run_goes_on_with_what_was_brought(api: Api) -> None:
    # given
    api.define(a_subworkflow("sub", tasks=[a_task("x"), {**a_task("y"), "retries": 0}]), a_task("after", "sub"))
    execution_id = api.run()["id"]
    complete(api, execution_id, "x")
    assert api.update(executed(api, execution_id)["y"]["id"], "FAILED").status == 200
    failed = executed(api, execution_id)

    # when
    assert api(RETRY, execution_id, body={}).status == 200

    # then
    assert {name: task["status"] for name, task in failed.items()} == {
        "sub": "COMPLETED",
        "x": "COMPLETED",
        "y": "FAILED",
    }
    complete(api, execution_id, "y")
    complete(api, execution_id, "after")
    assert api(EXECUTION, execution_id).body["status"] == "COMPLETED"


def test_cancellation_covers_what_was_brought(api: Api) -> None:
    api.define(a_subworkflow("sub", tasks=[a_task("x")]))
    execution_id = api.run()["id"]
    executed(api, execution_id)

    assert api(CANCEL, execution_id, body={}).status == 200

    statuses = {name: task["status"] for name, task in executed(api, execution_id).items()}
    assert statuses == {"sub": "COMPLETED", "x": "CANCELED"}


def test_native_contract_shows_and_adds_children_of_a_run(api: Api) -> None:
    # given
    api.define(a_task("a"))
    execution_id = api.run()["id"]

    # when
    added = {"taskId": "native", "children": [{"taskId": "x"}]}
    assert api(NATIVE_ADD, execution_id, body={"tasks": [added]}).status == 200
    shown = executed(api, execution_id)

    # then
    assert (shown["x"]["parentTaskExternalId"], shown["native"]["status"]) == ("native", "COMPLETED")
    assert api(NATIVE_TASK, execution_id, "x").body["parentTaskId"] == "native"
