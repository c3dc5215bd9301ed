"""Requests to create an execution, by which a repeated request is recognised."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from tasklatch.domain.concurrency import ConcurrencyLimit
from tasklatch.domain.execution import Execution, WorkflowRun
from tasklatch.domain.idempotency import canonical_text
from tasklatch.domain.status import ExecutionStatus
from tasklatch.domain.task_definition import TaskDefinition


@dataclass(frozen=True)
class NewExecution:
    """Execution to create, with the definitions of its first tasks.

    Attributes
    ----------
    metadata
        JSON text of an object; None if there is none.
    group
        The group in which the execution is listed; None for none.
    keep_open
        True if the execution stays open until a request ends it.
    queue, priority
        The queue and the priority of those of its tasks that name none; None for none.
    run
        The workflow run to store with the execution; its tasks can then be read by the id of an attempt alone.
    concurrency
        The limit that it counts for; None for none. That of a run is its workflow's, which may change between a request
        and its repeat, and so is no part of the fingerprint.
    """

    tenant: str
    execution_id: str
    definitions: Sequence[TaskDefinition]
    name: str | None = field(default=None, kw_only=True)
    metadata: str | None = field(default=None, kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    keep_open: bool = field(default=False, kw_only=True)
    run: WorkflowRun | None = field(default=None, kw_only=True)
    queue: str | None = field(default=None, kw_only=True)
    priority: int | None = field(default=None, kw_only=True)
    concurrency: ConcurrencyLimit | None = field(default=None, kw_only=True)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: the same for the same request, whichever execution id it is for."""
        content = (
            self.name,
            canonical_text(self.metadata),
            [definition.fingerprint for definition in self.definitions],
            *((self.group, self.keep_open) if self.group is not None or self.keep_open else ()),
            *((self.run.canonical,) if self.run else ()),
            *((self.queue, self.priority) if (self.queue, self.priority) != (None, None) else ()),
            *((self.concurrency,) if self.concurrency is not None and self.run is None else ()),
        )
        return sha256(repr(content).encode()).hexdigest()[:16]

    def to_execution(self, now: int) -> Execution:
        """Return the execution, running since `now` (milliseconds since the epoch), or waiting for a slot."""
        return Execution(
            tenant=self.tenant,
            execution_id=self.execution_id,
            status=ExecutionStatus.RUNNING,
            version=1,
            created_at=now,
            updated_at=now,
            definition=self.fingerprint,
            name=self.name,
            metadata=self.metadata,
            group=self.group,
            group_version=self.run.version if self.run is not None else None,
            has_attempt_index=self.run is not None,
            keep_open=self.keep_open,
            queue=self.queue,
            priority=self.priority,
            concurrency_key=self.concurrency.key if self.concurrency is not None else None,
            waiting_since=now if self.concurrency is not None else None,
        )
