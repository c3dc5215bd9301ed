"""How a request becomes a response, and an error an HTTP status."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import pytest
from pydantic import BaseModel, ConfigDict

from local.handlers import load_handler
from tasklatch.api.app import HttpApp
from tasklatch.api.authorization import Scope
from tasklatch.api.errors import STATUS, to_problem_details
from tasklatch.api.messages import Request, Response
from tasklatch.api.operation import Operation
from tasklatch.domain import errors
from tasklatch.domain.errors import InvalidRequestError, ServiceBusyError, TasklatchError
from tests.api_description import check_answer
from tests.factories import Context, Reply, api_event, call_api
from tests.untrusted_input import LogLines

READ: Final = "POST /v1/things/{taskId}"
OPEN: Final = "GET /v1/open"


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: int


def every_error() -> Iterator[type[TasklatchError]]:
    waiting = TasklatchError.__subclasses__()
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        yield error


def made(error: type[TasklatchError]) -> TasklatchError:
    if error in (errors.NotFoundError, errors.AttemptNotOpenError, errors.IdNotInPathError):
        return error("task", "name")
    if error is errors.DuplicateNameError:
        return errors.DuplicateNameError("task", ["name"])
    if error is errors.IdempotencyKeyReusedError:
        return errors.IdempotencyKeyReusedError()
    return error("what is wrong")


@pytest.fixture
def captured() -> list[Request]:
    return []


@pytest.fixture
def routes(captured: list[Request]) -> HttpApp:
    routes = HttpApp()
    responses = {HTTPStatus.OK: dict[str, Any]}

    @routes.route(
        Operation(name="read", key=READ, summary="Read", scope=Scope.READ, request=Thing, responses=responses)
    )
    def read(call: Request) -> Response:
        captured.append(call)
        return Response({"size": call.parse_body(Thing).size, "tenant": call.tenant})

    @routes.route(Operation(name="open", key=OPEN, summary="Open", scope=None, responses=responses))
    def open_to_all(call: Request) -> Response:
        captured.append(call)
        if "fail" in call.query:
            raise made(getattr(errors, call.query["fail"]))
        return Response("text", HTTPStatus.ACCEPTED, {"location": "/x"}, "text/plain", {"counted": 1})

    return routes


def send(routes: HttpApp, route: str, **request: Any) -> Reply:
    return call_api(routes.resolve, api_event(route, **request))


def test_request_is_answered_in_json_by_its_route(routes: HttpApp, captured: list[Request]) -> None:
    reply = send(routes, READ, path={"taskId": "a b#c"}, body={"size": 3}, request_id="own")
    assert (reply.status, reply.body) == (200, {"size": 3, "tenant": "default"})
    assert reply.headers["content-type"] == "application/json"
    assert captured[0].path == {"taskId": "a b#c"}
    assert (captured[0].correlation_id, captured[0].request_id) == ("own", "own")


def test_answer_can_be_text_with_headers_of_its_own(routes: HttpApp) -> None:
    reply = send(routes, OPEN)
    assert (reply.status, reply.text) == (202, "text")
    assert (reply.headers["content-type"], reply.headers["location"]) == ("text/plain", "/x")


@pytest.mark.parametrize(
    ("initial", "expected"),
    [("caller-7", "caller-7"), ("x" * 128, "x" * 128), ("", "own"), ("x" * 129, "own"), ("a\nb", "own"), ("ä", "own")],
)
def test_request_id_is_the_callers_where_it_can_be(
    routes: HttpApp, captured: list[Request], initial: str, expected: str
) -> None:
    reply = send(routes, OPEN, headers={"x-request-id": initial}, request_id="own")
    assert reply.headers["x-request-id"] == expected
    assert captured[0].request_id == "own", "callers may repeat theirs, so no write is recognised by it"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"claims": {"scope": "tasklatch/report"}}, 403),
        ({"path": {"taskId": "a\nb"}}, 422),
        ({"path": {"taskId": "50%"}}, 422),
        ({"body": "{"}, 422),
        ({"body": {"size": "3"}}, 422),
        ({"headers": {"content-encoding": "br"}}, 415),
        ({"body": "x" * 6_000_000}, 413),
    ],
)
def test_fault_is_answered_with_its_problem(routes: HttpApp, request_: dict[str, Any], status: int) -> None:
    request = {"path": {"taskId": "a"}, "body": {"size": 3}, "request_id": "own"} | request_
    reply = send(routes, READ, **request)
    assert (reply.status, reply.body["status"]) == (status, status)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.body["request_id"] == reply.headers["x-request-id"] == "own"


def test_scope_is_checked_before_anything_is_read(routes: HttpApp) -> None:
    reply = send(routes, READ, path={"taskId": "a\nb"}, body="{", claims={"scope": ""})
    assert reply.status == 403


@pytest.mark.parametrize("error", list(every_error()))
def test_every_error_has_a_problem_of_its_own(routes: HttpApp, error: type[TasklatchError]) -> None:
    reply = send(routes, OPEN, query={"fail": error.__name__})
    assert reply.status == STATUS[error]
    assert reply.body["type"].startswith("urn:tasklatch:problem:")
    assert reply.body["title"] == STATUS[error].phrase
    assert reply.body["detail"] == str(made(error))
    assert ("retry-after" in reply.headers) is (error is ServiceBusyError)
    types = [to_problem_details(made(other), "id")["type"] for other in every_error()]
    assert types.count(reply.body["type"]) == 1


def test_problem_names_each_fault() -> None:
    fault: dict[str, object] = {"loc": ["body", "a"], "msg": "bad", "type": "bad"}
    assert to_problem_details(InvalidRequestError("x", [fault]), "id").get("errors") == [fault]
    assert "errors" not in to_problem_details(InvalidRequestError("x"), "id")


@pytest.mark.parametrize("error", [AttributeError("x"), RecursionError("x"), MemoryError("x"), KeyError("x")])
def test_whatever_a_function_raises_is_answered_logged_and_counted(
    routes: HttpApp, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # given
    def fail(_: Request) -> Response:
        raise error

    routes.route(routes.operations[OPEN])(fail)
    log = LogLines.capture(monkeypatch)

    # when
    reply = send(routes, OPEN, request_id="own")

    # then
    assert reply.status == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.body["type"] == "urn:tasklatch:problem:internal-error"
    assert reply.body["request_id"] == reply.headers["x-request-id"] == "own"
    messages, counted, handled = log.objects()
    assert (messages["request_id"], messages["route"], messages["level"]) == ("own", OPEN, "ERROR")
    assert type(error).__name__ in messages["exception"]
    assert (counted["UnhandledErrors"], counted["service"]) == ([1], "api")
    assert counted["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    assert handled["status"] == 500


def test_answer_that_cannot_be_written_is_an_error_like_any_other(routes: HttpApp) -> None:
    routes.route(routes.operations[OPEN])(lambda _: Response({"x": object()}))
    assert send(routes, OPEN).status == 500


def test_each_answer_leaves_one_line_in_the_log_without_payload(
    routes: HttpApp, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    secret = {"authorization": "s3cr3t"}

    # when
    send(routes, READ, path={"taskId": "a"}, body={"size": 31337}, request_id="own", headers=secret)
    send(routes, OPEN, request_id="other")

    # then
    lines = [vars(record) for record in caplog.records]
    assert [(line["route"], line["status"], line["request_id"]) for line in lines] == [
        (READ, 200, "own"),
        (OPEN, 202, "other"),
    ]
    assert lines[1]["counted"] == 1
    assert "31337" not in str(lines)
    assert "s3cr3t" not in str(lines)


@pytest.mark.parametrize("route", ["GET /v1/health", "GET /v1/openapi.json"])
def test_what_anyone_may_ask_needs_no_token(route: str) -> None:
    event = api_event(route)
    del event["requestContext"]["authorizer"]
    reply = call_api(load_handler("api_description").handler, event, Context())
    assert reply.status == 200
    check_answer(route, reply)
