"""Inputs and outputs, stored in items beside the hot task item as the JSON text that was sent."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.report import Report
from tasklatch.domain.task import OutputRef, Task, TaskDetail
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_attribute, key_texts, primary_key, to_attribute
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
ATTEMPT_ID_PATH: Final = "attemptIdPath"
CHILDREN: Final = "children"


def input_text(item: Item, task: Task | None = None) -> str | None:
    """Return the input that an item holds, with its references resolved if they have been; None without an input.

    Parameters
    ----------
    task
        The task of the input. If its input is to include the attempt's id, the id is added; None adds no id.
    """
    text = next((from_attribute(item[name]) for name in (RESOLVED, PAYLOAD) if name in item), None)
    path = ["taskExecutionId"] if INCLUDES_ATTEMPT_ID in item else []
    if ATTEMPT_ID_PATH in item:
        path = from_attribute(item[ATTEMPT_ID_PATH])
    if text is None or task is None or not path:
        return text
    return json.dumps(_with_value(json.loads(text), path, current_attempt_id(task)), ensure_ascii=False)


def _with_value(document: Any, path: Sequence[str], value: str) -> Any:
    """Return a JSON document with a text at a path; what is on the way and is no object stays as it is."""
    if not path:
        return value
    if document is not None and not isinstance(document, dict):
        return document
    inner = document or {}
    return {**inner, path[0]: _with_value(inner.get(path[0]), path[1:], value)}


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
        texts = {
            (
                keys.output_pk(tenant, execution_id, report.task_id),
                keys.output_sk(*report.output_ref),
            ): report.output or "{}"
            for report in reports
        }
        self._put(texts, now)

    def put_run(self, tenant: str, execution_id: str, run: "WorkflowRun", now: int) -> None:
        """Store the workflow definition and the input of an execution, before it starts.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        texts = {(pk, keys.DEFINITION_SK): run.definition, (pk, keys.EXECUTION_INPUT_SK): run.input}
        self._put({key: text for key, text in texts.items() if text is not None}, now)

    def _put(self, texts: Mapping[tuple[str, str], str], now: int) -> None:
        """Store payloads by partition key and sort key."""
        expires_at = self._settings.expires_at(now)
        payloads = {key: {PAYLOAD: to_attribute(text)} for key, text in texts.items()}
        items = [with_expiry({**primary_key(*key), **payload}, expires_at) for key, payload in payloads.items()]
        batch_put(self._client, self._settings.table_name, items, self._backoff)

    def get_inputs(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Read the inputs of tasks as JSON text by attempt id, with references resolved."""
        sort_keys = [(keys.execution_pk(task.tenant, task.execution_id), keys.input_sk(task.task_id)) for task in tasks]
        items = self._read([primary_key(pk, sk) for pk, sk in dict.fromkeys(sort_keys)])
        texts = {
            current_attempt_id(task): input_text(items[sort_key], task)
            for task, sort_key in zip(tasks, sort_keys, strict=True)
            if sort_key in items
        }
        return {name: text for name, text in texts.items() if text is not None}

    def get_output(self, task: Task) -> str | None:
        """Read the current output of a task as JSON text; None without an output."""
        return self.get_output_at(task, task.output) if task.output is not None else None

    def get_output_at(self, task: Task, output: OutputRef) -> str | None:
        """Read the output of one report on a task as JSON text; None if it does not exist."""
        texts = (self._get_text(key) for key in _output_keys(task, output))
        return next((text for text in texts if text is not None), None)

    def get_text(self, tenant: str, execution_id: str, sk: str) -> str | None:
        """Read one payload of an execution as JSON text; None if it does not exist.

        Parameters
        ----------
        sk
            Sort key of the payload's item.
        """
        return self._get_text(primary_key(keys.execution_pk(tenant, execution_id), sk))

    def _get_text(self, key: Item) -> str | None:
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        item = response.get("Item")
        return from_attribute(item[PAYLOAD]) if item else None

    def get_details(self, tenant: str, execution_id: str, tasks: Sequence[Task]) -> list[TaskDetail]:
        """Read the inputs, outputs and dependencies of tasks of one execution in one batch.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        input_keys = [primary_key(pk, keys.input_sk(task.task_id)) for task in tasks]
        output_keys = [_output_keys(task, task.output) if task.output is not None else () for task in tasks]
        items = self._read([*input_keys, *(candidates[0] for candidates in output_keys if candidates)])
        # Only outputs of version 0.1 need a second read
        unread = [candidates[1] for candidates in output_keys if candidates and key_texts(candidates[0]) not in items]
        items |= self._read(unread)
        outputs = [
            next((items[key_texts(key)] for key in candidates if key_texts(key) in items), None)
            for candidates in output_keys
        ]
        return [
            _detail(task, items.get(key_texts(input_key), {}), output_item)
            for task, input_key, output_item in zip(tasks, input_keys, outputs, strict=True)
        ]

    def _read(self, item_keys: Sequence[Item]) -> dict[tuple[str, str], Item]:
        """Read items by their keys; those that do not exist are left out."""
        items = batch_get(self._client, self._settings.table_name, item_keys, self._backoff)
        return {key_texts(item): item for item in items}


def _output_keys(task: Task, output: OutputRef) -> tuple[Item, Item]:
    """Return the key of an output, and the one under which version 0.1 would have stored it."""
    return (
        primary_key(keys.output_pk(task.tenant, task.execution_id, task.task_id), keys.output_sk(*output)),
        primary_key(keys.execution_pk(task.tenant, task.execution_id), keys.early_output_sk(task.task_id, *output)),
    )


def _detail(task: Task, input_item: Item, output_item: Item | None) -> TaskDetail:
    return TaskDetail(
        task=task,
        input=input_text(input_item, task),
        output=from_attribute(output_item[PAYLOAD]) if output_item else None,
        depends_on=tuple(from_attribute(input_item[DEPENDS_ON])) if DEPENDS_ON in input_item else (),
        kind=from_attribute(input_item[KIND]) if KIND in input_item else None,
    )
