"""Who watches what: tickets, connections and pushes, on both emulators."""

import json
from collections.abc import Callable
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tasklatch.domain.errors import ForbiddenError, ServiceBusyError, TooManyWatchersError
from tasklatch.dynamodb import keys
from tasklatch.notifications.websockets import MAX_WATCHERS, Watcher
from tasklatch.runtime import services
from tests.factories import NOW, Context, FakeTime, fresh_name
from tests.integration.emulators import Table, counted_calls, intercepted
from tests.workflow_helpers import FakeClient, World, refusal

MESSAGES: list[dict[str, Any]] = [{"version": version} for version in (1, 2, 3)]


@pytest.fixture
def world(table: Table) -> World:
    return World(table)


def a_callback(**answers: Any) -> FakeClient:
    """What reaches connections; it reaches all, unless told otherwise."""
    return FakeClient(**{"post_to_connection": {}, "delete_connection": {}} | answers)


def watch(world: World, execution_id: str = "nightly", tenant: str | None = None) -> str:
    """Let somebody watch; give the connection's id."""
    live = world.connections
    ticket, _ = live.issue_ticket(tenant or world.tenant, execution_id)
    connection_id = fresh_name()
    live.connect(ticket, connection_id)
    return connection_id


def told(callback: FakeClient, connection_id: str) -> list[Any]:
    return [
        json.loads(request["Data"])
        for request in callback.requests("post_to_connection")
        if request["ConnectionId"] == connection_id
    ]


def watchers(world: World, execution_id: str = "nightly") -> set[str]:
    return {item["sk"]["S"] for item in world.table.items(keys.live_pk(world.tenant, execution_id))}


def pointer(world: World, connection_id: str) -> Any:
    key = keys.connection_pk(connection_id)
    return world.table.item(key, key)


def gone_for(*connection_ids: str, code: str = "GoneException") -> Callable[..., Any]:
    def post(ConnectionId: str, **_: Any) -> Any:  # noqa: N803 - AWS's own name
        return refusal(code) if ConnectionId in connection_ids else {}

    return post


# ---------------------------------------------------------------- tickets


def test_ticket_is_good_for_a_minute(world: World) -> None:
    # when
    ticket, valid_until = world.connections.issue_ticket(world.tenant, "nightly")

    # then
    assert valid_until == NOW + 60_000
    item = world.table.item(keys.ticket_pk(ticket), keys.ticket_pk(ticket))
    assert item is not None
    assert NOW // 1000 < int(item["expiresAt"]["N"]) < NOW // 1000 + 3_600


def test_ticket_is_used_once(world: World) -> None:
    # given
    live = world.connections
    ticket, _ = live.issue_ticket(world.tenant, "nightly")
    live.connect(ticket, "first")

    # then
    with pytest.raises(ForbiddenError):
        live.connect(ticket, "second")
    assert watchers(world) == {"first"}


@pytest.mark.parametrize(("late_ms", "let_in"), [(60_000, True), (60_001, False)])
def test_ticket_that_is_stale_is_refused_whether_or_not_it_was_removed(
    world: World, late_ms: int, *, let_in: bool
) -> None:
    # given
    live = world.connections
    ticket, _ = live.issue_ticket(world.tenant, "nightly")
    world.clock.now += late_ms

    # when
    if let_in:
        live.connect(ticket, "late")
    else:
        with pytest.raises(ForbiddenError):
            live.connect(ticket, "late")

    # then
    assert watchers(world) == ({"late"} if let_in else set())


@pytest.mark.parametrize("ticket", ["", "made up", "x" * 3_000, "#", "TICKET#", "é" * 60])
def test_ticket_that_was_never_issued_is_refused(world: World, ticket: str) -> None:
    with pytest.raises(ForbiddenError):
        world.connections.connect(ticket, "somebody")
    assert pointer(world, "somebody") is None


def test_what_is_kept_of_a_connection_expires(world: World) -> None:
    # when
    connection_id = watch(world)

    # then
    stored = [*world.table.items(keys.live_pk(world.tenant, "nightly")), pointer(world, connection_id)]
    assert len(stored) == 2
    assert {int(item["expiresAt"]["N"]) for item in stored} == {NOW // 1000 + 2 * 3600}


# ---------------------------------------------------------------- pushes


def test_everyone_who_watches_is_told_in_order(world: World) -> None:
    # given
    first, second = watch(world), watch(world)
    callback = a_callback()

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert told(callback, first) == told(callback, second) == MESSAGES


def test_watchers_of_other_executions_and_tenants_are_told_nothing(world: World) -> None:
    # given
    watch(world, "weekly")
    watch(world, tenant=fresh_name())
    callback = a_callback()

    # when
    with counted_calls(world.table.client) as calls:
        world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert not callback.calls
    assert calls == {"Query": 1}


@pytest.mark.parametrize("code", ["GoneException", "ForbiddenException"])
def test_dead_connection_is_dropped_and_the_others_are_told(world: World, code: str) -> None:
    # given
    dead, alive = watch(world), watch(world)
    callback = a_callback(post_to_connection=gone_for(dead, code=code))

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert watchers(world) == {alive}
    assert pointer(world, dead) is None
    assert told(callback, alive) == MESSAGES
    assert len(told(callback, dead)) == 1


def test_dead_connection_whose_beginning_was_cut_short_is_dropped(world: World) -> None:
    # given: the function died between the two things that it keeps of a connection
    world.table.put({"pk": {"S": keys.live_pk(world.tenant, "nightly")}, "sk": {"S": "half"}})
    callback = a_callback(post_to_connection=gone_for("half"))

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert watchers(world) == set()


def test_connection_that_cannot_keep_up_is_cut_off_rather_than_left_with_a_gap(world: World) -> None:
    # given
    slow, quick = watch(world), watch(world)
    callback = a_callback(post_to_connection=gone_for(slow, code="LimitExceededException"))

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert callback.requests("delete_connection") == [{"ConnectionId": slow}]
    assert watchers(world) == {quick}
    assert told(callback, quick) == MESSAGES


def test_connection_that_cannot_even_be_cut_off_is_forgotten(world: World) -> None:
    # given
    slow = watch(world)
    busy = refusal("LimitExceededException")
    callback = a_callback(post_to_connection=busy, delete_connection=busy)

    # when
    world.through(world.table.client, FakeTime(6_000)).watchers(callback).broadcast(
        {(world.tenant, "nightly"): MESSAGES}
    )

    # then
    assert watchers(world) == set()
    assert pointer(world, slow) is None


def test_connection_that_is_busy_for_a_moment_misses_nothing(world: World) -> None:
    # given
    connection_id = watch(world)
    left = [refusal("LimitExceededException")]
    callback = a_callback(post_to_connection=lambda **_: left.pop() if left else {})

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert told(callback, connection_id) == [MESSAGES[0], *MESSAGES]
    assert watchers(world) == {connection_id}


def test_more_watchers_than_a_page_are_all_told(world: World) -> None:
    # given: a page of a query is 1 MB
    pk = keys.live_pk(world.tenant, "nightly")
    for number in range(4):
        world.table.put({"pk": {"S": pk}, "sk": {"S": f"{number}"}, "padding": {"S": "x" * 390_000}})
    callback = a_callback()

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES[:1]})

    # then
    assert sorted(request["ConnectionId"] for request in callback.requests("post_to_connection")) == list("0123")


def test_disconnection_is_forgotten_and_may_be_told_twice(world: World) -> None:
    # given
    gone, stays = watch(world), watch(world)
    live = world.connections

    # when
    for _ in range(2):
        live.disconnect(gone)

    # then
    assert watchers(world) == {stays}
    assert pointer(world, gone) is None
    assert pointer(world, stays) is not None


def test_lookup_that_is_refused_fails_no_batch(world: World) -> None:
    # given
    watch(world)
    callback = a_callback()

    def refused(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "query":
            raise refusal("AccessDeniedException")
        return send()

    # when
    world.through(intercepted(world.table.client, refused)).watchers(callback).broadcast(
        {(world.tenant, "nightly"): MESSAGES}
    )

    # then
    assert not callback.calls


@pytest.mark.parametrize("operation", ["query", "batch_write_item"])
def test_busy_table_fails_the_batch(world: World, operation: str) -> None:
    # given
    dead = watch(world)
    callback = a_callback(post_to_connection=gone_for(dead))

    def busy(called: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if called == operation:
            raise refusal("ThrottlingException")
        return send()

    # then
    with pytest.raises(ServiceBusyError):
        world.through(intercepted(world.table.client, busy)).watchers(callback).broadcast(
            {(world.tenant, "nightly"): MESSAGES}
        )


@pytest.mark.parametrize(
    "error", [refusal("BadRequestException"), ReadTimeoutError(endpoint_url="https://live"), refusal("Whatever")]
)
def test_connection_that_cannot_be_reached_is_cut_off_whatever_the_reason(world: World, error: Exception) -> None:
    # given
    slow, quick = watch(world), watch(world)
    callback = a_callback(post_to_connection=lambda **request: error if request["ConnectionId"] == slow else {})

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert callback.requests("delete_connection") == [{"ConnectionId": slow}]
    assert watchers(world) == {quick}
    assert pointer(world, slow) is None
    assert told(callback, quick) == MESSAGES


def test_watchers_are_told_side_by_side(world: World) -> None:
    # given
    for _ in range(8):
        watch(world)
    together = Barrier(8, timeout=10)

    def post(**_: Any) -> Any:
        together.wait()
        return {}

    callback = a_callback(post_to_connection=post)

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert len(callback.requests("post_to_connection")) == 8 * len(MESSAGES)


def test_watchers_get_three_seconds_of_a_batch_and_the_rest_are_cut_off(world: World) -> None:
    # given: each message takes a second
    connection_ids = {watch(world) for _ in range(2)}
    world.time_left.left_ms = 15_000

    def post(**_: Any) -> Any:
        world.time_left.left_ms -= 1_000
        return {}

    callback = a_callback(post_to_connection=post)

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES * 10})

    # then
    assert 3 <= len(callback.requests("post_to_connection")) <= 4
    assert {request["ConnectionId"] for request in callback.requests("delete_connection")} == connection_ids
    assert watchers(world) == set()
    assert world.time_left.left_ms >= 11_000


def test_watchers_take_nothing_of_the_time_that_is_left_for_the_table(world: World) -> None:
    # given
    connection_id = watch(world)
    world.time_left.left_ms = 7_000
    callback = a_callback()

    # when
    world.watchers(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert callback.calls == [("delete_connection", {"ConnectionId": connection_id})]
    assert watchers(world) == set()


def test_execution_has_a_limit_of_watchers(world: World) -> None:
    # given
    for _ in range(MAX_WATCHERS):
        watch(world)
    ticket, _ = world.connections.issue_ticket(world.tenant, "nightly")

    # then
    with pytest.raises(TooManyWatchersError, match="25 watchers"):
        world.connections.connect(ticket, "one too many")
    assert len(watchers(world)) == MAX_WATCHERS
    assert pointer(world, "one too many") is None
    watch(world, "weekly")


def test_connections_that_have_expired_take_no_room(world: World) -> None:
    # given
    for _ in range(MAX_WATCHERS):
        watch(world)
    world.clock.now += 2 * 3_600_000

    # when
    connection_id = watch(world)

    # then
    assert connection_id in watchers(world)


# ---------------------------------------------------------------- the handler


@pytest.fixture
def callback() -> FakeClient:
    return a_callback()


@pytest.fixture
def socket(
    load: Callable[[str, Any], ModuleType], world: World, callback: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Begin or end a connection, as API Gateway tells it; give the status."""

    def tell(route: str, connection_id: str, **query: str) -> int:
        event = {
            "requestContext": {"routeKey": route, "connectionId": connection_id},
            **({"queryStringParameters": query} if query else {}),
        }
        module = load("live_connection", world.table.client)
        monkeypatch.setattr(services, "live_callback", lambda _url: callback)
        answer = module.handler(event, Context())
        status: int = answer["statusCode"]
        assert ("body" in answer) is (status != 200)
        return status

    return tell


def test_ping_keeps_a_connection_and_closes_that_of_a_watcher_that_was_cut_off(
    world: World, socket: Callable[..., int], callback: FakeClient
) -> None:
    # given
    connection_id = watch(world)

    # then
    assert socket("ping", connection_id) == 200
    assert not callback.calls

    # when
    world.connections.forget([Watcher(world.tenant, "nightly", connection_id)])

    # then
    assert socket("ping", connection_id) == 200
    assert callback.calls == [("delete_connection", {"ConnectionId": connection_id})]


def test_handler_says_that_there_is_no_room(
    world: World, socket: Callable[..., int], monkeypatch: pytest.MonkeyPatch, load: Callable[[str, Any], ModuleType]
) -> None:
    # given
    load("live_connection", world.table.client)
    monkeypatch.setattr(services, "system_clock", world.clock)
    for _ in range(MAX_WATCHERS):
        watch(world)
    ticket, _ = world.connections.issue_ticket(world.tenant, "nightly")

    # then
    assert socket("$connect", "late", ticket=ticket) == 429


def test_handler_lets_in_those_with_a_ticket_and_forgets_those_that_leave(
    world: World, socket: Callable[..., int], monkeypatch: pytest.MonkeyPatch, load: Callable[[str, Any], ModuleType]
) -> None:
    # given
    load("live_connection", world.table.client)
    monkeypatch.setattr(services, "system_clock", world.clock)
    ticket, _ = world.connections.issue_ticket(world.tenant, "nightly")

    # then
    assert socket("$connect", "first", ticket=ticket) == 200
    assert watchers(world) == {"first"}
    assert socket("$connect", "second", ticket=ticket) == 403
    assert socket("$connect", "third") == 403
    assert socket("$connect", "fourth", token=ticket) == 403
    assert watchers(world) == {"first"}
    assert socket("$disconnect", "first") == 200
    assert socket("$disconnect", "second") == 200
    assert watchers(world) == set()
