"""Records of a run with faults: the current invocation, acknowledged reports, responses, and a broken promise."""

from dataclasses import dataclass

from tests.factories import FakeTime


class PromiseBrokenError(AssertionError):
    """Broken promise: the service did something that it must never do."""


@dataclass
class Invocation(FakeTime):
    """One call of a function, and its remaining time; waits take no real time."""

    function: str = ""
    trigger: str = ""
    aws_request_id: str = "request"
    function_name: str = "function"
    invoked_function_arn: str = "function"
    memory_limit_in_mb: int = 1024

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms()


@dataclass(frozen=True)
class AcknowledgedReport:
    """Response to a report."""

    execution_id: str
    task_id: str
    status: str
    verdict: str
    version: int


@dataclass(frozen=True)
class RecordedResponse:
    """Response to a request, with a mark if the request was repeated."""

    route: str
    status: int
    verdicts: tuple[str, ...]
    was_resent: bool
