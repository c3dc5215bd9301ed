"""Requests for work in the native contract: what each operation does with the services."""

from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.claims.models import ClaimBody, ReleaseBody, ReleaseResponse
from tasklatch.api.v1.claims.translation import claim_request, claim_response
from tasklatch.api.v1.views import reported_task_view
from tasklatch.claims.claims import Claims
from tasklatch.claims.releases import ReleasedAttempt, Releases
from tasklatch.ledger.payloads import Payloads


def claim_tasks(request: Request, claims: Claims, payloads: Payloads, longest_wait: int) -> Response:
    """Begin tasks of a queue for a worker; `longest_wait` limits its wait, in seconds."""
    claim = claim_request(
        request.parse_body(ClaimBody),
        request.tenant,
        request.path["queue"],
        longest_wait=longest_wait,
        client=request.client,
        request_id=request.request_id,
    )
    tasks = claims.claim(claim)
    inputs = payloads.get_inputs(tasks) if tasks else {}
    return Response(claim_response(claim.queue, tasks, inputs), log_fields={"claimed": len(tasks)})


def release_task(request: Request, releases: Releases) -> Response:
    """Give an attempt back to its queue."""
    body = request.parse_body(ReleaseBody)
    released = ReleasedAttempt(body.taskId, body.released_attempt(request.tenant))
    result = releases.release(
        request.tenant, request.path["queue"], body.executionId, released, request.request_id, request.client
    )
    response: ReleaseResponse = {
        "verdict": result.verdict,
        "task": reported_task_view(result.task, released.attempt),
    }
    return Response(response, log_fields={"verdict": result.verdict})
