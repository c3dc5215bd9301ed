"""Reports that must carry the signed id of their attempt, on the routes of all contracts; keys and their rotation."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.conditional_write import next_attempt_write
from tasklatch.domain.errors import AttemptIdRequiredError, AttemptNotOpenError, ServiceBusyError
from tasklatch.executions.attempt_index import AttemptIndex
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime import attempt_ids as module
from tasklatch.runtime.attempt_ids import DeploymentAttemptIds, WeakKeyError
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.settings import MissingSettingError, Settings, get_settings
from tests.api_description import check_answer
from tests.factories import NOW, Reply, api_event, call_api, fresh_name
from tests.integration.emulators import Table, counted_calls, make_backoff
from tests.integration.test_cognite import function_of

CREATE: Final = "POST /v1/executions"
TASK: Final = "GET /v1/executions/{executionId}/tasks/{taskId}"
REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
BATCH: Final = "POST /v1/executions/{executionId}/statuses"
HEARTBEAT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat"
NAMED_HEARTBEAT: Final = "POST /v1/executions/{executionId}/heartbeats"
FORGE: Final = "POST /forge/updateTaskStatus"
SUPERAI: Final = "POST /api/flow-executions/{flow_execution_id}/task-status"
COGNITE: Final = "POST /api/v1/projects/{project}/workflows/tasks/{taskId}/update"
PROBLEM: Final = "urn:tasklatch:problem:attempt-id-required"
KEYS: Final = (
    "current-key-of-32-characters-000",
    "previous-key-of-32-characters-00",
    "next-key-of-32-characters-000000",
)


@dataclass
class Secret:
    """Secrets Manager with one secret, which counts how often it is requested."""

    current: str = KEYS[0]
    requested: list[str] = field(default_factory=list)

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, str]:  # noqa: N803
        self.requested.append(VersionStage)
        assert SecretId == "arn:secret"
        return {"SecretString": self.current if VersionStage == "AWSCURRENT" else KEYS[1]}


@dataclass(frozen=True)
class Api:
    """The handlers of all contracts, called as API Gateway calls them; each answer is held to the description."""

    load: Callable[[str, Any], ModuleType]
    table: Table

    def __call__(self, route: str, *path: str, body: Any = None) -> Reply:
        names = re.findall(r"{(\w+)}", route)
        event = api_event(route, path=dict(zip(names, path, strict=True)), body=body)
        reply = call_api(self.load(function_of(route), self.table.client).handler, event)
        check_answer(route, reply)
        return reply

    def index(self, execution_id: str, task_id: str) -> None:
        """Store the pointer to a task that a run of a workflow has."""
        backoff = make_backoff()
        task = Ledger(self.table.client, get_settings(), lambda: NOW, backoff).read("default", execution_id, task_id)
        AttemptIndex(self.table.client, get_settings(), backoff).put([task], NOW)

    def open_next_attempt(self, execution_id: str, task_id: str) -> None:
        ledger = Ledger(self.table.client, get_settings(), lambda: NOW, make_backoff())
        failed = ledger.read("default", execution_id, task_id)
        assert ledger.write("default", execution_id, next_attempt_write(failed, now=NOW)) is not None


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Secret:
    """A deployment with a key, in which ids are required."""
    monkeypatch.setenv("ATTEMPT_ID_SECRET", "arn:secret")
    monkeypatch.setenv("ATTEMPT_IDS", "required")
    get_settings.cache_clear()
    module.attempt_ids.cache_clear()
    instance = Secret()
    monkeypatch.setattr(module, "secrets_manager", lambda: instance)
    return instance


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table, secret: Secret) -> Api:
    assert secret.requested == []
    return Api(load, statements_table)


@pytest.fixture
def execution_id(api: Api) -> str:
    name = fresh_name()
    assert api(CREATE, body={"executionId": name, "tasks": [{"taskId": "fetch"}, {"taskId": "parse"}]}).status == 201
    return name


def id_of(api: Api, execution_id: str, task_id: str = "fetch") -> str:
    issued: str = api(TASK, execution_id, task_id).body["taskExecutionId"]
    return issued


def forged(api: Api, execution_id: str) -> list[dict[str, Any]]:
    """What a worker may say that was not handed the task."""
    own = id_of(api, execution_id, "parse")
    return [
        {},
        {"attempt": 1},
        {"taskExecutionId": "run-7"},
        {"taskExecutionId": own},
        {"taskExecutionId": f"000002{id_of(api, execution_id)[6:]}"},
        {"taskExecutionId": task_execution_id("default", execution_id, "fetch", 1)},
    ]


def test_native_routes_refuse_all_but_the_attempts_own_id(api: Api, execution_id: str) -> None:
    for claim in forged(api, execution_id):
        refused = [
            api(REPORT, execution_id, "fetch", body={"status": "COMPLETED", **claim}),
            api(HEARTBEAT, execution_id, "fetch", body=claim),
            api(NAMED_HEARTBEAT, execution_id, body={"taskId": "fetch", **claim}),
        ]
        assert [(reply.status, reply.body["type"]) for reply in refused] == [(403, PROBLEM)] * 3, claim
    assert api(TASK, execution_id, "fetch").body["status"] == "SCHEDULED"

    with_id = {"taskExecutionId": id_of(api, execution_id)}
    assert api(HEARTBEAT, execution_id, "fetch", body=with_id).body["continue"] is True
    assert api(REPORT, execution_id, "fetch", body={"status": "COMPLETED", **with_id}).body["verdict"] == "applied"
    assert api(REPORT, execution_id, "fetch", body={"status": "FAILED", **with_id}).body["verdict"] == (
        "ignored_after_success"
    )


def test_batch_answers_each_report_without_an_id_by_itself(api: Api, execution_id: str) -> None:
    statuses = [
        {"taskId": "fetch", "status": "COMPLETED"},
        {"taskId": "parse", "status": "COMPLETED", "taskExecutionId": id_of(api, execution_id, "parse")},
    ]

    results = api(BATCH, execution_id, body={"statuses": statuses}).body["results"]

    assert [result["status"] for result in results] == [403, 200]
    assert results[0]["problem"]["type"] == PROBLEM


def test_answer_never_has_the_id_of_another_attempt(api: Api, execution_id: str) -> None:
    first = {"taskExecutionId": id_of(api, execution_id)}
    failed = api(REPORT, execution_id, "fetch", body={"status": "FAILED", **first})
    api.open_next_attempt(execution_id, "fetch")

    late = api(REPORT, execution_id, "fetch", body={"status": "FAILED", "message": "again", **first})
    alive = api(HEARTBEAT, execution_id, "fetch", body=first)
    batched = api(BATCH, execution_id, body={"statuses": [{"taskId": "fetch", "status": "FAILED", **first}]})

    assert failed.body["task"]["taskExecutionId"] == first["taskExecutionId"]
    assert (late.body["verdict"], alive.body["continue"]) == ("stale_attempt", False)
    second = id_of(api, execution_id)
    for reply in (late, alive, batched):
        assert second not in reply.text
        assert second[6:] not in reply.text


def test_forge_refuses_all_but_the_attempts_own_id(api: Api) -> None:
    scan_id, task_id, other_id = fresh_name(), str(uuid4()), str(uuid4())
    tasks = [{"taskId": task_id}, {"taskId": other_id}]
    api("POST /forge/scans", body={"connectionId": "drive", "scanId": scan_id, "tasks": tasks})
    update = {"connectionId": "drive", "scanId": scan_id, "status": "success", "task": {"taskId": task_id}}
    own = api(TASK, scan_id, task_id).body["input"]["taskExecutionId"]
    other = api(TASK, scan_id, other_id).body["input"]["taskExecutionId"]

    for claim in ({}, {"taskExecutionId": None}, {"taskExecutionId": 7}, {"taskExecutionId": other}):
        refused = api(FORGE, body={**update, **claim})
        assert (refused.status, refused.body["status"]) == (403, "REJECTED")
        assert refused.body["originalError"]["type"] == PROBLEM
    assert api(FORGE, body={**update, "taskExecutionId": own}).status == 200


def test_superai_s_updates_are_refused_as_they_can_carry_no_id(api: Api) -> None:
    flow = {"flow_id": str(uuid4()), "input": {}, "task_names": ["fetch"]}
    execution_id = api("POST /api/flow-executions", body=flow).body["id"]

    refused = api(SUPERAI, execution_id, body={"statuses": [{"task_name": "fetch", "status": "completed"}]})

    assert (refused.status, refused.body["error"]["code"]) == (403, "forbidden")
    assert api(TASK, execution_id, "fetch").body["status"] == "SCHEDULED"


def test_cognite_s_path_is_the_id_and_a_forged_one_leads_nowhere(api: Api, execution_id: str) -> None:
    body = {"status": "COMPLETED"}
    issued = {name: id_of(api, execution_id, name) for name in ("fetch", "parse")}
    wrong = [task_execution_id("default", execution_id, "fetch", 1), f"000002{issued['fetch'][6:]}"]
    api.index(execution_id, "fetch")

    for value in wrong:
        assert api(COGNITE, "any", value, body=body).status == 404
    with counted_calls(api.table.client) as calls:
        assert api(COGNITE, "any", issued["fetch"], body=body).status == 200
    assert calls["GetItem"] == 1, "the pointer"
    assert api(TASK, execution_id, "fetch").body["status"] == "COMPLETED"
    assert api(TASK, execution_id, "parse").body["status"] == "SCHEDULED"


def test_report_is_one_call_to_the_table_and_none_to_secrets_manager(
    api: Api, execution_id: str, secret: Secret
) -> None:
    with_id = {"taskExecutionId": id_of(api, execution_id)}
    before = len(secret.requested)

    with counted_calls(api.table.client) as calls:
        assert api(REPORT, execution_id, "fetch", body={"status": "IN_PROGRESS", **with_id}).status == 200
    assert dict(calls) == {"UpdateItem": 1}
    assert len(secret.requested) == before == 2


def test_ids_are_signed_and_unsigned_ones_still_count_until_they_are_required(
    api: Api, execution_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTEMPT_IDS", "optional")
    get_settings.cache_clear()
    module.attempt_ids.cache_clear()

    api.index(execution_id, "fetch")
    unsigned = task_execution_id("default", execution_id, "fetch", 1)
    assert id_of(api, execution_id) != unsigned
    for claim in ({}, {"attempt": 1}, {"taskExecutionId": unsigned}, {"taskExecutionId": id_of(api, execution_id)}):
        assert api(HEARTBEAT, execution_id, "fetch", body=claim).status == 200
    assert api(COGNITE, "any", unsigned, body={"status": "COMPLETED"}).status == 200


# ---------------------------------------------------------------- keys


@dataclass
class Clock:
    now: int = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def manager() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("secretsmanager", region_name="us-east-1")


def settings_for(arn: str, *, required: bool = True) -> Settings:
    return Settings("ledger", "", 90)._replace(attempt_id_secret=arn, requires_attempt_ids=required)


def test_keys_are_the_versions_of_the_secret_and_a_rotation_is_noticed(manager: Any) -> None:
    arn = manager.create_secret(Name="ids", SecretString=KEYS[0])["ARN"]
    clock = Clock()
    ids = DeploymentAttemptIds(settings_for(arn), lambda: manager, clock)
    task = ("default", "run", "task")
    first = ids.issue(*task, 1)

    manager.put_secret_value(SecretId=arn, SecretString=KEYS[2])
    other = DeploymentAttemptIds(settings_for(arn), lambda: manager, clock)
    rotated = other.issue(*task, 1)

    # The new key signs, the one before counts
    assert rotated != first
    assert (other.decode(first, *task), other.decode(rotated, *task)) == (1, 1)
    # Who has not read the new key reads it again, but not for every id that fits none
    with pytest.raises(AttemptIdRequiredError):
        ids.decode(rotated, *task)
    clock.now += 60_000
    assert ids.decode(rotated, *task) == 1
    assert ids.decode(first, *task) == 1


def test_a_forged_id_makes_nobody_read_the_secret_more_than_once_a_minute(manager: Any) -> None:
    arn = manager.create_secret(Name="ids", SecretString=KEYS[0])["ARN"]
    clock, requests = Clock(), 0

    def count() -> Any:
        nonlocal requests
        requests += 1
        return manager

    ids = DeploymentAttemptIds(settings_for(arn), count, clock)

    for _ in range(100):
        clock.now += 1_000
        with pytest.raises(AttemptIdRequiredError):
            ids.decode(task_execution_id("default", "run", "task", 1), "default", "run", "task")
        with pytest.raises(AttemptIdRequiredError):
            ids.decode(None, "default", "run", "task")

    assert requests == 2 * 2, "two versions, at the start and a minute later"


def test_key_that_is_too_short_or_missing_is_refused(manager: Any) -> None:
    arn = manager.create_secret(Name="ids", SecretString="short")["ARN"]
    with pytest.raises(WeakKeyError, match="32 bytes"):
        DeploymentAttemptIds(settings_for(arn), lambda: manager, system_clock).issue("default", "run", "task", 1)
    with pytest.raises(MissingSettingError, match="ATTEMPT_ID_SECRET"):
        DeploymentAttemptIds(settings_for(""), lambda: manager, system_clock).issue("default", "run", "task", 1)


def test_without_a_secret_nobody_is_asked() -> None:
    ids = DeploymentAttemptIds(
        settings_for("", required=False), lambda: pytest.fail("Secrets Manager is asked"), system_clock
    )
    assert ids.decode(ids.issue("default", "run", "task", 1), "default", "run", "task") == 1
    with pytest.raises(AttemptNotOpenError):
        ids.decode(ids.issue("default", "run", "other", 1), "default", "run", "task")


@dataclass
class Busy:
    """Secrets Manager that is throttled some times, or refuses."""

    faults: int
    code: str = "ThrottlingException"

    def get_secret_value(self, **_: str) -> dict[str, str]:
        if self.faults:
            self.faults -= 1
            raise ClientError({"Error": {"Code": self.code}}, "GetSecretValue")
        return {"SecretString": KEYS[0]}


def test_busy_secrets_manager_is_waited_for() -> None:
    ids = DeploymentAttemptIds(settings_for("arn:secret"), lambda: Busy(0), system_clock)  # type: ignore[arg-type, return-value]
    busy = Busy(3)
    patient = DeploymentAttemptIds(settings_for("arn:secret"), lambda: busy, system_clock)  # type: ignore[arg-type, return-value]

    assert patient.issue("default", "run", "task", 1) == ids.issue("default", "run", "task", 1)


def test_secrets_manager_that_stays_busy_makes_the_report_503_and_the_next_one_reads_again() -> None:
    busy, clock = Busy(10_000), Clock()

    def later() -> Any:
        clock.now += 1_000
        return busy

    ids = DeploymentAttemptIds(settings_for("arn:secret"), later, clock)
    with pytest.raises(ServiceBusyError):
        ids.issue("default", "run", "task", 1)
    busy.faults = 0
    assert ids.issue("default", "run", "task", 1)


def test_secret_that_may_not_be_read_is_no_reason_to_accept_unsigned_ids() -> None:
    refused = Busy(10_000, "AccessDeniedException")
    ids = DeploymentAttemptIds(settings_for("arn:secret", required=False), lambda: refused, system_clock)  # type: ignore[arg-type, return-value]
    with pytest.raises(ClientError, match="AccessDenied"):
        ids.decode(task_execution_id("default", "run", "task", 1), "default", "run", "task")
