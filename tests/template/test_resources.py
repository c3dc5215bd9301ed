"""What must hold for every function, mapping, route, queue and table, whoever adds one."""

import json
from collections.abc import Mapping
from http import HTTPMethod
from typing import Any, Final

import pytest

from local.cloud.stack import snake_case
from tests.template.template import (
    HTTP_API,
    Resource,
    Route,
    http_api_definition,
    http_routes,
    resources,
    target,
    transformed,
    when,
)

ALWAYS_OPEN: Final = {"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs"}
# Change no task: a ticket for a live view, and lists whose filters come in a body
READ_BY_POST: Final = {
    "POST /v1/executions/{executionId}/watch",
    "POST /v1/executions/{executionId}/tasks/read",
    "POST /v1/executions/{executionId}/tasks/history",
    "POST /api/v1/projects/{project}/workflows/executions/list",
    "POST /api/v1/projects/{project}/workflows/versions/list",
}
SCOPES: Final = {"tasklatch/report", "tasklatch/read", "tasklatch/manage"}
AUTHORIZER: Final = "access-token"
LONGEST_ANSWER_SECONDS: Final = 30
STREAM_HOURS: Final = 24
READERS_OF_A_SHARD: Final = 2
NEW_ACCOUNT_CONCURRENCY: Final = 10
LEAST_QUEUE_CONCURRENCY: Final = 2


def _each(kind: str) -> pytest.MarkDecorator:
    return _all_of(resources(kind))


def _all_of(matches: Mapping[str, Resource]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("resource", matches.values(), ids=matches)


def _mappings(source: str) -> dict[str, Resource]:
    """Give the mappings from a table's stream or from queues, by the type of what they read."""
    matches = resources("AWS::Lambda::EventSourceMapping")
    return {
        name: resource for name, resource in matches.items() if target(resource["EventSourceArn"]) in resources(source)
    }


@_each("AWS::Lambda::Function")
def test_a_function_logs_to_a_group_that_forgets(resource: dict[str, Any]) -> None:
    group = resources("AWS::Logs::LogGroup")[target(resource["LoggingConfig"]["LogGroup"])]

    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@_each("AWS::Logs::LogGroup")
def test_a_log_group_is_named_after_its_stack(resource: dict[str, Any]) -> None:
    assert "${AWS::StackName}" in resource["LogGroupName"]["Fn::Sub"]


@_each("AWS::Lambda::Function")
def test_a_function_runs_on_the_chosen_python_with_the_layer_and_traces(resource: dict[str, Any]) -> None:
    assert resource["Runtime"] == {"Ref": "PythonVersion"}
    assert resource["Architectures"] == [{"Ref": "Architecture"}]
    assert [target(layer)[: len("TasklatchLayer")] for layer in resource["Layers"]] == ["TasklatchLayer"]
    assert resource["TracingConfig"] == {"Mode": "Active"}


@pytest.mark.parametrize("name", resources("AWS::Lambda::Function"))
def test_a_function_says_who_it_is_in_logs_and_metrics(name: str) -> None:
    variables = resources("AWS::Lambda::Function")[name]["Environment"]["Variables"]

    assert snake_case(name.removesuffix("Function")) == variables["POWERTOOLS_SERVICE_NAME"]
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == {"Fn::Sub": "Tasklatch/${AWS::StackName}"}


@pytest.mark.parametrize("name", sorted({route.function for route in http_routes().values()}))
def test_a_function_behind_the_api_gives_up_before_the_api_does(name: str) -> None:
    assert resources("AWS::Lambda::Function")[name]["Timeout"] < LONGEST_ANSWER_SECONDS


@pytest.mark.parametrize("route", http_routes().values(), ids=http_routes())
def test_a_route_hands_the_whole_request_over_in_the_form_that_the_functions_read(route: Route) -> None:
    assert route.integration["type"] == "aws_proxy"
    assert route.integration["payloadFormatVersion"] == "2.0"


@_each("AWS::Lambda::EventSourceMapping")
def test_a_mapping_reports_what_failed_of_a_batch(resource: dict[str, Any]) -> None:
    assert resource["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert target(resource["EventSourceArn"]) in resources("AWS::DynamoDB::Table") | resources("AWS::SQS::Queue")


@_all_of(_mappings("AWS::DynamoDB::Table"))
def test_a_mapping_of_the_stream_isolates_a_bad_record_and_waits_for_what_is_busy_until_the_record_is_old(
    resource: dict[str, Any],
) -> None:
    assert resource["BisectBatchOnFunctionError"] is True
    # A count of attempts is used up within minutes of a busy bus; the record's age is the bound
    assert resource["MaximumRetryAttempts"] == -1
    assert 3600 <= resource["MaximumRecordAgeInSeconds"] < STREAM_HOURS * 3600
    assert target(resource["DestinationConfig"]["OnFailure"]["Destination"]) in resources("AWS::S3::Bucket")


@_all_of(_mappings("AWS::SQS::Queue"))
def test_a_mapping_of_a_queue_sets_a_bad_message_aside_and_leaves_time_to_handle_a_good_one(
    resource: dict[str, Any],
) -> None:
    queue = resources("AWS::SQS::Queue")[target(resource["EventSourceArn"])]
    function = resources("AWS::Lambda::Function")[target(resource["FunctionName"])]

    assert target(queue["RedrivePolicy"]["deadLetterTargetArn"]) in resources("AWS::SQS::Queue")
    # Fewer, and messages that were merely throttled away from the function would be set aside
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]


@_all_of(_mappings("AWS::SQS::Queue"))
def test_a_full_queue_leaves_the_api_its_share_of_the_account(resource: dict[str, Any]) -> None:
    # Of 10 at once, which a new account has until it asks for more
    concurrency = transformed()["Parameters"][resource["ScalingConfig"]["MaximumConcurrency"]["Ref"]]

    assert concurrency["Default"] * len(_mappings("AWS::SQS::Queue")) <= 0.6 * NEW_ACCOUNT_CONCURRENCY
    assert concurrency["MinValue"] == LEAST_QUEUE_CONCURRENCY


@_each("AWS::Lambda::Function")
def test_a_function_reserves_nothing_as_a_new_account_has_nothing_to_reserve(resource: dict[str, Any]) -> None:
    assert "ReservedConcurrentExecutions" not in resource


def test_no_more_requests_arrive_at_once_by_default_than_a_new_account_runs() -> None:
    assert transformed()["Parameters"]["ThrottlingBurst"]["Default"] <= NEW_ACCOUNT_CONCURRENCY


@_all_of(_mappings("AWS::DynamoDB::Table"))
def test_a_stream_is_followed_from_its_start_and_by_default_one_batch_of_a_shard_at_a_time(
    resource: dict[str, Any],
) -> None:
    assert resource["ParallelizationFactor"] == {"Ref": "StreamConcurrency"}
    assert transformed()["Parameters"]["StreamConcurrency"]["Default"] == 1
    assert resource["StartingPosition"] == "TRIM_HORIZON"


@_all_of(_mappings("AWS::DynamoDB::Table"))
def test_a_function_that_follows_the_table_is_called_for_items_that_it_names(resource: dict[str, Any]) -> None:
    patterns = [json.loads(pattern["Pattern"]) for pattern in resource["FilterCriteria"]["Filters"]]

    keys = [key for pattern in patterns for key in pattern["dynamodb"]["Keys"]["sk"]["S"]]
    assert keys
    assert all(key in ({"prefix": "TASK#"}, "EXEC") for key in keys)
    # A mapping of a stream filters by the records' own part alone; a removal has no new image
    assert all(set(pattern) == {"dynamodb"} and pattern["dynamodb"]["NewImage"] for pattern in patterns)


def test_no_more_functions_follow_the_table_than_a_shard_can_serve() -> None:
    assert len(_mappings("AWS::DynamoDB::Table")) <= READERS_OF_A_SHARD


@_each("AWS::SQS::Queue")
def test_a_queue_keeps_encrypted_for_the_longest_time(resource: dict[str, Any]) -> None:
    assert resource["SqsManagedSseEnabled"] is True
    assert resource["MessageRetentionPeriod"] == 14 * 86_400


@pytest.mark.parametrize("key", sorted(http_routes().keys() - ALWAYS_OPEN))
def test_a_route_needs_a_token_with_one_scope(key: str) -> None:
    route = http_routes()[key]

    assert route.authorizer == AUTHORIZER
    assert len(route.scopes) == 1
    assert route.scopes[0] in SCOPES


@pytest.mark.parametrize("key", sorted(http_routes().keys() - ALWAYS_OPEN))
def test_a_route_that_only_reads_asks_for_no_more_than_that(key: str) -> None:
    reads = key.startswith(f"{HTTPMethod.GET} ") or key in READ_BY_POST

    assert (http_routes()[key].scopes == ("tasklatch/read",)) == reads


@pytest.mark.parametrize("key", sorted(ALWAYS_OPEN))
def test_an_open_route_leads_to_the_function_that_can_reach_nothing(key: str) -> None:
    route = http_routes()[key]

    assert route.authorizer is None
    assert route.function == "ApiDescriptionFunction"


def test_open_routes_have_a_limit_of_their_own_and_no_other_route_has() -> None:
    stages = resources("AWS::ApiGatewayV2::Stage").values()
    limits = [stage["RouteSettings"] for stage in stages if "RouteSettings" in stage]

    assert [set(limited) for limited in limits] == [ALWAYS_OPEN]
    for limit in limits[0].values():
        # Below what a new account runs at once, so that reports always find a function
        assert limit["ThrottlingRateLimit"] <= NEW_ACCOUNT_CONCURRENCY
        assert limit["ThrottlingBurstLimit"] < NEW_ACCOUNT_CONCURRENCY


def test_the_description_is_open_until_it_is_switched_off() -> None:
    assert transformed()["Parameters"]["ApiDocs"]["Default"] == "true"
    variables = resources("AWS::Lambda::Function")["ApiDescriptionFunction"]["Environment"]["Variables"]
    assert variables["API_DOCS"] == {"Ref": "ApiDocs"}


def test_a_token_is_checked_for_its_issuer_and_its_audience() -> None:
    schemes = http_api_definition()["components"]["securitySchemes"]
    authorizer = schemes[AUTHORIZER]["x-amazon-apigateway-authorizer"]
    jwt = authorizer["jwtConfiguration"]

    assert set(schemes) == {AUTHORIZER}
    assert (authorizer["type"], authorizer["identitySource"]) == ("jwt", "$request.header.Authorization")
    # The stack's own user pool with its clients, or what the user brings
    own, other = jwt["issuer"]["Fn::If"][1:]
    assert (own, other) == ({"Fn::Sub": "https://${UserPool.ProviderName}"}, {"Ref": "JwtIssuer"})
    clients, audience = jwt["audience"]["Fn::If"][1:]
    condition, with_fleets, own_clients = clients["Fn::If"]
    assert condition == "FleetsHaveClients"
    assert {target(client) for client in own_clients} == set(resources("AWS::Cognito::UserPoolClient"))
    names = [*map(target, own_clients), "FleetClientIds"]
    assert with_fleets == {"Fn::Split": [",", {"Fn::Sub": ",".join(f"${{{name}}}" for name in names)}]}
    assert audience == {"Ref": "JwtAudience"}


@_each("AWS::ApiGatewayV2::Stage")
def test_an_api_is_throttled(resource: dict[str, Any]) -> None:
    assert resource["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottlingRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottlingBurst"},
    }


def test_the_accesses_of_the_http_api_are_logged_and_those_of_the_websocket_api_where_the_account_can() -> None:
    stages = {target(stage["ApiId"]): stage for stage in resources("AWS::ApiGatewayV2::Stage").values()}
    live = when("LiveIsLogged", stages["LiveApi"]["AccessLogSettings"])

    assert target(stages[HTTP_API]["AccessLogSettings"]["DestinationArn"]) == "HttpApiLogs"
    assert target(live["DestinationArn"]) == "LiveApiLogs"
    # In an account whose API Gateway has no role for logs, such a stage cannot be created
    assert transformed()["Conditions"]["LiveIsLogged"] == {"Fn::Equals": [{"Ref": "LiveAccessLogs"}, "true"]}
    assert transformed()["Parameters"]["LiveAccessLogs"]["Default"] == "false"


def test_no_resource_is_the_whole_accounts() -> None:
    # A region has one role for API Gateway's logs; a stack that sets it takes it from all others
    assert not resources("AWS::ApiGateway::Account")


def test_routes_of_a_stage_that_deploys_by_itself_come_before_it_and_one_by_one() -> None:
    template = transformed()["Resources"]
    routes = [name for name, resource in template.items() if resource["Type"] == "AWS::ApiGatewayV2::Route"]
    waits_for = {name: template[name].get("DependsOn") for name in (*routes, "LiveStage")}

    assert template["LiveStage"]["Properties"]["AutoDeploy"] is True
    assert waits_for == {
        "ConnectRoute": None,
        "DisconnectRoute": "ConnectRoute",
        "PingRoute": "DisconnectRoute",
        "LiveStage": "PingRoute",
    }


def test_the_http_api_is_made_in_one_call_of_one_definition() -> None:
    routes = resources("AWS::ApiGatewayV2::Route").values()

    assert len(http_routes()) > len(routes)
    assert HTTP_API not in {target(route["ApiId"]) for route in routes}


def test_web_pages_may_call_the_api_if_their_origin_is_named() -> None:
    cors = when("CalledByBrowsers", http_api_definition()["x-amazon-apigateway-cors"])

    # SAM has put the default in, as text: a parameter that is a list would come as text too
    assert cors["allowOrigins"] == {"Fn::Split": [",", ""]}
    assert transformed()["Parameters"]["CorsOrigins"]["Type"] == "String"
    assert {key.partition(" ")[0] for key in http_routes()} <= set(cors["allowMethods"])
    assert {"authorization", "content-type"} <= set(cors["allowHeaders"])
    assert "allowCredentials" not in cors
    assert transformed()["Parameters"]["CorsOrigins"]["Default"] == ""


def test_the_tables_data_can_be_recovered_and_outlives_its_stack() -> None:
    table = transformed()["Resources"]["LedgerTable"]

    assert table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["Properties"]["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}


def test_a_creation_that_fails_can_be_undone() -> None:
    # A table that is protected, or retained in any case, would stay behind
    assert transformed()["Resources"]["LedgerTable"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert transformed()["Parameters"]["DeletionProtection"]["Default"] == "false"


def test_nothing_secret_is_a_parameter() -> None:
    assert not [name for name, parameter in transformed()["Parameters"].items() if "NoEcho" in parameter]
    [connection] = resources("AWS::Events::Connection").values()
    condition, key, _ = connection["AuthParameters"]["ApiKeyAuthParameters"]["ApiKeyValue"]["Fn::If"]
    assert (condition, key) == ("WebhookHasKey", {"Fn::Sub": "{{resolve:secretsmanager:${AttentionWebhookSecret}}}"})


def test_the_table_can_split_a_busy_execution_and_forgets_what_is_old() -> None:
    table = resources("AWS::DynamoDB::Table")["LedgerTable"]

    assert "LocalSecondaryIndexes" not in table
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
    assert [index["Projection"]["ProjectionType"] for index in table["GlobalSecondaryIndexes"]] == ["KEYS_ONLY"] * 3


@_each("AWS::Cognito::UserPoolClient")
def test_a_client_is_a_program_with_a_secret_and_scopes_of_its_own(resource: dict[str, Any]) -> None:
    assert resource["GenerateSecret"] is True
    assert resource["AllowedOAuthFlows"] == ["client_credentials"]
    assert set(resource["AllowedOAuthScopes"]) <= SCOPES
    assert resource["AccessTokenValidity"] == {"Ref": "AccessTokenMinutes"}
    assert resource["TokenValidityUnits"] == {"AccessToken": "minutes"}


def test_a_token_lives_as_long_as_cognito_allows_and_by_default_an_hour() -> None:
    parameter = transformed()["Parameters"]["AccessTokenMinutes"]

    assert (parameter["Default"], parameter["MinValue"], parameter["MaxValue"]) == (60, 5, 24 * 60)


def test_a_worker_may_only_report_and_a_reader_only_read() -> None:
    scopes = {
        client["ClientName"]: client["AllowedOAuthScopes"]
        for client in resources("AWS::Cognito::UserPoolClient").values()
    }

    assert scopes["worker"] == ["tasklatch/report"]
    assert scopes["reader"] == ["tasklatch/read"]
    assert set(scopes["operator"]) == SCOPES


def test_no_identity_is_made_for_those_who_bring_their_own() -> None:
    created = [
        resource for resource in transformed()["Resources"].values() if resource["Type"].startswith("AWS::Cognito::")
    ]

    assert {resource.get("Condition") for resource in created} == {"OwnUserPool"}
