"""Generator of the API description that the service returns, from the routes and models in the code."""

import json
import tomllib
from typing import Final

from local.handlers import FUNCTIONS, ROOT, load_handler
from local.openapi import describe
from tasklatch.api.v1.reports.models import BatchedReportBody

DESCRIPTION: Final = FUNCTIONS / "api_description" / "openapi.json"
API_FUNCTIONS: Final = (
    "api_description",
    "claims",
    "cognite_contract",
    "cognite_definitions",
    "cognite_executions",
    "execution_control",
    "executions",
    "forge_contract",
    "report_status",
    "schedules",
    "superai_contract",
)


def description_text() -> str:
    """Return the OpenAPI document of all functions, as JSON text."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    operations = [
        operation for function in API_FUNCTIONS for operation in load_handler(function).app.operations.values()
    ]
    document = describe(operations, version=version, extra=[BatchedReportBody])
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def write_description() -> None:
    """Write the OpenAPI document into the folder of the function that returns it."""
    DESCRIPTION.write_text(description_text())
    print(f"{DESCRIPTION.relative_to(ROOT)}: written")
