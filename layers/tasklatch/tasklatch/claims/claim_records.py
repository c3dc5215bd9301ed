"""Records of claims with an id: which tasks each tried to begin, so that a lost answer can be given again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from tasklatch.domain.claim import ClaimRequest
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, from_item, primary_key, to_item
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEPT_SECONDS: Final = 86_400
"""Time for which an answer can be given again, in seconds."""

CLOSED: Final = 0
"""Number of the round of a record that takes no further round: somebody was told that the claim got nothing."""


class TriedTask(NamedTuple):
    """Task that a claim tried to begin, on the version that was read."""

    execution_id: str
    task_id: str
    version: int


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """Record of a claim.

    Attributes
    ----------
    round
        Counts the sets of tasks that the claim tried to begin, from 1; `CLOSED` at the end.
    tasks
        The last set.
    """

    round: int
    tasks: tuple[TriedTask, ...] = ()


class ClaimRecords:
    """Store of the records.

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

    def read(self, request: ClaimRequest) -> ClaimRecord | None:
        """Read the record of a claim; None if the claim has tried to begin nothing yet.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key = _key(request)
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True),
        )
        item = response.get("Item")
        if not item:
            return None
        values = from_item(item)
        return ClaimRecord(values["round"], tuple(TriedTask(*task) for task in values["tasks"]))

    def put(self, request: ClaimRequest, earlier: int | None, following: int, tasks: Sequence[Task] = ()) -> bool:
        """Store a round, unless another request with the same claim id has stored one since.

        Parameters
        ----------
        earlier
            The round that is replaced; None if there is none.

        Returns
        -------
        bool
            True if it was stored, also if that was done by an earlier call whose response was lost.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        tried = [[task.execution_id, task.task_id, task.version] for task in tasks]
        values: dict[str, Any] = {"round": following, "by": request.request_id, "tasks": tried}
        expiry = {"expiresAt": self._clock() // 1000 + KEPT_SECONDS}
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": {**_key(request), **to_item({**values, **expiry})},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            **_condition(earlier),
        }
        try:
            self._backoff.run(lambda: self._client.put_item(**put))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            conflicting: Any = error.response.get("Item", {})
            return all(from_item(conflicting).get(name) == value for name, value in values.items())
        return True


def _condition(earlier: int | None) -> dict[str, Any]:
    """Return the condition that a round is the last one; None for no round."""
    if earlier is None:
        return {"ConditionExpression": "attribute_not_exists(#pk)", "ExpressionAttributeNames": {"#pk": keys.PK}}
    return {
        "ConditionExpression": "#round = :earlier",
        "ExpressionAttributeNames": {"#round": "round"},
        "ExpressionAttributeValues": to_item({":earlier": earlier}),
    }


def _key(request: ClaimRequest) -> Item:
    return primary_key(keys.claim_pk(request.tenant, request.mark), keys.CLAIM_SK)
