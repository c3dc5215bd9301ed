"""The latch in DynamoDB's two languages: an UpdateItem expression for one report, a PartiQL statement in a batch.

Both are rendered from the same `tasklatch.domain.conditional_write.ConditionalWrite`; tests check that they have the
same outcomes.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import DEFAULT_PRIORITY, HIGHEST_PRIORITY
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import primary_key, to_attribute, to_item
from tasklatch.dynamodb.task_item import COLUMNS, FORM_ATTRIBUTE, HEARTBEAT_MARK
from tasklatch.dynamodb.update_expression import Condition, ItemUpdate

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, BatchStatementRequestTypeDef

Values = dict[str, "AttributeValueTypeDef"]

_EXPIRES_AT: Final = "expiresAt"


def _parts(write: ConditionalWrite, pk: str, expires_at: int | None) -> tuple[Values, list[str], list[Condition]]:
    """Return the attributes to set, those to remove, and the conditions: (attribute, comparison, value)."""
    assigned: Values = {
        "status": to_attribute(write.status),
        "precedence": to_attribute(write.precedence),
    }
    for field, value in write.values.items():
        assigned[COLUMNS[field].attribute] = to_attribute(value)
    if expires_at is not None:
        assigned[_EXPIRES_AT] = to_attribute(expires_at)
    if write.reopens_task:
        assigned[keys.LIST_KEY] = to_attribute(keys.open_list_for(pk))
        assigned[keys.LIST_SORT] = to_attribute(keys.task_sk(write.task_id))
    removed = [*(COLUMNS[field].attribute for field in write.clear_fields), HEARTBEAT_MARK]
    if write.status is not TaskStatus.SCHEDULED:
        removed += [keys.WORK_KEY, keys.WORK_SORT]
    elif write.queue is not None:
        assigned |= to_item(work_entry(pk, write.queue, write.priority, int(write.values["scheduled_at"])))
    if not write.keeps_timer:
        removed += [keys.DUE_KEY, keys.DUE_SORT]
    if write.closes_task:
        removed += [keys.LIST_KEY, keys.LIST_SORT]
    conditions: list[Condition] = [
        ("precedence", ">=", to_attribute(write.precedence_from)),
        ("precedence", "<", to_attribute(write.max_precedence)),
    ]
    if write.version is not None:
        conditions.append(("version", "=", to_attribute(write.version)))
    return assigned, removed, conditions


def work_entry(pk: str, queue: str, priority: int | None, time: int) -> dict[str, str]:
    """Return the attributes by which a scheduled task is in the index from which its queue is handed out.

    Parameters
    ----------
    pk
        Partition key of the task's execution.
    time
        Time at which it was scheduled, in milliseconds since the epoch.
    """
    urgency = HIGHEST_PRIORITY - (DEFAULT_PRIORITY if priority is None else priority)
    return {keys.WORK_KEY: keys.work_list_for(pk, queue), keys.WORK_SORT: keys.work_sort(urgency, pk, time)}


def render_update_item(write: ConditionalWrite, table: str, pk: str, expires_at: int | None) -> dict[str, Any]:
    """Return the arguments of UpdateItem.

    Parameters
    ----------
    expires_at
        Seconds since the epoch (DynamoDB's TTL unit); None to keep the item for ever.
    """
    assigned, removed, conditions = _parts(write, pk, expires_at)
    # Whoever has read the version has read the form
    absent = (FORM_ATTRIBUTE,) if write.version is None else ()
    update = ItemUpdate(assigned=assigned, removed=removed, conditions=conditions, absent=absent, is_new_version=True)
    return {
        "TableName": table,
        "Key": primary_key(pk, keys.task_sk(write.task_id)),
        **update.expressions(),
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def render_statement(
    write: ConditionalWrite, table: str, pk: str, expires_at: int | None
) -> "BatchStatementRequestTypeDef":
    """Return one PartiQL statement; on an item that does not exist, its condition fails.

    It needs no condition on the form of the item: it is made on the version that was read, in a form that is known.
    The next version is a parameter: DynamoDB documents no arithmetic for the `SET` of a PartiQL statement.

    Raises
    ------
    ValueError
        If the write is not on condition of the version that was read.
    """
    if write.version is None:
        raise ValueError("a statement needs the version that was read")
    assigned, removed, conditions = _parts(write, pk, expires_at)
    assigned["version"] = to_attribute(write.version + 1)
    compared = tuple((attribute, comparison) for attribute, comparison, _ in conditions)
    return {
        "Statement": _statement(table, tuple(assigned), tuple(removed), compared),
        "Parameters": [
            *assigned.values(),
            *primary_key(pk, keys.task_sk(write.task_id)).values(),
            *(value for _, _, value in conditions),
        ],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


@lru_cache(maxsize=256)
def _statement(
    table: str, assigned: tuple[str, ...], removed: tuple[str, ...], compared: tuple[tuple[str, str], ...]
) -> str:
    text = [f'UPDATE "{table}"']
    text += [f'SET "{attribute}" = ?' for attribute in assigned]
    text += [f'REMOVE "{attribute}"' for attribute in removed]
    text.append(f'WHERE "{keys.PK}" = ? AND "{keys.SK}" = ?')
    text += [f'AND "{attribute}" {comparison} ?' for attribute, comparison in compared]
    text.append("RETURNING ALL NEW *")
    return " ".join(text)
