"""Claims of tasks by workers: what is asked for, what is chosen, and the writes that begin a task and give it back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from random import Random
from typing import Final, NamedTuple

from tasklatch.domain.conditional_write import AUTHORSHIP, ConditionalWrite, Value, system_write, write_for_report
from tasklatch.domain.report import Verdict, make_report
from tasklatch.domain.status import SEALED, TaskStatus, status_precedence
from tasklatch.domain.task import Task

MAX_CLAIMED: Final = 10
MAX_WAIT_SECONDS: Final = 20
"""Longest wait for work: API Gateway answers after 30 s, and what is found has to be begun and read."""


@dataclass(frozen=True)
class ClaimRequest:
    """Request of a worker for tasks.

    Attributes
    ----------
    most
        The number of tasks that it takes at most, from 1 to `MAX_CLAIMED`.
    wait_seconds
        The longest time that it waits for a task, in seconds.
    claim_id
        The worker's own name of the claim, by which it asks again after an answer was lost; None if it never does.
    client
        Client of the worker's token; None if the token names none.
    request_id
        Id of the request.
    """

    tenant: str
    queue: str
    most: int
    wait_seconds: int
    claim_id: str | None
    client: str | None
    request_id: str

    @cached_property
    def mark(self) -> str:
        """Mark of the claim on its tasks: the same for each request with its id, of one client, for one queue."""
        name = (self.client, self.queue, self.claim_id) if self.claim_id is not None else self.request_id
        return sha256(repr(name).encode()).hexdigest()[:16]

    def holds(self, task: Task) -> bool:
        """Return True if the current attempt of a task runs under this claim."""
        return task.status is TaskStatus.IN_PROGRESS and task.claim == self.mark

    def can_begin(self, task: Task) -> bool:
        """Return True if a task waits for a worker of this queue."""
        is_waiting = task.status is TaskStatus.SCHEDULED and not task.is_of_later_version
        return is_waiting and task.queue == self.queue


class WorkEntry(NamedTuple):
    """Entry of the list of tasks that wait for workers: the task's keys, its urgency, and its place in the list."""

    pk: str
    sk: str
    urgency: str
    sort: str


def in_fair_order(entries: Iterable[WorkEntry], seed: str) -> Iterator[WorkEntry]:
    """Yield the most urgent entries first; among equally urgent ones, one of each execution in turn, oldest first.

    Parameters
    ----------
    seed
        Decides which execution is first: claims that differ in it start with different executions, so that workers
        that ask at once do not all want the same task.
    """
    executions: dict[str, dict[str, list[WorkEntry]]] = {}
    for entry in sorted(set(entries), key=lambda entry: (entry.urgency, entry.sort, entry.sk)):
        executions.setdefault(entry.urgency, {}).setdefault(entry.pk, []).append(entry)
    for queues in executions.values():
        lists = list(queues.values())
        Random(seed).shuffle(lists)  # noqa: S311 - spreads load, guards nothing
        for turn in zip_longest(*lists):
            yield from (entry for entry in turn if entry is not None)


def claim_write(request: ClaimRequest, task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write that begins the current attempt of a scheduled task for the worker that claims it.

    It is the write of a report that the attempt is in progress, on the version that was read: so an attempt that is
    handed out in another way too is begun once.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    report = replace(
        make_report(task.task_id, TaskStatus.IN_PROGRESS, attempt=task.attempt), reported_by=request.client
    )
    write = write_for_report(report, now=now, request_id=request.request_id, version=task.version)
    return write._replace(values={**write.values, "claim": request.mark})


def release_write(task: Task, *, now: int, request_id: str, client: str | None) -> ConditionalWrite:
    """Derive the write that gives a running attempt back: the next attempt opens at once, and none is spent.

    The latch never falls: a late report of the worker that gave it back would otherwise count for the next worker.

    Parameters
    ----------
    task
        The task as it was read. The write applies only to this version, so only once.
    now
        Milliseconds since the epoch.
    """
    attempt = task.attempt + 1
    values: dict[str, Value] = {
        "updated_at": now,
        "scheduled_at": now,
        "attempt": attempt,
        "released_attempts": (task.released_attempts or 0) + 1,
        "request_id": request_id,
        **({} if client is None else {"reported_by": client}),
    }
    write = system_write(task, TaskStatus.SCHEDULED, now=now)
    authored = (field for field in AUTHORSHIP if field in values)
    return write._replace(
        precedence_from=status_precedence(TaskStatus.IN_PROGRESS, task.attempt),
        max_precedence=status_precedence(TaskStatus.TIMED_OUT, task.attempt),
        precedence=status_precedence(TaskStatus.SCHEDULED, attempt),
        values=values,
        clear_fields=tuple(sorted(set(write.clear_fields) - set(authored))),
    )


def release_verdict(task: Task, attempt: int, request_id: str) -> Verdict | None:
    """Return the verdict on a release that changes nothing; None if it gives the attempt back.

    Parameters
    ----------
    attempt
        The attempt to give back; it was opened.
    """
    if task.request_id == request_id and task.attempt == attempt + 1:
        # The write took effect: only its response was lost
        return Verdict.APPLIED
    if task.status in SEALED:
        return Verdict.SEALED
    if task.status is TaskStatus.COMPLETED:
        return Verdict.IGNORED_AFTER_SUCCESS
    if task.attempt > attempt or task.status is TaskStatus.SCHEDULED:
        # Another worker gets it, or has it
        return Verdict.DUPLICATE
    return None if task.status is TaskStatus.IN_PROGRESS else Verdict.STALE_ATTEMPT
