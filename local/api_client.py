"""HTTP client of the service: a token for each kind of caller, and retries while the service is busy."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from local.backoff import DEADLINE_SECONDS, DeadlineBackoff, TransientError
from local.cloud.stack import Client, LocalCloudError, Stack

_UNFIT_FOR_PATHS: Final = re.compile("[%/\\\\?;\ufffd]")
"""Characters of task ids that do not fit into a path (docs/api.md, limits); a client does not import the service."""

_BUSY: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    },
)
"""Statuses after which the same request is sent again: a repeat is safe on every route."""

_TOKEN_MARGIN_SECONDS: Final = 60.0
_PAGE: Final = 100


class ApiError(Exception):
    """An error response.

    Parameters
    ----------
    status
        The HTTP status.
    problem
        The problem details, if the response has any.
    sends
        Number of times that the request was sent until the final error.
    """

    def __init__(self, request: str, status: int, problem: Mapping[str, Any], sends: int = 1) -> None:
        super().__init__(f"{request}: {status} {problem.get('detail', '')}".rstrip())
        self.status = status
        self.problem = problem
        self.sends = sends

    @property
    def is_final(self) -> bool:
        """True if a repeat of the request would fail again: a 4xx status other than 429."""
        return HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in _BUSY


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful response.

    Attributes
    ----------
    sends
        Number of times that the request was sent; if more than one, the service may have handled it more than once.
    seconds
        Time from the first send to the response, including repeats and the waits between them.
    """

    status: int
    body: Any
    headers: Mapping[str, str]
    sends: int
    seconds: float


class ApiClient:
    """Client of the native contract; safe to share between threads.

    Parameters
    ----------
    deadline_seconds
        Maximum time of one request, including its repeats.
    access_tokens
        Access tokens by client, where none is to be requested from the stack's token endpoint.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        access_tokens: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api_url = stack.api_url.rstrip("/")
        self._backoff = DeadlineBackoff(deadline_seconds, sleep=sleep, clock=clock)
        self._clock = clock
        self._http = httpx.Client(timeout=httpx.Timeout(30, connect=5), trust_env=False)
        self._tokens = {name: _Token(self._http, stack.token_url, client) for name, client in stack.clients.items()}
        self._access_tokens = dict(access_tokens or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def request(
        self,
        client: str | None,
        method: str,
        *path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        base: str = "v1",
    ) -> Reply:
        """Send a request; repeat it after a random wait while the service is busy or the connection breaks.

        Parameters
        ----------
        client
            ``worker``, ``reader`` or ``operator``; None sends no token.
        path
            The path segments after the base, not encoded.
        headers
            Headers beside the token.
        base
            First part of the path, as it is sent: ``v1``, or that of another platform's routes.

        Raises
        ------
        ApiError
            If the response is an error; if the service is busy, only at the deadline.
        LocalCloudError
            If the connection still fails at the deadline.
        """
        url = "/".join((self._api_url, base, *(quote(part, safe="") for part in path)))
        request_line = f"{method} /{'/'.join((base, *path))}"
        started = self._clock()

        def attempt(sends: int) -> Reply:
            try:
                sent = {**self._authorization(client), **(headers or {})}
                response = self._http.request(method, url, json=body, params=query, headers=sent)
            except httpx.TransportError as error:
                raise TransientError(LocalCloudError(f"{self._api_url} does not respond: {error}")) from error
            if not response.is_success:
                raise _error_response(request_line, response, sends)
            seconds = self._clock() - started
            return Reply(response.status_code, _parse_body(response), response.headers, sends, seconds)

        return self._backoff.run(attempt)

    def _authorization(self, client: str | None) -> dict[str, str]:
        if client is None:
            return {}
        return {"authorization": f"Bearer {self._access_tokens.get(client) or self._tokens[client].value()}"}

    def paginate(self, client: str, *path: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page after page.

        Raises
        ------
        ApiError, LocalCloudError
            As `request`.
        """
        query = {"limit": str(_PAGE)}
        while True:
            page = self.request(client, "GET", *path, query=query).body
            yield from page["items"]
            if "nextCursor" not in page:
                return
            query["cursor"] = page["nextCursor"]


def call_task(
    api: ApiClient, client: str, execution_id: str, task_id: str, route: str = "", body: Mapping[str, Any] | None = None
) -> Reply:
    """Send a request about a task: to its path or, if its id does not fit into a path, with the id in the body.

    Parameters
    ----------
    route
        ``status``, ``heartbeat``, or empty to read the task.

    Raises
    ------
    ApiError, LocalCloudError
        As `ApiClient.request`.
    """
    execution = ("executions", execution_id)
    if fits_path(task_id):
        at_task = (*execution, "tasks", task_id)
        return (
            api.request(client, "POST", *at_task, route, body=body) if route else api.request(client, "GET", *at_task)
        )
    body = {"taskId": task_id, **(body or {})}
    if route == "status":
        return _only_result(api.request(client, "POST", *execution, "statuses", body={"statuses": [body]}))
    return api.request(client, "POST", *execution, *(("heartbeats",) if route else ("tasks", "read")), body=body)


def fits_path(task_id: str) -> bool:
    """Return True if a task's id fits into a path; the routes that take the id in their body accept any."""
    return task_id not in (".", "..") and not _UNFIT_FOR_PATHS.search(task_id)


def _only_result(reply: Reply) -> Reply:
    """Return the only result of a batch as a reply of its own."""
    [result] = reply.body["results"]
    if "problem" in result:
        raise ApiError("POST statuses", result["status"], result["problem"])
    return replace(reply, body=result)


class _Token:
    """An access token, requested at its first use and again before it expires."""

    def __init__(self, http: httpx.Client, url: str, client: Client) -> None:
        self._http = http
        self._url = url
        self._client = client
        self._lock = Lock()
        self._value = ""
        self._good_until = 0.0

    def value(self) -> str:
        with self._lock:
            if time.monotonic() >= self._good_until:
                started = time.monotonic()
                response = self._http.post(
                    self._url,
                    data={"grant_type": "client_credentials", "scope": self._client.scope},
                    auth=(self._client.client_id, self._client.client_secret),
                )
                if not response.is_success:
                    raise _error_response(f"POST {self._url}", response, sends=1)
                token = response.json()
                self._value = token["access_token"]
                life = float(token["expires_in"])
                self._good_until = started + max(life - _TOKEN_MARGIN_SECONDS, life / 2)
            return self._value


def _error_response(request: str, response: httpx.Response, sends: int) -> ApiError | TransientError:
    refusal = ApiError(request, response.status_code, _parse_problem(response), sends)
    return TransientError(refusal, _requested_wait(response)) if response.status_code in _BUSY else refusal


def _requested_wait(response: httpx.Response) -> float:
    retry_after = response.headers.get("retry-after", "")
    return float(retry_after) if retry_after.isdecimal() else 0.0


def _parse_body(response: httpx.Response) -> Any:
    is_json = "json" in response.headers.get("content-type", "")
    return response.json() if is_json and response.content else response.text


def _parse_problem(response: httpx.Response) -> Mapping[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {"detail": response.text[:200]}
    if not isinstance(problem, dict):
        return {"detail": response.text[:200]}
    # API Gateway's own error responses have a `message`, those of token endpoints an `error`
    return {"detail": problem.get("message") or problem.get("error") or "", **problem}
