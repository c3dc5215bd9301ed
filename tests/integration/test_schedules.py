"""Schedules over an emulated table, with EventBridge Scheduler in memory: what is stored, and what each time starts."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import ModuleType
from typing import Any, Final

import pytest

from local.handlers import load_handler
from tasklatch.domain.schedule import MAX_SCHEDULES
from tasklatch.dynamodb import keys
from tasklatch.runtime import services
from tasklatch.runtime.settings import get_settings
from tasklatch.schedules.scheduler_sync import CHECK_DELAY_SECONDS
from tests.api_description import check_answer
from tests.factories import ALL_SCOPES, Context, Reply, api_event, call_api, fresh_name
from tests.integration.emulators import Table
from tests.schedule_helpers import FIRE_TIME, FakeQueue, FakeScheduler
from tests.workflow_helpers import refusal

CREATE: Final = "POST /v1/schedules"
LIST: Final = "GET /v1/schedules"
SCHEDULE: Final = "/v1/schedules/{scheduleId}"
GET: Final = f"GET {SCHEDULE}"
PUT: Final = f"PUT {SCHEDULE}"
DELETE: Final = f"DELETE {SCHEDULE}"
PAUSE: Final = f"POST {SCHEDULE}/pause"
RESUME: Final = f"POST {SCHEDULE}/resume"
HISTORY: Final = f"GET {SCHEDULE}/history"
PROJECT: Final = "/api/v1/projects/{project}/workflows"
TRIGGERS: Final = f"{PROJECT}/triggers"
TRIGGER: Final = f"{TRIGGERS}/{{externalId}}"
EXECUTION: Final = {"name": "report", "metadata": {"team": "a"}, "tasks": [{"taskId": "draw", "input": {"n": 1}}]}
NIGHTLY: Final = {
    "scheduleId": "nightly",
    "cronExpression": "30 4 * * 1-5",
    "timeZone": "Europe/Oslo",
    "execution": EXECUTION,
}
ENABLED: Final = ("cron(30 4 ? * 2-6 *)", "Europe/Oslo", "ENABLED")


@dataclass
class Api:
    """The functions of schedules, called as AWS calls them; each response is held to the description."""

    load: Callable[[str, Any], ModuleType]
    table: Table
    scheduler: FakeScheduler = field(default_factory=FakeScheduler)
    queue: FakeQueue = field(default_factory=FakeQueue)
    tenant: str = field(default_factory=fresh_name)

    def __call__(self, route: str, *path: str, body: Any = None, **more: Any) -> Reply:
        names = [part[1:-1] for part in route.split("/") if part.startswith("{")]
        initial = (self.tenant, *path) if "project" in names else path
        event = api_event(
            route,
            path=dict(zip(names, initial, strict=True)),
            body=body,
            claims={"scope": ALL_SCOPES, "org": self.tenant},
            **more,
        )
        functions = ("schedules", "executions", "execution_control", "cognite_definitions", "cognite_executions")
        (function,) = (name for name in functions if route in load_handler(name).app.operations)
        reply = call_api(self.load(function, self.table.client).handler, event)
        check_answer(route, reply)
        return reply

    def deliver(self, *messages: str) -> list[str]:
        """Deliver messages, and return the numbers of those that failed."""
        handler = self.load("schedule_runner", self.table.client).handler
        records = [{"messageId": str(number), "body": body} for number, body in enumerate(messages)]
        failures = handler({"Records": records}, Context())["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]

    def deliver_checks(self) -> None:
        """Deliver all checks that wait."""
        messages, self.queue.messages = self.queue.messages, []
        assert self.deliver(*(message["MessageBody"] for message in messages)) == []

    def history(self, schedule_id: str = "nightly") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self(HISTORY, schedule_id, query={}).body["items"]
        return items

    def executions(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self("GET /v1/executions", query={}).body["items"]
        return items


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("TENANT_CLAIM", "org")
    get_settings.cache_clear()
    api = Api(load, statements_table)
    monkeypatch.setattr(services, "scheduler", lambda: api.scheduler)
    monkeypatch.setattr(services, "sqs", lambda: api.queue)
    return api


def test_schedule_is_created_in_the_table_and_at_eventbridge_scheduler(api: Api) -> None:
    # when
    created = api(CREATE, body=NIGHTLY)

    # then
    assert (created.status, created.headers["location"]) == (201, "/v1/schedules/nightly")
    view = {"cronExpression": "30 4 * * 1-5", "timeZone": "Europe/Oslo", "paused": False, "scheduleId": "nightly"}
    assert {name: created.body[name] for name in view} == view
    assert api(GET, "nightly").body == {**created.body, "execution": EXECUTION}
    assert api(LIST, query={}).body == {"items": [created.body]}
    assert api.scheduler.expressions() == [ENABLED]


def test_schedule_sends_its_times_to_the_queue_and_what_fails_to_the_dead_letter_queue(api: Api) -> None:
    api(CREATE, body=NIGHTLY)

    [(name, schedule)] = api.scheduler.schedules.items()
    assert len(name) <= 64
    assert schedule["GroupName"] == "trigger-group"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule["Target"]["Arn"] == "arn:triggers"
    assert schedule["Target"]["RoleArn"] == "arn:trigger-role"
    assert schedule["Target"]["DeadLetterConfig"] == {"Arn": "arn:trigger-failures"}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"cronExpression": "0 0 * * 0"}, [("cron(0 0 ? * 1 *)", "UTC", "ENABLED")]),
        ({"everyMinutes": 1}, [("rate(1 minute)", "UTC", "ENABLED")]),
        ({"everyMinutes": 90}, [("rate(90 minutes)", "UTC", "ENABLED")]),
        (
            {"cronExpression": "0 0 13 * 5"},
            [("cron(0 0 13 * ? *)", "UTC", "ENABLED"), ("cron(0 0 ? * 6 *)", "UTC", "ENABLED")],
        ),
    ],
)
def test_times_are_written_as_eventbridge_scheduler_takes_them(
    api: Api, times: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    created = api(CREATE, body={**times, "execution": EXECUTION})

    assert created.status == 201
    assert api.scheduler.expressions() == expected


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"execution": EXECUTION}, "either cronExpression or everyMinutes"),
        ({"cronExpression": "0 0 * * *", "everyMinutes": 5, "execution": EXECUTION}, "either"),
        ({"everyMinutes": 5, "timeZone": "UTC", "execution": EXECUTION}, "timeZone goes with cronExpression"),
        ({"everyMinutes": 0, "execution": EXECUTION}, "everyMinutes"),
        ({"cronExpression": "61 0 * * *", "execution": EXECUTION}, "invalid minute"),
        ({"cronExpression": "0 0 */2 * 1", "execution": EXECUTION}, "cannot express"),
        ({"cronExpression": "0 0 * * *", "timeZone": "Europe/Nowhere", "execution": EXECUTION}, "IANA"),
        ({"cronExpression": "0 0 * * *", "timeZone": "../etc/passwd", "execution": EXECUTION}, "IANA"),
        ({"cronExpression": "0 0 * * *", "execution": {"tasks": []}}, "tasks"),
        ({"everyMinutes": 5, "execution": {**EXECUTION, "executionId": "mine"}}, "executionId"),
        ({"everyMinutes": 5, "execution": {"tasks": [{"taskId": "a", "dependsOn": ["b"]}]}}, "'b'"),
        ({"everyMinutes": 5, "execution": EXECUTION, "scheduleId": ".."}, "scheduleId"),
    ],
)
def test_schedule_that_could_not_run_is_refused_and_nothing_is_written(
    api: Api, body: dict[str, Any], word: str
) -> None:
    reply = api(CREATE, body=body)

    assert reply.status == 422
    assert word in reply.text
    assert api(LIST, query={}).body == {"items": []}
    assert api.scheduler.calls == []


def test_schedule_whose_execution_is_too_large_is_refused(api: Api) -> None:
    tasks = [{"taskId": f"t{number}", "input": {"text": "x" * 90_000}} for number in range(3)]

    assert api(CREATE, body={"everyMinutes": 5, "execution": {"tasks": tasks}}).status == 413


def test_the_same_request_again_is_the_same_schedule(api: Api) -> None:
    # given
    keyed = {"headers": {"idempotency-key": "one"}}
    body = {"everyMinutes": 5, "execution": EXECUTION}

    # when
    first, second = (api(CREATE, body=body, **keyed) for _ in range(2))

    # then
    assert (first.status, second.status) == (201, 200)
    assert first.body == second.body
    assert len(api.scheduler.schedules) == 1
    assert api(CREATE, body={**body, "everyMinutes": 6}, **keyed).status == 409
    assert api(CREATE, body={**body, "everyMinutes": 6, "scheduleId": first.body["scheduleId"]}).status == 409


def test_a_repeat_after_a_replacement_finds_the_schedule_as_it_is(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    replaced = api(PUT, "nightly", body={"everyMinutes": 5, "execution": EXECUTION}).body

    # then
    assert api(CREATE, body=NIGHTLY).body == replaced


def test_replacement_changes_times_and_execution_and_keeps_the_rest(api: Api) -> None:
    # given
    created = api(CREATE, body={**NIGHTLY, "cronExpression": "0 0 13 * 5"}).body
    api(PAUSE, "nightly")
    changed = {"tasks": [{"taskId": "other"}]}

    # when
    replaced = api(PUT, "nightly", body={"everyMinutes": 5, "execution": changed})

    # then
    assert replaced.status == 200
    assert (replaced.body["paused"], replaced.body["createdAt"]) == (True, created["createdAt"])
    assert "cronExpression" not in replaced.body
    assert api(GET, "nightly").body["execution"] == changed
    assert api.scheduler.expressions() == [("rate(5 minutes)", "UTC", "DISABLED")]


def test_an_equal_replacement_leaves_the_intervals_of_a_rate_as_they_are(api: Api) -> None:
    # given
    body = {"everyMinutes": 5, "execution": EXECUTION}
    api(CREATE, body={"scheduleId": "nightly", **body})
    api.scheduler.calls.clear()

    # when
    api(PUT, "nightly", body={**body, "execution": {"tasks": [{"taskId": "other"}]}})

    # then nothing but the second schedule, which there never is
    assert api.scheduler.changes() == ["delete"]


def test_paused_schedule_does_not_fire_until_it_is_resumed(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    in_flight = api.scheduler.fire()

    # when
    assert api(PAUSE, "nightly").body["paused"] is True
    assert api(PAUSE, "nightly").status == 200
    assert api.scheduler.expressions() == [(*ENABLED[:2], "DISABLED")]
    assert api.deliver(*in_flight) == []

    # then
    assert api.executions() == []
    assert api(RESUME, "nightly").body["paused"] is False
    assert api.scheduler.expressions() == [ENABLED]
    assert api.deliver(*in_flight) == []
    assert len(api.executions()) == 1


def test_execution_of_a_schedule_with_a_concurrency_key_waits_for_a_slot(api: Api) -> None:
    # given
    limited = {**EXECUTION, "concurrencyKey": "reports", "maxConcurrentExecutions": 1}
    created = api(CREATE, body={**NIGHTLY, "execution": limited})

    # when
    api.deliver(*api.scheduler.fire())

    # then
    assert created.status == 201
    assert api(GET, "nightly").body["execution"] == limited
    [execution] = api.executions()
    assert (execution["status"], execution["concurrencyKey"]) == ("RUNNING", "reports")
    assert "waitingSince" in execution


def test_deleted_schedule_is_gone_and_its_executions_stay(api: Api) -> None:
    # given
    api(CREATE, body={**NIGHTLY, "cronExpression": "0 0 13 * 5"})
    api.deliver(*api.scheduler.fire())

    # when
    assert api(DELETE, "nightly").status == 204

    # then
    assert api.scheduler.schedules == {}
    for route in (GET, DELETE, PAUSE, RESUME):
        assert api(route, "nightly").status == 404
    assert api(PUT, "nightly", body={"everyMinutes": 5, "execution": EXECUTION}).status == 404
    assert api(HISTORY, "nightly", query={}).status == 404
    assert len(api.executions()) == 1


def test_each_time_starts_one_execution(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    [message], [later] = api.scheduler.fire(), api.scheduler.fire(FIRE_TIME + timedelta(days=1))

    # when each is delivered twice, also in one batch
    assert api.deliver(message, message) == []
    assert api.deliver(message, later) == []

    # then
    executions = {item["executionId"]: item for item in api.executions()}
    assert len(executions) == 2
    assert all((item["name"], item["metadata"]) == ("report", {"team": "a"}) for item in executions.values())
    history = api.history()
    assert [entry["fireTime"] for entry in history] == ["2026-03-23T18:59:00.000Z", "2026-03-22T18:59:00.000Z"]
    assert {entry["executionId"] for entry in history} == set(executions)
    assert {entry["status"] for entry in history} == {"started"}
    task = api("GET /v1/executions/{executionId}/tasks/{taskId}", history[0]["executionId"], "draw").body
    assert (task["status"], task["input"]) == ("SCHEDULED", {"n": 1})


def test_a_time_on_which_both_day_fields_hold_starts_one_execution(api: Api) -> None:
    # given
    api(CREATE, body={**NIGHTLY, "cronExpression": "0 0 13 * 5"})

    # when
    messages = api.scheduler.fire()
    assert len(messages) == 2
    assert api.deliver(*messages) == []

    # then
    assert len(api.executions()) == len(api.history()) == 1


def test_a_time_that_was_started_before_a_replacement_is_found_again(api: Api) -> None:
    # given an execution whose history was not written
    api(CREATE, body=NIGHTLY)
    [message] = api.scheduler.fire()
    api.deliver(message)
    [entry] = api.history()
    schedule = api.table.item(keys.schedule_pk(api.tenant, "execution", "nightly"), keys.SCHEDULE_SK)
    assert schedule is not None
    pk = keys.firings_pk(api.tenant, "execution", "nightly", schedule["generation"]["S"])
    [item] = api.table.items(pk)
    api.table.client.delete_item(TableName="ledger", Key={name: item[name] for name in ("pk", "sk")})

    # when
    api(PUT, "nightly", body={"everyMinutes": 5, "execution": {"tasks": [{"taskId": "other"}]}})
    assert api.deliver(message) == []

    # then
    assert api.history() == [entry]
    assert len(api.executions()) == 1


def test_a_time_of_an_earlier_schedule_of_the_same_name_starts_nothing(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    messages = api.scheduler.fire()
    api(DELETE, "nightly")
    api(CREATE, body=NIGHTLY)

    # when
    assert api.deliver(*messages) == []

    # then
    assert api.executions() == api.history() == []


def test_a_time_that_cannot_start_is_in_the_history_with_the_reason(api: Api) -> None:
    # given a body that today's rules refuse
    api(CREATE, body=NIGHTLY)
    stored = api.table.item(keys.schedule_pk(api.tenant, "execution", "nightly"), keys.SCHEDULE_SK)
    body = {**NIGHTLY, "execution": {"tasks": [{"taskId": "a", "dependsOn": ["missing"]}]}}
    body.pop("scheduleId")
    api.table.put({**(stored or {}), "body": {"S": json.dumps(body)}})

    # when
    assert api.deliver(*api.scheduler.fire()) == []

    # then
    [entry] = api.history()
    assert entry["status"] == "failed"
    assert "missing" in entry["reason"]
    assert "executionId" not in entry
    assert api.executions() == []


def test_history_comes_in_pages_newest_first(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    times = [FIRE_TIME + timedelta(days=number) for number in range(5)]
    api.deliver(*(message for at in times for message in api.scheduler.fire(at)))

    # when
    pages, query = [], {"limit": "2"}
    while True:
        page = api(HISTORY, "nightly", query=query).body
        pages.append([entry["fireTime"][:10] for entry in page["items"]])
        if "nextCursor" not in page:
            break
        query = {"limit": "2", "cursor": page["nextCursor"]}

    # then
    assert pages == [["2026-03-26", "2026-03-25"], ["2026-03-24", "2026-03-23"], ["2026-03-22"]]
    assert api(HISTORY, "nightly", query={"cursor": "bad"}).status == 422


def test_schedules_come_in_pages_by_id(api: Api) -> None:
    names = ["a", "b", "c"]
    for name in reversed(names):
        api(CREATE, body={**NIGHTLY, "scheduleId": name})

    first = api(LIST, query={"limit": "2"}).body
    second = api(LIST, query={"limit": "2", "cursor": first["nextCursor"]}).body

    assert [item["scheduleId"] for item in (*first["items"], *second["items"])] == names
    assert "nextCursor" not in second


def test_schedules_of_tenants_are_apart(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    other = replace(api, tenant=fresh_name())

    # then
    assert other(GET, "nightly").status == 404
    assert other(DELETE, "nightly").status == 404
    assert other(LIST, query={}).body == {"items": []}
    assert other(CREATE, body={**NIGHTLY, "cronExpression": "0 0 * * *"}).status == 201
    assert len(api.scheduler.schedules) == 2
    api.deliver(*api.scheduler.fire())
    assert len(api.executions()) == len(other.executions()) == 1


def test_a_tenant_has_no_more_schedules_than_its_limit(api: Api) -> None:
    # given as many as there can be
    count = {"pk": {"S": keys.schedule_list(api.tenant, "execution")}, "sk": {"S": keys.SCHEDULE_COUNT_SK}}
    api(CREATE, body=NIGHTLY)
    api.table.put({**count, "scheduleCount": {"N": str(MAX_SCHEDULES)}})

    # then there is no room until one is deleted
    another = {**NIGHTLY, "scheduleId": "another"}
    refused = api(CREATE, body=another)
    assert refused.status == 409
    assert f"limit reached: {MAX_SCHEDULES} schedules" in refused.text
    assert api(CREATE, body=NIGHTLY).status == 200
    assert api(DELETE, "nightly").status == 204
    assert api(CREATE, body=another).status == 201
    assert api.table.item(count["pk"]["S"], count["sk"]["S"])["scheduleCount"] == {"N": str(MAX_SCHEDULES)}  # type: ignore[index]


class KilledError(BaseException):
    """End of a function in the middle of its work."""


@pytest.mark.parametrize("step", ["get", "create"])
def test_creation_that_stops_half_way_is_completed_by_its_check(api: Api, step: str) -> None:
    # given
    api.scheduler.fails[step] = [KilledError()]  # type: ignore[list-item]
    with pytest.raises(KilledError):
        api(CREATE, body=NIGHTLY)
    assert api.scheduler.schedules == {}

    # when
    api.deliver_checks()

    # then
    assert api.scheduler.expressions() == [ENABLED]
    assert api(CREATE, body=NIGHTLY).status == 200


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda api: api(PAUSE, "nightly"), [(*ENABLED[:2], "DISABLED")]),
        (lambda api: api(DELETE, "nightly"), []),
        (
            lambda api: api(PUT, "nightly", body={"everyMinutes": 5, "execution": EXECUTION}),
            [("rate(5 minutes)", "UTC", "ENABLED")],
        ),
    ],
    ids=["pause", "delete", "replace"],
)
def test_change_that_stops_before_eventbridge_scheduler_is_completed_by_its_check(
    api: Api, change: Callable[[Api], Reply], expected: list[tuple[str, str, str]]
) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    api.scheduler.fails = {name: [KilledError()] for name in ("get", "delete")}  # type: ignore[list-item]
    with pytest.raises(KilledError):
        change(api)
    api.scheduler.fails.clear()
    assert api.scheduler.expressions() == [ENABLED]

    # when
    api.deliver_checks()

    # then
    assert api.scheduler.expressions() == expected


def test_a_check_waits_until_no_change_can_be_under_way(api: Api) -> None:
    api(CREATE, body=NIGHTLY)

    assert [message["DelaySeconds"] for message in api.queue.messages] == [CHECK_DELAY_SECONDS]
    assert api.queue.messages[0]["QueueUrl"] == "https://queue/triggers"


def test_a_check_changes_nothing_that_agrees(api: Api) -> None:
    api(CREATE, body=NIGHTLY)
    api.scheduler.calls.clear()

    api.deliver_checks()

    assert api.scheduler.changes() == ["delete"]
    assert api.scheduler.expressions() == [ENABLED]


def test_a_time_of_a_deleted_schedule_removes_what_is_left_at_eventbridge_scheduler(api: Api) -> None:
    # given
    api(CREATE, body=NIGHTLY)
    left = dict(api.scheduler.schedules)
    api(DELETE, "nightly")
    api.scheduler.schedules.update(left)

    # when
    assert api.deliver(*api.scheduler.fire()) == []

    # then
    assert api.scheduler.schedules == {}
    assert api.executions() == []


@pytest.mark.parametrize("code", ["ConflictException", "ThrottlingException", "InternalServerException"])
def test_busy_scheduler_is_tried_again(api: Api, code: str) -> None:
    error = refusal(code)
    if code == "InternalServerException":
        error.response["ResponseMetadata"] = {"HTTPStatusCode": 500}  # type: ignore[typeddict-item]
    api.scheduler.fails = {"get": [error], "create": [error], "delete": [error]}

    assert api(CREATE, body=NIGHTLY).status == 201
    assert api.scheduler.expressions() == [ENABLED]


def test_refusal_of_eventbridge_scheduler_is_an_unhandled_error(api: Api) -> None:
    api.scheduler.fails = {"create": [refusal("ValidationException")]}

    assert api(CREATE, body=NIGHTLY).status == 500


def test_message_that_is_none_is_moved_to_the_dead_letter_queue(api: Api) -> None:
    assert api.deliver("{}", '{"tenant": "a", "kind": "odd", "scheduleId": "b"}') == []

    assert [message["QueueUrl"] for message in api.queue.messages] == ["https://queue/failures"] * 2


def test_name_is_never_read_as_an_attribute_that_the_scheduler_replaces(api: Api) -> None:
    # given
    _define(api)
    name = "<aws.scheduler.scheduled-time>"
    assert api(f"POST {TRIGGERS}", body=a_trigger(name)).status == 200

    # when
    assert api.deliver(*api.scheduler.fire()) == []

    # then
    [run] = api(f"GET {TRIGGER}/history", name, query={}).body["items"]
    assert run["status"] == "success"


def _define(api: Api) -> None:
    task = {"externalId": "draw", "type": "function", "parameters": {"function": {"externalId": "fn"}}}
    task["parameters"]["function"]["data"] = "${workflow.input}"  # type: ignore[index]
    version = {"workflowExternalId": "report", "version": "v1", "workflowDefinition": {"tasks": [task]}}
    assert api(f"POST {PROJECT}", body={"items": [{"externalId": "report"}]}).status == 200
    assert api(f"POST {PROJECT}/versions", body={"items": [version]}).status == 200


def a_trigger(external_id: str = "daily", **fields: Any) -> dict[str, Any]:
    item = {
        "externalId": external_id,
        "triggerRule": {"triggerType": "schedule", "cronExpression": "0 6 * * *", "timezone": "Europe/Oslo"},
        "workflowExternalId": "report",
        "workflowVersion": "v1",
        "input": {"a": 1, "b": None},
        "metadata": {"team": "a"},
        "authentication": {"nonce": "n"},
        **fields,
    }
    return {"items": [item]}


DATA_MODELING: Final = {
    "triggerType": "dataModeling",
    "dataModelingQuery": {"with": {"a": {"nodes": {"filter": None}}}, "select": {}},
    "batchSize": 100,
    "batchTimeout": 60,
}
RECORD_STREAM: Final = {
    "triggerType": "recordStream",
    "streamExternalId": "s",
    "batchSize": 1,
    "batchTimeout": 10,
    "initializeCursor": "6h-ago",
}


def test_trigger_is_shown_without_its_authentication(api: Api) -> None:
    # given
    _define(api)

    # when
    [created] = api(f"POST {TRIGGERS}", body=a_trigger()).body["items"]

    # then
    expected = {**a_trigger()["items"][0], "isPaused": False}
    expected.pop("authentication")
    assert {name: value for name, value in created.items() if not name.endswith("Time")} == expected
    assert created["createdTime"] == created["lastUpdatedTime"] > 0
    assert api(f"GET {TRIGGERS}", query={}).body == {"items": [created]}
    assert api.scheduler.expressions() == [("cron(0 6 * * ? *)", "Europe/Oslo", "ENABLED")]


def test_trigger_that_is_put_again_is_replaced_and_keeps_its_creation_time(api: Api) -> None:
    # given
    _define(api)
    [created] = api(f"POST {TRIGGERS}", body=a_trigger()).body["items"]
    rule = {"triggerType": "schedule", "cronExpression": "0 7 * * *"}

    # when
    [replaced] = api(f"POST {TRIGGERS}", body=a_trigger(triggerRule=rule, input=None, metadata=None)).body["items"]

    # then
    assert (replaced["createdTime"], replaced["triggerRule"]) == (created["createdTime"], rule)
    assert "input" not in replaced
    assert api.scheduler.expressions() == [("cron(0 7 * * ? *)", "UTC", "ENABLED")]


def test_run_of_a_trigger_has_its_input_with_the_version_and_its_metadata(api: Api) -> None:
    # given
    _define(api)
    api(f"POST {TRIGGERS}", body=a_trigger())

    # when
    messages = api.scheduler.fire()
    assert api.deliver(*messages, *messages) == []

    # then
    [run] = api(f"GET {TRIGGER}/history", "daily", query={}).body["items"]
    execution_id = run.pop("workflowExecutionId")
    assert run == {
        "externalId": "daily",
        "fireTime": int(FIRE_TIME.timestamp() * 1000),
        "workflowExternalId": "report",
        "workflowVersion": "v1",
        "status": "success",
    }
    execution = api(f"GET {PROJECT}/executions/{{executionId}}", execution_id).body
    assert execution["input"] == {"a": 1, "b": None, "version": "v1"}
    assert execution["metadata"] == {"team": "a"}
    assert execution["executedTasks"][0]["input"]["function"]["data"] == {"a": 1, "b": None, "version": "v1"}
    assert [item["id"] for item in api(f"POST {PROJECT}/executions/list", body={}).body["items"]] == [execution_id]


def test_trigger_of_a_workflow_that_is_deleted_stays_and_its_history_says_why(api: Api) -> None:
    # given
    _define(api)
    api(f"POST {TRIGGERS}", body=a_trigger())

    # when
    api(f"POST {PROJECT}/delete", body={"items": [{"externalId": "report"}]}, query={})
    assert api.deliver(*api.scheduler.fire()) == []

    # then
    [run] = api(f"GET {TRIGGER}/history", "daily", query={}).body["items"]
    assert (run["status"], run["reasonForFailure"]) == ("failed", "workflow version 'report:v1' not found")
    assert "workflowExecutionId" not in run


@pytest.mark.parametrize("rule", [DATA_MODELING, RECORD_STREAM], ids=lambda rule: rule["triggerType"])
def test_trigger_on_data_changes_is_stored_and_shown_and_its_history_says_why_it_never_fires(
    api: Api, rule: dict[str, Any]
) -> None:
    # given
    _define(api)

    # when
    [created] = api(f"POST {TRIGGERS}", body=a_trigger(triggerRule=rule)).body["items"]

    # then
    assert created["triggerRule"] == rule
    assert api.scheduler.schedules == {}
    assert api(f"POST {TRIGGER}/pause", "daily").body == {}
    assert api(f"GET {TRIGGERS}", query={}).body["items"][0]["isPaused"] is True
    [run] = api(f"GET {TRIGGER}/history", "daily", query={}).body["items"]
    assert run["status"] == "failed"
    assert "do not fire here" in run["reasonForFailure"]


def test_trigger_is_paused_resumed_and_deleted(api: Api) -> None:
    # given
    _define(api)
    api(f"POST {TRIGGERS}", body=a_trigger())

    # then
    for change, state in (("pause", "DISABLED"), ("pause", "DISABLED"), ("resume", "ENABLED"), ("resume", "ENABLED")):
        assert api(f"POST {TRIGGER}/{change}", "daily").body == {}
        assert [item["State"] for item in api.scheduler.schedules.values()] == [state]
    assert api(f"POST {TRIGGERS}/delete", body={"items": [{"externalId": "daily"}]}).body == {}
    assert api(f"GET {TRIGGERS}", query={}).body == {"items": []}
    assert api.scheduler.schedules == {}


def test_trigger_that_is_missing_is_refused_in_the_platforms_words(api: Api) -> None:
    def message(reply: Reply) -> tuple[int, str]:
        return reply.status, reply.body["error"]["message"]

    for change in ("pause", "resume"):
        assert message(api(f"POST {TRIGGER}/{change}", "none")) == (404, "Trigger not found.")
    assert message(api(f"GET {TRIGGER}/history", "none", query={})) == (404, "Workflow trigger not found.")
    deleted = api(f"POST {TRIGGERS}/delete", body={"items": [{"externalId": "none"}]})
    assert message(deleted) == (404, "Trigger not found.")


def test_delete_of_triggers_with_one_that_is_missing_deletes_none(api: Api) -> None:
    _define(api)
    api(f"POST {TRIGGERS}", body=a_trigger())

    names = {"items": [{"externalId": "daily"}, {"externalId": "none"}]}
    assert api(f"POST {TRIGGERS}/delete", body=names).status == 404
    assert len(api(f"GET {TRIGGERS}", query={}).body["items"]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"workflowVersion": "v2"},
        {"externalId": "a/b"},
        {"externalId": "x" * 256},
        {"triggerRule": {"triggerType": "schedule", "cronExpression": "bad"}},
        {"triggerRule": {"triggerType": "schedule", "cronExpression": "0 0 * * *", "timezone": "Nowhere"}},
        {"triggerRule": {"triggerType": "odd"}},
        {"triggerRule": {**DATA_MODELING, "batchSize": 99}},
        {"triggerRule": {**RECORD_STREAM, "batchTimeout": 9}},
        {"input": {"text": "x" * 110_000}},
        {"metadata": {str(number): "x" for number in range(11)}},
        {"authentication": None},
    ],
)
def test_trigger_that_could_not_run_is_refused(api: Api, fields: dict[str, Any]) -> None:
    _define(api)

    assert api(f"POST {TRIGGERS}", body=a_trigger(**fields)).status in (400, 404, 413)
    assert api(f"GET {TRIGGERS}", query={}).body == {"items": []}


def test_triggers_and_schedules_are_apart(api: Api) -> None:
    _define(api)
    api(f"POST {TRIGGERS}", body=a_trigger("nightly"))
    api(CREATE, body=NIGHTLY)

    assert len(api.scheduler.schedules) == 2
    assert api(DELETE, "nightly").status == 204
    assert [item["externalId"] for item in api(f"GET {TRIGGERS}", query={}).body["items"]] == ["nightly"]
