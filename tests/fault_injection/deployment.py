"""Deployment of the functions under test: their environment, and what the template declares of their triggers."""

import json
from functools import cache
from typing import Any, Final

from local.cloud.emulator_filters import FiltersOfAbsentAttributes
from local.cloud.stack import snake_case
from tests.fault_injection.emulated_aws import BUCKET, BUS, LIVE, TABLE, TRIGGER_GROUP
from tests.template.template import resources, target

ENVIRONMENT: Final = {
    "TABLE_NAME": TABLE,
    "EVENT_BUS_NAME": BUS,
    "STREAM_FAILURES_BUCKET": BUCKET,
    "TRIGGER_QUEUE_ARN": "arn:aws:sqs:us-east-1:000000000000:triggers",
    "TRIGGER_FAILURES_ARN": "arn:aws:sqs:us-east-1:000000000000:trigger-failures",
    "TRIGGER_GROUP": TRIGGER_GROUP,
    "TRIGGER_ROLE_ARN": "arn:aws:iam::000000000000:role/triggers",
    "LIVE_URL": "wss://live.invalid/live",
    "LIVE_CALLBACK_URL": LIVE,
}
FUNCTIONS: Final = (
    "cognite_contract",
    "cognite_definitions",
    "cognite_executions",
    "executions",
    "execution_control",
    "forge_contract",
    "live_connection",
    "notifier",
    "reconciler",
    "report_status",
    "retry_dispatcher",
    "retry_scheduler",
    "schedule_runner",
    "schedules",
    "superai_contract",
    "timer_sweeper",
    "workflow_advancer",
)
# The stream's mappings retry until the record is too old; a record that fails this often is never handled
_STREAM_ATTEMPTS: Final = 200

_FILTERS: Final = FiltersOfAbsentAttributes()


def is_delivered(record: dict[str, Any], function: str) -> bool:
    """Return True if the function's stream mapping delivers a record."""
    return any(_FILTERS.match(record, pattern) for pattern in _stream_filters()[function])


@cache
def timeout_seconds() -> dict[str, int]:
    """Return the time-outs of the functions, in seconds."""
    return {
        snake_case(name.removesuffix("Function")): function["Timeout"]
        for name, function in resources("AWS::Lambda::Function").items()
    }


@cache
def _mappings() -> dict[str, Any]:
    return {
        snake_case(target(mapping["FunctionName"]).removesuffix("Function")): mapping
        for mapping in resources("AWS::Lambda::EventSourceMapping").values()
    }


@cache
def _stream_filters() -> dict[str, list[Any]]:
    return {
        function: [json.loads(item["Pattern"]) for item in mapping["FilterCriteria"]["Filters"]]
        for function, mapping in _mappings().items()
        if "FilterCriteria" in mapping
    }


@cache
def max_deliveries() -> dict[str, int]:
    """Return the number of deliveries of a record or a message after which it counts as never handled."""
    queues = resources("AWS::SQS::Queue")
    sources = {function: target(mapping["EventSourceArn"]) for function, mapping in _mappings().items()}
    return {
        function: queues[source]["RedrivePolicy"]["maxReceiveCount"] if source in queues else _STREAM_ATTEMPTS
        for function, source in sources.items()
    }
