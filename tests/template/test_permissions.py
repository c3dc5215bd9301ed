"""What Lambda needs of each function's role, and what no role may have.

What a function itself asks for, and that its role allows just that, is shown by running it: see
tests/integration/test_least_privilege.py.
"""

import json
import re
from typing import Any, Final

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from tests.template.template import (
    HTTP_API,
    compact,
    functions,
    grants,
    http_routes,
    listed,
    resources,
    role_of,
    target,
)

# Every function writes its log and its traces
LOG_ACTIONS: Final = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACE_ACTIONS: Final = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
LOG_GROUP: Final = compact({"Fn::GetAtt": ["FunctionLogs", "Arn"]})
LIST_STREAMS: Final = "dynamodb:ListStreams"


def _managed(policy: str) -> set[str]:
    """Give the actions of a policy that AWS itself keeps, but those of logs."""
    document = json.loads(aws_managed_policies_data)[policy]["Document"]
    actions = {action for statement in document["Statement"] for action in listed(statement["Action"])}
    return {action for action in actions if not action.startswith("logs:")}


def lambdas_own(function: str) -> set[tuple[str, str]]:
    """Give what Lambda itself does with a function's role: it logs and traces, reads streams and queues, sets aside.

    Of what it needs to read, AWS keeps policies, AWSLambdaDynamoDBExecutionRole and AWSLambdaSQSQueueExecutionRole.
    """
    resource = functions()[function]
    own = {(action, LOG_GROUP) for action in LOG_ACTIONS} | {(action, "*") for action in TRACE_ACTIONS}
    for mapping in resources("AWS::Lambda::EventSourceMapping").values():
        if functions()[function] is not resources("AWS::Lambda::Function")[target(mapping["FunctionName"])]:
            continue
        source = compact(mapping["EventSourceArn"])
        if target(mapping["EventSourceArn"]) in resources("AWS::SQS::Queue"):
            own |= {(action, source) for action in _managed("AWSLambdaSQSQueueExecutionRole")}
        else:
            own |= {(action, source) for action in _managed("AWSLambdaDynamoDBExecutionRole") - {LIST_STREAMS}}
            own.add((LIST_STREAMS, compact({"Fn::Sub": f"${{{target(mapping['EventSourceArn'])}.Arn}}/stream/*"})))
            bucket = mapping["DestinationConfig"]["OnFailure"]["Destination"]
            own.add(("s3:ListBucket", compact(bucket)))
            own.add(("s3:PutObject", compact({"Fn::Sub": f"${{{target(bucket)}.Arn}}/aws/lambda/*"})))
    if "DeadLetterConfig" in resource:
        own.add(("sqs:SendMessage", compact(resource["DeadLetterConfig"]["TargetArn"])))
    return own


@pytest.mark.parametrize("function", functions())
def test_lambda_may_do_with_a_functions_role_what_it_must(function: str) -> None:
    assert lambdas_own(function) <= set(grants(role_of(functions()[function])))


@pytest.mark.parametrize("name", resources("AWS::Lambda::Function"))
def test_a_function_writes_to_the_stacks_log_group_only(name: str) -> None:
    function = resources("AWS::Lambda::Function")[name]

    granted = {(action, to) for action, to in grants(role_of(function)) if action.startswith("logs:")}

    assert target(function["LoggingConfig"]["LogGroup"]) == "FunctionLogs"
    assert granted == {(action, LOG_GROUP) for action in LOG_ACTIONS}


@pytest.mark.parametrize("role", resources("AWS::IAM::Role").items(), ids=lambda item: item[0])
def test_nothing_is_allowed_on_all_resources_but_sending_traces(role: tuple[str, dict[str, Any]]) -> None:
    # X-Ray's two actions know no resource
    assert {action for action, to in grants(role[1]) if to == "*"} <= TRACE_ACTIONS


@pytest.mark.parametrize("role", resources("AWS::IAM::Role").items(), ids=lambda item: item[0])
def test_no_role_takes_actions_from_elsewhere_or_by_wildcard(role: tuple[str, dict[str, Any]]) -> None:
    assert "ManagedPolicyArns" not in role[1]
    assert not [action for action, _ in grants(role[1]) if "*" in action]


def test_no_two_functions_share_a_role() -> None:
    roles = [function["Role"]["Fn::GetAtt"][0] for function in resources("AWS::Lambda::Function").values()]

    assert len(set(roles)) == len(roles)


@pytest.mark.parametrize("permission", resources("AWS::Lambda::Permission").items(), ids=lambda item: item[0])
def test_only_this_stacks_apis_and_rules_may_call_a_function(permission: tuple[str, dict[str, Any]]) -> None:
    caller = permission[1]["SourceArn"]

    if permission[1]["Principal"] != "apigateway.amazonaws.com":
        assert permission[1]["Principal"] == "events.amazonaws.com"
        assert target(caller) in resources("AWS::Events::Rule")
    elif target(permission[1]["FunctionName"]) == "LiveConnectionFunction":
        assert caller["Fn::Sub"].rpartition(":")[2] == "${LiveApi}/*"
    else:
        assert caller["Fn::Sub"][1]["__ApiId__"] == {"Ref": HTTP_API}


def test_the_api_may_call_a_function_for_each_of_its_routes() -> None:
    called = {
        (target(permission["FunctionName"]), permission["SourceArn"]["Fn::Sub"][0].partition("${__Stage__}/")[2])
        for permission in resources("AWS::Lambda::Permission").values()
        if isinstance(permission["SourceArn"].get("Fn::Sub"), list)
    }

    # In an ARN of a call, a route's parameters stand as they are in its key
    assert called == {
        (route.function, re.sub(r"\{\w+\}", "*", key.replace(" ", ""))) for key, route in http_routes().items()
    }
