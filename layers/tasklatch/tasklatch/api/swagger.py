"""The page that shows the API description: Swagger UI, as Powertools ships it, all in one answer."""


def swagger_page(description: str) -> str:
    """Make the page.

    Parameters
    ----------
    description
        The OpenAPI document, as JSON text.
    """
    # Imported here: nobody but a reader of this page should wait for it.
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
