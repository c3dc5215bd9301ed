"""Translation between claims in the native contract and the domain."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from tasklatch.api.v1.claims.models import ClaimBody, ClaimedTaskView, ClaimResponse
from tasklatch.domain.claim import ClaimRequest
from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.task import Task
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.clock import format_timestamp

ASK_AGAIN_SECONDS: Final = 5


def claim_request(
    body: ClaimBody, tenant: str, queue: str, *, longest_wait: int, client: str | None, request_id: str
) -> ClaimRequest:
    """Return the domain's request; `longest_wait` limits the wait, in seconds."""
    wait_seconds = min(body.waitSeconds, longest_wait)
    return ClaimRequest(tenant, queue, body.max, wait_seconds, body.claimId, client, request_id)


def claim_response(queue: str, tasks: Sequence[Task], inputs: Mapping[str, str]) -> ClaimResponse:
    """Return the response to a claim.

    Parameters
    ----------
    inputs
        JSON texts by the attempts' ids.
    """
    if not tasks:
        return {"items": [], "askAgainSeconds": ASK_AGAIN_SECONDS}
    return {"items": [_claimed_task_view(queue, task, inputs) for task in tasks]}


def _claimed_task_view(queue: str, task: Task, inputs: Mapping[str, str]) -> ClaimedTaskView:
    attempt_id = current_attempt_id(task)
    view: ClaimedTaskView = {
        "executionId": task.execution_id,
        "taskId": task.task_id,
        "attempt": task.attempt,
        "taskExecutionId": attempt_id,
        "input": json.loads(inputs.get(attempt_id, "{}")),
        "queue": queue,
    }
    deadline = next_deadline(task)
    if deadline is not None:
        view["deadline"] = format_timestamp(deadline.due)
    if task.heartbeat_timeout_seconds is not None:
        view["heartbeatSeconds"] = task.heartbeat_timeout_seconds
    return view
