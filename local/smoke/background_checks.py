"""Checks of what runs behind the API: the event bus, the stream's consumers, the dead-letter queues."""

import json
from typing import Any, Final

from local.redrive import NOT_REDRIVABLE, SOURCE_QUEUES, STREAM_FUNCTIONS
from local.replay.runner import attached_queue
from local.smoke.check import Check, expect
from local.smoke.session import SmokeSession
from local.worker import Assignment

_LARGE_INPUT: Final = {"text": "x" * 20_000}
_DEPTHS: Final = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
_ISOLATED: Final = "2"
"""Sequence number of the record that no consumer can read."""


def check_event_bus(session: SmokeSession) -> str:
    """Attach a temporary queue to the event bus, and take a task with a large input from it as a worker does."""
    execution_id = session.name("event-bus")
    with attached_queue(session.stack, session.api, execution_id) as queue:
        session.create("event-bus", {"taskId": "task-0", "input": _LARGE_INPUT})
        taken: list[Assignment] = []

        def look() -> list[Assignment]:
            taken.extend(queue.take(at_most=10))
            if not taken:
                # A new rule may take a while to be in force, and misses what is published before
                added = {"taskId": f"task-{session.clock():.3f}", "input": _LARGE_INPUT}
                path = ("executions", execution_id, "tasks")
                session.api.request("operator", "POST", *path, body={"tasks": [added]})
            return taken

        session.poll(look, lambda: "no event Task Scheduled came out of the temporary queue")
    assignment = taken[0]
    task = session.task(execution_id, assignment.task_id)
    same = (assignment.attempt, assignment.task_execution_id) == (1, task["taskExecutionId"])
    expect(same, f"the event names {assignment.task_execution_id}, the API {task['taskExecutionId']}")
    expect(assignment.input == _LARGE_INPUT, "the event does not lead to the task's input")
    return "Task Scheduled came out of a temporary queue, its large input read through the API"


def check_stream_failures(session: SmokeSession) -> str:
    """Invoke the stream's consumers with a record that they cannot read, between two that ask for nothing.

    They must report that record and no other. Whether Lambda then retries it alone depends on the mapping, whose
    settings are read. A real partial failure would need a broken item in the table, and would hold up its shard.
    """
    functions = session.stack.aws("lambda")
    for name in STREAM_FUNCTIONS.values():
        function = session.stack.functions[name]
        [mapping] = functions.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
        _check_mapping(name, mapping)
        records = [_record(session, number) for number in ("1", _ISOLATED, "3")]
        response = functions.invoke(FunctionName=function, Payload=json.dumps({"Records": records}).encode())
        result = json.loads(response["Payload"].read())
        expected = {"batchItemFailures": [{"itemIdentifier": _ISOLATED}]}
        expect(result == expected, f"{name} reports {result}, not record {_ISOLATED} alone")
    return f"{' and '.join(STREAM_FUNCTIONS.values())} report one record of three; the mappings retry it"


def _check_mapping(name: str, mapping: dict[str, Any]) -> None:
    reports = mapping.get("FunctionResponseTypes") == ["ReportBatchItemFailures"]
    expect(reports, f"the mapping of {name} does not retry single records")
    destination = mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    expect(destination, f"the mapping of {name} has no dead-letter queue")
    expect(mapping["State"] in ("Enabled", "Enabling"), f"the mapping of {name} is {mapping['State']}")


def _record(session: SmokeSession, number: str) -> dict[str, Any]:
    """Return a record of a stream: a change without a new version, which needs no action, or an unreadable one.

    It names no source: it comes from this check, and no mapping delivers it again.
    """
    keys = {"pk": {"S": f"EXEC#default#{session.name('stream')}"}, "sk": {"S": "TASK#work"}}
    item = {**keys, "version": {"N": "1"}}
    images = {"NewImage": item} if number == _ISOLATED else {"NewImage": item, "OldImage": item}
    return {"eventName": "MODIFY", "dynamodb": {"Keys": keys, "SequenceNumber": number, **images}}


def check_dead_letters(session: SmokeSession) -> str:
    """Count the messages in the dead-letter queues, and see that a redrive would reach its queues and functions."""
    names = (*SOURCE_QUEUES, *STREAM_FUNCTIONS, *NOT_REDRIVABLE)
    missing = {*names, *SOURCE_QUEUES.values()} - set(session.stack.queues)
    missing |= set(STREAM_FUNCTIONS.values()) - set(session.stack.functions)
    expect(not missing, f"the stack does not name {', '.join(sorted(missing))}")
    sqs, depths = session.stack.aws("sqs"), {}
    for name in names:
        query = {"QueueUrl": session.stack.queues[name], "AttributeNames": list(_DEPTHS)}
        attributes = sqs.get_queue_attributes(**query)["Attributes"]
        depths[name] = sum(int(attributes[depth]) for depth in _DEPTHS)
    filled = ", ".join(f"{depth} in {name}" for name, depth in depths.items() if depth)
    expect(not filled, f"messages wait: {filled}")
    return f"{len(names)} queues are empty; make redrive reaches them"


CHECKS: Final = (
    Check("event-bus", check_event_bus, "the log of notifier; the queue NotifierFailures; the bus's resource policy"),
    Check(
        "stream-failures", check_stream_failures, "the log of notifier and retry_scheduler; their event source mappings"
    ),
    Check("dead-letters", check_dead_letters, "docs/runbook.md#deadlettersalarm"),
)
