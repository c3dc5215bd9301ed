"""Workflows and their versions: stored until they are deleted, listed by the index.

An execution stores its own copy of its workflow definition, so runs continue after their version is replaced or
deleted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.workflow_definition import VersionKey, Workflow, WorkflowVersion
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batch_delete
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor
from tasklatch.dynamodb.items import Item, Value, from_item, key_of, primary_key, sort_key_of, to_attribute, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import between, list_query, partition_query
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_LAST: Final = "\U0010ffff"

T = TypeVar("T")


class WorkflowDefinitions:
    """Store of workflows and their versions.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._clock = clock
        self._backoff = backoff

    def put_workflow(
        self,
        tenant: str,
        external_id: str,
        *,
        description: str | None = None,
        data_set_id: int | None = None,
        max_concurrent_executions: int | None = None,
    ) -> Workflow:
        """Create a workflow, or replace its description, its data set and its limit of concurrent executions.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        optional: dict[str, Value | None] = {
            "description": description,
            "dataSetId": data_set_id,
            "maxConcurrentExecutions": max_concurrent_executions or None,
        }
        values = _workflow_values(tenant, external_id) | to_item(optional)
        removed_fields = [name for name, value in optional.items() if value is None]
        return _workflow_from_item(self._put(_workflow_key(tenant, external_id), values, removed_fields))

    def workflow(self, tenant: str, external_id: str) -> Workflow:
        """Read a workflow.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        item = self._read(_workflow_key(tenant, external_id))
        if item is None:
            raise NotFoundError("workflow", external_id)
        return _workflow_from_item(item)

    def list_workflows(self, tenant: str, *, limit: int, cursor: str | None) -> tuple[list[Workflow], str | None]:
        """List a tenant's workflows by external id. The index follows writes within about a second.

        Returns
        -------
        list[Workflow], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        scope = keys.workflow_list(tenant)
        after = "" if cursor is None else decode_cursor(cursor, scope)
        workflows, last = self._page(self._query_list(scope, after, _LAST), limit, _workflow_from_item)
        return workflows, encode_cursor(scope, last) if last is not None else None

    def delete_workflows(self, tenant: str, external_ids: Sequence[str], *, ignore_unknown: bool) -> None:
        """Delete workflows with all their versions.

        Raises
        ------
        NotFoundError
            If one does not exist and `ignore_unknown` is False; nothing is deleted then.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        items = {external_id: list(self._partition(tenant, external_id)) for external_id in external_ids}
        unknown = [external_id for external_id, item_keys in items.items() if not item_keys]
        if unknown and not ignore_unknown:
            raise NotFoundError("workflow", *unknown)
        batch_delete(self._client, self._table, chain.from_iterable(items.values()), self._backoff)

    def put_version(self, tenant: str, external_id: str, version: str, definition: str) -> WorkflowVersion:
        """Create a version of a workflow, or replace it. The workflow is created if it does not exist.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        self._create_workflow(tenant, external_id)
        values = {
            "tenant": tenant,
            "externalId": external_id,
            "workflowVersion": version,
            "definition": definition,
            keys.LIST_KEY: keys.version_list(tenant),
            keys.LIST_SORT: keys.version_list_sort(external_id, version),
        }
        return _version_from_item(self._put(_version_key(tenant, external_id, version), to_item(values), ()))

    def version(self, tenant: str, external_id: str, version: str) -> WorkflowVersion:
        """Read a version of a workflow.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        item = self._read(_version_key(tenant, external_id, version))
        if item is None:
            raise NotFoundError("workflow version", f"{external_id}:{version}")
        return _version_from_item(item)

    def version_with_limit(self, tenant: str, external_id: str, version: str) -> tuple[WorkflowVersion, int | None]:
        """Read a version, as `version` does, and in the same call the limit of its workflow's concurrent executions."""
        item_keys = [_version_key(tenant, external_id, version), _workflow_key(tenant, external_id)]
        read = batch_get(self._client, self._table, item_keys, self._backoff)
        items = {item[keys.SK]["S"]: item for item in read}
        if keys.version_sk(version) not in items:
            raise NotFoundError("workflow version", f"{external_id}:{version}")
        workflow = items.get(keys.WORKFLOW_SK)
        limit = _workflow_from_item(workflow).max_concurrent_executions if workflow is not None else None
        return _version_from_item(items[keys.version_sk(version)]), limit

    def list_versions(
        self, tenant: str, workflow_versions: Sequence[tuple[str, str | None]], *, limit: int, cursor: str | None
    ) -> tuple[list[WorkflowVersion], str | None]:
        """List versions of workflows, grouped by workflow.

        Parameters
        ----------
        workflow_versions
            Workflows, each with one version or None for all its versions; empty for all versions of all workflows.

        Returns
        -------
        list[WorkflowVersion], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        scope = f"{keys.version_list(tenant)} {sorted(workflow_versions, key=repr)}"
        after = "" if cursor is None else decode_cursor(cursor, scope)
        versions, last = self._page(self._query_versions(tenant, workflow_versions, after), limit, _version_from_item)
        return versions, encode_cursor(scope, last) if last is not None else None

    def delete_versions(self, tenant: str, names: Sequence[VersionKey], *, ignore_unknown: bool) -> None:
        """Delete versions of workflows.

        Raises
        ------
        NotFoundError
            If one does not exist and `ignore_unknown` is False; nothing is deleted then.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        item_keys = {name: _version_key(tenant, *name) for name in names}
        read = batch_get(self._client, self._table, item_keys.values(), self._backoff)
        existing = {(version.external_id, version.version) for version in map(_version_from_item, read)}
        unknown = [":".join(name) for name in names if name not in existing]
        if unknown and not ignore_unknown:
            raise NotFoundError("workflow version", *unknown)
        batch_delete(self._client, self._table, (item_keys[name] for name in names if name in existing), self._backoff)

    def _create_workflow(self, tenant: str, external_id: str) -> None:
        """Create a workflow; one that exists stays as it is."""
        now = to_attribute(self._clock())
        initial = {**_workflow_values(tenant, external_id), "createdAt": now, "updatedAt": now}
        update = ItemUpdate(assigned={}, initial=initial, must_exist=False)
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _workflow_key(tenant, external_id),
            **update.expressions(),
        }
        self._backoff.run(lambda: self._client.update_item(**request))

    def _put(
        self, key: Item, values: "Mapping[str, AttributeValueTypeDef]", removed_fields: Iterable[str]
    ) -> "Mapping[str, AttributeValueTypeDef]":
        """Write an item and return all its attributes; a second write keeps `createdAt`."""
        now = to_attribute(self._clock())
        update = ItemUpdate(
            assigned={**values, "updatedAt": now},
            initial={"createdAt": now},
            removed=tuple(removed_fields),
            must_exist=False,
        )
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": key,
            **update.expressions(),
            "ReturnValues": "ALL_NEW",
        }
        return self._backoff.run(lambda: self._client.update_item(**request))["Attributes"]

    def _read(self, key: Item) -> Item | None:
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True),
        )
        return response.get("Item")

    def _partition(self, tenant: str, external_id: str) -> Iterator[Item]:
        """Return the keys of a workflow and its versions."""
        query = partition_query(self._table, keys.workflow_pk(tenant, external_id))
        query["ProjectionExpression"] = f"{keys.PK}, {keys.SK}"
        return paginate(self._client, query, self._backoff)

    def _query_versions(
        self, tenant: str, workflow_versions: Sequence[tuple[str, str | None]], after: str
    ) -> Iterator[Item]:
        list_key = keys.version_list(tenant)
        if not workflow_versions:
            yield from self._query_list(list_key, after, _LAST)
            return
        prefixes = {
            keys.version_list_prefix(name) if version is None else keys.version_list_sort(name, version)
            for name, version in workflow_versions
        }
        covered = ""
        for prefix in sorted(prefixes):
            # A workflow's prefix sorts before those of its versions: this skips versions that it covers already
            if not (covered and prefix.startswith(covered)):
                covered = prefix
                yield from self._query_list(list_key, max(after, prefix), prefix + _LAST, inclusive=prefix > after)

    def _query_list(self, list_key: str, first: str, last: str, *, inclusive: bool = False) -> Iterator[Item]:
        """Return the index entries between two sort keys; `first` is excluded unless `inclusive`."""
        # BETWEEN includes its bounds; the next sort key is the text with the lowest character, U+0001, appended
        begin = first if inclusive else first + "\x01"
        if begin <= last:
            yield from paginate(self._client, list_query(self._table, list_key, between(begin, last)), self._backoff)

    def _page(
        self, listed: Iterator[Item], limit: int, read: "Callable[[Mapping[str, AttributeValueTypeDef]], T]"
    ) -> tuple[list[T], str | None]:
        """Read the next items of a list in its order; return the sort key of the last item if more items follow."""
        entries = list(islice(listed, limit + 1))
        page = entries[:limit]
        item_keys = [key_of(entry) for entry in page]
        items = {
            sort_key_of(item, keys.LIST_SORT): item
            for item in batch_get(self._client, self._table, item_keys, self._backoff)
        }
        sort_keys = [sort_key_of(entry, keys.LIST_SORT) for entry in page]
        more = len(entries) > limit
        return [read(items[sort_key]) for sort_key in sort_keys if sort_key in items], sort_keys[-1] if more else None


def _workflow_key(tenant: str, external_id: str) -> Item:
    return primary_key(keys.workflow_pk(tenant, external_id), keys.WORKFLOW_SK)


def _workflow_values(tenant: str, external_id: str) -> Item:
    return to_item(
        {
            "tenant": tenant,
            "externalId": external_id,
            keys.LIST_KEY: keys.workflow_list(tenant),
            keys.LIST_SORT: external_id,
        }
    )


def _version_key(tenant: str, external_id: str, version: str) -> Item:
    return primary_key(keys.workflow_pk(tenant, external_id), keys.version_sk(version))


def _workflow_from_item(item: "Mapping[str, AttributeValueTypeDef]") -> Workflow:
    values = from_item(item)
    return Workflow(
        tenant=values["tenant"],
        external_id=values["externalId"],
        description=values.get("description"),
        data_set_id=values.get("dataSetId"),
        max_concurrent_executions=values.get("maxConcurrentExecutions"),
        created_at=values["createdAt"],
        updated_at=values["updatedAt"],
    )


def _version_from_item(item: "Mapping[str, AttributeValueTypeDef]") -> WorkflowVersion:
    values = from_item(item)
    return WorkflowVersion(
        tenant=values["tenant"],
        external_id=values["externalId"],
        version=values["workflowVersion"],
        definition=values["definition"],
        created_at=values["createdAt"],
        updated_at=values["updatedAt"],
    )
