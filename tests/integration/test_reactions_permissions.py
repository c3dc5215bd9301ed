"""What the functions really ask of AWS, held against what their roles allow: nothing is missing, nothing is too much.

A story is played through the functions' handlers, each call noted with the action that IAM knows it by.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from tasklatch.aws import keys
from tasklatch.aws.task_item import item_of
from tasklatch.aws.timers import timer_text
from tasklatch.clock import system_clock
from tasklatch.domain.task import Task
from tasklatch.domain.timer import timer_of
from tasklatch.settings import Settings
from tests.factories import Context, Reply, api_event, call_api, fresh_name
from tests.integration.emulators import Table, create_table, intercepted
from tests.reactions import Clock, FakeClient, World, a_bus, a_queue, a_scheduler, refusal
from tests.template.test_permissions import (
    BUS,
    CONNECTIONS,
    INDEX,
    MAY,
    SCHEDULES,
    TABLE,
    TIMER_ROLE,
    TIMERS,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Asked = set[tuple[str, str]]

FUNCTIONS: Final = {
    "report_status": "ReportStatusFunction",
    "executions": "ExecutionsFunction",
    "notifier": "NotifierFunction",
    "retry_scheduler": "RetrySchedulerFunction",
    "retry_dispatcher": "RetryDispatcherFunction",
    "workflow_advancer": "WorkflowAdvancerFunction",
    "live_connection": "LiveConnectionFunction",
    "execution_control": "ExecutionControlFunction",
    "reconciler": "ReconcilerFunction",
}
DYNAMODB: Final = {
    "batch_get_item": "BatchGetItem",
    "batch_write_item": "BatchWriteItem",
    "delete_item": "DeleteItem",
    "get_item": "GetItem",
    "put_item": "PutItem",
    "query": "Query",
    "scan": "Scan",
    "update_item": "UpdateItem",
}
STATEMENTS: Final = {"INSERT": "PartiQLInsert", "UPDATE": "PartiQLUpdate"}
OTHERS: Final[dict[str, Asked]] = {
    "put_events": {("events:PutEvents", BUS)},
    "send_message_batch": {("sqs:SendMessage", TIMERS)},
    "create_schedule": {("scheduler:CreateSchedule", SCHEDULES), ("iam:PassRole", TIMER_ROLE)},
    "post_to_connection": {("execute-api:ManageConnections", CONNECTIONS)},
    "delete_connection": {("execute-api:ManageConnections", CONNECTIONS)},
}

# What Lambda does with a function's role, and not the function: it reads streams and queues, and sets failures aside
LAMBDAS_OWN: Final = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
}


def actions_of(operation: str, arguments: dict[str, Any]) -> Asked:
    """The actions that IAM knows a call to DynamoDB by."""
    if operation == "batch_execute_statement":
        words = {one["Statement"].split()[0] for one in arguments["Statements"]}
        return {(f"dynamodb:{STATEMENTS[word]}", TABLE) for word in words}
    if operation == "transact_write_items":
        assert all(set(one) == {"Update"} for one in arguments["TransactItems"])
        return {("dynamodb:UpdateItem", TABLE)}
    return {(f"dynamodb:{DYNAMODB[operation]}", INDEX if "IndexName" in arguments else TABLE)}


class Story:
    """The functions, over one table, each with a note of what it asked."""

    def __init__(self, world: World, load: Callable[[str, Any], ModuleType], patch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.asked: dict[str, Asked] = defaultdict(set)
        self._load = load
        self._patch = patch

    def run(self, function: str, event: dict[str, Any], remaining_ms: int = 60_000) -> Any:
        """Call a function."""
        module = self._module(function)
        return module.handler(event, Context(remaining_ms))

    def call(self, function: str, route: str, *, body: Any = None, **path: str) -> Reply:
        """Call a function as API Gateway does."""
        given = {"executionId": "nightly", **path}
        reply = call_api(self._module(function).handler, api_event(route, path=given, body=body), Context(60_000))
        assert reply.status < 400, reply.text
        return reply

    def _module(self, function: str) -> ModuleType:
        asked = self.asked[function]

        def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
            asked.update(actions_of(operation, arguments))
            return send()

        def noted(client: FakeClient) -> Any:
            def note(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
                asked.update(OTHERS[operation])
                return send()

            given: Any = client
            return intercepted(given, note)

        module = self._load(function, intercepted(self.world.table.client, around))
        clients: dict[str, FakeClient] = {
            "sqs": a_queue(),
            "scheduler": a_scheduler(),
            "events": a_bus(),
            "live_callback": FakeClient(post_to_connection=refusal("LimitExceededException"), delete_connection={}),
        }
        for name, client in clients.items():
            if hasattr(module, name):
                self._patch.setattr(module, name, lambda *_, client=client: noted(client))
        if hasattr(module, "system_clock"):
            self._patch.setattr(module, "system_clock", self.world.clock)
        return module


@pytest.fixture
def story(
    ministack: "DynamoDBClient", load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Story]:
    name = f"ledger-{fresh_name()}"
    create_table(ministack, name)
    for variable, value in {
        "TABLE_NAME": name,
        "TIMER_QUEUE_URL": "https://queue/timers",
        "LIVE_URL": "wss://example.org/live",
        "LIVE_CALLBACK_URL": "https://example.org/live",
        "EVENT_BUS_NAME": "bus",
    }.items():
        monkeypatch.setenv(variable, value)
    world = World(Table(ministack, Settings(name, "", 90), tenant="default"), clock=Clock(system_clock()))
    yield Story(world, load, monkeypatch)
    ministack.delete_table(TableName=name)


def image(task: Task, number: str) -> dict[str, Any]:
    item = item_of(task)
    return {
        "eventName": "MODIFY",
        "dynamodb": {
            "Keys": {name: item[name] for name in (keys.PK, keys.SK)},
            "SequenceNumber": number,
            "NewImage": item,
        },
    }


def changes(story: Story) -> dict[str, Any]:
    """Every task as it stands, as the stream would tell it."""
    tasks = story.world.tasks().values()
    return {"Records": [image(task, str(number)) for number, task in enumerate(tasks)]}


def messages(*details: dict[str, Any]) -> dict[str, Any]:
    return {"Records": [{"messageId": str(number), "body": json.dumps(one)} for number, one in enumerate(details)]}


def settled(task_id: str) -> dict[str, Any]:
    return {"detail": {"tenant": "default", "executionId": "nightly", "taskId": task_id}}


OVER: Final = {"detail": {"tenant": "default", "executionId": "nightly"}}


def play(story: Story) -> None:
    """Let an execution run through everything that can happen to it."""
    world = story.world
    quick = {"maxAttempts": 2, "initialSeconds": 5, "jitter": 0}
    story.call(
        "executions",
        "POST /v1/executions",
        body={
            "executionId": "nightly",
            "tasks": [
                {"taskId": "first", "input": {"n": 1}},
                {"taskId": "second", "dependsOn": ["first"], "input": {"n": "${first.output.n}"}},
                {"taskId": "tries", "retryPolicy": quick},
                {"taskId": "patient", "retryPolicy": {"initialSeconds": 3_600, "maxSeconds": 7_200}},
                {"taskId": "excused", "retryPolicy": {"maxAttempts": 1}, "onFailure": "continue"},
                {"taskId": "slow", "timeoutSeconds": 7_200, "heartbeatTimeoutSeconds": 3_600},
                {"taskId": "late", "retryPolicy": {"maxAttempts": 1}},
            ],
        },
    )
    watch(story)
    status = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
    batch = "POST /v1/executions/{executionId}/statuses"
    story.call("report_status", status, taskId="first", body={"status": "COMPLETED", "output": {"n": 1}})
    story.call("report_status", status, taskId="first", body={"status": "FAILED", "attempt": 1})
    story.call("report_status", status, taskId="tries", body={"status": "FAILED"})
    story.call("report_status", status, taskId="patient", body={"status": "FAILED"})
    reports = [{"taskId": "excused", "status": "FAILED"}, {"taskId": "slow", "status": "IN_PROGRESS", "attempt": 1}]
    story.call("report_status", batch, body={"statuses": reports})
    heartbeat = "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat"
    story.call("report_status", heartbeat, taskId="slow", body={"attempt": 1})
    follow(story)
    for route in (
        "GET /v1/executions",
        "GET /v1/executions/{executionId}",
        "GET /v1/executions/{executionId}/tasks",
    ):
        story.call("executions", route)
    for tail in ("", "/history"):
        story.call("executions", f"GET /v1/executions/{{executionId}}/tasks/{{taskId}}{tail}", taskId="first")
    more = [{"taskId": "more", "dependsOn": ["first"], "input": {"n": "${first.output.n}"}}]
    story.call("executions", "POST /v1/executions/{executionId}/tasks", body={"tasks": more})
    story.run("workflow_advancer", messages(settled("first"), settled("excused")))
    intervene(story)
    world.clock.now += 30 * 86_400_000
    story.run("reconciler", {})


def watch(story: Story) -> None:
    """Let one connect and stay, and another leave."""
    for name in ("stays", "leaves"):
        ticket = story.call("execution_control", "POST /v1/executions/{executionId}/watch").body["ticket"]
        connect = {"requestContext": {"routeKey": "$connect", "connectionId": name}}
        answer = story.run("live_connection", {**connect, "queryStringParameters": {"ticket": ticket}})
        assert answer == {"statusCode": 200}
    story.run("live_connection", {"requestContext": {"routeKey": "$disconnect", "connectionId": "leaves"}})


def follow(story: Story) -> None:
    """Let the stream be followed, and each timer fire, early and in time."""
    assert story.run("retry_scheduler", changes(story)) == {"batchItemFailures": []}
    # With a watcher who cannot be reached, who is cut off
    assert story.run("notifier", changes(story), remaining_ms=4_600) == {"batchItemFailures": []}
    timers = [timer for timer in map(timer_of, story.world.tasks().values()) if timer is not None]
    bodies = {"Records": [{"messageId": str(n), "body": timer_text(timer)} for n, timer in enumerate(timers)]}
    now = story.world.clock.now
    for story.world.clock.now in (now, max(timer.due for timer in timers)):
        assert story.run("retry_dispatcher", bodies) == {"batchItemFailures": []}
    story.world.clock.now = now


def intervene(story: Story) -> None:
    """Cancel, and retry, and leave something for the safety net to find in each kind of execution."""
    for name in ("cancel", "retry", "cancel"):
        if name == "retry":
            story.run("workflow_advancer", messages(OVER))
        story.call("execution_control", f"POST /v1/executions/{{executionId}}/{name}")
    tasks = [
        {"taskId": "tries", "retryPolicy": {"initialSeconds": 5}},
        {"taskId": "done"},
        {"taskId": "after", "dependsOn": ["done"], "input": {"n": "${done.output.n}"}},
        {"taskId": "resting", "retryPolicy": {"initialSeconds": 5}, "timeoutSeconds": 60},
    ]
    story.call("executions", "POST /v1/executions", body={"executionId": "left", "tasks": tasks})
    story.call("executions", "POST /v1/executions", body={"executionId": "ended", "tasks": [{"taskId": "only"}]})
    reports = [{"taskId": "tries", "status": "FAILED"}, {"taskId": "done", "status": "COMPLETED", "output": {"n": 1}}]
    batch = "POST /v1/executions/{executionId}/statuses"
    story.call("report_status", batch, body={"statuses": reports}, executionId="left")
    story.call(
        "report_status", batch, body={"statuses": [{"taskId": "only", "status": "COMPLETED"}]}, executionId="ended"
    )


def granted(function: str) -> Asked:
    return {
        (action, to)
        for action, to in MAY[FUNCTIONS[function]]
        if action not in LAMBDAS_OWN and not (action == "sqs:SendMessage" and "Failures" in to)
    }


def test_roles_allow_what_the_functions_ask_and_no_more(story: Story) -> None:
    # when
    play(story)

    # then
    asked = {function: story.asked[function] for function in FUNCTIONS}
    missing = {function: found - granted(function) for function, found in asked.items()}
    needless = {function: granted(function) - found for function, found in asked.items()}
    assert {function: found for function, found in missing.items() if found} == {}
    assert {function: found for function, found in needless.items() if found} == {}
