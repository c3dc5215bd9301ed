"""Bugs of claims and releases, each one small change to the code that runs."""

from typing import Any

import pytest

from tasklatch.claims import claims, releases
from tasklatch.claims.claim_records import CLOSED, ClaimRecords
from tasklatch.claims.claims import Claims
from tasklatch.domain.claim import ClaimRequest, claim_write, release_write
from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.status import TaskStatus, status_precedence
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys, write_expression


def a_task_that_runs_is_begun_again(patch: pytest.MonkeyPatch) -> None:
    """Hand out what another worker has begun by now."""

    def wider(request: ClaimRequest, task: Task, *, now: int) -> ConditionalWrite:
        write = claim_write(request, task, now=now)
        return write._replace(max_precedence=status_precedence(TaskStatus.TIMED_OUT, task.attempt))

    parts = write_expression._parts

    def any_version(write: ConditionalWrite, pk: str, expires_at: int | None) -> Any:
        assigned, removed, conditions = parts(write, pk, expires_at)
        return assigned, removed, [term for term in conditions if term[0] != "version"]

    patch.setattr(claims, "claim_write", wider)
    patch.setattr(write_expression, "_parts", any_version)


def a_failed_condition_counts_as_begun(patch: pytest.MonkeyPatch) -> None:
    """Hand out each task that runs after the write, whoever has begun it."""
    patch.setattr(ClaimRequest, "holds", lambda _self, task: task.status is TaskStatus.IN_PROGRESS)


def a_claim_is_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """Forget which tasks a claim has begun: asked again, it begins others."""
    patch.setattr(ClaimRecords, "read", lambda *_: None)
    patch.setattr(ClaimRecords, "put", lambda *_: True)


def a_claim_is_recorded_after_its_tasks_are_begun(patch: pytest.MonkeyPatch) -> None:
    """Put the record of a claim once its tasks are begun."""
    put, begin = ClaimRecords.put, Claims._begin
    waiting: list[Any] = []

    def later(self: ClaimRecords, *arguments: Any) -> bool:
        if arguments[2] == CLOSED:
            return put(self, *arguments)
        waiting[:] = [arguments]
        return True

    def begin_first(self: Claims, request: ClaimRequest, tasks: Any) -> list[Task]:
        held = begin(self, request, tasks)
        while waiting:
            put(self._records, *waiting.pop())
        return held

    patch.setattr(ClaimRecords, "put", later)
    patch.setattr(Claims, "_begin", begin_first)


def a_release_opens_the_same_attempt_again(patch: pytest.MonkeyPatch) -> None:
    """Lower the latch: the worker that gave an attempt back can fail it for the next."""

    def same(task: Task, **arguments: Any) -> ConditionalWrite:
        write = release_write(task, **arguments)
        return write._replace(
            precedence=status_precedence(TaskStatus.SCHEDULED, task.attempt),
            values={**write.values, "attempt": task.attempt},
        )

    patch.setattr(releases, "release_write", same)


def an_attempt_that_is_opened_again_is_not_listed(patch: pytest.MonkeyPatch) -> None:
    """List only what is scheduled for the first time."""
    parts = write_expression._parts

    def fewer(write: ConditionalWrite, *arguments: Any) -> Any:
        return parts(write._replace(queue=None) if "attempt" in write.values else write, *arguments)

    patch.setattr(write_expression, "_parts", fewer)


def a_task_stays_listed_when_it_is_begun(patch: pytest.MonkeyPatch) -> None:
    """Leave it to the end of a task to take it off its queue."""
    parts = write_expression._parts

    def fewer(write: ConditionalWrite, *arguments: Any) -> Any:
        assigned, removed, conditions = parts(write, *arguments)
        if write.status is TaskStatus.IN_PROGRESS:
            removed = [attribute for attribute in removed if attribute not in (keys.WORK_KEY, keys.WORK_SORT)]
        return assigned, removed, conditions

    patch.setattr(write_expression, "_parts", fewer)
