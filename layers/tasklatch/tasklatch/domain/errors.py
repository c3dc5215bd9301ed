"""Errors of a request. `tasklatch.api.errors` is the one place that maps them to HTTP."""

from collections.abc import Sequence
from typing import Final

MAX_REPORTED_ERRORS: Final = 20
"""Limit on the errors in a response: a request can have more than a response can hold."""


class TasklatchError(Exception):
    """Base class of the errors that this service raises on purpose."""


class InvalidRequestError(TasklatchError):
    """A request that is not valid.

    Parameters
    ----------
    errors
        One entry for each error: ``loc`` (path into the request), ``msg`` and ``type``, in pydantic's form.
    """

    def __init__(self, detail: str, errors: list[dict[str, object]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []


class IdNotInPathError(TasklatchError):
    """An id in a path that may not be the intended one: gateways decode paths in more than one way.

    Parameters
    ----------
    parameter
        Name of the path parameter.
    value
        The id.
    body_route
        The route that does the same with the id in the body; None if there is none.
    """

    def __init__(self, parameter: str, value: str, body_route: str | None = None) -> None:
        instead = f": send it in the body of {body_route}" if body_route else ""
        super().__init__(f"{parameter} {value!r} cannot be addressed in a path{instead}")


class PayloadTooLargeError(TasklatchError):
    """A body or an output over its size limit."""


class UnsupportedEncodingError(TasklatchError):
    """A body in a Content-Encoding or Content-Type that is not supported."""


class NotFoundError(TasklatchError):
    """An entity that does not exist for this tenant.

    Parameters
    ----------
    kind
        Kind of the entity: ``task``, ``execution``, ``workflow`` or ``workflow version``.
    names
        The missing one, or all of them.
    """

    def __init__(self, kind: str, *names: str) -> None:
        super().__init__(f"{kind} {', '.join(map(repr, names))} not found")
        self.kind = kind
        self.names = names


class UnknownTasksError(TasklatchError):
    """An all-or-nothing batch that names tasks that do not exist.

    Parameters
    ----------
    names
        The missing tasks.
    """

    def __init__(self, detail: str, names: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.names = names


class AttemptIdRequiredError(TasklatchError):
    """A report without the id of the attempt that it is about, where ids are required; a forged id is none.

    Parameters
    ----------
    names
        The tasks; none if the contract has no field for an id.
    """

    def __init__(self, *names: str) -> None:
        tasks = ", ".join(map(repr, names))
        which = f"of an attempt at task {tasks}" if names else "of an attempt, which this contract cannot carry"
        super().__init__(f"this deployment requires the taskExecutionId {which}")


class AttemptNotOpenError(TasklatchError):
    """A report on an attempt that is not open: it was never opened, or its task still waits for others.

    Parameters
    ----------
    names
        The task, or all tasks concerned.
    """

    def __init__(self, detail: str, *names: str) -> None:
        super().__init__(f"{'task' if len(names) == 1 else 'tasks'} {', '.join(map(repr, names))}: {detail}")
        self.names = names


class ConflictError(TasklatchError):
    """A request that contradicts the current state: a name in use for another definition, or an ended execution."""


class IdempotencyKeyReusedError(TasklatchError):
    """An Idempotency-Key that was used for another request before."""

    def __init__(self) -> None:
        super().__init__("the Idempotency-Key was used for another request: use a new one")


class DuplicateNameError(TasklatchError):
    """Names in a request that must differ, but do not.

    Parameters
    ----------
    kind
        Kind of the repeated names.
    names
        The repeated names.
    """

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__(f"duplicate {kind}: {', '.join(map(repr, names))}")
        self.names = names


class TooManyWatchersError(TasklatchError):
    """A connection to an execution that has as many watchers as it may have.

    Parameters
    ----------
    limit
        The greatest number of watchers of one execution.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the execution has {limit} watchers already, which is the limit")


class ServiceBusyError(TasklatchError):
    """A request that did not complete in time: throttled, or contended. Nothing was acknowledged.

    Parameters
    ----------
    retry_after_seconds
        Wait in seconds before the caller may retry.
    """

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class UnexpectedError(TasklatchError):
    """An unexpected error: a bug, or a service that refuses a request that it should accept."""

    def __init__(self, detail: str = "internal error; the service's log has the details under this request id") -> None:
        super().__init__(detail)


class UnauthorizedError(TasklatchError):
    """A request without the token that the route needs."""


class ForbiddenError(TasklatchError):
    """A token without the scope or the tenant that the route needs."""
