"""Content that only a release changes: compressed for those who accept it, and not sent again to those who have it."""

import gzip
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from tasklatch.api.messages import Request, Response

MAX_AGE_SECONDS: Final = 300
"""Time for which a copy is used without asking. The address has no version, so a release waits that long."""

_LISTED: Final = re.compile(r"\s*,\s*")


@dataclass(frozen=True)
class StaticContent:
    """Content of one route that needs no token, with the headers that confine a browser.

    Attributes
    ----------
    policy
        Content security policy: what a browser may load and run while it shows the content.
    """

    data: bytes
    media_type: str
    policy: str

    @cached_property
    def etag(self) -> str:
        """Tag of the content. It is weak, so the compressed form has the same."""
        return f'W/"{sha256(self.data).hexdigest()[:32]}"'

    @cached_property
    def compressed(self) -> bytes:
        """The content as gzip; always the same bytes."""
        return gzip.compress(self.data, mtime=0)

    def respond(self, request: Request) -> Response:
        """Return the response: the content, or 304 if the caller has it."""
        headers = {
            "cache-control": f"public, max-age={MAX_AGE_SECONDS}",
            "content-security-policy": self.policy,
            "etag": self.etag,
            "referrer-policy": "no-referrer",
            "vary": "accept-encoding",
            "x-content-type-options": "nosniff",
        }
        if _is_known(request.headers.get("if-none-match", ""), self.etag):
            return Response("", HTTPStatus.NOT_MODIFIED, headers, self.media_type)
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            return Response(
                self.compressed, headers={**headers, "content-encoding": "gzip"}, media_type=self.media_type
            )
        return Response(self.data.decode(), headers=headers, media_type=self.media_type)


def accepts_gzip(accepted: str) -> bool:
    """Return True if an ``Accept-Encoding`` header names gzip, or any coding, with a weight over zero."""
    weights: dict[str, float] = {}
    for entry in _LISTED.split(accepted.strip().lower()):
        coding, _, weight = entry.partition(";")
        weights[coding.strip()] = _weight(weight)
    return weights.get("gzip", weights.get("*", 0)) > 0


def _weight(parameter: str) -> float:
    """Return the weight ``q=`` of a coding: 1 if there is none, 0 if it is not a number."""
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1
    try:
        return float(value)
    except ValueError:
        return 0


def _is_known(listed: str, etag: str) -> bool:
    """Return True if an ``If-None-Match`` header lists the tag, compared without its weakness, or is ``*``."""
    tags = {tag.removeprefix("W/") for tag in _LISTED.split(listed.strip())}
    return "*" in tags or etag.removeprefix("W/") in tags
