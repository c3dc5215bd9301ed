"""Messages of the advance queue: what is sent is understood, and so are the events of an earlier version."""

import json
from typing import Any

import pytest

from tasklatch.domain.advance import Advance, AdvanceMessage, SweepPosition
from tasklatch.domain.status import ExecutionStatus
from tasklatch.runtime.backoff import Backoff
from tasklatch.workflow.advance_queue import AdvanceQueue, from_body, to_body
from tasklatch.workflow.message_handler import short_first
from tests.factories import FakeTime
from tests.workflow_helpers import SETTINGS, FakeClient, in_turn

POSITION = SweepPosition(3, 1, "TASK#b", ExecutionStatus.FAILED)
MESSAGES = [
    AdvanceMessage(Advance.TASK, "tenant", "nightly", "a", is_final=True),
    AdvanceMessage(Advance.TASK, "tenant", "nightly", "ä#1"),
    AdvanceMessage(Advance.COMPLETE, "tenant", "nightly"),
    AdvanceMessage(Advance.CANCEL, "tenant", "nightly", position=POSITION),
    AdvanceMessage(Advance.REOPEN, "tenant", "nightly", position=SweepPosition(1, 0)),
    AdvanceMessage(Advance.SCHEDULE, "tenant", "nightly"),
    AdvanceMessage(Advance.RESUME, "tenant", "nightly", position=POSITION),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_is_read_as_it_was_sent(message: AdvanceMessage) -> None:
    assert from_body(to_body(message)) == message


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        ({"tenant": "tenant", "executionId": "nightly", "taskId": "a", "status": "COMPLETED"}, Advance.TASK),
        ({"tenant": "tenant", "executionId": "nightly", "status": "FAILED"}, Advance.CANCEL),
    ],
)
def test_an_event_of_an_earlier_version_is_a_message(detail: dict[str, Any], kind: Advance) -> None:
    message = from_body(json.dumps({"source": "tasklatch", "detail": detail}))

    assert message == AdvanceMessage(kind, "tenant", "nightly", detail.get("taskId", ""))


@pytest.mark.parametrize("body", ['{"kind": "other"}', '{"kind": "task"}', '{"detail": "none of ours"}', "no JSON"])
def test_what_is_no_message_is_refused(body: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_body(body)


def test_what_a_queue_does_not_take_is_sent_again_ten_at_a_time() -> None:
    # given
    client: Any = FakeClient(send_message_batch=in_turn({"Failed": [{"Id": "1"}]}, {}, {}))
    time_left = FakeTime()
    queue = AdvanceQueue(lambda: client, SETTINGS, Backoff(time_left.remaining_ms, time_left.sleep))
    messages = [AdvanceMessage(Advance.TASK, "tenant", "nightly", f"task-{number}") for number in range(12)]

    # when
    queue.send(messages)

    # then
    requests = client.requests("send_message_batch")
    sent = [[from_body(entry["MessageBody"]).task_id for entry in request["Entries"]] for request in requests]
    assert sent == [[f"task-{number}" for number in range(10)], ["task-1"], ["task-10", "task-11"]]
    assert {request["QueueUrl"] for request in requests} == {"https://queue/advances"}


def test_nothing_is_sent_and_no_client_is_made_for_no_message() -> None:
    time_left = FakeTime()

    def no_client() -> Any:
        raise AssertionError("a client was made")

    AdvanceQueue(no_client, SETTINGS, Backoff(time_left.remaining_ms, time_left.sleep)).send([])


def test_what_schedules_tasks_comes_before_what_may_take_long() -> None:
    bodies = [to_body(message) for message in (MESSAGES[3], MESSAGES[0], MESSAGES[2])]

    assert [from_body(body).kind for body in sorted(bodies, key=short_first)] == [
        Advance.TASK,
        Advance.CANCEL,
        Advance.COMPLETE,
    ]
