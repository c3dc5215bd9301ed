"""Emulator patches: HTTP requests reach functions as API Gateway passes them on."""

from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote

from ministack.services import apigateway

# Index of the request's headers among the arguments of `_invoke_lambda_proxy`
_HEADERS: Final = 5

_is_encoded: Final = ContextVar("_is_encoded", default=False)


class EncodedBodies:
    """Bodies with a Content-Encoding, delivered as base64.

    Fault of ministack 1.5: a body with a JSON content type is read as text even if it is gzip, which corrupts its
    bytes. On AWS an encoded body arrives as base64.
    """

    def __init__(self) -> None:
        self._invoke = apigateway._invoke_lambda_proxy  # noqa: SLF001 - it has no other place for this
        self._is_text = apigateway._v2_request_body_is_text  # noqa: SLF001

    def install(self) -> None:
        """Patch the emulator."""
        apigateway._invoke_lambda_proxy = self.invoke  # noqa: SLF001
        apigateway._v2_request_body_is_text = self.is_text  # noqa: SLF001

    async def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """Invoke a function with a request."""
        token = _is_encoded.set("content-encoding" in args[_HEADERS])
        try:
            return await self._invoke(*args, **kwargs)
        finally:
            _is_encoded.reset(token)

    def is_text(self, content_type: Any) -> bool:
        """Return True if the body of the current request is passed on as text."""
        return not _is_encoded.get() and bool(self._is_text(content_type))


class DecodedPaths:
    """Paths, decoded as API Gateway decodes them.

    Fault of ministack 1.5: ``%25`` in a path is not decoded, so an id arrives as another id. On AWS, as live captures
    show, a path is decoded and ends at a decoded question mark, and a parameter is decoded once more.
    """

    def __init__(self) -> None:
        self._match = apigateway._extract_path_params  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        apigateway.decode_http_api_path = self.decode
        apigateway._extract_path_params = self.match  # noqa: SLF001

    @staticmethod
    def decode(raw_path: str) -> str:
        """Decode a path and cut it at a decoded question mark."""
        return unquote(raw_path, errors="replace").partition("?")[0]

    def match(self, route_path: str, request_path: str) -> dict[str, str] | None:
        """Return the decoded path parameters; None if the path does not match the route."""
        parameters: dict[str, str] | None = self._match(route_path, request_path)
        if parameters is None:
            return None
        return {name: unquote(value, errors="replace") for name, value in parameters.items()}
