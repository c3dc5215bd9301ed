"""Constructor of the operations of Cognite's contract."""

from functools import partial
from typing import Final

from tasklatch.api.operation import Operation
from tasklatch.platforms.cognite.errors import ERROR_FORMAT

_PROJECT_PARAMETER: Final = "project"
PROJECT: Final = f"/api/v1/projects/{{{_PROJECT_PARAMETER}}}"

project_operation: Final = partial(Operation, error_format=ERROR_FORMAT, tenant_parameter=_PROJECT_PARAMETER)
"""Constructor of a project's operation; the project is the tenant."""
