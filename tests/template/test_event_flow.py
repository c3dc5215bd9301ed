"""What must hold for queues, rules, timers, live sockets and alarms: whatever fails is kept, and somebody is told."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import pytest

from tasklatch.dynamodb.task_item import HEARTBEAT_MARK
from tasklatch.runtime.observability import SET_ASIDE_METRIC
from tasklatch.schedules.scheduler_sync import CHECK_DELAY_SECONDS
from tasklatch.workflow.closer import TIME_FOR_A_PAGE_MS
from tests.template.template import grants, resources, target, transformed, when

# CloudWatch's limits of an alarm on metric math, and of a search expression
MOST_METRICS_OF_AN_ALARM: Final = 10
LONGEST_SEARCH: Final = 1_024

QUEUES: Final = resources("AWS::SQS::Queue")
FUNCTIONS: Final = resources("AWS::Lambda::Function")
TRIGGER_QUEUES: Final = ["TriggerQueue", "TriggerFailures"]
RULES: Final = resources("AWS::Events::Rule")
OWN_METRICS: Final = {"Fn::Sub": "Tasklatch/${AWS::StackName}"}
ALARMS: Final = resources("AWS::CloudWatch::Alarm")


def _dead_letter_queues() -> set[str]:
    """Give the queues in which something is set aside: by a queue, a rule, or a function."""
    aside = [queue["RedrivePolicy"]["deadLetterTargetArn"] for queue in QUEUES.values() if "RedrivePolicy" in queue]
    aside += [
        goal["DeadLetterConfig"]["Arn"] for rule in RULES.values() for goal in rule["Targets"] if _sets_aside(goal)
    ]
    aside += [resource["DeadLetterConfig"]["TargetArn"] for resource in FUNCTIONS.values() if _sets_aside(resource)]
    return {target(queue) for queue in aside}


def _sets_aside(resource: Mapping[str, Any]) -> bool:
    return "DeadLetterConfig" in resource


def _consumed() -> set[str]:
    mapped = {target(resource["EventSourceArn"]) for resource in resources("AWS::Lambda::EventSourceMapping").values()}
    return mapped & set(QUEUES)


def _metrics(alarm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metrics that an alarm looks at: its own one, or those that its expression takes."""
    if "Metrics" not in alarm:
        return [alarm]
    return [metric["MetricStat"]["Metric"] for metric in alarm["Metrics"] if "MetricStat" in metric]


def _watched(namespace: str, metric: str, dimension: str) -> list[str]:
    """Return the logical ids of what alarms look at, sorted, each as often as it is looked at."""
    return sorted(
        target(value["Value"])
        for alarm in ALARMS.values()
        for watched in _metrics(alarm)
        if (watched["Namespace"], watched["MetricName"]) == (namespace, metric)
        for value in watched.get("Dimensions", [])
        if value["Name"] == dimension
    )


def _may_send_to(service: str) -> set[str]:
    """Give the queues whose policy lets an AWS service of this account send."""
    allowed: set[str] = set()
    for policy in resources("AWS::SQS::QueuePolicy").values():
        governed = {target(queue) for queue in policy["Queues"]}
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Principal"] == {"Service": service} and statement["Action"] == "sqs:SendMessage":
                names = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
                allowed |= {target(item) for item in names} & governed
    return allowed


def test_every_queue_is_consumed_or_keeps_what_failed() -> None:
    assert _consumed() == {"TimerQueue", "AdvanceQueue", "TriggerQueue"}
    assert set(QUEUES) == _consumed() | _dead_letter_queues()


@pytest.mark.parametrize("name", sorted(_consumed()))
def test_a_consumed_queue_has_a_dead_letter_queue_of_its_own(name: str) -> None:
    aside = [target(QUEUES[item]["RedrivePolicy"]["deadLetterTargetArn"]) for item in _consumed()]

    assert target(QUEUES[name]["RedrivePolicy"]["deadLetterTargetArn"]) not in _consumed()
    assert len(set(aside)) == len(aside)


def test_a_queue_is_not_bisected() -> None:
    # CloudFormation refuses a stream's settings on a queue
    stream_only = {
        "BisectBatchOnFunctionError",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "StartingPosition",
    }
    mappings = [
        resource
        for resource in resources("AWS::Lambda::EventSourceMapping").values()
        if target(resource["EventSourceArn"]) in _consumed()
    ]

    assert len(mappings) == len(_consumed())
    assert not [properties for properties in mappings if stream_only & properties.keys()]


def _goals() -> list[Any]:
    return [pytest.param(goal, id=f"{name}-{goal['Id']}") for name, rule in RULES.items() for goal in rule["Targets"]]


@pytest.mark.parametrize("goal", _goals())
def test_what_a_rule_cannot_deliver_is_set_aside_where_the_bus_may_put_it(goal: dict[str, Any]) -> None:
    assert target(goal["DeadLetterConfig"]["Arn"]) in _may_send_to("events.amazonaws.com")


@pytest.mark.parametrize("goal", _goals())
def test_a_rule_may_reach_its_target(goal: dict[str, Any]) -> None:
    name = target(goal["Arn"])

    if name in QUEUES:
        assert name in _may_send_to("events.amazonaws.com")
    elif name in FUNCTIONS:
        permitted = [
            resource
            for resource in resources("AWS::Lambda::Permission").values()
            if target(resource["FunctionName"]) == name
        ]
        assert "events.amazonaws.com" in {properties["Principal"] for properties in permitted}
    elif "RoleArn" in goal:
        role = resources("AWS::IAM::Role")[target(goal["RoleArn"])]
        assert {json.loads(to)["Fn::GetAtt"][0] for _, to in grants(role)} == {name}
    else:
        policies = [
            item
            for item in resources("AWS::SNS::TopicPolicy").values()
            if name in {target(topic) for topic in item["Topics"]}
        ]
        statements = [element for resource in policies for element in resource["PolicyDocument"]["Statement"]]
        # EventBridge fulfils no condition of a topic's policy
        of_the_bus = [
            statement for statement in statements if statement["Principal"] == {"Service": "events.amazonaws.com"}
        ]
        assert [set(entry) for entry in of_the_bus] == [{"Effect", "Principal", "Action", "Resource"}]


@pytest.mark.parametrize("goal", [first for first in _goals() if target(first.values[0]["Arn"]) in FUNCTIONS])
def test_what_a_function_could_not_do_that_nobody_waits_for_is_set_aside(goal: dict[str, Any]) -> None:
    # A rule is done when Lambda has taken the event; what becomes of it then, only the function's own queue keeps
    function = FUNCTIONS[target(goal["Arn"])]

    assert target(function["DeadLetterConfig"]["TargetArn"]) in QUEUES


def test_a_topic_that_services_publish_to_is_not_under_a_key_that_they_may_not_use() -> None:
    assert resources("AWS::SNS::Topic")
    assert not [
        resource
        for resource in resources("AWS::SNS::Topic").values()
        if resource.get("KmsMasterKeyId") == "alias/aws/sns"
    ]


def test_every_dead_letter_queue_has_an_alarm() -> None:
    assert _watched("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName") == sorted(_dead_letter_queues())


FOLLOWERS: Final = {
    name: resource
    for name, resource in resources("AWS::Lambda::EventSourceMapping").items()
    if target(resource["EventSourceArn"]) == "LedgerTable"
}


@pytest.mark.parametrize("mapping", FOLLOWERS.values(), ids=FOLLOWERS)
def test_what_a_follower_of_the_table_could_not_process_is_kept_whole(mapping: dict[str, Any]) -> None:
    # A queue would get a batch's position in the stream, which is worth nothing once the stream has lost the records
    function = FUNCTIONS[target(mapping["FunctionName"])]

    assert mapping["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": ["StreamFailures", "Arn"]}}}
    assert target(function["Environment"]["Variables"]["STREAM_FAILURES_BUCKET"]) == "StreamFailures"


@pytest.mark.parametrize("mapping", FOLLOWERS.values(), ids=FOLLOWERS)
def test_a_follower_of_the_table_waits_for_hours_and_leaves_time_to_redrive(mapping: dict[str, Any]) -> None:
    assert mapping["MaximumRetryAttempts"] == -1
    # The stream keeps records for 24 hours: what outlives an outage is stored before the stream loses it
    assert 3_600 <= mapping["MaximumRecordAgeInSeconds"] <= 43_200


def test_the_bucket_of_failures_is_private_and_encrypted_and_forgets() -> None:
    bucket = transformed()["Resources"]["StreamFailures"]
    properties = bucket["Properties"]
    [rule] = properties["LifecycleConfiguration"]["Rules"]
    encryption = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert encryption == [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", {"Ref": "RetentionDays"})
    # CloudFormation cannot delete a bucket with something in it
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert "BucketName" not in properties


def test_the_bucket_of_failures_is_reached_by_tls_only() -> None:
    [policy] = resources("AWS::S3::BucketPolicy").values()
    [statement] = policy["PolicyDocument"]["Statement"]

    assert target(policy["Bucket"]) == "StreamFailures"
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [
        {"Fn::GetAtt": ["StreamFailures", "Arn"]},
        {"Fn::Sub": "${StreamFailures.Arn}/*"},
    ]


def test_records_that_are_set_aside_have_an_alarm() -> None:
    watched = [
        (metric["MetricName"], json.dumps(metric["Dimensions"])) for metric in _metrics(ALARMS["StreamFailuresAlarm"])
    ]
    services = [
        FUNCTIONS[target(mapping["FunctionName"])]["Environment"]["Variables"] for mapping in FOLLOWERS.values()
    ]
    names = [variables["POWERTOOLS_SERVICE_NAME"] for variables in services]

    assert sorted(watched) == sorted(
        [
            *((SET_ASIDE_METRIC, json.dumps([{"Name": "service", "Value": name}])) for name in names),
            *(
                (metric, json.dumps([{"Name": "EventSourceMappingUUID", "Value": {"Ref": name}}]))
                for metric in ("OnFailureDestinationDeliveredEventCount", "DroppedEventCount")
                for name in FOLLOWERS
            ),
        ]
    )
    assert [mapping["MetricsConfig"] for mapping in FOLLOWERS.values()] == [{"Metrics": ["EventCount"]}] * 2


def test_every_function_has_an_alarm_for_errors() -> None:
    assert _watched("AWS/Lambda", "Errors", "FunctionName") == sorted(FUNCTIONS)


def test_every_function_has_an_alarm_for_throttles() -> None:
    assert _watched("AWS/Lambda", "Throttles", "FunctionName") == sorted(FUNCTIONS)


@pytest.mark.parametrize("alarm", ALARMS.items(), ids=lambda item: item[0])
def test_an_alarm_looks_at_this_stack_and_not_at_its_account(alarm: tuple[str, dict[str, Any]]) -> None:
    for metric in _metrics(alarm[1]):
        values = [dimension["Value"] for dimension in metric["Dimensions"]]

        assert values
        # A metric of the service is its stack's by its namespace, one of AWS by the resource that it names
        assert metric["Namespace"] == OWN_METRICS or all(target(value) for value in values)


def test_every_follower_of_the_table_has_an_alarm_for_its_lag() -> None:
    followers = {
        target(resource["FunctionName"])
        for resource in resources("AWS::Lambda::EventSourceMapping").values()
        if target(resource["EventSourceArn"]) == "LedgerTable"
    }

    assert (
        _watched("AWS/Lambda", "IteratorAge", "FunctionName")
        == sorted(followers)
        == ["NotifierFunction", "RetrySchedulerFunction"]
    )


def test_messages_that_are_due_at_once_have_an_alarm_for_their_age() -> None:
    # Those of the timer queue are old by design
    assert _watched("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName") == ["AdvanceQueue"]


@pytest.mark.parametrize("alarm", ALARMS.items(), ids=lambda item: item[0])
def test_an_alarm_tells_the_person_if_there_is_one_and_is_quiet_without_data(alarm: tuple[str, dict[str, Any]]) -> None:
    mailed, sent = alarm[1]["AlarmActions"]

    assert when("AttentionByEmail", mailed) == {"Ref": "AttentionTopic"}
    assert when("AlarmsToTopic", sent) == {"Ref": "AlarmTopicArn"}
    assert alarm[1]["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize("alarm", ALARMS.items(), ids=lambda item: item[0])
def test_an_alarm_says_what_happened_and_what_to_do(alarm: tuple[str, dict[str, Any]]) -> None:
    happened, _, to_do = alarm[1]["AlarmDescription"].partition(": ")

    assert happened
    assert to_do


MATH_ALARMS: Final = {name: alarm for name, alarm in ALARMS.items() if "Metrics" in alarm}


@pytest.mark.parametrize("alarm", MATH_ALARMS.values(), ids=MATH_ALARMS)
def test_an_alarm_on_an_expression_keeps_to_what_cloudwatch_takes(alarm: dict[str, Any]) -> None:
    expressions = [metric for metric in alarm["Metrics"] if "Expression" in metric]
    metrics = [metric for metric in alarm["Metrics"] if "MetricStat" in metric]

    # One series comes out, of ten metrics at most, over one period
    assert len(expressions) == 1
    assert "SEARCH" not in expressions[0]["Expression"]
    assert len(metrics) <= MOST_METRICS_OF_AN_ALARM
    assert all(metric["ReturnData"] is False for metric in metrics)
    assert len({metric["MetricStat"]["Period"] for metric in metrics}) == 1
    ids = [metric["Id"] for metric in alarm["Metrics"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]\w*", identifier) for identifier in ids)


@pytest.mark.parametrize("name", ["LagAlarm"])
def test_a_comparison_names_each_metric_of_its_alarm(name: str) -> None:
    [expression] = [metric["Expression"] for metric in ALARMS[name]["Metrics"] if "Expression" in metric]
    metrics = {metric["Id"] for metric in ALARMS[name]["Metrics"] if "MetricStat" in metric}

    assert set(re.findall(r"(\w+) >", expression)) == metrics


def test_overdue_tasks_and_errors_that_are_answered_have_alarms() -> None:
    watched = [
        (metric["Namespace"], metric["MetricName"]) for resource in ALARMS.values() for metric in _metrics(resource)
    ]

    assert (OWN_METRICS, "OverdueTasks") in watched
    assert (OWN_METRICS, "UnhandledErrors") in watched
    assert (OWN_METRICS, "IgnoredReportsNotStored") in watched
    assert ("AWS/ApiGateway", "5xx") in watched


def test_functions_alarms_and_dashboard_mean_the_same_namespace() -> None:
    variables = [function["Environment"]["Variables"] for function in FUNCTIONS.values()]
    shown = resources("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"]
    metrics = json.dumps(json.loads(shown)["widgets"])

    assert {json.dumps(of["POWERTOOLS_METRICS_NAMESPACE"]) for of in variables} == {json.dumps(OWN_METRICS)}
    assert metrics.count("Tasklatch") == metrics.count(OWN_METRICS["Fn::Sub"]) == 2
    # A search takes a name with a hyphen, as a stack's can have, in quotes only
    assert json.dumps(f'SEARCH(\'{{"{OWN_METRICS["Fn::Sub"]}",service}} ')[1:-1] in metrics


def test_the_dashboard_finds_functions_and_queues_by_itself() -> None:
    dashboard = json.loads(resources("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"])
    expressions = [
        metric[0]["expression"]
        for widget in dashboard["widgets"]
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]

    for shown in ("Errors", "IteratorAge", "ApproximateNumberOfMessagesVisible"):
        assert [
            resource
            for resource in expressions
            if resource.startswith("SEARCH('{AWS/") and f'MetricName="{shown}"' in resource
        ]
    assert not [properties for properties in expressions if len(properties) > LONGEST_SEARCH]


def _rule_pattern(name: str) -> dict[str, Any]:
    pattern: dict[str, Any] = RULES[name]["EventPattern"]
    return pattern


SENDERS: Final = [
    "CogniteDefinitions",
    "CogniteExecutions",
    "ExecutionControl",
    "Notifier",
    "Reconciler",
    "WorkflowAdvancer",
]


def test_whoever_sends_to_the_advancer_is_told_where_and_nobody_else_may() -> None:
    configured = {name for name, of in FUNCTIONS.items() if "ADVANCE_QUEUE_URL" in of["Environment"]["Variables"]}
    allowed = {
        name
        for name, role in resources("AWS::IAM::Role").items()
        if ("sqs:SendMessage", '{"Fn::GetAtt":["AdvanceQueue","Arn"]}') in grants(role)
    }

    assert configured == {f"{name}Function" for name in SENDERS}
    assert allowed == {f"{name}Role" for name in SENDERS}
    assert {target(FUNCTIONS[name]["Environment"]["Variables"]["ADVANCE_QUEUE_URL"]) for name in configured} == {
        "AdvanceQueue"
    }
    assert not {"AdvanceQueue", "AdvanceFailures"} & _may_send_to("events.amazonaws.com")


def test_a_page_of_a_sweep_leaves_time_to_hand_the_rest_on() -> None:
    timeouts = {name: FUNCTIONS[f"{name}Function"]["Timeout"] * 1000 for name in SENDERS}
    sweeping = {name: timeout for name, timeout in timeouts.items() if name != "Notifier"}

    assert min(sweeping.values()) >= 3 * TIME_FOR_A_PAGE_MS


@pytest.mark.parametrize("name", ["AttentionEmailRule", "AttentionWebhookRule"])
def test_people_hear_only_of_what_needs_them(name: str) -> None:
    assert _rule_pattern(name) == {"source": ["tasklatch"], "detail-type": ["Task Needs Attention"]}
    assert transformed()["Resources"][name]["Condition"] in {"AttentionByEmail", "AttentionByWebhook"}


def test_the_minute_schedule_starts_the_sweep_and_its_failures_are_kept() -> None:
    [schedule] = resources("AWS::Scheduler::Schedule").values()

    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert target(schedule["GroupName"]) == "TimerGroup"
    assert target(schedule["Target"]["Arn"]) == "TimerSweeperFunction"
    assert target(schedule["Target"]["RoleArn"]) == "TimerRole"
    assert target(schedule["Target"]["DeadLetterConfig"]["Arn"]) == "ReconcilerFailures"


def test_the_timers_role_starts_the_sweep_and_only_the_scheduler_takes_it() -> None:
    role = resources("AWS::IAM::Role")["TimerRole"]
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]

    assert set(grants(role)) == {
        ("lambda:InvokeFunction", '{"Fn::GetAtt":["TimerSweeperFunction","Arn"]}'),
        ("sqs:SendMessage", '{"Fn::GetAtt":["ReconcilerFailures","Arn"]}'),
        # Of the timers that version 0.1.0 scheduled one by one
        ("sqs:SendMessage", '{"Fn::GetAtt":["TimerQueue","Arn"]}'),
    }
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_schedules_role_reaches_its_queues_and_only_the_scheduler_takes_it() -> None:
    role = resources("AWS::IAM::Role")["TriggerRole"]
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]

    assert set(grants(role)) == {("sqs:SendMessage", f'{{"Fn::GetAtt":["{queue}","Arn"]}}') for queue in TRIGGER_QUEUES}
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.parametrize("role", resources("AWS::IAM::Role").items(), ids=lambda item: item[0])
def test_only_functions_of_schedules_hand_a_role_on_and_it_is_their_own(
    role: tuple[str, dict[str, Any]],
) -> None:
    handed_on = {to for action, to in grants(role[1]) if action == "iam:PassRole"}
    has_schedules = role[0] in ("SchedulesRole", "ScheduleRunnerRole")

    assert handed_on == ({'{"Fn::GetAtt":["TriggerRole","Arn"]}'} if has_schedules else set())


@pytest.mark.parametrize("name", ["SchedulesFunction", "ScheduleRunnerFunction"])
def test_whoever_writes_schedules_knows_their_queue_group_and_role(name: str) -> None:
    variables = FUNCTIONS[name]["Environment"]["Variables"]

    assert target(variables["TRIGGER_QUEUE_URL"]) == target(variables["TRIGGER_QUEUE_ARN"]) == "TriggerQueue"
    assert target(variables["TRIGGER_FAILURES_ARN"]) == "TriggerFailures"
    assert target(variables["TRIGGER_GROUP"]) == "TriggerGroup"
    assert target(variables["TRIGGER_ROLE_ARN"]) == "TriggerRole"


def test_a_check_of_a_schedule_comes_after_the_change_and_any_earlier_check_have_ended() -> None:
    timeouts = [FUNCTIONS[name]["Timeout"] for name in ("SchedulesFunction", "ScheduleRunnerFunction")]

    assert sum(timeouts) < CHECK_DELAY_SECONDS


@pytest.mark.parametrize(
    "name", ["RetrySchedulerFunction", "RetryDispatcherFunction", "TimerSweeperFunction", "ReconcilerFunction"]
)
def test_whoever_schedules_timers_knows_the_queue(name: str) -> None:
    assert target(FUNCTIONS[name]["Environment"]["Variables"]["TIMER_QUEUE_URL"]) == "TimerQueue"


NO_HEARTBEAT: Final = {HEARTBEAT_MARK: {"N": [{"exists": False}]}}


def _patterns(function: str) -> list[dict[str, Any]]:
    mapping = next(
        resource
        for resource in resources("AWS::Lambda::EventSourceMapping").values()
        if target(resource["FunctionName"]) == function and target(resource["EventSourceArn"]) == "LedgerTable"
    )
    return [json.loads(item["Pattern"]) for item in mapping["FilterCriteria"]["Filters"]]


def test_the_notifier_sees_every_change_of_tasks_and_executions() -> None:
    assert _patterns("NotifierFunction") == [
        {
            "dynamodb": {
                "Keys": {"sk": {"S": [{"prefix": "TASK#"}, "EXEC"]}},
                "NewImage": {"version": {"N": [{"exists": True}]}, **NO_HEARTBEAT},
            },
        }
    ]


def test_the_scheduler_sees_failures_and_attempts_that_can_be_late() -> None:
    images = [pattern["dynamodb"]["NewImage"] for pattern in _patterns("RetrySchedulerFunction")]

    assert images == [
        {"status": {"S": ["FAILED", "TIMED_OUT", "FAILED_WITH_TERMINAL_ERROR"]}, **NO_HEARTBEAT},
        {"status": {"S": ["SCHEDULED", "IN_PROGRESS"]}, "timeoutSeconds": {"N": [{"exists": True}]}, **NO_HEARTBEAT},
        {
            "status": {"S": ["SCHEDULED", "IN_PROGRESS"]},
            "heartbeatTimeoutSeconds": {"N": [{"exists": True}]},
            **NO_HEARTBEAT,
        },
    ]
    keys = [pattern["dynamodb"]["Keys"] for pattern in _patterns("RetrySchedulerFunction")]
    assert keys == [{"sk": {"S": [{"prefix": "TASK#"}]}}] * len(images)


def _live_routes() -> dict[str, dict[str, Any]]:
    matches = resources("AWS::ApiGatewayV2::Route").values()
    return {route["RouteKey"]: dict(route) for route in matches if target(route["ApiId"]) == "LiveApi"}


def test_a_watcher_connects_with_a_ticket_and_can_only_say_that_it_is_there() -> None:
    routes = _live_routes()

    assert set(routes) == {"$connect", "$disconnect", "ping"}
    assert resources("AWS::ApiGatewayV2::Api")["LiveApi"]["RouteSelectionExpression"] == "$request.body.action"
    # The ticket is the credential, and the function checks it
    assert routes["$connect"]["AuthorizationType"] == "NONE"
    assert {json.dumps(route["Target"]) for route in routes.values()} == {
        '{"Fn::Sub": "integrations/${LiveConnectionIntegration}"}'
    }


def test_a_ticket_is_not_written_to_the_log() -> None:
    stage = next(
        resource
        for resource in resources("AWS::ApiGatewayV2::Stage").values()
        if target(resource["ApiId"]) == "LiveApi"
    )

    assert "query" not in when("LiveIsLogged", stage["AccessLogSettings"])["Format"].lower()


def test_whoever_issues_tickets_and_whoever_pushes_mean_the_same_stage() -> None:
    stage = next(
        resource
        for resource in resources("AWS::ApiGatewayV2::Stage").values()
        if target(resource["ApiId"]) == "LiveApi"
    )
    issued = json.dumps(FUNCTIONS["ExecutionControlFunction"]["Environment"]["Variables"]["LIVE_URL"])
    pushed = json.dumps(FUNCTIONS["NotifierFunction"]["Environment"]["Variables"]["LIVE_CALLBACK_URL"])

    assert stage["StageName"] == "live"
    assert issued.count("/live") == pushed.count("/live") == 2


def test_the_safety_net_runs_every_few_minutes_and_leaves_time_for_its_last_page() -> None:
    rule = next(resource for resource in RULES.values() if "ScheduleExpression" in resource)

    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    assert target(rule["Targets"][0]["Arn"]) == "ReconcilerFunction"
    assert 60 <= FUNCTIONS["ReconcilerFunction"]["Timeout"] < 5 * 60
