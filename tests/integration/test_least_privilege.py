"""What the functions really ask of AWS, held against what their roles allow: nothing is missing, nothing is too much.

The template's roles are deployed into an emulator that enforces IAM. There a story is played through the functions'
handlers, each with clients that have its own role's credentials, so that a permission that is missing stops it. Then
each permission is taken from its role in turn, and what the function asked is asked again: that action must be refused.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.handlers import load_handler
from tasklatch.domain.task import Task
from tasklatch.domain.timer import timer_for
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_to_item
from tasklatch.retries.timer_scheduler import timer_to_message
from tasklatch.runtime import attempt_ids, services
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.settings import Settings, get_settings
from tasklatch.workflow import closer
from tests.conftest import ENVIRONMENT
from tests.factories import Context, Reply, api_event, call_api
from tests.integration.emulators import Table, intercepted, running_ministack
from tests.template.template import HTTP_API, compact, functions, listed, resources, target, transformed
from tests.template.test_permissions import lambdas_own
from tests.workflow_helpers import Clock, World, refusal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STACK: Final = "least-privilege"
SECRET: Final = "AttemptIdSecret"
REGION: Final = "us-east-1"
# What the roles speak of, and the roles
DEPLOYED: Final = {
    "AWS::ApiGatewayV2::Api",
    "AWS::DynamoDB::Table",
    "AWS::Events::EventBus",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::Queue",
    "AWS::Scheduler::ScheduleGroup",
}
SERVICES: Final = {
    "dynamodb": "dynamodb",
    "sqs": "sqs",
    "s3": "s3",
    "scheduler": "scheduler",
    "events": "events",
    "live_callback": "apigatewaymanagementapi",
    "secrets_manager": "secretsmanager",
}
[KEY_POLICY] = resources("AWS::IAM::Policy").values()
READS_KEYS: Final = "secretsmanager:GetSecretValue"
HELD_TO: Final = "ForAllValues:StringLike"
# Of the functions whose roles may write tasks, those that may put them: a put has no condition of the latch
CREATORS: Final = {"executions", "forge_contract", "superai_contract", "cognite_executions", "schedule_runner"}
SETS_ASIDE: Final = {
    "retry_dispatcher": "TimerFailures",
    "schedule_runner": "TriggerFailures",
    "workflow_advancer": "AdvanceFailures",
}
DENIED: Final = {"AccessDenied", "AccessDeniedException"}
CONFIG: Final = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)


@dataclass(frozen=True)
class Cloud:
    """The emulator, with the template's roles and what they speak of."""

    url: str
    physical_ids: dict[str, str]

    def client(self, service: str, role: str | None = None) -> Any:
        """A client with a role's credentials, or with those that may do everything."""
        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        if role is not None:
            assumed = self.client("sts").assume_role(RoleArn=self.role_arn(role), RoleSessionName="function")
            result = assumed["Credentials"]
            credentials = {
                "aws_access_key_id": result["AccessKeyId"],
                "aws_secret_access_key": result["SecretAccessKey"],
                "aws_session_token": result["SessionToken"],
            }
        endpoint = self.url
        if service == SERVICES["live_callback"]:
            endpoint = f"{self.url}/_aws/execute-api/{self.physical_ids['LiveApi']}/live"
        make: Any = boto3.client
        return make(service, endpoint_url=endpoint, region_name=REGION, config=CONFIG, **credentials)

    def role_arn(self, role: str) -> str:
        arn: str = self.client("iam").get_role(RoleName=self.physical_ids[role])["Role"]["Arn"]
        return arn

    def policy(self, role: str) -> tuple[str, dict[str, Any]]:
        """The one policy of a role, with its name."""
        iam, name = self.client("iam"), self.physical_ids[role]
        [policy] = set(iam.list_role_policies(RoleName=name)["PolicyNames"]) - {KEY_POLICY["PolicyName"]}
        return policy, iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]

    def allow(self, role: str, policy: str, document: dict[str, Any]) -> None:
        """Put another policy in the place of a role's."""
        self.client("iam").put_role_policy(
            RoleName=self.physical_ids[role], PolicyName=policy, PolicyDocument=json.dumps(document)
        )


NO_TIME_MS: Final = 5_000
"""Time for calls, and for no page of a sweep over all tasks."""


@dataclass
class Asked:
    """What a function asked of AWS: each kind of call once, with a way to ask again."""

    again: dict[str, Callable[[], Any]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


class Story:
    """The functions over one table, each with its own role, and a note of what each asked."""

    def __init__(self, cloud: Cloud, patch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, Asked] = defaultdict(Asked)
        self._cloud = cloud
        self._patch = patch
        self._clients: dict[str, dict[str, Any]] = {}
        self._remaining_ms = 60_000
        admin: DynamoDBClient = cloud.client("dynamodb")
        existing = Settings(cloud.physical_ids["LedgerTable"], "", 90)
        self.world = World(Table(admin, existing, tenant="default"), clock=Clock(system_clock()))

    def run(self, function: str, event: dict[str, Any], context: Context | None = None) -> Any:
        """Call a function."""
        if function in SETS_ASIDE:
            self._patch.setenv("DEAD_LETTER_QUEUE_URL", self._cloud.physical_ids[SETS_ASIDE[function]])
            get_settings.cache_clear()
        return self.module(function).handler(event, context or Context(60_000))

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Leave calls without time for a page of a sweep, until the block ends."""
        self._remaining_ms = NO_TIME_MS
        yield
        self._remaining_ms = 60_000

    def call(
        self, function: str, route: str, *, body: Any = None, query: Any = None, once: str | None = None, **path: str
    ) -> Reply:
        """Call a function as API Gateway does, with `once` for the Idempotency-Key."""
        headers = {"idempotency-key": once} if once is not None else {}
        event = api_event(route, path={"executionId": "nightly", **path}, body=body, query=query, headers=headers)
        reply = call_api(self.module(function).handler, event, Context(self._remaining_ms))
        assert reply.status < 400, reply.text
        return reply

    def scheduler(self) -> Any:
        """A client of EventBridge Scheduler that may do everything."""
        return self._cloud.client("scheduler")

    def module(self, function: str) -> ModuleType:
        """Load a function, and let all clients have its role."""
        module = load_handler(function)
        if function not in self._clients:
            self._clients[function] = {
                name: self._noted(function, self._cloud.client(service, role_of(function)))
                for name, service in SERVICES.items()
            }
        for name, client in self._clients[function].items():
            owner = attempt_ids if name == "secrets_manager" else services
            self._patch.setattr(owner, name, lambda *_, client=client: client)
        attempt_ids.attempt_ids.cache_clear()
        for clocked in (services, module):
            if hasattr(clocked, "system_clock"):
                self._patch.setattr(clocked, "system_clock", self.world.clock)
        return module

    def _noted(self, function: str, client: Any) -> Any:
        requested = self.asked[function]

        def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
            requested.again.setdefault(kind_of(operation, arguments), send)
            try:
                answer = send()
            except ClientError as error:
                if error.response["Error"]["Code"] in DENIED:
                    requested.refused.add(str(error))
                if operation == "post_to_connection":
                    # Nobody is connected here; as if somebody were who does not keep up
                    raise refusal("LimitExceededException") from error
                raise
            return answer

        return intercepted(client, around)


def role_of(function: str) -> str:
    """The logical id of a function's role."""
    return target(functions()[function]["Role"])


def kind_of(operation: str, arguments: dict[str, Any]) -> str:
    """Tell calls apart that IAM may tell apart: by what they do, and on what."""
    words = {item["Statement"].split(maxsplit=1)[0] for item in arguments.get("Statements", [])}
    words.update(name for item in arguments.get("TransactItems", []) for name in item)
    keys_named = {value.partition("#")[0] for value in _partition_keys(arguments)}
    on = [arguments.get("IndexName", ""), arguments.get("QueueUrl", "")]
    return " ".join([operation, *on, *sorted(words), *sorted(keys_named)])


def _partition_keys(arguments: dict[str, Any]) -> Iterator[str]:
    """Yield the partition keys that a write of items names."""
    parts = [arguments.get("Item"), arguments.get("Key")]
    transacted = [item for action in arguments.get("TransactItems", []) for item in action.values()]
    parts += [item.get("Item") or item.get("Key") for item in transacted]
    for requests in arguments.get("RequestItems", {}).values():
        changes = requests if isinstance(requests, list) else []
        parts += [change.get("Item") or change.get("Key") for request in changes for change in request.values()]
    # An object of a bucket has a key too, which is a text
    yield from (part[keys.PK]["S"] for part in parts if isinstance(part, dict))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The emulator, enforcing the template's roles."""
    whole = transformed()
    chosen = {
        name: resource
        for name, resource in whole["Resources"].items()
        if resource["Type"] in DEPLOYED
        and resource.get("Condition") in (None, "AttemptIdsAreSigned")
        and name != HTTP_API
    }
    template = {name: whole[name] for name in ("Parameters", "Conditions")} | {"Resources": chosen}
    with running_ministack(tmp_path_factory.mktemp("iam"), enforce_iam=True) as url:
        cloud = Cloud(url, {})
        cloudformation = cloud.client("cloudformation")
        secret = cloud.client("secretsmanager").create_secret(Name="ids", SecretString="k" * 32)
        cloud.physical_ids[SECRET] = secret["ARN"]
        cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": SECRET, "ParameterValue": cloud.physical_ids[SECRET]}],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        created = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
        cloud.physical_ids.update({future["LogicalResourceId"]: future["PhysicalResourceId"] for future in created})
        yield cloud


@pytest.fixture(scope="module")
def story(cloud: Cloud) -> Iterator[Story]:
    """Everything that can happen, once."""
    queue = cloud.physical_ids["TimerQueue"]
    existing = cloud.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    timers: str = existing["Attributes"]["QueueArn"]
    triggers = cloud.physical_ids["TriggerQueue"]
    with pytest.MonkeyPatch.context() as patch:
        variables = ENVIRONMENT | {
            "TABLE_NAME": cloud.physical_ids["LedgerTable"],
            "TIMER_QUEUE_URL": queue,
            "ADVANCE_QUEUE_URL": cloud.physical_ids["AdvanceQueue"],
            "TRIGGER_QUEUE_URL": triggers,
            "TRIGGER_QUEUE_ARN": timers.replace(queue.rpartition("/")[2], triggers.rpartition("/")[2]),
            "TRIGGER_FAILURES_ARN": timers,
            "TRIGGER_GROUP": cloud.physical_ids["TriggerGroup"],
            "TRIGGER_ROLE_ARN": cloud.role_arn("TriggerRole"),
            "EVENT_BUS_NAME": cloud.physical_ids["EventBus"],
            "ATTEMPT_ID_SECRET": cloud.physical_ids[SECRET],
            "LIVE_URL": "wss://example.org/live",
            "LIVE_CALLBACK_URL": "https://example.org/live",
            "STREAM_FAILURES_BUCKET": cloud.physical_ids["StreamFailures"],
        }
        for variable, value in variables.items():
            patch.setenv(variable, value)
        get_settings.cache_clear()
        played = Story(cloud, patch)
        play(played)
        yield played
    get_settings.cache_clear()


def image(task: Task, number: str) -> dict[str, Any]:
    item = task_to_item(task)
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
    return {
        "Records": [{"messageId": str(number), "body": json.dumps(detail)} for number, detail in enumerate(details)]
    }


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
        once="nightly's",
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
                {"taskId": "claimed", "queue": "work", "input": {"n": 1}},
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
    work(story)
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
    for function in SETS_ASIDE:
        assert story.run(function, messages({"what": "no message of ours"})) == {"batchItemFailures": []}
    intervene(story)
    scan(story)
    flow(story)
    define_and_run(story)
    limit(story)
    schedule(story)
    story.call("api_description", "GET /v1/health")
    world.clock.now += 30 * 86_400_000
    reconcile(story)


def work(story: Story) -> None:
    """Let a worker claim a task, ask again, and give it back."""
    for _ in range(2):
        [item] = story.call("claims", "POST /v1/queues/{queue}/claim", queue="work", body={"claimId": "mine"}).body[
            "items"
        ]
    body = {name: item[name] for name in ("executionId", "taskId", "taskExecutionId")}
    story.call("claims", "POST /v1/queues/{queue}/release", queue="work", body=body)


def reconcile(story: Story) -> None:
    """Let the reconciler publish what was never published, with a watcher who cannot be reached and is cut off."""
    watch(story)
    with pytest.MonkeyPatch.context() as patch:
        # Time for pages of its list, and for none of a sweep over all tasks: the rest is handed on
        patch.setattr(closer, "TIME_FOR_A_PAGE_MS", 10 * NO_TIME_MS + 60_000)
        story.run("reconciler", {})
    story.run("reconciler", {})
    story.world.clock.now += 2 * 86_400_000
    story.run("reconciler", {})


def watch(story: Story) -> None:
    """Let one connect and stay, and another leave."""
    for name in ("stays", "leaves"):
        ticket = story.call("execution_control", "POST /v1/executions/{executionId}/watch").body["ticket"]
        connect = {"requestContext": {"routeKey": "$connect", "connectionId": name}}
        answer = story.run("live_connection", {**connect, "queryStringParameters": {"ticket": ticket}})
        assert answer == {"statusCode": 200}
    for route in ("$disconnect", "ping"):
        story.run("live_connection", {"requestContext": {"routeKey": route, "connectionId": "leaves"}})


def follow(story: Story) -> None:
    """Let the stream be followed, and each timer fire, early and in time."""
    odd = changes(story)["Records"][0]
    odd["dynamodb"]["NewImage"]["status"] = {"S": "EXPLODED"}
    for function in ("notifier", "retry_scheduler"):
        assert story.run(function, {"Records": [odd]}) == {"batchItemFailures": []}
    assert story.run("retry_scheduler", changes(story)) == {"batchItemFailures": []}
    # With a watcher who cannot be reached, who is cut off
    assert story.run("notifier", changes(story)) == {"batchItemFailures": []}
    timers = [timer for timer in map(timer_for, story.world.tasks().values()) if timer is not None]
    bodies = {"Records": [{"messageId": str(n), "body": timer_to_message(timer)} for n, timer in enumerate(timers)]}
    now = story.world.clock.now
    for story.world.clock.now in (now, max(timer.due for timer in timers)):
        story.run("timer_sweeper", {})
        assert story.run("retry_dispatcher", bodies) == {"batchItemFailures": []}
    story.world.clock.now = now


def intervene(story: Story) -> None:
    """Cancel, and retry, and leave something for the safety net to find in each kind of execution."""
    for name in ("cancel", "retry", "cancel"):
        if name == "retry":
            # Without time for a page, the rest is handed on
            story.run("workflow_advancer", messages(OVER), context=Context(NO_TIME_MS))
            story.run("workflow_advancer", messages(OVER))
            route = "POST /v1/executions/{executionId}/retry"
            with story.hurried():
                story.call("execution_control", route)
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


def scan(story: Story) -> None:
    """Let a Forge app register a scan, add to it, and report on it, with an attempt's id that it made up."""
    root, child = str(uuid4()), str(uuid4())
    task = {"connectionId": "drive", "scanId": "scan", "tasks": [{"taskId": root, "taskMetadata": {"path": "/"}}]}
    for route, tasks in (("POST /forge/scans", task), ("POST /forge/children", task | {"tasks": [{"taskId": child}]})):
        story.call("forge_contract", route, body=tasks, once="the scan's")
    report = {"connectionId": "drive", "scanId": "scan", "taskExecutionId": "made-up", "task": {"taskId": root}}
    for status in ("success", "failure"):
        story.call("forge_contract", "POST /forge/updateTaskStatus", body=report | {"status": status})


def flow(story: Story) -> None:
    """Let a SuperAI client create a flow execution, look at it and delete it, and a worker add what it did."""
    flow_id, path = str(uuid4()), "/api/flow-executions"
    created = {"flow_id": flow_id, "input": {"n": 1}, "task_names": ["extract", "send"]}
    item = story.call("superai_contract", f"POST {path}", body=created, once="the flow's").body["id"]

    def call(route: str, **more: Any) -> None:
        story.call("superai_contract", route, flow_execution_id=item, **more)

    body = [
        {"task_name": name, "status": status}
        for name, status in (("extract", "running"), ("extract", "completed"), ("extract", "failed"), ("send", "odd"))
    ]
    call(f"POST {path}/{{flow_execution_id}}/task-status", body={"statuses": body})
    call(f"GET {path}", query={"flow_id": flow_id})
    call(f"GET {path}/{{flow_execution_id}}")
    for name in ({}, {"task_name": "extract"}):
        call("GET /api/task-executions", query={"flow_execution_id": item, **name})
    call(f"POST {path}/{{flow_execution_id}}/cancel")
    call(f"DELETE {path}/{{flow_execution_id}}")


def define_and_run(story: Story) -> None:
    """Let a Cognite client define a workflow and run, cancel and retry it, and a worker update a task, late once."""
    base = "/api/v1/projects/{project}/workflows"
    names = {"project": "any", "workflowExternalId": "drill", "version": "1"}
    kwargs = {"workflowExternalId": "drill", "version": "1"}
    tasks = [
        {
            "externalId": name,
            "type": "function",
            "parameters": {"function": {"externalId": "fn", "data": data}},
            "dependsOn": [{"externalId": before} for before in after],
        }
        for name, data, after in (("first", {}, []), ("second", "${first.output}", ["first"]))
    ]
    brought = {"externalId": "brought", "type": "other", "parameters": {}}
    tasks.append({"externalId": "fan", "type": "subworkflow", "parameters": {"subworkflow": {"tasks": [brought]}}})
    define, run, update = "cognite_definitions", "cognite_executions", "cognite_contract"
    workflows, versions = {"items": [{"externalId": "drill"}]}, {"items": [kwargs]}
    version = {"items": [{**kwargs, "workflowDefinition": {"tasks": tasks}}]}
    for route, body in (
        (f"POST {base}", workflows),
        (f"GET {base}", None),
        (f"GET {base}/{{workflowExternalId}}", None),
        (f"POST {base}/versions", version),
        (f"POST {base}/versions/list", {}),
        (f"POST {base}/versions/list", {"filter": {"workflowFilters": [{"externalId": "drill"}]}}),
        (f"GET {base}/{{workflowExternalId}}/versions/{{version}}", None),
    ):
        story.call(define, route, body=body, query={}, **names)
    start = {"authentication": {"nonce": "once"}, "input": {"n": 1}}
    session = {"items": [{"tokenExchange": True}]}
    story.call(run, "POST /api/v1/projects/{project}/sessions", body=session, **names)
    story.call(run, f"POST {base}/executions/list", body={}, **names)
    item = story.call(run, f"POST {base}/{{workflowExternalId}}/versions/{{version}}/run", body=start, **names).body[
        "id"
    ]
    path = names | {"executionId": item}
    # Tasks that are added to a run by other contracts get its pointers from attempts' ids too
    story.call(
        "executions", "POST /v1/executions/{executionId}/tasks", executionId=item, body={"tasks": [{"taskId": "added"}]}
    )
    children = {"connectionId": "drive", "scanId": item, "tasks": [{"taskId": str(uuid4())}]}
    story.call("forge_contract", "POST /forge/children", body=children)

    def attempts() -> dict[str, str]:
        shown = story.call(run, f"GET {base}/executions/{{executionId}}", **path).body
        return {task["externalId"]: task["id"] for task in shown["executedTasks"]}

    def report(task_id: str, **body: Any) -> None:
        story.call(update, f"POST {base}/tasks/{{taskId}}/update", body=body, **names, taskId=task_id)

    bring = {"kind": "children", "tenant": "default", "executionId": item, "taskId": "fan"}
    story.run("workflow_advancer", messages(bring))
    assert attempts()["brought"]
    first = attempts()["first"]
    for change in ("cancel", "retry"):
        if change == "retry":
            with story.hurried():
                story.call(run, f"POST {base}/executions/{{executionId}}/retry", body={}, **path)
        story.call(run, f"POST {base}/executions/{{executionId}}/{change}", body={}, **path)
        story.run("workflow_advancer", messages({"detail": {"tenant": "default", "executionId": item}}))
    report(first, status="FAILED", output={"late": True})
    report(attempts()["first"], status="COMPLETED", output={"n": 1})
    report(attempts()["first"], status="FAILED")
    story.call(run, f"POST {base}/executions/{{executionId}}/cancel", body={}, **path)
    for route, body in ((f"POST {base}/versions/delete", versions), (f"POST {base}/delete", workflows)):
        story.call(define, route, body=body, query={}, **names)


def limit(story: Story) -> None:
    """Let executions wait for slots, start, fail, be retried and rescued; leave some of it for the safety net."""
    status = "POST /v1/executions/{executionId}/tasks/{taskId}/status"

    def report(name: str, status_word: str) -> None:
        body = {"status": status_word, "attempt": 1}
        story.call("report_status", status, executionId=name, taskId="only", body=body)

    for name in ("rescued", "retried", "noticed"):
        task = {"taskId": "only", "retryPolicy": {"maxAttempts": 1}}
        body = {"executionId": name, "concurrencyKey": name, "maxConcurrentExecutions": 1, "tasks": [task]}
        story.call("executions", "POST /v1/executions", body=body)
        story.call("executions", "GET /v1/executions/{executionId}", executionId=name)
        about = {"tenant": "default", "executionId": name}
        slot = {**about, "kind": "slot", "concurrencyKey": f"key:{name}"}
        story.run("workflow_advancer", messages(slot, {**about, "kind": "schedule"}))
        report(name, "FAILED")
        ended = {**about, "kind": "task", "taskId": "only"}
        story.run("workflow_advancer", messages(ended))
        if name != "retried":
            report(name, "COMPLETED")
        if name == "rescued":
            story.run("workflow_advancer", messages(slot, ended))
    story.call("execution_control", "POST /v1/executions/{executionId}/retry", executionId="retried")
    base, names = "/api/v1/projects/{project}/workflows", {"project": "any", "workflowExternalId": "narrow"}
    function = {"function": {"externalId": "fn", "data": {}}}
    tasks = [{"externalId": "first", "type": "function", "parameters": function}]
    version = {"workflowExternalId": "narrow", "version": "1", "workflowDefinition": {"tasks": tasks}}
    workflow = {"externalId": "narrow", "maxConcurrentExecutions": 1}
    for route, item in ((base, workflow), (base, workflow), (f"{base}/versions", version)):
        story.call("cognite_definitions", f"POST {route}", body={"items": [item]}, query={}, **names)
    run = f"POST {base}/{{workflowExternalId}}/versions/{{version}}/run"
    story.call("cognite_executions", run, body={"authentication": {"nonce": "n"}}, version="1", **names)


def schedule(story: Story) -> None:
    """Let schedules be created, changed, read and deleted, and let their times come."""
    path, name = "/v1/schedules", {"scheduleId": "nightly"}
    reference = {"n": "${first.output.n}"}
    tasks = [{"taskId": "first"}, {"taskId": "second", "dependsOn": ["first"], "input": reference}]
    body = {"everyMinutes": 5, "execution": {"tasks": tasks}}

    def call(route: str, **more: Any) -> None:
        story.call("schedules", route, **name, **more)

    def run(kind: str = "execution", **fields: str) -> None:
        message = {"tenant": "default", "kind": kind, **name, **fields}
        records = {"Records": [{"messageId": "time", "body": json.dumps(message)}]}
        assert story.run("schedule_runner", records) == {"batchItemFailures": []}

    created = f"POST {path}"
    event = api_event(created, body={**body, **name}, headers={"idempotency-key": "once"})
    story.run("schedules", event)
    call(f"PUT {path}/{{scheduleId}}", body={**body, "everyMinutes": 6})
    call(f"GET {path}", query={})
    call(f"GET {path}/{{scheduleId}}/history", query={})
    run()
    # As if another had changed them
    scheduler = story.scheduler()
    group = {"GroupName": get_settings().trigger_group}
    [existing] = scheduler.list_schedules()["Schedules"][-1:]
    stored = scheduler.get_schedule(Name=existing["Name"], **group)
    changed = {item: stored[item] for item in ("Name", "GroupName", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**changed, ScheduleExpression="rate(9 minutes)")
    run()
    scheduler.delete_schedule(Name=existing["Name"], **group)
    run()
    generation = json.loads(stored["Target"]["Input"])["generation"]
    run(generation=generation, fireTime="2026-03-22T18:59:00Z")
    call(f"DELETE {path}/{{scheduleId}}")
    run()
    trigger(story)
    [triggered] = [item for item in scheduler.list_schedules()["Schedules"] if item["GroupName"] == group["GroupName"]]
    stored = scheduler.get_schedule(Name=triggered["Name"], **group)
    generation = json.loads(stored["Target"]["Input"])["generation"]
    for _ in range(2):
        run("workflow", generation=generation, fireTime="2026-03-22T18:59:00Z")


def trigger(story: Story) -> None:
    """Let a Cognite client define a workflow that refers to its input, and a trigger of the name `nightly`."""
    base, names = "/api/v1/projects/{project}/workflows", {"project": "any"}
    function = {"function": {"externalId": "fn", "data": "${workflow.input.n}"}}
    version = {"workflowExternalId": "timed", "version": "1"}
    tasks = [{"externalId": "first", "type": "function", "parameters": function}]
    rule = {"triggerType": "schedule", "cronExpression": "0 4 * * *"}
    item = {**version, "externalId": "nightly", "triggerRule": rule, "authentication": {"nonce": "n"}}
    item = {name.replace("version", "workflowVersion"): value for name, value in item.items()}
    defined = {"items": [{**version, "workflowDefinition": {"tasks": tasks}}]}
    workflows = {"items": [{"externalId": "timed", "maxConcurrentExecutions": 1}]}
    story.call("cognite_definitions", f"POST {base}", body=workflows, query={}, **names)
    story.call("cognite_definitions", f"POST {base}/versions", body=defined, query={}, **names)
    story.call("schedules", f"POST {base}/triggers", body={"items": [item]}, **names)


def permissions(function: str) -> list[tuple[int, str, str]]:
    """What a function itself asks for: the statement's place, an action, and a resource, as the template has them."""
    own = lambdas_own(function)
    return [
        (index, action, compact(resource))
        for index, statement in enumerate(statements(function))
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if (action, compact(resource)) not in own
    ]


def statements(function: str) -> list[Any]:
    """The statements of the one policy of a function's role."""
    [policy] = resources("AWS::IAM::Role")[role_of(function)]["Policies"]
    result: list[Any] = policy["PolicyDocument"]["Statement"]
    return result


def without(document: dict[str, Any], index: int, action: str, resource_place: int) -> dict[str, Any]:
    """A policy that lacks one action on one resource."""
    changed = copy.deepcopy(document)
    statement = changed["Statement"].pop(index)
    actions, on = listed(statement["Action"]), listed(statement["Resource"])
    others = [item for item in actions if item != action]
    elsewhere = on[:resource_place] + on[resource_place + 1 :]
    changed["Statement"] += [
        {**statement, "Sid": f"Rest{number}", "Action": stored, "Resource": where}
        for number, (stored, where) in enumerate([(others, on), ([action], elsewhere)])
        if stored and where
    ]
    return changed


def key_patterns(function: str) -> list[tuple[int, str]]:
    """The patterns of partition keys that a function's writes are held to, each with its statement's place."""
    return [
        (index, pattern)
        for index, statement in enumerate(statements(function))
        for pattern in statement.get("Condition", {}).get(HELD_TO, {}).get("dynamodb:LeadingKeys", [])
    ]


def without_pattern(document: dict[str, Any], index: int, pattern: str) -> dict[str, Any]:
    """A policy that lacks one pattern of partition keys."""
    changed = copy.deepcopy(document)
    patterns = changed["Statement"][index]["Condition"][HELD_TO]
    others = [stored for stored in patterns["dynamodb:LeadingKeys"] if stored != pattern]
    patterns["dynamodb:LeadingKeys"] = others or ["nothing"]
    return changed


def refused(requested: Asked) -> set[str]:
    """Ask everything again, and give the actions that are refused."""
    result = set()
    for send in requested.again.values():
        try:
            send()
        except ClientError as error:
            if error.response["Error"]["Code"] in DENIED:
                result.add(str(error).partition("not authorized to perform: ")[2].split()[0])
    return result


def test_no_function_is_refused_what_it_must_do(story: Story) -> None:
    assert set(story.asked) | {"api_description"} == set(functions())
    assert {function: requested.refused for function, requested in story.asked.items() if requested.refused} == {}


def test_each_permission_is_needed(story: Story, cloud: Cloud, record_property: Callable[[str, object], None]) -> None:
    # given
    needless, tried = [], 0
    for function in functions():
        role = role_of(function)
        policy, document = cloud.policy(role)

        # when
        for index, action, resource in permissions(function):
            on = [compact(item) for item in listed(statements(function)[index]["Resource"])]
            cloud.allow(role, policy, without(document, index, action, on.index(resource)))
            tried += 1
            if refused(story.asked[function]) != {action}:
                needless.append((function, action, resource))
        cloud.allow(role, policy, document)

    # then
    record_property("permissions taken away, each missed", tried)
    assert needless == []


def test_the_keys_of_attempt_ids_are_read_by_those_that_may(story: Story, cloud: Cloud) -> None:
    # given
    readers = {name for name, calls in story.asked.items() if any("get_secret_value" in kind for kind in calls.again)}
    allowed = {target(role) for role in KEY_POLICY["Roles"]}
    assert {role_of(function) for function in readers} == allowed

    # when
    for role in allowed:
        cloud.client("iam").delete_role_policy(RoleName=cloud.physical_ids[role], PolicyName=KEY_POLICY["PolicyName"])

    # then
    assert {function: refused(story.asked[function]) for function in readers} == {
        function: {READS_KEYS} for function in readers
    }


def test_each_pattern_of_keys_is_needed(
    story: Story, cloud: Cloud, record_property: Callable[[str, object], None]
) -> None:
    # given
    needless, tried = [], 0
    for function in functions():
        role = role_of(function)
        policy, document = cloud.policy(role)

        # when
        for index, pattern in key_patterns(function):
            cloud.allow(role, policy, without_pattern(document, index, pattern))
            tried += 1
            if not refused(story.asked[function]):
                needless.append((function, pattern))
        cloud.allow(role, policy, document)

    # then
    record_property("patterns of keys taken away, each missed", tried)
    assert tried
    assert not needless, needless


def test_every_write_is_held_to_keys() -> None:
    writes = {"BatchWriteItem", "DeleteItem", "PartiQLInsert", "PartiQLUpdate", "PutItem", "UpdateItem"}
    actions = {f"dynamodb:{name}" for name in writes}

    free = [
        (function, statement["Sid"])
        for function in functions()
        for statement in statements(function)
        if actions & set(listed(statement["Action"])) and not statement.get("Condition", {}).get(HELD_TO)
    ]

    assert free == []


@pytest.mark.parametrize("function", sorted(set(functions()) - {"api_description"}))
def test_only_creators_may_put_or_delete_where_tasks_are(story: Story, cloud: Cloud, function: str) -> None:
    # given
    client = cloud.client("dynamodb", role_of(function))
    table = cloud.physical_ids["LedgerTable"]
    key: Any = {keys.PK: {"S": keys.execution_pk("default", "nightly")}, keys.SK: {"S": keys.task_sk("first")}}
    before = story.world.table.item(key[keys.PK]["S"], key[keys.SK]["S"])
    overwrites: dict[str, Callable[[], Any]] = {
        "put": lambda: client.put_item(TableName=table, Item=key),
        "batch put": lambda: client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": key}}]}),
        "delete": lambda: client.delete_item(TableName=table, Key=key),
        "batch delete": lambda: client.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": key}}]}),
    }
    if function in CREATORS:
        overwrites = {"delete": overwrites["delete"]}

    # when
    for name, overwrite in overwrites.items():
        with pytest.raises(ClientError) as error:
            overwrite()
        assert error.value.response["Error"]["Code"] in DENIED, name

    # then
    assert before is not None
    assert story.world.table.item(key[keys.PK]["S"], key[keys.SK]["S"]) == before
