"""Emulator patches: with IAM enforced, the same actions and resources are checked as on AWS."""

import json
import logging
import re
from contextvars import ContextVar
from typing import Any, Final

from ministack.core import iam_actions, iam_evaluator

# Service Authorization Reference: IAM authorizes each PartiQL statement by its kind, on the table that it names
_STATEMENT_LISTS: Final = {
    "dynamodb:BatchExecuteStatement": "Statements",
    "dynamodb:ExecuteTransaction": "TransactStatements",
}
_PARTIQL_ACTIONS: Final = {
    "DELETE": "dynamodb:PartiQLDelete",
    "INSERT": "dynamodb:PartiQLInsert",
    "SELECT": "dynamodb:PartiQLSelect",
    "UPDATE": "dynamodb:PartiQLUpdate",
}
_STATEMENT_TABLE: Final = re.compile(
    r'^\s*(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|SELECT\b.*?\bFROM)\s+"([^"]+)"', re.DOTALL
)
_CREATE_SCHEDULE: Final = "scheduler:CreateSchedule"
_ROLE_ACTION: Final = "iam:PassRole"

# Index of the request's body among the arguments, after the service, of `extract_resource_arn`
_BODY: Final = 3

_logger: Final = logging.getLogger("iam")

_role_to_pass: ContextVar[str | None] = ContextVar("_role_to_pass", default=None)
_denied_action: ContextVar[str | None] = ContextVar("_denied_action", default=None)


class IamTransport:
    """Requests that count as encrypted in transit.

    Fault of ministack 1.5: it speaks HTTP only, so a policy that refuses what is not encrypted refuses everything.
    """

    def __init__(self) -> None:
        self._resolve = iam_evaluator._resolve_condition_key  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        iam_evaluator._resolve_condition_key = self.resolve  # noqa: SLF001

    def resolve(self, key: str, context: Any) -> Any:
        """Return the value of a condition's key."""
        return "true" if key.lower() == "aws:securetransport" else self._resolve(key, context)


class IamActionNames:
    """Action names of batches.

    Fault of ministack 1.5: for batches of statements and of messages it checks action names that IAM does not have.
    """

    def __init__(self) -> None:
        self._extract_action = iam_actions.extract_iam_action
        self._transaction_checks = iam_actions.dynamodb_transaction_checks

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.extract_iam_action = self.extract_action
        iam_actions.dynamodb_transaction_checks = self.transaction_checks

    def extract_action(self, service: str, *request: Any) -> str | None:
        """Return the action of a request; of a batch of messages, that of one message."""
        action: str | None = self._extract_action(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action

    def transaction_checks(self, action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
        """Return the actions and resources to check for a request to DynamoDB."""
        if action == "dynamodb:ExecuteStatement":
            return [_statement_check(json.loads(body)["Statement"], region, account)]
        if action in _STATEMENT_LISTS:
            statements = json.loads(body)[_STATEMENT_LISTS[action]]
            return list(
                dict.fromkeys(_statement_check(statement["Statement"], region, account) for statement in statements)
            )
        checks: list[tuple[str, str]] = self._transaction_checks(action, body, region, account)
        return checks


class IamScheduleGroups:
    """Groups of schedules.

    Fault of ministack 1.5: it checks every schedule as a schedule of the default group.
    """

    def __init__(self) -> None:
        self._extract_arn = iam_actions.extract_resource_arn

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.extract_resource_arn = self.extract_arn

    def extract_arn(self, service: str, *request: Any) -> str:
        """Return the ARN of a request's resource; a schedule's ARN has the name of its group."""
        arn: str = self._extract_arn(service, *request)
        group = _schedule(service, request).get("GroupName", "default")
        return arn.replace(":schedule/default/", f":schedule/{group}/")


class IamPassRole:
    """Permission to pass a role to a schedule.

    Fault of ministack 1.5: it lets every principal pass every role.
    """

    def __init__(self) -> None:
        self._extract_arn = iam_actions.extract_resource_arn
        self._enforce = iam_evaluator.enforce
        self._denial = iam_actions.access_denied_response

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.extract_resource_arn = self.extract_arn
        iam_actions.access_denied_response = self.denial
        iam_evaluator.enforce = self.enforce

    def extract_arn(self, service: str, *request: Any) -> str:
        """Return the ARN of a request's resource, and note the role that the request passes."""
        arn: str = self._extract_arn(service, *request)
        _role_to_pass.set(_schedule(service, request).get("Target", {}).get("RoleArn"))
        _denied_action.set(None)
        return arn

    def enforce(self, key: str, action: str, service: str, region: str, *more: Any, **kwargs: Any) -> Any:
        """Check a request and, if it creates a schedule, the passing of the schedule's role."""
        denied = self._enforce(key, action, service, region, *more, **kwargs)
        role = _role_to_pass.get()
        if denied or action != _CREATE_SCHEDULE or not role:
            return denied
        denied = self._enforce(key, _ROLE_ACTION, service, region, resource_arn=role)
        _denied_action.set(_ROLE_ACTION if denied else None)
        return denied

    def denial(self, service: str, action: str, principal: str, *more: Any, **kwargs: Any) -> Any:
        """Return the error response with the action that was denied, and log it."""
        denied_action = _denied_action.get() or action
        # Only the function gets the error response, and may not log it
        _logger.warning("%s is not authorized to perform: %s", principal, denied_action)
        return self._denial(service, denied_action, principal, *more, **kwargs)


def _schedule(service: str, request: tuple[Any, ...]) -> dict[str, Any]:
    """Return the body of a request to EventBridge Scheduler; empty for other services."""
    body = request[_BODY]
    schedule: dict[str, Any] = json.loads(body) if service == "scheduler" and body else {}
    return schedule


def _statement_check(statement: str, region: str, account: str) -> tuple[str, str]:
    """Return the IAM action and the table's ARN of a PartiQL statement."""
    table = _STATEMENT_TABLE.match(statement)
    if table is None:
        raise ValueError(f"no table in PartiQL statement {statement!r}")
    action = _PARTIQL_ACTIONS[statement.split(maxsplit=1)[0].upper()]
    return action, f"arn:aws:dynamodb:{region}:{account}:table/{table[1]}"
