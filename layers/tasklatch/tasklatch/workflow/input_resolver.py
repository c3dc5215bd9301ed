"""Resolution of the references in inputs, once and before their tasks are scheduled."""

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.errors import NotFoundError, PayloadTooLargeError
from tasklatch.domain.json_text import dump_payload
from tasklatch.domain.reference import REFERENCE_PREFIX, WORKFLOW_NAME, Reference, get_path, resolve_references
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, from_attribute
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import (
    CHILDREN,
    DEPENDS_ON,
    INCLUDES_ATTEMPT_ID,
    KIND,
    PAYLOAD,
    REFERS_TO,
    RESOLVED,
    Payloads,
    input_text,
)
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.task_inputs import TaskInputs

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_REFERRED_BYTES: Final = 200_000
"""Maximum size of all values that one input refers to, as JSON, in bytes."""

_MAX_INPUT_ITEM_BYTES: Final = 390_000
"""DynamoDB limits an item to 400 KB: it holds the original input, the dependencies and the resolved input."""

_NO_TASK: Final = object()
_RESOLVED_INPUT: Final = "its input, with its references resolved,"


class InputResolver:
    """Resolution of references in the inputs of tasks.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._inputs = TaskInputs(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)
        self._payloads = Payloads(client, settings, backoff)

    def resolve(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Resolve the references in the inputs of tasks of one execution; an input is resolved only once.

        Returns
        -------
        dict
            By task id, the error of an input that becomes too large or too deep, as a sentence.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        if not tasks:
            return {}
        tenant, execution_id = tasks[0].tenant, tasks[0].execution_id
        items = self._inputs.read(tenant, execution_id, [task.task_id for task in tasks])
        errors = {task_id: self._resolve_item(tenant, execution_id, item) for task_id, item in items.items()}
        return {task_id: error for task_id, error in errors.items() if error is not None}

    def read_payload(self, tenant: str, execution_id: str, name: str, part: str) -> str | None:
        """Read the input or output of a task as JSON text; None without one.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        task = self._ledger.read(tenant, execution_id, name)
        if part == "output" and task.output is not None:
            return self._payloads.get_output(task)
        item = self._inputs.read(tenant, execution_id, [name]).get(name, {})
        if part == "output":
            # Where a platform has kinds of tasks, a task without output is shown with an empty one
            return "{}" if KIND in item else None
        return input_text(item)

    def read_workflow_input(self, tenant: str, execution_id: str) -> str | None:
        """Read the input of an execution as JSON text; None without one.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        return self._payloads.get_text(tenant, execution_id, keys.EXECUTION_INPUT_SK)

    def _resolve_item(self, tenant: str, execution_id: str, item: Item) -> str | None:
        text = from_attribute(item[PAYLOAD]) if PAYLOAD in item else ""
        if REFERENCE_PREFIX not in text or RESOLVED in item or INCLUDES_ATTEMPT_ID in item:
            return None
        if CHILDREN in item and from_attribute(item[CHILDREN])["is_declared"]:
            # The references are those of the children, whose inputs are resolved one by one
            return None
        names = [name for part in (DEPENDS_ON, REFERS_TO) if part in item for name in from_attribute(item[part])]
        limit = _MAX_INPUT_ITEM_BYTES - sum(len(part.encode()) for part in (text, *names))
        values = _ReferencedValues(self, tenant, execution_id, names)
        try:
            value = resolve_references(json.loads(text), {*names, WORKFLOW_NAME}, values.look_up)
            resolved = dump_payload(value, _RESOLVED_INPUT, limit)
        except PayloadTooLargeError as error:
            return str(error)
        except RecursionError:
            # An input that was stored before the depth was limited
            return f"{_RESOLVED_INPUT} is nested too deep"
        self._inputs.put_resolved(item, resolved)
        return None


class _ReferencedValues:
    """Values that one input refers to; each payload is read once, and the total size of the values is limited.

    Parameters
    ----------
    task_ids
        Ids of the tasks that the input may refer to.
    """

    def __init__(self, resolver: InputResolver, tenant: str, execution_id: str, task_ids: Collection[str]) -> None:
        self._resolver = resolver
        self._tenant = tenant
        self._execution_id = execution_id
        self._task_ids = task_ids
        self._payloads: dict[tuple[str, str], Any] = {}
        self._bytes_left = MAX_REFERRED_BYTES

    def look_up(self, reference: Reference) -> Any:
        """Return the value of a reference.

        Raises
        ------
        LookupError
            If its task does not exist.
        PayloadTooLargeError
            If the values of all references so far are too large.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        part = (reference.name, reference.part)
        if part not in self._payloads:
            self._payloads[part] = self._read(*part)
        payload = self._payloads[part]
        if payload is _NO_TASK:
            raise LookupError(reference.name)
        value = get_path(payload, reference.path)
        self._bytes_left -= len(json.dumps(value, ensure_ascii=False).encode())
        if self._bytes_left < 0:
            message = f"the values that its input refers to are over {MAX_REFERRED_BYTES:,} bytes of JSON"
            raise PayloadTooLargeError(message)
        return value

    def _read(self, name: str, part: str) -> Any:
        text = None
        if (name, part) == (WORKFLOW_NAME, "input"):
            text = self._resolver.read_workflow_input(self._tenant, self._execution_id)
        if text is None:
            # A task may have the name of the workflow's own input, if the execution has no input
            if name not in self._task_ids:
                return _NO_TASK
            try:
                text = self._resolver.read_payload(self._tenant, self._execution_id, name, part)
            except NotFoundError:
                return _NO_TASK
        return json.loads(text) if text is not None else None
