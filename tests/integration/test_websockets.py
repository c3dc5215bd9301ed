"""Who watches what: tickets, connections and pushes, on both emulators."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tasklatch.domain.errors import ForbiddenError
from tasklatch.dynamodb import keys
from tasklatch.runtime import services
from tests.factories import NOW, Context, FakeTime, fresh_name
from tests.integration.emulators import Table, counted_calls
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
    live = world.live(a_callback())
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
    ticket, valid_until = world.live(a_callback()).issue_ticket(world.tenant, "nightly")

    # then
    assert valid_until == NOW + 60_000
    item = world.table.item(keys.ticket_pk(ticket), keys.ticket_pk(ticket))
    assert item is not None
    assert NOW // 1000 < int(item["expiresAt"]["N"]) < NOW // 1000 + 3_600


def test_ticket_is_used_once(world: World) -> None:
    # given
    live = world.live(a_callback())
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
    live = world.live(a_callback())
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
        world.live(a_callback()).connect(ticket, "somebody")
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
    world.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert told(callback, first) == told(callback, second) == MESSAGES


def test_watchers_of_other_executions_and_tenants_are_told_nothing(world: World) -> None:
    # given
    watch(world, "weekly")
    watch(world, tenant=fresh_name())
    callback = a_callback()

    # when
    with counted_calls(world.table.client) as calls:
        world.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert not callback.calls
    assert calls == {"Query": 1}


@pytest.mark.parametrize("code", ["GoneException", "ForbiddenException"])
def test_dead_connection_is_dropped_and_the_others_are_told(world: World, code: str) -> None:
    # given
    dead, alive = watch(world), watch(world)
    callback = a_callback(post_to_connection=gone_for(dead, code=code))

    # when
    world.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

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
    world.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert watchers(world) == set()


def test_connection_that_cannot_keep_up_is_cut_off_rather_than_left_with_a_gap(world: World) -> None:
    # given
    slow, quick = watch(world), watch(world)
    callback = a_callback(post_to_connection=gone_for(slow, code="LimitExceededException"))
    make_backoff = world.through(world.table.client, FakeTime(6_000))

    # when
    make_backoff.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

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
    world.through(world.table.client, FakeTime(6_000)).live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

    # then
    assert watchers(world) == set()
    assert pointer(world, slow) is None


def test_connection_that_is_busy_for_a_moment_misses_nothing(world: World) -> None:
    # given
    connection_id = watch(world)
    left = [refusal("LimitExceededException")]
    callback = a_callback(post_to_connection=lambda **_: left.pop() if left else {})

    # when
    world.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES})

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
    world.live(callback).broadcast({(world.tenant, "nightly"): MESSAGES[:1]})

    # then
    assert sorted(request["ConnectionId"] for request in callback.requests("post_to_connection")) == list("0123")


def test_disconnection_is_forgotten_and_may_be_told_twice(world: World) -> None:
    # given
    gone, stays = watch(world), watch(world)
    live = world.live(a_callback())

    # when
    for _ in range(2):
        live.disconnect(gone)

    # then
    assert watchers(world) == {stays}
    assert pointer(world, gone) is None
    assert pointer(world, stays) is not None


# ---------------------------------------------------------------- the handler


@pytest.fixture
def socket(load: Callable[[str, Any], ModuleType], world: World) -> Callable[..., int]:
    """Begin or end a connection, as API Gateway tells it; give the status."""

    def tell(route: str, connection_id: str, **query: str) -> int:
        event = {
            "requestContext": {"routeKey": route, "connectionId": connection_id},
            **({"queryStringParameters": query} if query else {}),
        }
        module = load("live_connection", world.table.client)
        answer = module.handler(event, Context())
        status: int = answer["statusCode"]
        return status

    return tell


def test_handler_lets_in_those_with_a_ticket_and_forgets_those_that_leave(
    world: World, socket: Callable[..., int], monkeypatch: pytest.MonkeyPatch, load: Callable[[str, Any], ModuleType]
) -> None:
    # given
    load("live_connection", world.table.client)
    monkeypatch.setattr(services, "system_clock", world.clock)
    ticket, _ = world.live(a_callback()).issue_ticket(world.tenant, "nightly")

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
