"""Checks of who gets in, and of the creation of executions."""

from functools import partial
from typing import Any, Final

from local.smoke.check import Check, CheckSkippedError, expect
from local.smoke.session import SmokeSession

_OPEN_API: Final = "3.1"
_ROUTES: Final = frozenset({"/v1/executions", "/v1/executions/{executionId}/statuses", "/forge/updateTaskStatus"})
_CREATED: Final = 201
_OK: Final = 200


def check_health(session: SmokeSession) -> str:
    """Read the health route without a token."""
    body = session.api.request(None, "GET", "health").body
    expect(body == {"status": "ok"}, f"health answers {body}")
    return session.stack.api_url


def check_description(session: SmokeSession) -> str:
    """Read the API description and its page without a token."""
    description = session.api.request(None, "GET", "openapi.json").body
    expect(description["openapi"].startswith(_OPEN_API), f"OpenAPI {description['openapi']}, not {_OPEN_API}")
    missing = _ROUTES - set(description["paths"])
    expect(not missing, f"the description lacks {', '.join(sorted(missing))}")
    page = session.api.request(None, "GET", "docs")
    expect(page.headers.get("content-type", "").startswith("text/html"), "the page of the description is not HTML")
    return f"version {description['info']['version']}, {len(description['paths'])} paths"


def check_without_token(session: SmokeSession) -> str:
    """Send a request without a token and with an invalid one."""
    for headers in ({}, {"authorization": "Bearer invalid"}):
        session.refused(401, "", partial(session.api.request, None, "GET", "executions", headers=headers))
    return "401 without a token and with an invalid one"


def check_wrong_scope(session: SmokeSession) -> str:
    """Read and create with a token that may only report."""
    if not session.has_scoped_clients:
        raise CheckSkippedError("one token serves all: set TASKLATCH_WORKER_TOKEN to one with tasklatch/report alone")
    body, _ = _keyed(session, "wrong-scope")
    session.refused(403, "", lambda: session.api.request("worker", "POST", "executions", body=body))
    session.refused(403, "", lambda: session.api.request("worker", "GET", "executions"))
    return "403 where the token lacks the scope"


def check_creation_twice(session: SmokeSession) -> str:
    """Create an execution twice with one Idempotency-Key."""
    body, headers = _keyed(session, "twice")
    first = session.api.request("operator", "POST", "executions", body=body, headers=headers)
    second = session.api.request("operator", "POST", "executions", body=body, headers=headers)
    expect(first.status == _CREATED or first.sends > 1, f"the first request is answered {first.status}, not 201")
    expect(second.status == _OK, f"the second request is answered {second.status}, not 200")
    same = first.body["executionId"] == second.body["executionId"] == body["executionId"]
    expect(same, f"two executions: {first.body['executionId']} and {second.body['executionId']}")
    return "201, then 200 with the same execution"


def check_key_reused(session: SmokeSession) -> str:
    """Use an Idempotency-Key again with another body."""
    body, headers = _keyed(session, "key-reused")
    session.api.request("operator", "POST", "executions", body=body, headers=headers)
    other = {**body, "tasks": [{"taskId": "another"}]}
    session.refused(
        409,
        "idempotency-key-reused",
        lambda: session.api.request("operator", "POST", "executions", body=other, headers=headers),
    )
    return "409 with another body"


def _keyed(session: SmokeSession, what: str) -> tuple[dict[str, Any], dict[str, str]]:
    execution_id = session.name(what)
    session.cancel_at_end(execution_id)
    return {"executionId": execution_id, "tasks": [{"taskId": "work"}]}, {"Idempotency-Key": execution_id}


_ACCESS_LOG: Final = "the API's access log (authorizerError, integrationError); JwtIssuer and JwtAudience"
_CREATING: Final = "the log of the function executions"

CHECKS: Final = (
    Check("health", check_health, "ApiUrl among the stack's outputs; the log of the function api_description"),
    Check("api-description", check_description, "functions/api_description; was the layer built for this release?"),
    Check("no-token", check_without_token, _ACCESS_LOG),
    Check("wrong-scope", check_wrong_scope, _ACCESS_LOG),
    Check("created-once", check_creation_twice, _CREATING),
    Check("key-reused", check_key_reused, _CREATING),
)
