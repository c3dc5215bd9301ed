"""The local cloud: who is let in, what it listens on, what it keeps, what it tells."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from local.__main__ import start, stop
from local.cloud.deploy import WORK_QUEUE
from local.cloud.emulator_process import HOST, EmulatorProcess
from local.cloud.self_check import check_background
from local.cloud.stack import ROOT, LocalCloudError, Stack, StateDir
from local.cloud.tokens import fetch_token
from local.invoke import invoke
from tests.polling import poll
from tests.ports import occupied

LISTENING = "0A"
LOOPBACK = "0100007F"
NO_TIMER_SECONDS = 5


def _claims(token: str) -> tuple[dict[str, str], dict[str, str]]:
    header, claims = (base64.urlsafe_b64decode(part + "==") for part in token.split(".")[:2])
    return json.loads(header), json.loads(claims)


def _status(stack: Stack, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{stack.api_url}/v1/executions", headers=headers, timeout=30, trust_env=False).status_code


def test_nobody_is_let_in_without_a_token(stack: Stack) -> None:
    assert _status(stack, None) == httpx.codes.UNAUTHORIZED


def test_a_token_that_is_none_is_refused(stack: Stack) -> None:
    assert _status(stack, "not-a-token") == httpx.codes.UNAUTHORIZED


def test_a_token_whose_claims_were_changed_is_refused(stack: Stack) -> None:
    header, claims, signature = fetch_token(stack, "worker").split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"scope": "tasklatch/read"}
    claims = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")

    assert _status(stack, f"{header}.{claims}.{signature}") == httpx.codes.UNAUTHORIZED


def test_a_token_that_someone_else_signed_is_refused(stack: Stack) -> None:
    header, claims = _claims(fetch_token(stack, "reader"))
    foreign = jwt.encode(header, claims, RSAKey.generate_key(2048, auto_kid=False))

    assert _status(stack, foreign) == httpx.codes.UNAUTHORIZED


def test_a_token_without_the_routes_scope_is_refused(stack: Stack) -> None:
    assert _status(stack, fetch_token(stack, "worker")) == httpx.codes.FORBIDDEN


def test_a_token_with_the_routes_scope_is_let_in(stack: Stack) -> None:
    assert _status(stack, fetch_token(stack, "reader")) == httpx.codes.OK


@pytest.mark.parametrize(
    ("client", "scopes"),
    [
        ("worker", {"tasklatch/report"}),
        ("reader", {"tasklatch/read"}),
        ("operator", {"tasklatch/report", "tasklatch/read", "tasklatch/manage"}),
    ],
)
def test_a_clients_token_carries_its_own_scopes(stack: Stack, client: str, scopes: set[str]) -> None:
    header, claims = _claims(fetch_token(stack, client))

    assert header["alg"] == "RS256"
    assert set(claims["scope"].split()) == scopes
    assert claims["client_id"] == stack.clients[client].client_id


def test_there_is_no_token_for_a_client_that_is_unknown(stack: Stack) -> None:
    with pytest.raises(LocalCloudError, match="worker, reader, operator"):
        fetch_token(stack, "stranger")


@pytest.mark.parametrize("route", ["/v1/health", "/v1/openapi.json", "/v1/docs"])
def test_open_routes_need_no_token(stack: Stack, route: str) -> None:
    assert httpx.get(stack.api_url + route, timeout=30, trust_env=False).is_success


def test_stack_json_has_all_that_a_caller_needs_and_only_its_owner_may_read_it(
    stack: Stack, state_dir: StateDir
) -> None:
    messages = json.loads(state_dir.stack_file.read_text(encoding="utf-8"))

    assert messages.keys() >= {
        *("api_url", "live_url", "token_url", "region", "aws_endpoint_url", "table_name", "event_bus_name", "clients")
    }
    assert messages["clients"].keys() == {"worker", "reader", "operator"}
    assert all(client.keys() == {"client_id", "client_secret", "scope"} for client in messages["clients"].values())
    assert all(value for client in messages["clients"].values() for value in client.values())
    assert stat.S_IMODE(state_dir.stack_file.stat().st_mode) == 0o600
    assert Stack.load(state_dir) == stack


def test_the_functions_that_the_template_names_are_deployed(stack: Stack) -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}

    assert set(stack.functions) == folders


@pytest.mark.skipif(sys.platform != "linux", reason="reads the sockets from /proc")
def test_everything_listens_on_this_machine_alone(state_dir: StateDir, reader: httpx.Client) -> None:
    cloud = EmulatorProcess.running(state_dir)
    assert cloud is not None
    assert reader.get("/v1/executions").is_success  # so that a function's process runs too

    sockets = [address for pid in _group(cloud.pid) for address in _listening(pid)]

    assert f"{LOOPBACK}:{cloud.port:04X}" in sockets
    assert [address for address in sockets if not address.startswith(f"{LOOPBACK}:")] == []


@dataclass(frozen=True)
class Restart:
    """A cloud that was stopped and started again, and an execution from before.

    Attributes
    ----------
    operator
        A caller whose token is from before, too.
    while_stopped
        The error of whoever looked for the stack meanwhile.
    """

    again: Stack
    operator: httpx.Client
    execution: dict[str, Any]
    history: list[str]
    while_stopped: str


@pytest.fixture(scope="module")
def restart(stack: Stack, state_dir: StateDir) -> Iterator[Restart]:
    """Restart once for all tests of what a restart leaves as it was."""
    headers = {"Authorization": f"Bearer {fetch_token(stack, 'operator')}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30, trust_env=False) as operator:
        body = {"executionId": str(uuid.uuid4()), "tasks": [{"taskId": "a"}]}
        created = operator.post("/v1/executions", json=body)
        assert created.status_code == httpx.codes.CREATED
        execution = created.json()
        history = _history(operator, _task_path(execution), until="SCHEDULED")
        stop(state_dir)
        with pytest.raises(LocalCloudError) as stopped:
            Stack.load(state_dir)
        yield Restart(start(state_dir), operator, execution, history, str(stopped.value))


def test_data_and_addresses_survive_a_restart(stack: Stack, restart: Restart) -> None:
    result = restart.operator.get(f"/v1/executions/{restart.execution['executionId']}")

    assert "make up" in restart.while_stopped
    assert restart.again == stack
    assert result.status_code == httpx.codes.OK
    assert result.json()["createdAt"] == restart.execution["createdAt"]


def test_what_changes_after_a_restart_is_written_to_the_history_as_before(restart: Restart) -> None:
    task = _task_path(restart.execution)

    restart.operator.post(f"{task}/status", json={"status": "COMPLETED"}).raise_for_status()

    assert _history(restart.operator, task, until="COMPLETED") == [*restart.history, "COMPLETED"]


def _task_path(execution: dict[str, Any]) -> str:
    return f"/v1/executions/{execution['executionId']}/tasks/a"


@pytest.fixture
def usual_port(stack: Stack, state_dir: StateDir) -> Iterator[int]:
    """The port of the tests' cloud, to which it comes back afterwards."""
    cloud = EmulatorProcess.running(state_dir)
    assert cloud is not None
    yield cloud.port
    stop(state_dir)
    (state_dir.path / "port").write_text(str(cloud.port), encoding="utf-8")
    assert start(state_dir) == stack


def test_everything_goes_on_where_another_program_took_the_port(
    usual_port: int, state_dir: StateDir, operator: httpx.Client
) -> None:
    execution = str(uuid.uuid4())
    body = {"executionId": execution, "tasks": [{"taskId": "a"}]}
    operator.post("/v1/executions", json=body).raise_for_status()
    stop(state_dir)

    # It fails by itself if no timer fires or no dependent goes on
    with occupied(usual_port):
        elsewhere = start(state_dir)

    assert elsewhere.aws_endpoint_url != f"http://{HOST}:{usual_port}"
    headers = {"Authorization": f"Bearer {fetch_token(elsewhere, 'reader')}"}
    again = httpx.get(f"{elsewhere.api_url}/v1/executions/{execution}", headers=headers, timeout=30, trust_env=False)
    assert again.status_code == httpx.codes.OK
    queues = elsewhere.aws("sqs").list_queues()["QueueUrls"]
    assert [url for url in queues if url.endswith(f"/{WORK_QUEUE}")] == [elsewhere.work_queue_url]
    assert {url.rpartition("/000000000000/")[0] for url in (*queues, *elsewhere.queues.values())} == {
        elsewhere.aws_endpoint_url
    }


def test_emulator_that_was_killed_comes_up_with_what_it_saved_and_deploys_what_it_lost(
    stack: Stack, state_dir: StateDir
) -> None:
    stop(state_dir)
    start(state_dir)
    cloud = EmulatorProcess.running(state_dir)
    assert cloud is not None
    os.killpg(cloud.pid, signal.SIGKILL)

    done = _local("--home", str(state_dir.path), "up")

    assert done.returncode == 0, done.stderr
    assert "was not stopped by `make down`" in done.stderr
    assert "Deploying template.yaml" in done.stderr
    assert Stack.load(state_dir) == stack


def test_up_fails_with_the_reason_where_no_timer_fires(
    stack: Stack, state_dir: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.cloud.deploy.check_background", partial(check_background, seconds=NO_TIMER_SECONDS))
    functions = stack.aws("lambda")
    name = stack.functions["retry_dispatcher"]
    (mapping,) = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        with pytest.raises(LocalCloudError, match="a retry that was due after 1 s was not opened"):
            start(state_dir)
    finally:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def test_a_second_start_finds_the_first(stack: Stack, state_dir: StateDir) -> None:
    before = EmulatorProcess.running(state_dir)

    again = start(state_dir)

    assert again == stack
    assert EmulatorProcess.running(state_dir) == before


def test_a_process_that_reuses_the_emulators_pid_is_not_taken_for_it(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    (tmp_path / "ministack.pid").write_text(json.dumps({"pid": os.getppid(), "port": 1}), encoding="utf-8")

    assert EmulatorProcess.running(state_dir) is None
    assert not stop(state_dir)


def test_the_token_command_prints_a_token_and_nothing_else(stack: Stack, state_dir: StateDir) -> None:
    done = _local("--home", str(state_dir.path), "token", "reader")

    assert done.returncode == 0
    assert _claims(done.stdout.strip())[1]["client_id"] == stack.clients["reader"].client_id


def test_a_command_that_needs_the_cloud_fails_where_there_is_none(tmp_path: Path) -> None:
    done = _local("--home", str(tmp_path), "token")

    assert done.returncode == 1
    assert "make up" in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the runtime interface emulator runs on Linux")
@pytest.mark.usefixtures("stack")
def test_a_function_runs_in_lambdas_own_protocol_with_nothing_but_its_layer(state_dir: StateDir) -> None:
    event = {"routeKey": "GET /v1/health", "headers": {}, "requestContext": {"requestId": "r-1"}}

    done = invoke("api_description", event, state_dir=state_dir)

    assert done.answer["statusCode"] == httpx.codes.OK
    assert json.loads(done.answer["body"])["status"] == "ok"
    assert done.init_ms > done.invoke_ms > 0


@pytest.mark.usefixtures("stack")
def test_a_function_that_does_not_exist_cannot_be_invoked(state_dir: StateDir) -> None:
    with pytest.raises(LocalCloudError, match="report_status"):
        invoke("report", {}, state_dir=state_dir)


def _history(caller: httpx.Client, task: str, until: str) -> list[str]:
    """Return the statuses of a task's history, oldest first, once the last of them is there."""

    def read() -> list[str] | None:
        answer = caller.get(f"{task}/history")
        answer.raise_for_status()
        statuses = [entry["status"] for entry in answer.json()["items"]]
        return statuses if until in statuses else None

    statuses: list[str] = poll(read)
    return statuses


def _local(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own


def _group(leader: int) -> list[int]:
    """Give the processes of a group."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [number for number in numbers if _group_of(number) == leader]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:  # it has ended since it was listed
        return None


def _listening(pid: int) -> list[str]:
    """Give the addresses that a process listens on, as the kernel writes them: hexadecimal, the bytes reversed."""
    held = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in held]
