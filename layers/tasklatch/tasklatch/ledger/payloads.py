"""Inputs and outputs, stored in items beside the hot task item as the JSON text that was sent."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tasklatch.domain.report import Report
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.items import Item, primary_key
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from tasklatch.domain.execution import WorkflowRun

PAYLOAD: Final = "payload"
RESOLVED: Final = "resolved"
DEPENDS_ON: Final = "dependsOn"
REFERS_TO: Final = "refersTo"
INCLUDES_ATTEMPT_ID: Final = "namesAttempt"
KIND: Final = "kind"


def input_text(item: Item, task: Task | None = None) -> str | None:
    """Return the input that an item holds, with its references resolved if they have been; None without an input.

    Parameters
    ----------
    task
        The task of the input. If its input is to include the attempt's id, the id is added; None adds no id.
    """
    text = next((item[name]["S"] for name in (RESOLVED, PAYLOAD) if name in item), None)
    if text is None or task is None or INCLUDES_ATTEMPT_ID not in item:
        return text
    return json.dumps({**json.loads(text), "taskExecutionId": current_attempt_id(task)}, ensure_ascii=False)


class Payloads:
    """Store of inputs, outputs and workflow definitions.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._backoff = backoff

    def put_outputs(self, tenant: str, execution_id: str, reports: Sequence[Report], now: int) -> None:
        """Store the outputs of reports, before the writes that refer to them.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some outputs may be stored.
        """
        texts = {keys.output_sk(report.task_id, *report.output_ref): report.output or "{}" for report in reports}
        self._put(texts, keys.execution_pk(tenant, execution_id), now)

    def put_run(self, tenant: str, execution_id: str, run: "WorkflowRun", now: int) -> None:
        """Store the workflow definition and the input of an execution, before it starts.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        texts = {keys.DEFINITION_SK: run.definition, keys.EXECUTION_INPUT_SK: run.input}
        pk = keys.execution_pk(tenant, execution_id)
        self._put({sk: text for sk, text in texts.items() if text is not None}, pk, now)

    def _put(self, texts: Mapping[str, str], pk: str, now: int) -> None:
        expires_at = self._settings.expires_at(now)
        items: list[Item] = [{**primary_key(pk, sk), PAYLOAD: {"S": text}} for sk, text in texts.items()]
        if expires_at is not None:
            for item in items:
                item["expiresAt"] = {"N": str(expires_at)}
        batch_put(self._client, self._settings.table_name, items, self._backoff)

    def get_inputs(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Read the inputs of tasks as JSON text by attempt id, with references resolved."""
        sort_keys = [(keys.execution_pk(task.tenant, task.execution_id), keys.input_sk(task.task_id)) for task in tasks]
        item_keys: list[Item] = [primary_key(pk, sk) for pk, sk in dict.fromkeys(sort_keys)]
        stored = batch_get(self._client, self._settings.table_name, item_keys, self._backoff)
        items = {(item[keys.PK]["S"], item[keys.SK]["S"]): item for item in stored}
        texts = {
            current_attempt_id(task): input_text(items[sort_key], task)
            for task, sort_key in zip(tasks, sort_keys, strict=True)
            if sort_key in items
        }
        return {name: text for name, text in texts.items() if text is not None}

    def get_output(self, task: Task) -> str | None:
        """Read the current output of a task as JSON text; None without an output."""
        sk = _output_sk(task)
        return self.get_text(task.tenant, task.execution_id, sk) if sk is not None else None

    def get_text(self, tenant: str, execution_id: str, sk: str) -> str | None:
        """Read one payload of an execution as JSON text; None if it does not exist.

        Parameters
        ----------
        sk
            Sort key of the payload's item.
        """
        key: Item = primary_key(keys.execution_pk(tenant, execution_id), sk)
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        item = response.get("Item")
        return item[PAYLOAD]["S"] if item else None

    def get_details(self, tenant: str, execution_id: str, tasks: Sequence[Task]) -> list[TaskDetail]:
        """Read the inputs, outputs and dependencies of tasks of one execution in one batch.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        payload_keys = [(keys.input_sk(task.task_id), _output_sk(task)) for task in tasks]
        item_keys: list[Item] = [primary_key(pk, sk) for pair in payload_keys for sk in pair if sk]
        read = batch_get(self._client, self._settings.table_name, item_keys, self._backoff)
        items = {item[keys.SK]["S"]: item for item in read}
        return [
            _detail(task, items.get(input_key, {}), items.get(output_key or ""))
            for task, (input_key, output_key) in zip(tasks, payload_keys, strict=True)
        ]


def _output_sk(task: Task) -> str | None:
    return keys.output_sk(task.task_id, *task.output) if task.output is not None else None


def _detail(task: Task, input_item: Item, output_item: Item | None) -> TaskDetail:
    return TaskDetail(
        task=task,
        input=input_text(input_item, task),
        output=output_item[PAYLOAD]["S"] if output_item else None,
        depends_on=tuple(name["S"] for name in input_item[DEPENDS_ON]["L"]) if DEPENDS_ON in input_item else (),
        kind=input_item[KIND]["S"] if KIND in input_item else None,
    )
