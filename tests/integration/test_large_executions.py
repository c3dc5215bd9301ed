"""Executions of many tasks, in invocations that have time for a part of them: all tasks are done, in flat memory."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest

from tasklatch.domain.advance import Advance
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.executions import execution_tasks
from tests.benchmarks.large_execution import Draining, LargeExecution, large_execution

SIZE: Final = 480
PAGE: Final = 30
# An invocation has time for about ten pages of reading, or of writing
READING: Final = partial(Draining, look_ms=1_000)
WRITING: Final = partial(Draining, look_ms=400)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[LargeExecution]:
    monkeypatch.setattr(execution_tasks, "TASKS_A_PAGE", PAGE)
    with large_execution(service_ms=0) as execution:
        yield execution


def test_every_task_is_read_in_several_invocations_of_the_same_memory(large: LargeExecution) -> None:
    # given
    large.put(SIZE // 2, TaskStatus.COMPLETED, ExecutionStatus.RUNNING)
    small = large.sweep(Advance.COMPLETE, READING)
    assert large.execution().status is ExecutionStatus.COMPLETED

    # when
    large.put(SIZE, TaskStatus.COMPLETED, ExecutionStatus.RUNNING)
    ended = large.sweep(Advance.COMPLETE, READING)

    # then
    assert large.execution().status is ExecutionStatus.COMPLETED
    assert (small.invocations, ended.invocations) == (1, 2)
    assert ended.peak_mb < 1.3 * small.peak_mb


def test_every_task_is_cancelled_and_reopened_in_several_invocations(large: LargeExecution) -> None:
    # given
    large.put(SIZE, TaskStatus.SCHEDULED, ExecutionStatus.TERMINATED)

    # when
    cancelled = large.sweep(Advance.CANCEL, WRITING, traced=False)
    statuses = large.statuses()
    reopened = large.sweep(Advance.REOPEN, WRITING, traced=False)

    # then
    assert statuses == {(TaskStatus.CANCELED, 1): SIZE}
    assert large.statuses() == {(TaskStatus.SCHEDULED, 2): SIZE}
    assert large.execution().status is ExecutionStatus.RUNNING
    assert min(cancelled.invocations, reopened.invocations) > 1
