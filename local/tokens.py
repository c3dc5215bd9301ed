"""Asks the local cloud's user pool for access tokens, as a worker or an operator would on AWS."""

from __future__ import annotations

import httpx

from local.stack import LocalCloudError, Stack


def fetch_token(stack: Stack, client: str) -> str:
    """Get an access token for one of the stack's clients; it is valid for an hour.

    Parameters
    ----------
    stack
        The running stack.
    client
        `worker` (may report), `reader` (may read) or `operator` (may do both and manage).

    Raises
    ------
    LocalCloudError
        When there is no such client or the token is refused.
    """
    known = stack.clients.get(client)
    if known is None:
        raise LocalCloudError(f"There is no client {client!r}; there are {', '.join(stack.clients)}.")
    try:
        answer = httpx.post(
            stack.token_url,
            auth=(known.client_id, known.client_secret),
            data={"grant_type": "client_credentials", "scope": known.scope},
            timeout=30,
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise LocalCloudError(f"The local cloud does not answer ({error}). Start it with `make up`.") from error
    if answer.is_error:
        raise LocalCloudError(f"No token for {client!r}: {answer.status_code} {answer.text}")
    token: str = answer.json()["access_token"]
    return token
