"""Tenant and scope of a caller, from the claims that API Gateway's JWT authorizer has verified."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from tasklatch.domain.errors import ForbiddenError, UnauthorizedError

DEFAULT_TENANT: Final = "default"
_TENANT: Final = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}"
_CLIENT_CLAIMS: Final = ("client_id", "azp", "sub")
_CLIENT: Final = re.compile(r"[\x21-\x7e]+")
MAX_CLIENT_CHARACTERS: Final = 64
"""Each is a byte of the task's item, which costs a report its one write unit. A client id of Cognito has 26."""


class Scope(StrEnum):
    """Scopes of an access token."""

    REPORT = "tasklatch/report"
    READ = "tasklatch/read"
    MANAGE = "tasklatch/manage"


def get_tenant(event: Mapping[str, Any], scope: Scope, tenant_claim: str) -> str:
    """Check that the token has the route's scope, and return its tenant.

    Parameters
    ----------
    scope
        Scope that the route needs.
    tenant_claim
        Claim that names the tenant; empty if the service has only one, `DEFAULT_TENANT`.

    Raises
    ------
    UnauthorizedError
        If the request has no verified token.
    ForbiddenError
        If the token lacks the scope, or its claim is not a valid tenant.
    """
    jwt = (event["requestContext"].get("authorizer") or {}).get("jwt")
    if not jwt:
        raise UnauthorizedError("bearer token required")
    claims = jwt["claims"]
    granted = claims.get("scope") or claims.get("scp") or ""
    if scope not in re.split(r"[\s,\[\]]+", granted):
        raise ForbiddenError(f"token lacks the required scope {scope}")
    if not tenant_claim:
        return DEFAULT_TENANT
    tenant = claims.get(tenant_claim)
    if not isinstance(tenant, str) or not re.fullmatch(_TENANT, tenant):
        raise ForbiddenError(f"token claim {tenant_claim!r} is not a valid tenant")
    return tenant


def get_client(event: Mapping[str, Any]) -> str | None:
    """Return the client that a verified token was issued to, cut to `MAX_CLIENT_CHARACTERS`; None if it names none.

    Cognito names it in ``client_id``, other providers in ``azp``; where neither is, the token's subject stands for it.
    """
    claims = ((event["requestContext"].get("authorizer") or {}).get("jwt") or {}).get("claims") or {}
    names = (claims.get(claim) for claim in _CLIENT_CLAIMS)
    client = next((name for name in names if isinstance(name, str) and _CLIENT.fullmatch(name)), None)
    return client and client[:MAX_CLIENT_CHARACTERS]
