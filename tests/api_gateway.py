"""API Gateway in this process, between a caller and the functions: an HTTP API with a JWT authorizer.

Any HTTP client can call the handlers through it: routes are matched on the decoded path, parameters are decoded once
more, as live captures show it, the token's claims are passed on, and the request becomes an event of payload format
2.0. As AWS documents it, repeated headers and query parameters are joined with commas, header names are lower case,
and a body that is not text (or is encoded) is passed as base64.
"""

import base64
import io
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from local.describe import API_FUNCTIONS
from local.handlers import load_handler
from tasklatch.api.operation import Operation
from tests.factories import Context, fresh_name

URL: Final = "http://api"
MAX_BODY_BYTES: Final = 10 * 1024 * 1024
MAX_HEADER_BYTES: Final = 10_240
"""Limit of the request line and all headers together, in bytes."""

MAX_RESPONSE_BYTES: Final = 6_291_556
"""Limit of a function's response, as JSON, in bytes."""

_TEXT: Final = ("text/", "application/json", "application/javascript", "application/xml")

Claims = Mapping[str, str]
Headers = Sequence[tuple[str, str]]


@cache
def operations() -> Mapping[str, tuple[str, Operation]]:
    """Return every operation of the handlers, by its route, with its function."""
    return {
        key: (function, operation)
        for function in API_FUNCTIONS
        for key, operation in load_handler(function).app.operations.items()
    }


@dataclass(frozen=True)
class PathReading:
    """Conversion of a path to parameters. AWS documents none of it; captures by others show more than one way.

    Attributes
    ----------
    decodes_percent
        Whether ``%25`` is decoded as all else is.
    decodes_parameters
        Whether a parameter's value is decoded once more.
    cuts
        Whether the path ends at a decoded question mark.
    """

    decodes_percent: bool = True
    decodes_parameters: bool = True
    cuts: bool = True

    def path(self, raw: str) -> str:
        """Return the path that routes are matched on."""
        if self.decodes_percent:
            decoded = unquote(raw, errors="replace")
        else:
            decoded = "%25".join(unquote(part, errors="replace") for part in raw.split("%25"))
        return decoded.partition("?")[0] if self.cuts else decoded

    def parameters(self, matched: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters that the function receives."""
        if not self.decodes_parameters:
            return dict(matched)
        return {name: unquote(value, errors="replace") for name, value in matched.items()}


@dataclass
class HttpApi(httpx.BaseTransport):
    """The API from its callers' side.

    Attributes
    ----------
    tokens
        Claims of each valid token.
    remaining_ms
        Time of each function, in milliseconds.
    reading
        Conversion of paths.
    crashes
        Tracebacks of errors that handlers raised: on Lambda they end up in the log, and the caller gets a 500.
    answers
        Number of responses by route and status.
    """

    tokens: Mapping[str, Claims]
    remaining_ms: int = 10_000
    reading: PathReading = field(default_factory=PathReading)
    crashes: list[str] = field(default_factory=list)
    answers: dict[tuple[str, int], int] = field(default_factory=dict)

    def caller(self, token: str) -> httpx.Client:
        """Return an HTTP client of this API, with a token."""
        return httpx.Client(transport=self, base_url=URL, headers={"Authorization": f"Bearer {token}"})

    def session(self, token: str) -> requests.Session:
        """Return a session of `requests` for this API, with a token."""
        session = requests.Session()
        session.trust_env = False
        session.adapters.clear()
        session.mount(URL, _Adapter(self))
        session.headers["Authorization"] = f"Bearer {token}"
        return session

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        status, answered, content = self.answer(request.method, str(request.url), headers, request.read())
        return httpx.Response(status, headers=dict(answered), content=content)

    def crash(self) -> str | None:
        """Return the traceback of a handler's error since the last call; None if there was none."""
        result = "\n".join(self.crashes)
        self.crashes.clear()
        return result or None

    def answer(self, method: str, url: str, headers: Headers, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body, from a function or from API Gateway itself."""
        parts = urlsplit(url)
        lower = _joined((name.lower(), value) for name, value in headers)
        if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES:
            return _own(431, "Request Header Fields Too Large")
        if len(body) > MAX_BODY_BYTES:
            return _own(413, "Request Entity Too Large")
        matched = route_of(method, self.reading.path(parts.path))
        if matched is None:
            return _own(404, "Not Found")
        key, path = matched[0], self.reading.parameters(matched[1])
        function, operation = operations()[key]
        claims: Claims | None = None
        if operation.scope is not None:
            scheme, _, token = lower.get("authorization", "").partition(" ")
            claims = self.tokens.get(token) if scheme.lower() == "bearer" else None
            if claims is None:
                return self._counted(key, _own(401, "Unauthorized"))
            if operation.scope not in claims.get("scope", "").split():
                return self._counted(key, _own(403, "Forbidden"))
        event = _event(key, parts.path, path, parts.query, lower, claims, body)
        return self._counted(key, self._invoke(function, event))

    def _invoke(self, function: str, event: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        try:
            # An event is JSON on its way, and so is a response.
            answer = load_handler(function).handler(json.loads(json.dumps(event)), Context(self.remaining_ms))
        except Exception:  # noqa: BLE001 - as Lambda does: whatever it was, the caller gets a 500
            self.crashes.append(traceback.format_exc())
            return _own(500, "Internal Server Error")
        size = len(json.dumps(answer))
        if size > MAX_RESPONSE_BYTES:
            self.crashes.append(f"an answer of {size:,} bytes is more than Lambda takes")
            return _own(500, "Internal Server Error")
        text = answer["body"]
        # A function sends bytes as base64, and says so
        content = base64.b64decode(text, validate=True) if answer.get("isBase64Encoded") else text.encode()
        return answer["statusCode"], answer["headers"], content

    def _counted(self, key: str, answer: tuple[int, Mapping[str, str], bytes]) -> tuple[int, Mapping[str, str], bytes]:
        self.answers[key, answer[0]] = self.answers.get((key, answer[0]), 0) + 1
        return answer


class _Adapter(HTTPAdapter):
    def __init__(self, api: HttpApi) -> None:
        super().__init__()
        self._api = api

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        headers = [(name, _text(value)) for name, value in request.headers.items()]
        url, body = request.url or "", _bytes(request.body)
        status, answered, content = self._api.answer(request.method or "", url, headers, body)
        return self.build_response(
            request, HTTPResponse(io.BytesIO(content), headers=dict(answered), status=status, preload_content=False)
        )


def route_of(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """Return the route that fits best, and its path parameters: literal parts go before parameters."""
    segments = path.split("/")
    result: list[tuple[int, str, dict[str, str]]] = []
    for key in operations():
        its_method, _, its_path = key.partition(" ")
        expected = its_path.split("/")
        if its_method != method or len(expected) != len(segments):
            continue
        pairs = list(zip(expected, segments, strict=True))
        if all(pair == initial or (pair.startswith("{") and initial) for pair, initial in pairs):
            parameters = {item[1:-1]: provided for item, provided in pairs if item.startswith("{")}
            result.append((len(parameters), key, parameters))
    if not result:
        return None
    _, key, parameters = min(result, key=lambda element: element[0])
    return key, parameters


def _event(
    key: str,
    raw_path: str,
    path: dict[str, str],
    query: str,
    headers: Mapping[str, str],
    claims: Claims | None,
    body: bytes,
) -> dict[str, Any]:
    text = _body_text(headers, body)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": key,
        "rawPath": raw_path,
        "rawQueryString": query,
        "headers": dict(headers),
        "requestContext": {"requestId": fresh_name(), "routeKey": key, "stage": "$default"},
        "isBase64Encoded": bool(body) and text is None,
    }
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True, errors="replace"))
    if path:
        event["pathParameters"] = path
    if claims is not None:
        event["requestContext"]["authorizer"] = {"jwt": {"claims": dict(claims), "scopes": None}}
    if body:
        event["body"] = base64.b64encode(body).decode() if text is None else text
    return event


def _body_text(headers: Mapping[str, str], body: bytes) -> str | None:
    """Return the body if it is passed as text; None if it is passed as base64."""
    if "content-encoding" in headers or not headers.get("content-type", "text/plain").lower().startswith(_TEXT):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _joined(pairs: Sequence[tuple[str, str]] | Iterator[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _own(status: int, message: str) -> tuple[int, Mapping[str, str], bytes]:
    """Return a response of API Gateway's own."""
    return status, {"content-type": "application/json"}, json.dumps({"message": message}).encode()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else bytes(body)
