"""Factories of tasks, reports, events, Lambda's context and clocks. Each takes the values that a case varies."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from tasklatch.domain.report import Report, make_report
from tasklatch.domain.status import FINAL_STATUSES, TaskStatus, status_precedence
from tasklatch.domain.task import Task
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item
from tasklatch.dynamodb.task_item import task_to_item

NOW: Final = 1_800_000_000_123
"""Milliseconds since the epoch; the time of the fixed clock."""

ALL_SCOPES: Final = "tasklatch/report tasklatch/read tasklatch/manage"


def fresh_name() -> str:
    """Return a name that no other test uses."""
    return uuid4().hex


def fixed_clock() -> int:
    return NOW


def a_task(status: TaskStatus = TaskStatus.IN_PROGRESS, attempt: int = 1, **fields: Any) -> Task:
    """Return a task whose precedence, by default, fits its status and attempt; its attempt waits or was opened."""
    initial: dict[str, Any] = {
        "tenant": "default",
        "execution_id": "nightly",
        "task_id": "resize",
        "status": status,
        "attempt": attempt,
        "precedence": status_precedence(status, attempt),
        "version": 3,
        "created_at": NOW - 60_000,
        "updated_at": NOW - 30_000,
        "scheduled_at": None if status is TaskStatus.PENDING else NOW - 50_000,
    }
    return Task(**(initial | fields))


def a_report(status: TaskStatus = TaskStatus.COMPLETED, task_id: str = "resize", **fields: Any) -> Report:
    return make_report(task_id, status, **fields)


def some_tasks(*task_ids: str) -> list[TaskDefinition]:
    """Return definitions of tasks without dependencies."""
    return [TaskDefinition(task_id) for task_id in task_ids]


def stored_item(task: Task) -> Item:
    """Return a task's item as it is in the table: in the list of open tasks until it is closed."""
    item = task_to_item(task)
    if task.status not in FINAL_STATUSES:
        item[keys.LIST_KEY] = {"S": keys.open_list(task.tenant, task.execution_id)}
        item[keys.LIST_SORT] = {"S": keys.task_sk(task.task_id)}
    return item


@dataclass
class Context:
    """Context of an invocation, as Lambda passes it."""

    remaining_ms: int = 10_000
    aws_request_id: str = "request"
    function_name: str = "function"
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function"
    memory_limit_in_mb: int = 1024

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass
class FakeTime:
    """Clock that only moves by a sleep, or when it is set."""

    left_ms: float = 10_000
    slept: list[float] = field(default_factory=list)

    def remaining_ms(self) -> int:
        return int(self.left_ms)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left_ms -= seconds * 1000


def api_event(
    route: str,
    *,
    path: Mapping[str, str] | None = None,
    body: Any = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    claims: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Return a request as an HTTP API delivers it (payload format 2.0); `claims` None means claims with all scopes."""
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": route.partition(" ")[2],
        "headers": dict(headers or {}),
        "queryStringParameters": None if query is None else dict(query),
        "pathParameters": None if path is None else dict(path),
        "requestContext": {
            "requestId": request_id or fresh_name(),
            "authorizer": {
                "jwt": {"claims": dict({"scope": ALL_SCOPES} if claims is None else claims), "scopes": None}
            },
        },
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
    }


@dataclass(frozen=True)
class Reply:
    """Function's response to an API request."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def call_api(
    handler: Callable[[dict[str, Any], Any], dict[str, Any]], event: dict[str, Any], context: Any = None
) -> Reply:
    """Call a handler with an event."""
    answer = handler(event, context or Context())
    return Reply(answer["statusCode"], answer["headers"], answer["body"])


def stream_record(new: Task | None, old: Task | None = None, *, number: str = "1") -> dict[str, Any]:
    """Return a record of the table's stream; without a new image, it is a removal by TTL."""
    images = {name: stored_item(task) for name, task in (("NewImage", new), ("OldImage", old)) if task is not None}
    item = next(iter(images.values()))
    event_name = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
    return {
        "eventID": fresh_name(),
        "eventName": event_name,
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "Keys": {keys.PK: item[keys.PK], keys.SK: item[keys.SK]},
            "SequenceNumber": number,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **images,
        },
    }
