"""Access tokens from the local cloud's user pool, requested as a worker or an operator does on AWS."""

from __future__ import annotations

import httpx

from local.cloud.stack import LocalCloudError, Stack


def fetch_token(stack: Stack, client: str) -> str:
    """Request an access token for one of the stack's clients; it is valid for an hour.

    Parameters
    ----------
    stack
        The running stack.
    client
        `worker` (may report), `reader` (may read) or `operator` (may do both and manage).

    Raises
    ------
    LocalCloudError
        If the client does not exist, the user pool cannot be reached, or it rejects the request.
    """
    credentials = stack.clients.get(client)
    if credentials is None:
        raise LocalCloudError(f"Client {client!r} not found; available: {', '.join(stack.clients)}.")
    try:
        response = httpx.post(
            stack.token_url,
            auth=(credentials.client_id, credentials.client_secret),
            data={"grant_type": "client_credentials", "scope": credentials.scope},
            timeout=30,
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise LocalCloudError(f"The local cloud does not respond ({error}). Start it with `make up`.") from error
    if response.is_error:
        raise LocalCloudError(f"Token request for {client!r} failed: {response.status_code} {response.text}")
    token: str = response.json()["access_token"]
    return token
