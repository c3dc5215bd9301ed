"""A whole stack in memory for the tests of the smoke checks: its API, and the AWS services that they look at."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

from botocore.exceptions import ClientError

from local.cloud.stack import Stack
from local.redrive import NOT_REDRIVABLE, SOURCE_QUEUES
from local.smoke.background_checks import STREAM_CONSUMERS
from tasklatch.dynamodb import keys
from tests.smoke_api import Body, SmokeApi

QUEUES: Final = (*SOURCE_QUEUES, *SOURCE_QUEUES.values(), *NOT_REDRIVABLE)


class SmokeService(SmokeApi):
    """API, AWS services and WebSocket API of one stack."""

    rule: str | None = None
    refusal: Any = None

    @property
    def stack(self) -> "SmokeStack":
        """The stack's addresses, with these AWS services behind them."""
        queues = {name: name for name in QUEUES if self.broken != "queue unknown" or name != "TimerFailures"}
        functions = {name: name for name in STREAM_CONSUMERS if self.broken != "function unknown"}
        stack = SmokeStack("http://api", "", "", "", "table", {}, "", "bus", queues=queues, functions=functions)
        object.__setattr__(stack, "service", self)
        return stack

    def aws(self, name: str) -> Any:
        if self.broken == f"{name} denied":
            return Denied()
        return {
            "sqs": self._sqs,
            "events": self._events,
            "dynamodb": self._dynamodb,
            "lambda": self._lambda,
            "s3": self._s3,
        }[name]()

    def _sqs(self) -> Any:
        def depth(QueueUrl: str, AttributeNames: list[str]) -> Body:  # noqa: N803 - boto3's names
            filled = self.broken == "dead letter" and QueueUrl == "TimerFailures"
            return {"Attributes": {"QueueArn": "arn", **dict.fromkeys(AttributeNames, "1" if filled else "0")}}

        return SimpleNamespace(
            create_queue=lambda **queue: {"QueueUrl": queue["QueueName"]},
            set_queue_attributes=lambda **_: None,
            delete_queue=lambda **queue: self.removed.append(queue["QueueUrl"]),
            get_queue_attributes=depth,
            receive_message=lambda **_: {"Messages": self._events_taken()},
            exceptions=SimpleNamespace(ReceiptHandleIsInvalid=KeyError, MessageNotInflight=KeyError),
        )

    def _events_taken(self) -> list[Body]:
        self.now += 1
        if self.rule is None or self.broken == "no event":
            return []
        run = self.runs[self.rule]
        late = [name for name in run.tasks if self.broken != "slow rule" or name != "task-0"]
        details = [self._shown(run, name) for name in late]
        for detail in details:
            detail["input"] = None
            if self.broken == "another attempt":
                detail["taskExecutionId"] = "another"
        return [{"Body": json.dumps({"detail": detail}), "ReceiptHandle": ""} for detail in details]

    def _events(self) -> Any:
        def put_rule(EventPattern: str, **_: Any) -> Body:  # noqa: N803
            [self.rule] = json.loads(EventPattern)["detail"]["executionId"]
            return {"RuleArn": "arn:rule"}

        nothing = SimpleNamespace(put_targets=lambda **_: None, remove_targets=lambda **_: None)
        nothing.put_rule, nothing.delete_rule = put_rule, lambda **_: self.removed.append("rule")
        return nothing

    def _dynamodb(self) -> Any:
        waiting = [
            (run.execution_id, name, int(task["due"] * 1000))
            for run in self.runs.values()
            for name, task in run.tasks.items()
            if task["status"] == "FAILED" and task["due"] - self.now > 900 and self.broken != "no entry"
        ]

        def query(TableName: str, IndexName: str, ExpressionAttributeValues: Body, **_: Any) -> Body:  # noqa: N803
            assert (TableName, IndexName) == ("table", keys.DUE_INDEX)
            shard, first, last = (value["S"] for value in ExpressionAttributeValues.values())
            items = [
                {"pk": {"S": pk}, "sk": {"S": sk}, "dueKey": {"S": shard}, "dueSort": {"S": keys.due_sort(due)}}
                for pk, sk, due in (
                    (keys.execution_pk("any", execution_id), keys.task_sk(name), due)
                    for execution_id, name, due in waiting
                )
                if keys.timer_list(keys.shard_of(pk, sk)) == shard and first <= keys.due_sort(due) <= last
            ]
            return {"Items": items}

        return SimpleNamespace(query=query)

    def _s3(self) -> Any:
        filled = self.broken == "records set aside"
        return SimpleNamespace(list_objects_v2=lambda **_: {"KeyCount": int(filled)})

    def _lambda(self) -> Any:
        def invoke(FunctionName: str, Payload: bytes) -> Body:  # noqa: N803
            assert FunctionName in STREAM_CONSUMERS
            records = [record["dynamodb"] for record in json.loads(Payload)["Records"]]
            failed = [record["SequenceNumber"] for record in records if "OldImage" not in record]
            if self.broken == "whole batch fails":
                failed = [record["SequenceNumber"] for record in records]
            result = {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
            return {"Payload": SimpleNamespace(read=lambda: json.dumps(result))}

        mapping: Body = {"FunctionResponseTypes": ["ReportBatchItemFailures"], "State": "Enabled"}
        mapping["DestinationConfig"] = {"OnFailure": {"Destination": "arn"}}
        settings: dict[str, Body] = {
            "whole batches": {"FunctionResponseTypes": []},
            "disabled": {"State": "Disabled"},
            "no destination": {"DestinationConfig": {}},
        }
        mapping |= settings.get(self.broken, {})
        return SimpleNamespace(
            invoke=invoke,
            list_event_source_mappings=lambda FunctionName: {"EventSourceMappings": [mapping]},  # noqa: N803, ARG005
        )

    # ------------------------------------------------------------ WebSocket API

    @contextmanager
    def connect(self, url: str, **_: Any) -> Iterator[Any]:
        """Connect with a ticket; messages are the changes of the only running execution."""
        if url not in self.tickets:
            refusal = SimpleNamespace(status_code=403)
            raise self.refusal(refusal)
        if self.broken != "ticket twice":
            self.tickets.remove(url)
        yield SimpleNamespace(recv=self._message)

    def _message(self, timeout: float) -> str:
        self.now += timeout
        run = list(self.runs.values())[-1]
        task = max(run.tasks.values(), key=lambda task: (task["status"] == "IN_PROGRESS", task["taskId"]))
        if self.broken == "no message":
            raise TimeoutError
        fields = {name: task[name] for name in ("taskId", "status", "version", "attempt")}
        return json.dumps({"type": "task.status", "at": task["updatedAt"], **fields})


class SmokeStack(Stack):
    """Addresses of a stack in memory."""

    service: SmokeService

    def aws(self, service: str, deadline_seconds: float = 0) -> Any:
        assert deadline_seconds >= 0
        return self.service.aws(service)


class Denied:
    """A client whose caller may do nothing."""

    exceptions = SimpleNamespace()

    def __getattr__(self, name: str) -> Any:
        operation = re.sub(r"(?:^|_)(\w)", lambda match: match[1].upper(), name)

        def deny(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

        return deny
