"""Conversion of a task to an item of the table and back. An item stays under 1 KB, so a report costs one write unit."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tasklatch.domain.failure import FailureReason
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, from_item, primary_key, to_attribute

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


class Column(NamedTuple):
    """Storage of a field: its attribute's name, and the function that makes its value of the attribute's."""

    attribute: str
    read: Callable[[Any], Any] | None = None


COLUMNS: Final[Mapping[str, Column]] = {
    "tenant": Column("tenant"),
    "execution_id": Column("executionId"),
    "task_id": Column("taskId"),
    "status": Column("status", TaskStatus),
    "attempt": Column("attempt", int),
    "precedence": Column("precedence", int),
    "version": Column("version", int),
    "created_at": Column("createdAt", int),
    "updated_at": Column("updatedAt", int),
    "scheduled_at": Column("scheduledAt", int),
    "started_at": Column("startedAt", int),
    "ended_at": Column("endedAt", int),
    "heartbeat_at": Column("heartbeatAt", int),
    "progress": Column("progress", float),
    "failure_reason": Column("failureReason", FailureReason),
    "message": Column("message"),
    "message_truncated": Column("messageTruncated"),
    "platform_status": Column("label"),
    "retry_after_seconds": Column("retryAfterSeconds", float),
    "granted_attempts": Column("grantedAttempts", int),
    "timeout_seconds": Column("timeoutSeconds", int),
    "heartbeat_timeout_seconds": Column("heartbeatTimeoutSeconds", int),
    "on_failure": Column("onFailure", OnFailure),
    "outcome": Column("outcome"),
    "request_id": Column("receipt"),
    "output_attempt": Column("outputAttempt", int),
    "output_fingerprint": Column("outputFingerprint"),
    "checkpoint_attempt": Column("checkpointAttempt", int),
    "checkpoint_fingerprint": Column("checkpointFingerprint"),
    "checkpoint_sequence": Column("checkpointSequence", int),
    "decided_attempt": Column("decidedAttempt", int),
    "definition": Column("definition"),
}

_RETRY_POLICY: Final = "retryPolicy"


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
    """Return the task in an item."""
    values = from_item(item)
    fields: dict[str, Any] = {}
    for field, (attribute, read) in COLUMNS.items():
        value = values.get(attribute)
        if value is not None:
            fields[field] = value if read is None else read(value)
    policy = values[_RETRY_POLICY]
    fields["retry_policy"] = RetryPolicy(
        max_attempts=int(policy["max_attempts"]),
        **{name: float(policy[name]) for name in ("initial_seconds", "multiplier", "max_seconds", "jitter")},
        retry_timeouts="retry_timeouts" not in policy,
    )
    return Task(**fields)


def _policy_values(policy: RetryPolicy) -> dict[str, Any]:
    values = asdict(policy)
    # Most policies retry time-outs, and every byte of this item counts: it is written for every applied report.
    if policy.retry_timeouts:
        del values["retry_timeouts"]
    return values
