"""Conversion of a task to an item of the table and back. An item stays under 1 KB, so a report costs one write unit."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tasklatch.domain.failure import FailureReason
from tasklatch.domain.later_values import read_value
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import FollowUp, OnFailure, RetryPolicy, Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, from_attribute, primary_key, to_attribute

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


class Column(NamedTuple):
    """Storage of a field: its attribute's name, its DynamoDB type, and the function that converts it back."""

    attribute: str
    kind: str
    read: Callable[[Any], Any]


def _identity(value: Any) -> Any:
    return value


FORM_ATTRIBUTE: Final = "form"

COLUMNS: Final[Mapping[str, Column]] = {
    "tenant": Column("tenant", "S", _identity),
    "execution_id": Column("executionId", "S", _identity),
    "task_id": Column("taskId", "S", _identity),
    "status": Column("status", "S", partial(read_value, TaskStatus)),
    "attempt": Column("attempt", "N", int),
    "precedence": Column("precedence", "N", int),
    "version": Column("version", "N", int),
    "created_at": Column("createdAt", "N", int),
    "updated_at": Column("updatedAt", "N", int),
    "scheduled_at": Column("scheduledAt", "N", int),
    "started_at": Column("startedAt", "N", int),
    "ended_at": Column("endedAt", "N", int),
    "heartbeat_at": Column("heartbeatAt", "N", int),
    "progress": Column("progress", "N", float),
    "failure_reason": Column("failureReason", "S", partial(read_value, FailureReason)),
    "message": Column("message", "S", _identity),
    "message_truncated": Column("messageTruncated", "BOOL", _identity),
    "platform_status": Column("label", "S", _identity),
    "retry_after_seconds": Column("retryAfterSeconds", "N", float),
    "granted_attempts": Column("grantedAttempts", "N", int),
    "timeout_seconds": Column("timeoutSeconds", "N", int),
    "heartbeat_timeout_seconds": Column("heartbeatTimeoutSeconds", "N", int),
    "on_failure": Column("onFailure", "S", partial(read_value, OnFailure)),
    "outcome": Column("outcome", "S", _identity),
    "request_id": Column("receipt", "S", _identity),
    "reported_by": Column("client", "S", _identity),
    "output_attempt": Column("outputAttempt", "N", int),
    "output_fingerprint": Column("outputFingerprint", "S", _identity),
    "checkpoint_attempt": Column("checkpointAttempt", "N", int),
    "checkpoint_fingerprint": Column("checkpointFingerprint", "S", _identity),
    "checkpoint_sequence": Column("checkpointSequence", "N", int),
    "decided_attempt": Column("decidedAttempt", "N", int),
    "definition": Column("definition", "S", _identity),
    "form": Column(FORM_ATTRIBUTE, "N", int),
    "follow_up": Column("followUp", "S", FollowUp),
    "queue": Column("queue", "S", _identity),
    "priority": Column("priority", "N", int),
    "claim": Column("claim", "S", _identity),
    "released_attempts": Column("released", "N", int),
    "has_children": Column("hasChildren", "BOOL", _identity),
    "parent_id": Column("parentTaskId", "S", _identity),
}

_RETRY_POLICY: Final = "retryPolicy"

HEARTBEAT_MARK: Final = "beat"
"""Attribute that a heartbeat sets and every other write removes: by it, the stream's filters leave heartbeats out."""


def task_to_item(task: Task) -> Item:
    """Return the item of a task, with its primary key."""
    item = primary_key(keys.execution_pk(task.tenant, task.execution_id), keys.task_sk(task.task_id))
    item[_RETRY_POLICY] = to_attribute(_policy_values(task.retry_policy))
    for field, column in COLUMNS.items():
        value = getattr(task, field)
        if value is not None and value is not False:
            item[column.attribute] = to_attribute(value)
    return item


def task_from_item(item: Mapping[str, "AttributeValueTypeDef"]) -> Task:
    """Return the task in an item; an attribute of another type than its column's is a `KeyError`."""
    fields: dict[str, Any] = {}
    for field, (attribute, kind, read) in COLUMNS.items():
        value = item.get(attribute)
        if value is not None:
            fields[field] = read(value[kind])  # type: ignore[literal-required]
    policy = from_attribute(item[_RETRY_POLICY])
    fields["retry_policy"] = RetryPolicy(
        max_attempts=int(policy["max_attempts"]),
        **{name: float(policy[name]) for name in ("initial_seconds", "multiplier", "max_seconds", "jitter")},
        retry_timeouts="retry_timeouts" not in policy,
    )
    return Task(**fields)


def _policy_values(policy: RetryPolicy) -> dict[str, Any]:
    values = policy._asdict()
    # Most policies retry time-outs, and every byte of this item counts: it is written for every applied report.
    if policy.retry_timeouts:
        del values["retry_timeouts"]
    return values
