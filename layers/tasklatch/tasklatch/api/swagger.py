"""Page that shows the API description: Swagger UI, as shipped with Powertools, in one response from this host alone."""

import base64
from hashlib import sha256
from typing import Final

_START: Final = 'SwaggerUIBundle({dom_id: "#swagger-ui", url: "openapi.json", deepLinking: true, validatorUrl: null})'
"""The description is fetched from beside the page, and no validator of another host is asked about it."""


def swagger_page() -> tuple[bytes, str]:
    """Return the page as HTML, and its content security policy.

    The policy admits the page's own two scripts, by digest, and requests to this host. Styles need no digest: Swagger
    UI sets them on its elements.
    """
    # Imported here: only requests for this page should pay for the import.
    from importlib.resources import files  # noqa: PLC0415

    from aws_lambda_powertools.event_handler.openapi import swagger_ui  # noqa: PLC0415

    assets = files(swagger_ui)
    style, bundle = ((assets / name).read_bytes() for name in ("swagger-ui.min.css", "swagger-ui-bundle.min.js"))
    start = _START.encode()
    page = b"".join(
        (
            b'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Tasklatch API</title>\n<style>',
            style,
            b'</style>\n</head>\n<body>\n<div id="swagger-ui"></div>\n<script>',
            bundle,
            b"</script>\n<script>",
            start,
            b"</script>\n</body>\n</html>\n",
        )
    )
    policy = (
        f"default-src 'none'; script-src {_digest(bundle)} {_digest(start)}; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _digest(script: bytes) -> str:
    """Return the source expression that admits one inline script."""
    return f"'sha256-{base64.b64encode(sha256(script).digest()).decode()}'"
