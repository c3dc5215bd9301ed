"""Sending of a replay's requests; each response becomes a result that is compared with the plan."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from local.api_client import ApiClient, ApiError, Reply
from local.replay.check import RequestResult
from local.replay.scripts import ExpectedOutcome, RequestBatch, ScriptedRequest
from local.replay.tables import Wait

_BUSY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.3

AttemptIds = Mapping[tuple[str, int], str]
"""Ids of the opened attempts, by task and attempt."""


def send_requests(
    api: ApiClient, execution_id: str, batch: RequestBatch, attempt_ids: AttemptIds, sent_at: float
) -> tuple[list[RequestResult], Wait]:
    """Send one scripted request or a batch of them.

    Parameters
    ----------
    sent_at
        Time of sending, on the monotonic clock.

    Raises
    ------
    ApiError, LocalCloudError
        If the service is busy or cannot be reached until the deadline; a rejected request is a result.
    """
    bodies = [_body(scripted, attempt_ids) for scripted in batch]
    if len(batch) > 1:
        results, wait = _send_batch(api, execution_id, batch, bodies)
        return [replace(result, sent_at=sent_at) for result in results], wait
    (request,), (body,) = batch, bodies
    route = "heartbeat" if request.is_heartbeat else "status"
    try:
        reply = api.request("worker", "POST", "executions", execution_id, "tasks", request.task_id, route, body=body)
    except ApiError as error:
        if not error.is_final:
            raise
        rejected = RequestResult(
            request, ExpectedOutcome.REFUSED, None, str(error.problem.get("detail", error)), sent_at=sent_at
        )
        return [rejected], Wait(time.monotonic() - sent_at, error.sends > 1)
    was_sent_again = reply.sends > 1
    return [_to_result(request, reply.body, sent_at, was_sent_again=was_sent_again)], Wait(
        reply.seconds, was_sent_again
    )


def _send_batch(
    api: ApiClient, execution_id: str, scripted_requests: Sequence[ScriptedRequest], bodies: Sequence[dict[str, Any]]
) -> tuple[list[RequestResult], Wait]:
    """Send a batch; repeat the part for which the service was busy."""
    results_by_index: dict[int, RequestResult] = {}
    waiting = list(range(len(scripted_requests)))
    was_repeated = False
    started = time.monotonic()
    deadline = started + _BUSY_SECONDS
    while waiting:
        reply = _post_batch(api, execution_id, [(scripted_requests[index], bodies[index]) for index in waiting])
        results = dict(zip(waiting, reply.body["results"], strict=True))
        was_repeated = was_repeated or reply.sends > 1
        waiting = []
        for index, result in results.items():
            if "verdict" in result:
                results_by_index[index] = _to_result(scripted_requests[index], result, 0.0, was_sent_again=False)
            elif result["status"] == HTTPStatus.SERVICE_UNAVAILABLE and time.monotonic() < deadline:
                waiting.append(index)
                was_repeated = True
            else:
                results_by_index[index] = RequestResult(
                    scripted_requests[index], ExpectedOutcome.REFUSED, None, result["problem"]["detail"]
                )
        if waiting:
            time.sleep(_POLL_SECONDS)
    wait = Wait(time.monotonic() - started, was_repeated)
    return [
        replace(results_by_index[index], may_be_processed_twice=was_repeated) for index in range(len(scripted_requests))
    ], wait


def _post_batch(api: ApiClient, execution_id: str, reports: Sequence[tuple[ScriptedRequest, dict[str, Any]]]) -> Reply:
    statuses = [{"taskId": request.task_id, **body} for request, body in reports]
    return api.request("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})


def _body(request: ScriptedRequest, attempt_ids: AttemptIds) -> dict[str, Any]:
    return (
        request.body
        if request.attempt_ref is None
        else {**request.body, "taskExecutionId": attempt_ids[request.attempt_ref]}
    )


def _to_result(
    request: ScriptedRequest, response: dict[str, Any], sent_at: float, *, was_sent_again: bool
) -> RequestResult:
    version = response["task"]["version"]
    if request.is_heartbeat:
        outcome = ExpectedOutcome.CONTINUE if response["continue"] else ExpectedOutcome.STOP
        return RequestResult(request, outcome, version, response.get("reason", ""), was_sent_again, sent_at)
    return RequestResult(
        request, ExpectedOutcome(response["verdict"]), version, "", was_sent_again, sent_at, response.get("retry")
    )
