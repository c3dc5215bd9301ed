"""Live sockets against the local cloud: who may watch, and what they are told."""

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from local.api_client import ApiClient
from local.cloud.stack import Stack, StateDir
from local.watch import run_watch
from local.worker import Worker, WorkQueue, sample_work
from tests.polling import DEADLINE_SECONDS, poll

_SILENCE_SECONDS = 20
_MOST_CUT_OFF = 3


@pytest.fixture
def api(stack: Stack) -> Iterator[ApiClient]:
    with ApiClient(stack) as api:
        yield api


def _create(api: ApiClient, prefix: str = "demo") -> str:
    """One task that two wait for, whose end nobody has reported yet."""
    name = f"{prefix}-{uuid4()}"
    tasks = [{"taskId": "first"}, *({"taskId": task, "dependsOn": ["first"]} for task in ("second", "third"))]
    api.request("operator", "POST", "executions", body={"executionId": name, "tasks": tasks})
    return name


def _is_open(api: ApiClient, execution: str, task: str) -> bool:
    shown = api.request("reader", "GET", "executions", execution, "tasks", task).body
    return bool(shown["status"] != "PENDING")


def _report(api: ApiClient, execution: str, task: str, **body: Any) -> None:
    assert poll(lambda: _is_open(api, execution, task))
    api.request("worker", "POST", "executions", execution, "tasks", task, "status", body=body)


def _url(api: ApiClient, execution: str) -> str:
    url: str = api.request("reader", "POST", "executions", execution, "watch").body["url"]
    return url


def _messages(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    """Yield the messages to the end of the execution.

    Raises
    ------
    ConnectionClosed, TimeoutError
        If the watcher was cut off, which a ping shows where its connection could not be closed.
    """
    while True:
        try:
            message: dict[str, Any] = json.loads(socket.recv(timeout=_SILENCE_SECONDS))
        except TimeoutError:
            socket.send(json.dumps({"action": "ping"}))
            message = json.loads(socket.recv(timeout=_SILENCE_SECONDS))
        yield message
        if message["type"] == "execution.status" and message["status"] != "RUNNING":
            return


def _watch_to_the_end(api: ApiClient) -> tuple[str, dict[str, int], list[dict[str, Any]]]:
    """Run an execution beside another; return its id, its tasks' versions at first, and the messages to its watcher."""
    watched, other = _create(api), _create(api)
    with connect(_url(api, watched), proxy=None) as socket:
        seen_at = {task["taskId"]: task["version"] for task in api.paginate("reader", "executions", watched, "tasks")}
        for task in ("first", "second", "third"):
            for execution in (other, watched):
                _report(api, execution, task, status="IN_PROGRESS", attempt=1)
                if task == "second":
                    _report(api, execution, task, status="FAILED", failureReason="RATE_LIMITED", attempt=1)
                _report(api, execution, task, status="COMPLETED", attempt=1)
        return watched, seen_at, list(_messages(socket))


def test_a_watcher_sees_every_change_of_its_execution_in_order_and_none_of_another(api: ApiClient) -> None:
    for number in range(_MOST_CUT_OFF + 1):
        try:
            watched, seen_at, messages = _watch_to_the_end(api)
        except (ConnectionClosed, TimeoutError):
            # A busy machine does not serve it within its second: it is cut off, and no message is left out silently
            assert number < _MOST_CUT_OFF
        else:
            break

    received: dict[str, dict[int, str]] = defaultdict(dict)
    for message in messages:
        assert message["executionId"] == watched
        if message["type"] == "task.status":
            versions = received[message["taskId"]]
            assert message["version"] in versions or message["version"] > max(versions, default=0)
            versions[message["version"]] = message["status"]
    for task in ("first", "second", "third"):
        path = ("executions", watched, "tasks", task, "history")
        changes = {
            entry["version"]: entry["status"]
            for entry in api.paginate("reader", *path)
            if entry["verdict"] == "applied" and entry["version"] > seen_at[task]
        }
        assert changes.items() <= received[task].items()
        assert received[task][max(received[task])] == "COMPLETED"
    assert messages[-1]["type"] == "execution.status"
    assert messages[-1]["status"] == "COMPLETED"


def test_a_ticket_is_good_for_one_connection(api: ApiClient) -> None:
    url = _url(api, _create(api))

    with connect(url, proxy=None), pytest.raises(InvalidStatus) as refused:
        connect(url, proxy=None)

    assert refused.value.response.status_code in (401, 403)


def test_a_ping_keeps_a_connection_and_closes_that_of_a_watcher_that_was_cut_off(stack: Stack, api: ApiClient) -> None:
    # given
    execution = _create(api)
    table = stack.aws("dynamodb")
    watched = {"S": f"LIVE#default#{execution}"}

    with connect(_url(api, execution), proxy=None) as socket:
        socket.send('{"action": "ping"}')
        _report(api, execution, "first", status="IN_PROGRESS", attempt=1)
        while json.loads(socket.recv(timeout=DEADLINE_SECONDS)).get("status") != "IN_PROGRESS":
            pass

        # when
        query = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": watched}}
        [item] = table.query(TableName=stack.table_name, **query)["Items"]
        connection = {"S": f"CONNECTION#{item['sk']['S']}"}
        for key in ({"pk": watched, "sk": item["sk"]}, {"pk": connection, "sk": connection}):
            table.delete_item(TableName=stack.table_name, Key=key)
        socket.send('{"action": "ping"}')

        # then
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=DEADLINE_SECONDS)


def test_a_ticket_that_has_run_out_is_refused(stack: Stack, api: ApiClient) -> None:
    url = _url(api, _create(api))
    ticket = url.partition("ticket=")[2]
    key = {"S": f"TICKET#{ticket}"}
    stack.aws("dynamodb").update_item(
        TableName=stack.table_name,
        Key={"pk": key, "sk": key},
        UpdateExpression="SET validUntil = :past",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )

    with pytest.raises(InvalidStatus) as refused:
        connect(url, proxy=None)

    assert refused.value.response.status_code in (401, 403)


@pytest.mark.parametrize("query", ["", "?ticket=bm90LWEtdGlja2V0"])
def test_nobody_watches_without_a_ticket(query: str, stack: Stack) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(stack.live_url + query, proxy=None)

    assert refused.value.response.status_code in (401, 403)


def test_make_watch_shows_tasks_as_they_move_and_ends_with_the_execution(
    stack: Stack, state_dir: StateDir, api: ApiClient, work_queue_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execution = _create(api, "night")
    stop = Event()
    worker = Worker(WorkQueue(stack.aws("sqs"), work_queue_url, api), api, sample_work)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.run, stop)
        try:
            status = run_watch(state_dir, execution)
        finally:
            stop.set()
        working.result()

    shown = capsys.readouterr().out
    assert status == 0
    assert f"execution {execution} is RUNNING" in shown
    assert "third COMPLETED" in shown
    assert "execution COMPLETED" in shown
    assert shown.splitlines()[-1] == "3 COMPLETED"


def test_watching_what_does_not_exist_is_an_error_of_one_line(
    stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.live_url

    status = run_watch(state_dir, "never-created")

    assert status == 2
    assert capsys.readouterr().err == "Execution 'never-created' not found.\n"
