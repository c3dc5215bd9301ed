"""Keys of the table. Their parts are escaped, so that different names never produce the same key."""

from hashlib import sha256
from typing import Final
from zlib import crc32

PK: Final = "pk"
SK: Final = "sk"
EXECUTION_SK: Final = "EXEC"
GROUP_SK: Final = "GROUP"
RUNNING_SK: Final = "RUNNING"
EXECUTION_INPUT_SK: Final = "INPUT"
DEFINITION_SK: Final = "DEFINITION"
WORKFLOW_SK: Final = "WORKFLOW"
VERSION_PREFIX: Final = "VERSION#"
TASK_ID_SK: Final = "TASKID"
IDEMPOTENCY_SK: Final = "IDEMPOTENCY"
SCHEDULE_SK: Final = "SCHEDULE"
SCHEDULE_COUNT_SK: Final = "COUNT"
SLOTS_SK: Final = "SLOTS"
WAITING_PREFIX: Final = "WAITING#"
TASK_PREFIX: Final = "TASK#"
LISTS_INDEX: Final = "lists"
LIST_KEY: Final = "listKey"
LIST_SORT: Final = "listSort"
DUE_INDEX: Final = "due"
DUE_KEY: Final = "dueKey"
DUE_SORT: Final = "dueSort"
WORK_INDEX: Final = "work"
WORK_KEY: Final = "workKey"
WORK_SORT: Final = "workSort"
WORK_SHARDS: Final = 4
"""Partitions of each queue in the work index; all tasks of an execution are in one."""

CLAIM_SK: Final = "CLAIM"
SHARDS: Final = 16
"""Partitions of each list in the due index, because one partition takes 1,000 writes a second."""

LONGEST_TIME: Final = 10**14 - 1
"""Latest time, in milliseconds since the epoch, that sorts correctly: in the year 5138."""


def _part(name: str) -> str:
    return name.replace("%", "%25").replace("#", "%23")


def execution_pk(tenant: str, execution_id: str) -> str:
    """Return the partition key of an execution, its tasks and their inputs."""
    return f"EXEC#{_part(tenant)}#{_part(execution_id)}"


def task_sk(task_id: str) -> str:
    """Return the sort key of a task's main item, which applied reports update."""
    return f"{TASK_PREFIX}{_part(task_id)}"


def input_sk(task_id: str) -> str:
    """Return the sort key of a task's input and dependencies."""
    return f"INPUT#{_part(task_id)}"


def output_pk(tenant: str, execution_id: str, task_id: str) -> str:
    """Return the partition key of a task's outputs: one of their own, so that a role can be held to it."""
    return f"OUT#{_part(tenant)}#{_part(execution_id)}#{_part(task_id)}"


def output_sk(attempt: int, fingerprint: str) -> str:
    """Return the sort key of the output in one report."""
    return f"{attempt}#{fingerprint}"


def early_output_sk(task_id: str, attempt: int, fingerprint: str) -> str:
    """Return the sort key of an output that version 0.1 stored in the execution's partition."""
    return f"OUTPUT#{_part(task_id)}#{attempt}#{fingerprint}"


def history_pk(tenant: str, execution_id: str, task_id: str) -> str:
    """Return the partition key of a task's history."""
    return f"HIST#{_part(tenant)}#{_part(execution_id)}#{_part(task_id)}"


def history_sk(version: int, fingerprint: str | None = None) -> str:
    """Return the sort key of a change (its version) or of an ignored report (version at that time, fingerprint)."""
    return f"{version:010d}" if fingerprint is None else f"{ignored_prefix(version)}{fingerprint}"


def ignored_prefix(version: int) -> str:
    """Return the sort key prefix of the reports that were ignored at a version of their task."""
    return f"{version:010d}#"


def open_list(tenant: str, execution_id: str) -> str:
    """Return the index partition key of an execution's open tasks."""
    return f"OPEN#{_part(tenant)}#{_part(execution_id)}"


def open_list_for(pk: str) -> str:
    """Return the index partition key of the open tasks of the execution with this partition key."""
    return f"OPEN#{pk.removeprefix('EXEC#')}"


def execution_list(tenant: str) -> str:
    """Return the index partition key of a tenant's executions, by time."""
    return f"EXECS#{_part(tenant)}"


def group_list(tenant: str, group: str) -> str:
    """Return the index partition key of the executions of one group, by time."""
    return f"GROUP#{_part(tenant)}#{_part(group)}"


def running_list(tenant: str, group: str) -> str:
    """Return the index partition key of the executions of one group that run, by version."""
    return f"RUNNING#{_part(tenant)}#{_part(group)}"


def running_list_sort(version: str, execution_id: str = "") -> str:
    """Return the index sort key of an execution that runs; without an id, the prefix of those of a version."""
    return f"{_part(version)}#{execution_id}"


def execution_list_sort(created_at: int, execution_id: str) -> str:
    """Return the index sort key of an execution: creation time (milliseconds since the epoch), then id."""
    return f"{min(created_at, LONGEST_TIME):014d}#{execution_id}"


def timer_list(shard: int) -> str:
    """Return the index partition key of one shard of the timers that wait."""
    return f"DUE#{shard:02d}"


def unfinished_list(shard: int) -> str:
    """Return the index partition key of one shard of the executions that the reconciler checks."""
    return f"RUN#{shard:02d}"


def shard_of(pk: str, sk: str) -> int:
    """Return the shard of an item, by its primary key."""
    return crc32(f"{pk} {sk}".encode()) % SHARDS


def due_sort(time: int) -> str:
    """Return the index sort key of a time, in milliseconds since the epoch."""
    return f"{max(min(time, LONGEST_TIME), 0):014d}"


def work_list(tenant: str, queue: str, shard: int) -> str:
    """Return the index partition key of one shard of the tasks that a queue hands out."""
    return _work_list(_part(tenant), queue, shard)


def work_list_for(pk: str, queue: str) -> str:
    """Return the index partition key of the tasks that a queue hands out, of the execution with this partition key."""
    return _work_list(pk.split("#")[1], queue, int(_digest(pk)[-2:], 16) % WORK_SHARDS)


def _work_list(tenant: str, queue: str, shard: int) -> str:
    return f"QUEUE#{tenant}#{_part(queue)}#{shard}"


def work_sort(urgency: int, pk: str, time: int) -> str:
    """Return the index sort key of a task that is handed out: by urgency, then by execution, then by time.

    Parameters
    ----------
    urgency
        One digit; the lowest is handed out first.
    pk
        Partition key of the execution. A digest of it stands before the time, so that a query can step over an
        execution with many tasks to the next.
    time
        Milliseconds since the epoch.
    """
    return f"{work_sort_prefix(urgency, pk)}{due_sort(time)}"


def work_sort_prefix(urgency: int, pk: str) -> str:
    """Return the index sort key prefix of the tasks of one urgency and one execution."""
    return f"{urgency}#{_digest(pk)[:8]}#"


def claim_pk(tenant: str, mark: str) -> str:
    """Return the partition key of the record of a claim."""
    return f"CLAIM#{_part(tenant)}#{mark}"


def workflow_pk(tenant: str, external_id: str) -> str:
    """Return the partition key of a workflow and its versions."""
    return f"WORKFLOW#{_part(tenant)}#{_part(external_id)}"


def version_sk(version: str) -> str:
    """Return the sort key of one version of a workflow."""
    return f"{VERSION_PREFIX}{_part(version)}"


def workflow_list(tenant: str) -> str:
    """Return the index partition key of a tenant's workflows, by external id."""
    return f"WORKFLOWS#{_part(tenant)}"


def version_list(tenant: str) -> str:
    """Return the index partition key of the versions of a tenant's workflows."""
    return f"VERSIONS#{_part(tenant)}"


def version_list_prefix(external_id: str) -> str:
    """Return the index sort key prefix of a workflow's versions: a digest, as two ids do not fit one sort key."""
    return f"{_digest(external_id)}#"


def version_list_sort(external_id: str, version: str) -> str:
    """Return the index sort key of one version of a workflow."""
    return f"{version_list_prefix(external_id)}{_digest(version)}"


def task_id_pk(tenant: str, shared: str) -> str:
    """Return the partition key of the pointer to a task; `shared` is the part that its attempts' ids share."""
    return f"TASKID#{_part(tenant)}#{shared}"


def idempotency_pk(tenant: str, key: str) -> str:
    """Return the partition key of an Idempotency-Key: a digest, as the key itself may contain confidential data."""
    return f"IDEMPOTENCY#{_part(tenant)}#{sha256(key.encode()).hexdigest()}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def dependent_sk(task_id: str, dependent: str) -> str:
    """Return the sort key of the item that records that `dependent` waits for a task."""
    return f"{dependent_prefix(task_id)}{_part(dependent)}"


def dependent_prefix(task_id: str) -> str:
    """Return the sort key prefix of the tasks that wait for a task."""
    return f"NEXT#{_part(task_id)}#"


def waits_sk(task_id: str) -> str:
    """Return the sort key of the number of tasks that a task still waits for."""
    return f"WAITS#{_part(task_id)}"


def live_pk(tenant: str, execution_id: str) -> str:
    """Return the partition key of the WebSocket connections that watch an execution."""
    return f"LIVE#{_part(tenant)}#{_part(execution_id)}"


def ticket_pk(ticket: str) -> str:
    """Return the partition key of an unused ticket."""
    return f"TICKET#{_part(ticket)}"


def connection_pk(connection_id: str) -> str:
    """Return the partition key of the pointer from a WebSocket connection to its execution."""
    return f"CONNECTION#{_part(connection_id)}"


def schedule_pk(tenant: str, kind: str, schedule_id: str) -> str:
    """Return the partition key of a schedule."""
    return f"SCHEDULE#{_part(tenant)}#{_part(kind)}#{_part(schedule_id)}"


def schedule_list(tenant: str, kind: str) -> str:
    """Return the index partition key of a tenant's schedules, by id, and the partition key of their number."""
    return f"SCHEDULES#{_part(tenant)}#{_part(kind)}"


def firings_pk(tenant: str, kind: str, schedule_id: str, generation: str) -> str:
    """Return the partition key of the history of a schedule; a later schedule of the same name has another."""
    return f"FIRINGS#{_part(tenant)}#{_part(kind)}#{_part(schedule_id)}#{_part(generation)}"


def firing_sk(fire_time: int) -> str:
    """Return the sort key of one time (milliseconds since the epoch) in the history of a schedule."""
    return f"{min(fire_time, LONGEST_TIME):014d}"


def slots_pk(tenant: str, concurrency_key: str) -> str:
    """Return the partition key of the slots of a concurrency key, and of the executions that wait for one."""
    return f"SLOTS#{_part(tenant)}#{_part(concurrency_key)}"


def waiting_sk(created_at: int, execution_id: str) -> str:
    """Return the sort key of an execution that waits: in the order of creation (milliseconds since the epoch)."""
    return f"{WAITING_PREFIX}{execution_list_sort(created_at, execution_id)}"
