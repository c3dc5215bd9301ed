"""The keys of the table. Parts are escaped, so that no two different names can ever make the same key."""

from hashlib import sha256
from typing import Final

PK: Final = "pk"
SK: Final = "sk"
EXECUTION_SK: Final = "EXEC"
GROUP_SK: Final = "GROUP"
EXECUTION_INPUT_SK: Final = "INPUT"
DEFINITION_SK: Final = "DEFINITION"
WORKFLOW_SK: Final = "WORKFLOW"
VERSION_PREFIX: Final = "VERSION#"
TASK_ID_SK: Final = "TASKID"
IDEMPOTENCY_SK: Final = "IDEMPOTENCY"
TASK_PREFIX: Final = "TASK#"
LISTS_INDEX: Final = "lists"
LIST_KEY: Final = "listKey"
LIST_SORT: Final = "listSort"
LONGEST_TIME: Final = 10**14 - 1
"""The latest moment, in milliseconds since the epoch, that sorts as it should: in the year 5138."""


def _part(name: str) -> str:
    return name.replace("%", "%25").replace("#", "%23")


def execution_pk(tenant: str, execution_id: str) -> str:
    """The partition of an execution, its tasks and their payloads."""
    return f"EXEC#{_part(tenant)}#{_part(execution_id)}"


def task_sk(task_id: str) -> str:
    """The hot item of a task."""
    return f"{TASK_PREFIX}{_part(task_id)}"


def input_sk(task_id: str) -> str:
    """What a task was created from: its input and what it depends on."""
    return f"INPUT#{_part(task_id)}"


def output_sk(task_id: str, attempt: int, fingerprint: str) -> str:
    """What one report said of its attempt's result."""
    return f"OUTPUT#{_part(task_id)}#{attempt}#{fingerprint}"


def history_pk(tenant: str, execution_id: str, task_id: str) -> str:
    """The partition of a task's history."""
    return f"HIST#{_part(tenant)}#{_part(execution_id)}#{_part(task_id)}"


def history_sk(version: int, fingerprint: str | None = None) -> str:
    """A change by its version; a report that changed nothing by the version it met and its fingerprint."""
    return f"{version:010d}" if fingerprint is None else f"{version:010d}#{fingerprint}"


def open_list(tenant: str, execution_id: str) -> str:
    """The index partition of an execution's tasks that are still open."""
    return f"OPEN#{_part(tenant)}#{_part(execution_id)}"


def open_list_for(pk: str) -> str:
    """The same, of the execution whose partition is given."""
    return f"OPEN#{pk.removeprefix('EXEC#')}"


def execution_list(tenant: str) -> str:
    """The index partition of a tenant's executions, by time."""
    return f"EXECS#{_part(tenant)}"


def group_list(tenant: str, group: str) -> str:
    """The index partition of the executions of one group, by time."""
    return f"GROUP#{_part(tenant)}#{_part(group)}"


def execution_list_sort(created_at: int, execution_id: str) -> str:
    """By time of creation (milliseconds), then by id."""
    return f"{min(created_at, LONGEST_TIME):014d}#{execution_id}"


def workflow_pk(tenant: str, external_id: str) -> str:
    """The partition of a workflow and its versions."""
    return f"WORKFLOW#{_part(tenant)}#{_part(external_id)}"


def version_sk(version: str) -> str:
    """One version of a workflow."""
    return f"{VERSION_PREFIX}{_part(version)}"


def workflow_list(tenant: str) -> str:
    """The index partition of a tenant's workflows, by external id."""
    return f"WORKFLOWS#{_part(tenant)}"


def version_list(tenant: str) -> str:
    """The index partition of the versions of a tenant's workflows."""
    return f"VERSIONS#{_part(tenant)}"


def version_list_prefix(external_id: str) -> str:
    """Where the versions of one workflow stand in the list: by digest, as two ids do not fit one sort key."""
    return f"{_digest(external_id)}#"


def version_list_sort(external_id: str, version: str) -> str:
    """The place of one version in the list."""
    return f"{version_list_prefix(external_id)}{_digest(version)}"


def task_id_pk(tenant: str, shared: str) -> str:
    """The pointer to a task from what the ids of all its attempts share."""
    return f"TASKID#{_part(tenant)}#{shared}"


def idempotency_pk(tenant: str, key: str) -> str:
    """What an Idempotency-Key is bound to: by its digest, as a key may hold what should not be seen."""
    return f"IDEMPOTENCY#{_part(tenant)}#{sha256(key.encode()).hexdigest()}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def dependent_sk(task_id: str, dependent: str) -> str:
    """That one task waits for another."""
    return f"{dependent_prefix(task_id)}{_part(dependent)}"


def dependent_prefix(task_id: str) -> str:
    """All that wait for a task."""
    return f"NEXT#{_part(task_id)}#"


def waits_sk(task_id: str) -> str:
    """How many tasks a task still waits for."""
    return f"WAITS#{_part(task_id)}"


def live_pk(tenant: str, execution_id: str) -> str:
    """The connections that watch an execution."""
    return f"LIVE#{_part(tenant)}#{_part(execution_id)}"


def ticket_pk(ticket: str) -> str:
    """A ticket that has not been used."""
    return f"TICKET#{_part(ticket)}"


def connection_pk(connection_id: str) -> str:
    """What a connection watches."""
    return f"CONNECTION#{_part(connection_id)}"
