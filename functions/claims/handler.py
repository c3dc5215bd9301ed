"""Routes for workers that ask for work: claim tasks of a queue, release an attempt."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.claims.models import ClaimBody, ReleaseBody, ReleaseResponse
from tasklatch.api.v1.claims.operations import CLAIM_TASKS, RELEASE_TASK
from tasklatch.api.v1.claims.translation import claim_request, claim_response
from tasklatch.api.v1.views import reported_task_view
from tasklatch.claims.releases import ReleasedAttempt
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(CLAIM_TASKS)
def claim_tasks(request: Request) -> Response:
    services, queue = RequestServices(request.remaining_ms), request.path["queue"]
    claim = claim_request(
        request.parse_body(ClaimBody),
        request.tenant,
        queue,
        longest_wait=services.settings.longest_claim_wait,
        client=request.client,
        request_id=request.request_id,
    )
    tasks = services.claims.claim(claim)
    inputs = services.payloads.get_inputs(tasks) if tasks else {}
    return Response(claim_response(queue, tasks, inputs), log_fields={"claimed": len(tasks)})


@app.route(RELEASE_TASK)
def release_task(request: Request) -> Response:
    body, queue = request.parse_body(ReleaseBody), request.path["queue"]
    released = ReleasedAttempt(body.taskId, body.released_attempt(request.tenant))
    result = RequestServices(request.remaining_ms).releases.release(
        request.tenant, queue, body.executionId, released, request.request_id, request.client
    )
    response: ReleaseResponse = {
        "verdict": result.verdict,
        "task": reported_task_view(result.task, released.attempt),
    }
    return Response(response, log_fields={"verdict": result.verdict})
