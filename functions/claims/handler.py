"""Routes for workers that ask for work: claim tasks of a queue, release an attempt."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.claims import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CLAIM_TASKS)
def claim_tasks(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    longest_wait = services.settings.longest_claim_wait
    return requests.claim_tasks(request, services.claims, services.payloads, longest_wait)


@app.route(operations.RELEASE_TASK)
def release_task(request: Request) -> Response:
    return requests.release_task(request, RequestServices(request.remaining_ms).releases)
