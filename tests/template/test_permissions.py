"""What each function may do, and that it is nothing else."""

from typing import Any, Final

import pytest

from tests.template.template import grants, resources, role_of, target

TABLE: Final = '{"Fn::GetAtt":["LedgerTable","Arn"]}'
INDEX: Final = '{"Fn::Sub":"${LedgerTable.Arn}/index/lists"}'
STREAM: Final = '{"Fn::GetAtt":["LedgerTable","StreamArn"]}'
STREAMS: Final = '{"Fn::Sub":"${LedgerTable.Arn}/stream/*"}'
BUS: Final = '{"Fn::GetAtt":["EventBus","Arn"]}'
TIMERS: Final = '{"Fn::GetAtt":["TimerQueue","Arn"]}'
TIMER_ROLE: Final = '{"Fn::GetAtt":["TimerRole","Arn"]}'
ADVANCES: Final = '{"Fn::GetAtt":["AdvanceQueue","Arn"]}'
NOTIFIER_FAILURES: Final = '{"Fn::GetAtt":["NotifierFailures","Arn"]}'
RETRY_SCHEDULER_FAILURES: Final = '{"Fn::GetAtt":["RetrySchedulerFailures","Arn"]}'
CONNECTIONS: Final = (
    '{"Fn::Sub":"arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${LiveApi}/live/*/@connections/*"}'
)
SCHEDULES: Final = (
    '{"Fn::Sub":"arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule/${TimerGroup}/*"}'
)

MAY: Final[dict[str, set[tuple[str, str]]]] = {
    "ReportStatusFunction": {
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "ExecutionsFunction": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLInsert", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "ForgeContractFunction": {
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLInsert", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "SuperaiContractFunction": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLInsert", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "CogniteContractFunction": {
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "CogniteExecutionsFunction": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLInsert", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "CogniteDefinitionsFunction": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "ApiDescriptionFunction": set(),
    "NotifierFunction": {
        ("events:PutEvents", BUS),
        ("execute-api:ManageConnections", CONNECTIONS),
        ("sqs:SendMessage", NOTIFIER_FAILURES),
        ("dynamodb:DescribeStream", STREAM),
        ("dynamodb:GetRecords", STREAM),
        ("dynamodb:GetShardIterator", STREAM),
        ("dynamodb:ListStreams", STREAMS),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:BatchWriteItem", TABLE),
        ("dynamodb:DeleteItem", TABLE),
        ("dynamodb:Query", TABLE),
    },
    "RetrySchedulerFunction": {
        ("sqs:SendMessage", RETRY_SCHEDULER_FAILURES),
        ("scheduler:CreateSchedule", SCHEDULES),
        ("dynamodb:DescribeStream", STREAM),
        ("dynamodb:GetRecords", STREAM),
        ("dynamodb:GetShardIterator", STREAM),
        ("dynamodb:ListStreams", STREAMS),
        ("dynamodb:UpdateItem", TABLE),
        ("sqs:SendMessage", TIMERS),
        ("iam:PassRole", TIMER_ROLE),
    },
    "RetryDispatcherFunction": {
        ("scheduler:CreateSchedule", SCHEDULES),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:UpdateItem", TABLE),
        ("sqs:ChangeMessageVisibility", TIMERS),
        ("sqs:DeleteMessage", TIMERS),
        ("sqs:GetQueueAttributes", TIMERS),
        ("sqs:ReceiveMessage", TIMERS),
        ("sqs:SendMessage", TIMERS),
        ("iam:PassRole", TIMER_ROLE),
    },
    "WorkflowAdvancerFunction": {
        ("sqs:ChangeMessageVisibility", ADVANCES),
        ("sqs:DeleteMessage", ADVANCES),
        ("sqs:GetQueueAttributes", ADVANCES),
        ("sqs:ReceiveMessage", ADVANCES),
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "LiveConnectionFunction": {
        ("dynamodb:DeleteItem", TABLE),
        ("dynamodb:PutItem", TABLE),
    },
    "ExecutionControlFunction": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    },
    "ReconcilerFunction": {
        ("dynamodb:Query", INDEX),
        ("dynamodb:Scan", INDEX),
        ("dynamodb:BatchGetItem", TABLE),
        ("dynamodb:GetItem", TABLE),
        ("dynamodb:PartiQLUpdate", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:Query", TABLE),
        ("dynamodb:UpdateItem", TABLE),
        ("sqs:SendMessage", TIMERS),
    },
}

# Every function writes its log and its traces
LOG_ACTIONS: Final = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACE_ACTIONS: Final = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def test_every_function_is_in_the_table_of_permissions() -> None:
    assert set(resources("AWS::Lambda::Function")) == set(MAY)


@pytest.mark.parametrize("name", MAY)
def test_a_function_may_do_exactly_what_it_needs(name: str) -> None:
    role = role_of(resources("AWS::Lambda::Function")[name])

    granted = {(action, to) for action, to in grants(role) if action not in LOG_ACTIONS | TRACE_ACTIONS}

    assert granted == MAY[name]


@pytest.mark.parametrize("name", MAY)
def test_a_function_writes_to_its_own_log_group_only(name: str) -> None:
    function = resources("AWS::Lambda::Function")[name]
    group = resources("AWS::Logs::LogGroup")[function["LoggingConfig"]["LogGroup"]["Ref"]]

    granted = {(action, to) for action, to in grants(role_of(function)) if action.startswith("logs:")}

    own = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:" + group["LogGroupName"]["Fn::Sub"]
    assert granted == {(action, f'{{"Fn::Sub":"{own}:*"}}') for action in LOG_ACTIONS}


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

    if permission[1]["Principal"] == "apigateway.amazonaws.com":
        assert caller["Fn::Sub"].rpartition(":")[2] in {"${HttpApi}/*", "${LiveApi}/*"}
    else:
        assert permission[1]["Principal"] == "events.amazonaws.com"
        assert target(caller) in resources("AWS::Events::Rule")
