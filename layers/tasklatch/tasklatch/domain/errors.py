"""What can be wrong with a request. `tasklatch.api.errors` is the one place that turns these into HTTP."""

from collections.abc import Sequence
from typing import Final

MAX_REPORTED_ERRORS: Final = 20
"""So many are named: a request can have more than an answer can hold."""


class TasklatchError(Exception):
    """The root of all that this service raises on purpose."""


class InvalidRequestError(TasklatchError):
    """A request that cannot be understood.

    Parameters
    ----------
    errors
        One entry for each fault: ``loc`` (path into the body), ``msg`` and ``type``, as pydantic words them.
    """

    def __init__(self, detail: str, errors: list[dict[str, object]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []


class IdNotInPathError(TasklatchError):
    """An id in a path that need not be the one that was meant: gateways decode paths in more than one way.

    Parameters
    ----------
    parameter
        The path's parameter.
    body_route
        Where the same is done with the id in the body; None where nothing is.
    """

    def __init__(self, parameter: str, value: str, body_route: str | None = None) -> None:
        instead = f": name it in the body of {body_route}" if body_route else ""
        super().__init__(f"{parameter} {value!r} cannot be addressed in a path{instead}")


class PayloadTooLargeError(TasklatchError):
    """A body or an output over its bound."""


class UnsupportedEncodingError(TasklatchError):
    """A body in a Content-Encoding or Content-Type that is not served."""


class NotFoundError(TasklatchError):
    """No such thing for this tenant.

    Parameters
    ----------
    kind
        What it is that is not there: ``task``, ``execution``, ``workflow`` or ``workflow version``.
    names
        The one that is not there, or all of them.
    """

    def __init__(self, kind: str, *names: str) -> None:
        super().__init__(f"{kind} {', '.join(map(repr, names))} not found")
        self.kind = kind
        self.names = names


class UnknownTasksError(TasklatchError):
    """A batch that is taken as a whole or not at all names tasks that are not there.

    Parameters
    ----------
    names
        Which.
    """

    def __init__(self, detail: str, names: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.names = names


class AttemptNotOpenError(TasklatchError):
    """A report on an attempt that is not open: it was never opened, or its task still waits for others.

    Parameters
    ----------
    names
        The task, or all of those that are concerned.
    """

    def __init__(self, detail: str, *names: str) -> None:
        super().__init__(f"{'task' if len(names) == 1 else 'tasks'} {', '.join(map(repr, names))}: {detail}")
        self.names = names


class ConflictError(TasklatchError):
    """The same name was used before, for something else."""


class IdempotencyKeyReusedError(TasklatchError):
    """The Idempotency-Key came with another request before."""

    def __init__(self) -> None:
        super().__init__("the Idempotency-Key was used for another request: use a new one")


class DuplicateNameError(TasklatchError):
    """What should be different in a request is the same.

    Parameters
    ----------
    kind
        What it is that is named twice.
    names
        Which.
    """

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__(f"duplicate {kind}: {', '.join(map(repr, names))}")
        self.names = names


class ServiceBusyError(TasklatchError):
    """The table would not take the write in time: throttled, or contended. Nothing was acknowledged.

    Parameters
    ----------
    retry_after_seconds
        When the caller may come again.
    """

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class UnexpectedError(TasklatchError):
    """An error that nothing here foresees: a bug, or a service that refuses what it should take."""

    def __init__(
        self, detail: str = "an error that the service does not expect; its log has it by this request id"
    ) -> None:
        super().__init__(detail)


class UnauthorizedError(TasklatchError):
    """No token, where one is needed."""


class ForbiddenError(TasklatchError):
    """A token without the scope or the tenant that the route needs."""
