"""Page that shows the API description: Swagger UI, as shipped with Powertools, in one response."""


def swagger_page(description: str) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    description
        OpenAPI document as JSON text.
    """
    # Imported here: only requests for this page should pay for the import.
    from importlib.resources import files  # noqa: PLC0415

    from aws_lambda_powertools.event_handler.openapi import swagger_ui  # noqa: PLC0415

    assets = files(swagger_ui)
    return swagger_ui.generate_swagger_html(
        # Inside a script element, "</" would end it.
        description.replace("</", "<\\/"),
        (assets / "swagger-ui-bundle.min.js").read_text(encoding="utf-8"),
        (assets / "swagger-ui.min.css").read_text(encoding="utf-8"),
        "",
        None,
    )
