"""EventBridge Scheduler and its queue in memory, for tests of schedules."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.cloud.emulator_schedules import SCHEDULED_TIME
from tests.workflow_helpers import refusal

FIRE_TIME = datetime(2026, 3, 22, 18, 59, tzinfo=UTC)


@dataclass
class FakeScheduler:
    """Schedules of one group, with the errors that EventBridge Scheduler documents.

    Attributes
    ----------
    fails
        Errors to raise by operation; taken away one by one.
    """

    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fails: dict[str, list[Exception]] = field(default_factory=dict)

    def get_schedule(self, **request: Any) -> Any:
        return self._existing("get", request)

    def create_schedule(self, **request: Any) -> Any:
        self._count("create")
        if request["Name"] in self.schedules:
            raise refusal("ConflictException")
        self.schedules[request["Name"]] = request

    def update_schedule(self, **request: Any) -> Any:
        self._existing("update", request)
        self.schedules[request["Name"]] = request

    def delete_schedule(self, **request: Any) -> Any:
        self._existing("delete", request)
        del self.schedules[request["Name"]]

    def changes(self) -> list[str]:
        """Return the calls that changed something, or tried to."""
        return [call for call in self.calls if call != "get"]

    def expressions(self) -> list[tuple[str, str, str]]:
        """Return the expressions of all schedules, with time zone and state."""
        return sorted(
            (item["ScheduleExpression"], item["ScheduleExpressionTimezone"], item["State"])
            for item in self.schedules.values()
        )

    def fire(self, at: datetime = FIRE_TIME) -> list[str]:
        """Return the message of each enabled schedule for one time."""
        return [message_of(item, at) for _, item in sorted(self.schedules.items()) if item["State"] == "ENABLED"]

    def _existing(self, operation: str, request: dict[str, Any]) -> Any:
        self._count(operation)
        if request["Name"] not in self.schedules:
            raise refusal("ResourceNotFoundException")
        return self.schedules[request["Name"]]

    def _count(self, operation: str) -> None:
        self.calls.append(operation)
        if self.fails.get(operation):
            raise self.fails[operation].pop(0)


def message_of(schedule: dict[str, Any], at: datetime = FIRE_TIME) -> str:
    """Return the message of a schedule for one time."""
    text: str = schedule["Target"]["Input"]
    return text.replace(SCHEDULED_TIME, f"{at:%Y-%m-%dT%H:%M:%SZ}")


@dataclass
class FakeQueue:
    """A queue that takes messages, with their delays."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def send_message(self, **request: Any) -> Any:
        self.messages.append(request)

    def send_message_batch(self, **request: Any) -> Any:
        self.messages += request["Entries"]
        return {}
