"""Work handed out over HTTPS: claims, answers that were lost, releases, and what is fair between executions."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import pytest
from botocore.exceptions import ConnectionClosedError

from tasklatch.claims import work_list
from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.report import make_report
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.timer import Timer, TimerKind
from tasklatch.dynamodb import keys
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.ledger.ledger import Ledger
from tasklatch.retries.timer_handler import TimerHandler
from tasklatch.runtime import services
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.settings import get_settings
from tests.api_description import check_answer
from tests.factories import ALL_SCOPES, Context, Reply, api_event, call_api, fresh_name
from tests.integration.emulators import Table, intercepted, make_backoff
from tests.integration.test_cognite import function_of

CREATE: Final = "POST /v1/executions"
ADD: Final = "POST /v1/executions/{executionId}/tasks"
REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
HEARTBEAT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat"
SHOW: Final = "GET /v1/executions/{executionId}/tasks/{taskId}"
CANCEL: Final = "POST /v1/executions/{executionId}/cancel"
CLAIM: Final = "POST /v1/queues/{queue}/claim"
RELEASE: Final = "POST /v1/queues/{queue}/release"
TENANT: Final = "default"


@dataclass
class Api:
    """The functions over one table, called as a client; each has a queue of its own."""

    load: Callable[[str, Any], ModuleType]
    table: Table
    queue: str = field(default_factory=fresh_name)
    client: Any = None

    def __call__(
        self, route: str, body: Any = None, client: str = "fleet-a", remaining_ms: int = 29_000, **path: str
    ) -> Reply:
        event = api_event(route, path=path, body=body, claims={"scope": ALL_SCOPES, "client_id": client})
        module = self.load(function_of(route), self.client or self.table.client)
        reply = call_api(module.handler, event, Context(remaining_ms))
        check_answer(route, reply)
        return reply

    def create(self, *task_ids: str, execution_id: str | None = None, queue: str | None = None, **fields: Any) -> str:
        """Create an execution whose tasks wait in the queue; return its id."""
        name = execution_id or fresh_name()
        tasks = [{"taskId": task_id, **fields} for task_id in task_ids]
        reply = self(CREATE, {"executionId": name, "queue": queue or self.queue, "tasks": tasks})
        assert reply.status == 201, reply.text
        return name

    def claim(self, most: int = 1, claim_id: str | None = None, client: str = "fleet-a", **fields: Any) -> Any:
        """Claim tasks of the queue; return the items."""
        body = {"max": most, **fields} | ({} if claim_id is None else {"claimId": claim_id})
        reply = self(CLAIM, body, client, queue=self.queue)
        assert reply.status == 200, reply.text
        return reply.body["items"]

    def release(self, item: Any, client: str = "fleet-a") -> Reply:
        """Give a claimed task back."""
        body = {name: item[name] for name in ("executionId", "taskId", "taskExecutionId")}
        return self(RELEASE, body, client, queue=self.queue)

    def report(self, item: Any, status: str, **fields: Any) -> Any:
        """Report on a claimed task."""
        body = {"status": status, "taskExecutionId": item["taskExecutionId"], **fields}
        reply = self(REPORT, body, executionId=item["executionId"], taskId=item["taskId"])
        assert reply.status == 200, reply.text
        return reply.body

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.table.client, get_settings(), system_clock, make_backoff())

    def task(self, execution_id: str, task_id: str = "a") -> Task:
        return self.ledger.read(TENANT, execution_id, task_id)

    def entry(self, execution_id: str, task_id: str = "a") -> dict[str, Any]:
        """Return the attributes by which a task is in the list of work."""
        item = self.table.item(keys.execution_pk(TENANT, execution_id), keys.task_sk(task_id))
        assert item is not None
        return {name: item[name]["S"] for name in (keys.WORK_KEY, keys.WORK_SORT) if name in item}


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table) -> Api:
    return Api(load, statements_table)


def names(items: Any) -> list[tuple[str, str]]:
    return [(item["executionId"], item["taskId"]) for item in items]


def test_a_claimed_task_is_begun_and_comes_with_all_that_its_worker_needs(api: Api) -> None:
    # given
    execution_id = api.create("a", input={"rows": 3}, heartbeatTimeoutSeconds=60, timeoutSeconds=3600)

    # when
    [item] = api.claim(10)

    # then
    task = api.task(execution_id)
    assert task.status is TaskStatus.IN_PROGRESS
    assert task.reported_by == "fleet-a"
    assert task.started_at is not None
    assert (item["executionId"], item["taskId"], item["attempt"]) == (execution_id, "a", 1)
    assert (item["input"], item["queue"], item["heartbeatSeconds"]) == ({"rows": 3}, api.queue, 60)
    assert item["deadline"].endswith("Z")
    assert api.report(item, "COMPLETED")["verdict"] == "applied"


def test_nothing_is_handed_out_twice(api: Api) -> None:
    # given
    api.create("a", "b", "c")

    # when
    first, second, third = api.claim(2), api.claim(2), api.claim(2)

    # then
    assert len(first) == 2
    assert len(second) == 1
    assert third == []
    assert len({*names(first), *names(second)}) == 3


def test_an_empty_answer_says_when_to_ask_again(api: Api) -> None:
    reply = api(CLAIM, {}, queue=api.queue)

    assert reply.body == {"items": [], "askAgainSeconds": 5}


def test_a_task_is_handed_out_by_its_own_queue_only(api: Api) -> None:
    # given
    other = Api(api.load, api.table)
    execution_id = api.create("a")
    api.create("b", queue=other.queue)
    assert api(ADD, {"tasks": [{"taskId": "c", "queue": other.queue}]}, executionId=execution_id).status == 200

    # when
    own, others = api.claim(10), other.claim(10)

    # then
    assert [item["taskId"] for item in own] == ["a"]
    assert sorted(item["taskId"] for item in others) == ["b", "c"]


def test_the_queue_and_the_priority_of_an_execution_hold_for_tasks_that_are_added(api: Api) -> None:
    # given
    execution_id = fresh_name()
    body = {"executionId": execution_id, "queue": api.queue, "priority": 7, "tasks": [{"taskId": "a", "priority": 0}]}
    assert api(CREATE, body).body["queue"] == api.queue

    # when
    added = api(ADD, {"tasks": [{"taskId": "b"}]}, executionId=execution_id).body["items"]

    # then
    assert (added[0]["queue"], added[0]["priority"]) == (api.queue, 7)
    assert [item["taskId"] for item in api.claim(2)] == ["b", "a"]


@pytest.mark.parametrize(("unnamed", "listed"), [("", False), ("default", True)])
def test_tasks_that_name_no_queue_are_handed_out_by_the_one_that_the_deployment_names(
    api: Api, monkeypatch: pytest.MonkeyPatch, unnamed: str, listed: bool
) -> None:
    # given
    monkeypatch.setenv("UNNAMED_QUEUE", unnamed)
    get_settings.cache_clear()
    execution_id = fresh_name()

    # when
    api(CREATE, {"executionId": execution_id, "tasks": [{"taskId": "a"}]})

    # then
    get_settings.cache_clear()
    assert api.task(execution_id).queue == (unnamed or None)
    assert bool(api.entry(execution_id)) is listed


def test_the_highest_priority_is_handed_out_first_and_then_the_oldest(api: Api) -> None:
    # given
    execution_id = fresh_name()
    tasks = [{"taskId": f"t{priority}", "priority": priority} for priority in (0, 9, 4)]
    api(CREATE, {"executionId": execution_id, "queue": api.queue, "tasks": [*tasks, {"taskId": "default"}]})

    # when
    claimed = [api.claim()[0]["taskId"] for _ in range(4)]

    # then
    assert claimed == ["t9", "default", "t4", "t0"]


def test_an_execution_of_many_tasks_does_not_shut_out_one_of_few(api: Api) -> None:
    # given: both in the same shard of the list, the large one before the small one
    by_place: dict[str, list[str]] = {}
    while not any(len(group) == 2 for group in by_place.values()):
        name = fresh_name()
        by_place.setdefault(keys.work_list_for(keys.execution_pk(TENANT, name), api.queue), []).append(name)
    pair = next(group for group in by_place.values() if len(group) == 2)
    large, small = sorted(pair, key=lambda name: keys.work_sort_prefix(4, keys.execution_pk(TENANT, name)))
    api.create(*(f"task-{number}" for number in range(200)), execution_id=large)
    api.create("a", "b", "c", execution_id=small)

    # when
    claimed = [item["executionId"] for _ in range(6) for item in api.claim(4)]

    # then: each has its turn in each claim
    assert Counter(claimed)[small] == 3


def test_workers_that_ask_at_once_get_all_tasks_once_each(api: Api) -> None:
    # given
    execution_ids = [api.create(*(f"task-{number}" for number in range(12))) for _ in range(2)]
    module = api.load("claims", api.table.client)
    claimed: list[tuple[str, str]] = []

    def work() -> None:
        while True:
            event = api_event(CLAIM, path={"queue": api.queue}, body={"max": 3, "claimId": fresh_name()})
            items = call_api(module.handler, event, Context(29_000)).body["items"]
            if not items:
                return
            claimed.extend(names(items))

    # when
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)

    # then: a claim that lost its tasks to others may have ended a worker early, so the rest is asked for
    claimed.extend(name for _ in range(24) for name in names(api.claim(10)))
    assert len(claimed) == len(set(claimed)) == 24
    assert {execution_id for execution_id, _ in claimed} == set(execution_ids)


def test_an_answer_that_was_lost_is_given_again_and_nothing_besides(api: Api) -> None:
    # given
    api.create("a", "b", "c", input={"rows": 3})
    first = api.claim(2, "mine")

    # when
    again = api.claim(2, "mine")
    api.report(first[0], "COMPLETED")
    rest = api.claim(2, "mine")
    api.report(first[1], "FAILED")
    none = api.claim(2, "mine")

    # then
    assert again == first
    assert rest == first[1:]
    assert none == []
    assert len(api.claim(2, "another")) == 1


def test_a_claim_id_is_its_clients_own(api: Api) -> None:
    # given
    api.create("a")
    [item] = api.claim(1, "mine", client="fleet-a")

    # when
    others = api.claim(1, "mine", client="fleet-b")

    # then
    assert others == []
    assert api.claim(1, "mine", client="fleet-a") == [item]


@pytest.mark.parametrize("lost", ["put_item", "batch_execute_statement"])
def test_a_claim_that_died_half_way_is_completed_by_the_same_claim_id(api: Api, lost: str) -> None:
    # given
    api.create("a", "b", "c")

    def around(operation: str, call: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        answer = call()
        if operation == lost:
            raise RuntimeError("the function ends here")
        return answer

    api.client = intercepted(api.table.client, around)
    assert api(CLAIM, {"max": 2, "claimId": "mine"}, queue=api.queue).status == 500

    # when
    api.client = None
    items = api.claim(2, "mine")

    # then
    assert len(items) == 2
    assert api.claim(2, "mine") == items
    assert len(api.claim(10)) == 1


@pytest.mark.parametrize("operation", ["put_item", "batch_execute_statement"])
def test_a_claim_recognises_its_own_write_whose_response_was_lost(api: Api, operation: str) -> None:
    # given
    api.create("a")
    lost: list[str] = []

    def around(called: str, call: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        answer = call()
        if called == operation and not lost:
            lost.append(called)
            raise ConnectionClosedError(endpoint_url="https://dynamodb")
        return answer

    api.client = intercepted(api.table.client, around)

    # when
    items = api.claim(1, "mine")

    # then
    assert lost
    assert [item["taskId"] for item in items] == ["a"]


def test_a_claim_that_lost_to_another_takes_what_is_left(api: Api) -> None:
    # given: another worker is faster with the first task that is chosen
    execution_id = api.create("a", "b")
    taken: list[str] = []

    def around(operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and not taken:
            sk = next(
                value["S"] for value in arguments["Statements"][0]["Parameters"] if value.get("S", "")[:5] == "TASK#"
            )
            taken.append(sk.removeprefix("TASK#"))
            item = {"executionId": execution_id, "taskId": taken[0]}
            api.ledger.record(TENANT, execution_id, started(item["taskId"]), "other")
        return call()

    api.client = intercepted(api.table.client, around)

    # when
    items = api.claim(1, "mine")

    # then
    assert [item["taskId"] for item in items] == sorted({"a", "b"} - set(taken))
    assert api.claim(1, "mine") == items


def started(task_id: str) -> Any:
    return make_report(task_id, TaskStatus.IN_PROGRESS, attempt=1)


def test_an_attempt_that_both_ways_hand_out_is_begun_once(api: Api) -> None:
    # given
    execution_id = api.create("a")
    body = {"status": "IN_PROGRESS", "attempt": 1}
    assert api(REPORT, body, executionId=execution_id, taskId="a").body["verdict"] == "applied"

    # when
    items = api.claim(10)

    # then
    assert items == []
    assert api.task(execution_id).version == 3


def test_an_entry_that_the_index_still_shows_hands_nothing_out(api: Api) -> None:
    # given
    execution_id = api.create("a")
    listed = api.entry(execution_id)
    [item] = api.claim()
    api.report(item, "COMPLETED")
    stored = api.table.item(keys.execution_pk(TENANT, execution_id), keys.task_sk("a"))
    assert stored is not None
    api.table.put({**stored, **{name: {"S": value} for name, value in listed.items()}})

    # when
    items = api.claim(10)

    # then
    assert items == []
    assert api.task(execution_id).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("status", ["IN_PROGRESS", "COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"])
def test_a_task_leaves_the_list_with_any_report(api: Api, status: str) -> None:
    # given
    execution_id = api.create("a")
    assert api.entry(execution_id)

    # when
    api(REPORT, {"status": status, "attempt": 1}, executionId=execution_id, taskId="a")

    # then
    assert api.entry(execution_id) == {}


def test_a_task_leaves_the_list_with_a_cancellation(api: Api) -> None:
    # given
    execution_id = api.create("a")

    # when
    api.ledger.write(TENANT, execution_id, system_write(api.task(execution_id), TaskStatus.CANCELED, now=1))

    # then
    assert api.entry(execution_id) == {}
    assert api.claim() == []


def test_a_task_that_waits_for_others_is_not_handed_out(api: Api) -> None:
    # given
    tasks = [{"taskId": "a"}, {"taskId": "b", "dependsOn": ["a"]}]
    api(CREATE, {"executionId": fresh_name(), "queue": api.queue, "tasks": tasks})

    # when
    items = api.claim(10)

    # then
    assert [item["taskId"] for item in items] == ["a"]


def test_a_claim_that_goes_silent_is_timed_out_and_its_task_handed_out_again(api: Api) -> None:
    # given
    execution_id = api.create("a", heartbeatTimeoutSeconds=1, retryPolicy={"initialSeconds": 0, "jitter": 0})
    [item] = api.claim()
    later = system_clock() + 60_000
    timers: Any = None
    ledger = Ledger(api.table.client, get_settings(), lambda: later, make_backoff())
    executions = ExecutionTable(api.table.client, get_settings(), lambda: later, make_backoff())
    handler = TimerHandler(ledger, executions, timers, lambda: later)

    # when
    timer = Timer(TimerKind.DEADLINE, TENANT, execution_id, "a", 1, later)
    results = [handler.handle(timer), handler.handle(replace(timer, kind=TimerKind.RETRY))]
    [again] = api.claim()

    # then
    assert results == ["timed out", "opened"]
    assert (again["taskId"], again["attempt"]) == ("a", 2)
    assert api.report(item, "FAILED")["verdict"] == "stale_attempt"
    assert api.report(again, "COMPLETED")["verdict"] == "applied"


def test_a_released_task_is_handed_out_again_and_no_attempt_is_spent(api: Api) -> None:
    # given
    execution_id = api.create("a", retryPolicy={"maxAttempts": 2, "initialSeconds": 10, "jitter": 0})
    [item] = api.claim()

    # when
    reply = api.release(item, client="fleet-b")
    [again] = api.claim()
    api.report(again, "FAILED")

    # then
    assert (reply.status, reply.body["verdict"], reply.body["task"]["status"]) == (200, "applied", "SCHEDULED")
    task = api.task(execution_id)
    assert (again["attempt"], task.attempt, task.spent_attempts) == (2, 2, 1)
    decision = decide_retry(task)
    assert decision is not None
    assert (decision.will_retry, decision.attempts_left) == (True, 1)
    assert decision.not_before == (task.ended_at or 0) + 10_000


def test_a_release_names_who_released(api: Api) -> None:
    # given
    execution_id = api.create("a")
    [item] = api.claim()

    # when
    api.release(item, client="fleet-b")

    # then
    task = api.task(execution_id)
    assert (task.reported_by, task.claim) == ("fleet-b", None)
    assert task.request_id is not None


def test_a_release_that_is_repeated_takes_nothing_from_the_next_worker(api: Api) -> None:
    # given
    execution_id = api.create("a")
    [item] = api.claim()
    api.release(item)
    [again] = api.claim()

    # when
    reply = api.release(item)

    # then
    assert reply.body["verdict"] == "duplicate"
    assert api.task(execution_id).attempt == again["attempt"]
    assert api.task(execution_id).status is TaskStatus.IN_PROGRESS


def test_what_the_worker_that_released_says_later_counts_only_if_it_is_a_success(api: Api) -> None:
    # given
    api.create("a")
    [item] = api.claim()
    api.release(item)

    # when
    failure, success = api.report(item, "FAILED"), api.report(item, "COMPLETED")

    # then
    assert failure["verdict"] == "stale_attempt"
    assert success["verdict"] == "applied"
    assert api.claim() == []


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("COMPLETED", "ignored_after_success"),
        ("FAILED", "stale_attempt"),
        ("FAILED_WITH_TERMINAL_ERROR", "stale_attempt"),
    ],
)
def test_an_attempt_that_has_ended_is_not_released(api: Api, status: str, verdict: str) -> None:
    # given
    execution_id = api.create("a")
    [item] = api.claim()
    api.report(item, status)

    # when
    reply = api.release(item)

    # then
    assert reply.body["verdict"] == verdict
    assert api.task(execution_id).status == status


def test_a_cancelled_task_is_not_released(api: Api) -> None:
    # given
    execution_id = api.create("a")
    [item] = api.claim()
    api.ledger.write(TENANT, execution_id, system_write(api.task(execution_id), TaskStatus.CANCELED, now=1))

    # then
    assert api.release(item).body["verdict"] == "sealed"


def test_a_release_needs_an_attempt_of_a_task_of_the_queue(api: Api) -> None:
    # given
    execution_id = api.create("a")
    body = {"executionId": execution_id, "taskId": "a"}

    # then
    assert api(RELEASE, body, queue=api.queue).status == 422
    assert api(RELEASE, {**body, "attempt": 1}, queue="another").status == 404
    assert api(RELEASE, {**body, "attempt": 2}, queue=api.queue).status == 409
    assert api(RELEASE, {**body, "taskId": "b", "attempt": 1}, queue=api.queue).status == 404
    assert api(RELEASE, {**body, "attempt": 1}, queue=api.queue).body["verdict"] == "duplicate"


@pytest.mark.parametrize("queue", ["a b", "a#b", "x" * 65, "."])
def test_a_queue_has_a_name_that_fits_everywhere(api: Api, queue: str) -> None:
    assert api(CLAIM, {}, queue=queue).status == 422
    assert api(CREATE, {"queue": queue, "tasks": [{"taskId": "a"}]}).status == 422


def test_a_claim_waits_for_work_no_longer_than_it_asks_and_the_deployment_allows(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a clock of the function that only waits move
    monkeypatch.setenv("LONGEST_CLAIM_WAIT", "10")
    get_settings.cache_clear()
    context, slept = Context(29_000), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        context.remaining_ms -= round(seconds * 1000)
        if len(slept) == 3:
            api.create("late")

    monkeypatch.setattr("tasklatch.runtime.backoff.random.uniform", lambda _low, high: high)
    monkeypatch.setattr(services, "Backoff", lambda remaining: Backoff(remaining, sleep))
    module = api.load("claims", api.table.client)

    def claim() -> Any:
        event = api_event(CLAIM, path={"queue": api.queue}, body={"waitSeconds": 20})
        return call_api(module.handler, event, context).body["items"]

    # when
    late, waited = claim(), list(slept)
    slept.extend([0.0] * 3)
    nothing = claim()
    get_settings.cache_clear()

    # then
    assert [item["taskId"] for item in late] == ["late"]
    assert waited == [0.5, 1.0, 2.0]
    assert nothing == []
    assert 10 <= sum(slept[6:]) < 10 + 3


def test_a_page_of_the_list_is_half_a_read_unit(api: Api) -> None:
    # given
    execution_id = api.create("a")

    # then
    entry = {**api.entry(execution_id), keys.PK: keys.execution_pk(TENANT, execution_id), keys.SK: keys.task_sk("a")}
    assert sum(len(name) + len(value) for name, value in entry.items()) * work_list.ENTRIES_A_PAGE <= 4096


def test_what_the_platforms_create_is_handed_out_with_what_their_own_workers_are_called_with(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setenv("UNNAMED_QUEUE", api.queue)
    get_settings.cache_clear()
    scan_id, task_id = fresh_name(), str(uuid4())
    scan = {"connectionId": "drive", "scanId": scan_id}
    api("POST /forge/scans", {**scan, "tasks": [{"taskId": task_id, "taskMetadata": {"path": "/"}}]})
    flow = {"flow_id": str(uuid4()), "input": {"page": 1}, "task_names": ["extract"]}
    flow_id = api("POST /api/flow-executions", flow).body["id"]
    base, workflow = "POST /api/v1/projects/{project}/workflows", fresh_name()
    data = {"function": {"externalId": "fn", "data": {"n": 1}}, "isAsyncComplete": True}
    tasks = [{"externalId": "call", "type": "function", "parameters": data}]
    version = {"workflowExternalId": workflow, "version": "1", "workflowDefinition": {"tasks": tasks}}
    assert api(f"{base}/versions", {"items": [version]}, project="any").status == 200
    path: dict[str, Any] = {"project": "any", "workflowExternalId": workflow, "version": "1"}
    run = api(f"{base}/{{workflowExternalId}}/versions/{{version}}/run", {"authentication": {"nonce": "x"}}, **path)

    # when
    items = {item["executionId"]: item for item in api.claim(10)}
    get_settings.cache_clear()

    # then
    assert items.keys() == {scan_id, flow_id, run.body["id"]}
    assert items[scan_id]["input"]["taskExecutionId"] == items[scan_id]["taskExecutionId"]
    assert items[scan_id]["input"]["taskId"] == task_id
    called = items[run.body["id"]]["input"]["function"]
    assert called["data"]["n"] == 1
    assert items[run.body["id"]]["taskExecutionId"] in called["data"].values()
    assert items[flow_id]["taskId"] == "extract"
