"""Parts of the fuzz tests: cases from the API description, hostile requests, and checks of every response."""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import httpx
import hypothesis
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode

from tests.api_description import check_answer, description
from tests.factories import Reply, fresh_name
from tests.untrusted_input import marked

NAMES: Final = frozenset(
    {
        "executionId",
        "externalId",
        "flow_execution_id",
        "project",
        "queue",
        "scanId",
        "scheduleId",
        "taskId",
        "task_name",
        "version",
        "workflowExternalId",
    }
)
"""Parameters and fields that address existing things, in all contracts."""

_CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
_REFUSES_NONSENSE: Final = "negative_data_rejection"
_TOO_MUCH: Final = (413, 431)
"""Responses of API Gateway itself, whatever the route, to a request that is too large."""

_BATCHES: Final = frozenset({"POST /v1/executions/{executionId}/statuses"})
"""Routes that answer each part on its own, the bad ones too."""


_PROJECT: Final = "default"
_SCHEDULE: Final = "fuzzed"
"""Name of a schedule and of a trigger; one for all, as a tenant has only so many."""

_WORKFLOWS: Final = "/api/v1/projects/{project}/workflows"


@dataclass(frozen=True)
class Target:
    """Existing resources: the values where a request names an execution or a task."""

    names: Mapping[str, str]


def made_targets(caller: httpx.Client) -> list[Target]:
    """Create an execution, a Forge scan, a flow execution and the run of a workflow, with tasks."""
    execution_id, scan_id, task_id = fresh_name(), fresh_name(), str(uuid4())
    tasks: list[dict[str, Any]] = [
        {"taskId": "fetch", "input": {"x": 1}},
        {"taskId": "parse", "dependsOn": ["fetch"]},
    ]
    scan = {"connectionId": "c", "scanId": scan_id, "tasks": [{"taskId": task_id}]}
    flow = {"flow_id": str(uuid4()), "input": {"x": 1}, "task_names": ["fetch"]}
    assert caller.post("/v1/executions", json={"executionId": execution_id, "tasks": tasks}).status_code == 201
    assert caller.post("/forge/scans", json=scan).status_code == 201
    flow_execution_id = caller.post("/api/flow-executions", json=flow).json()["id"]
    workflows, project = _WORKFLOWS.format(project=_PROJECT), {"project": _PROJECT}
    version = {**project, "workflowExternalId": fresh_name(), "version": "1"}
    for path in ("", "/versions"):
        created = caller.post(workflows + path, json=good_body(f"POST {_WORKFLOWS}{path}", version))
        assert created.status_code == 200
    schedule = good_body("POST /v1/schedules", {"executionId": _SCHEDULE, "taskId": "fetch"})
    assert caller.post("/v1/schedules", json=schedule).status_code in (200, 201, 409)
    [trigger] = good_body(f"POST {_WORKFLOWS}/triggers", version)["items"]
    created = caller.post(f"{workflows}/triggers", json={"items": [{**trigger, "externalId": _SCHEDULE}]})
    assert created.status_code == 200
    run = f"{workflows}/{version['workflowExternalId']}/versions/1/run"
    run_id = caller.post(run, json={"authentication": {"nonce": fresh_name()}}).json()["id"]
    attempt = caller.get(f"/v1/executions/{run_id}/tasks").json()["items"][0]["taskExecutionId"]
    return [
        Target({**_target(run_id, attempt).names, **version}),
        _target(execution_id, "fetch"),
        _target(execution_id, "parse"),
        _target(scan_id, task_id),
        _target(flow_execution_id, "fetch"),
    ]


def _target(execution_id: str, task_id: str) -> Target:
    names = dict.fromkeys(("executionId", "flow_execution_id", "scanId"), execution_id)
    workflow = {"project": _PROJECT, "workflowExternalId": "none", "version": "1"}
    schedule = {"scheduleId": _SCHEDULE, "externalId": _SCHEDULE, "queue": "fuzzed"}
    return Target({**workflow, **schedule, **names, "taskId": task_id, "task_name": task_id})


def keys_of_description() -> list[str]:
    """Return every route of the description."""
    return sorted(f"{method.upper()} {path}" for path, methods in description()["paths"].items() for method in methods)


@cache
def _operations() -> dict[str, Any]:
    load_all_checks()
    schema = schemathesis.openapi.from_dict(description())
    schema.config.generation.update(with_security_parameters=False)
    result: list[Any] = [operation.ok() for operation in schema.get_all_operations() if isinstance(operation, Ok)]
    return {f"{item.method.upper()} {item.path}": item for item in result}


def cases(key: str, targets: Sequence[Target]) -> st.SearchStrategy[tuple[Any, bool]]:
    """Draw requests to a route, good ones and bad ones, half of them aimed at an existing resource; and the aim."""
    operation = _operations()[key]
    described = description()["paths"][operation.path][operation.method]
    takes_anything = "parameters" in described or "requestBody" in described
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if takes_anything else [])]
    drawn = st.sampled_from(modes).flatmap(lambda mode: operation.as_strategy(generation_mode=mode))
    return st.tuples(drawn, st.none() | st.sampled_from(list(targets))).map(lambda pair: _aimed(*pair))


def _aimed(case: Any, target: Target | None) -> tuple[Any, bool]:
    if target is None:
        return case, False
    case.path_parameters = _renamed(case.path_parameters, target.names)
    case.query = _renamed(case.query, target.names)
    case.body = marked(_renamed(case.body, target.names)) if isinstance(case.body, dict) else case.body
    return case, True


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        # Only the first: two tasks of one name are refused, and every case would end there.
        return [_renamed(item, names) if index == 0 else item for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            name: names[name] if name in names and isinstance(element, str) else _renamed(element, names)
            for name, element in value.items()
            # Dependencies never exist, where the names are made up.
            if name != "dependsOn"
        }
    return value


def check_case(case: Any, response: Response, *, aimed: bool) -> None:
    """Check that the description allows a response to this request.

    Parameters
    ----------
    aimed
        True if names in the request were replaced: a part that was meant to be wrong may then be right.
    """
    if _leads_elsewhere(case):
        assert response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
        return
    key = f"{case.method.upper()} {case.path}"
    headers = {name.lower(): ", ".join(values) for name, values in response.headers.items()}
    check_reply(key, Reply(response.status_code, headers, response.text))
    if response.status_code in _TOO_MUCH:
        return
    each_is_answered = key in _BATCHES and response.status_code == HTTPStatus.OK
    # API Gateway joins the values of a repeated parameter into one text: a list of texts is no wrong value.
    is_joined = any(isinstance(value, list) for value in case.query.values())
    names = _CHECKS if aimed or each_is_answered or is_joined else (*_CHECKS, _REFUSES_NONSENSE)
    case.validate_response(response, checks=CHECKS.get_by_names(names))


def _leads_elsewhere(case: Any) -> bool:
    """Return True if a path, once API Gateway has decoded it, is that of another route, or of none."""
    values = [str(value) for value in case.path_parameters.values()]
    return any(value in (".", "..") or set("/?") & set(unquote(value)) for value in values)


def check_reply(key: str, reply: Reply) -> None:
    """Check a response against the description; undescribed properties are errors."""
    assert reply.status < 500, reply.text
    if "x-request-id" in reply.headers:
        check_answer(key, reply)
    else:
        # API Gateway's own, before any function ran.
        assert reply.status in (401, 403, *_TOO_MUCH)
        assert list(reply.body) == ["message"]
    if reply.headers.get("content-type") == "application/problem+json":
        assert reply.body["status"] == reply.status
        assert reply.body["request_id"] == reply.headers["x-request-id"]


@dataclass(frozen=True)
class HostileRequest:
    """Request that no well-meaning client sends."""

    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    body: bytes


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**30, 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_LITERALS: Final = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-" + b"9" * 4_300,
    b"9" * 5_000,
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b'"' + b"x" * 300_000 + b'"',
    b"[" * 199 + b"]" * 199,
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"true",
    b"null",
    b"0.0",
    b"-0",
    b'""',
    b"[]",
    b"{}",
    b'{"__proto__": {}, "constructor": 1}',
)
"""Values that a JSON parser, a model or a table may fail on; some are no JSON."""


def _with_literal(key: str, target: Target) -> st.SearchStrategy[bytes]:
    """Return a request that is right but for one of its fields, which becomes one of the literals."""
    good = json.dumps(good_body(key, target.names)).encode()
    fields = sorted({*_fields(good_body(key, target.names)), "surprise"})
    return st.builds(
        lambda name, literal: good[:-1] + b", " * (good != b"{}") + json.dumps(name).encode() + b": " + literal + b"}",
        st.sampled_from(fields),
        st.sampled_from(_LITERALS),
    )


def _fields(body: Mapping[str, Any]) -> Sequence[str]:
    return [*body, "output", "input", "metadata", "message", "attempt", "reason", "tasks", "statuses"]


def good_body(key: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a body that a route accepts; an empty one for a route without a body here.

    Parameters
    ----------
    names
        Names of the execution and the task in it.
    """
    if "{project}" in key:
        return _cognite_body(key, names)
    task = {"taskId": names["taskId"]}
    schedule = {"cronExpression": "0 4 * * *", "timeZone": "Europe/Oslo", "execution": {"tasks": [task]}}
    bodies: dict[str, dict[str, Any]] = {
        "POST /v1/schedules": {"scheduleId": names["executionId"], **schedule},
        "PUT /v1/schedules/{scheduleId}": schedule,
        "POST /v1/executions": {"tasks": [{"taskId": "a"}, {"taskId": "b", "dependsOn": ["a"], "input": {"x": 1}}]},
        "POST /v1/executions/{executionId}/tasks": {"tasks": [task]},
        "POST /v1/executions/{executionId}/statuses": {"statuses": [{**task, "status": "IN_PROGRESS"}]},
        "POST /v1/executions/{executionId}/tasks/{taskId}/status": {"status": "IN_PROGRESS"},
        "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat": {"progress": 0.5},
        "POST /v1/executions/{executionId}/tasks/read": task,
        "POST /v1/executions/{executionId}/tasks/history": task,
        "POST /v1/executions/{executionId}/heartbeats": {**task, "progress": 0.5},
        "POST /v1/queues/{queue}/claim": {"max": 2, "claimId": "mine"},
        "POST /v1/queues/{queue}/release": {**task, "executionId": names["executionId"], "attempt": 1},
        "POST /v1/executions/{executionId}/cancel": {"reason": "enough"},
        "POST /forge/updateTaskStatus": {
            "connectionId": "c",
            "scanId": names["executionId"],
            "status": "success",
            "task": task,
        },
        "POST /forge/scans": {"connectionId": "c", "scanId": names["executionId"], "tasks": [task]},
        "POST /forge/children": {"connectionId": "c", "scanId": names["executionId"], "tasks": [task]},
        "POST /api/flow-executions": {
            "flow_id": "6f1c3cf6-5d0b-4a86-9d6c-5c8f3b1f2a01",
            "input": {"x": 1},
            "task_names": ["a"],
        },
        "POST /api/flow-executions/{flow_execution_id}/task-status": {
            "statuses": [{"task_name": names["taskId"], "status": "running"}]
        },
    }
    return bodies.get(key, {})


def _cognite_body(key: str, names: Mapping[str, str]) -> dict[str, Any]:
    workflow = names.get("workflowExternalId", "none")
    version = {"workflowExternalId": workflow, "version": names.get("version", "1")}
    function = {"function": {"externalId": "fn", "data": {"x": "${workflow.input.x}"}}, "isAsyncComplete": True}
    defined = {"tasks": [{"externalId": "a", "type": "function", "parameters": function}]}
    bodies: dict[str, dict[str, Any]] = {
        "": {"items": [{"externalId": workflow, "description": "d"}]},
        "/delete": {"items": [{"externalId": workflow}]},
        "/versions": {"items": [{**version, "workflowDefinition": defined}]},
        "/versions/delete": {"items": [version]},
        "/versions/list": {"filter": {"workflowFilters": [{"externalId": workflow}]}},
        "/executions/list": {"filter": {"workflowFilters": [{"externalId": workflow}]}},
        "/executions/{executionId}/cancel": {"reason": "enough"},
        "/executions/{executionId}/retry": {"authentication": {"nonce": "n"}},
        "/tasks/{taskId}/update": {"status": "COMPLETED", "output": {"x": 1}},
        "/triggers": {
            "items": [
                {
                    "externalId": workflow,
                    "triggerRule": {"triggerType": "schedule", "cronExpression": "0 4 * * *"},
                    "workflowExternalId": workflow,
                    "workflowVersion": version["version"],
                    "authentication": {"nonce": "n"},
                }
            ]
        },
        "/triggers/delete": {"items": [{"externalId": workflow}]},
        "/{workflowExternalId}/versions/{version}/run": {"authentication": {"nonce": "n"}, "input": {"x": 1}},
    }
    if key == "POST /api/v1/projects/{project}/sessions":
        return {"items": [{"tokenExchange": True}]}
    return bodies.get(key.removeprefix(f"POST {_WORKFLOWS}"), {})


def hostile_requests(key: str, targets: Sequence[Target]) -> st.SearchStrategy[HostileRequest]:
    """Draw broken bodies, wrong encodings, strange headers and query strings."""
    good = st.sampled_from([json.dumps(good_body(key, target.names)).encode() for target in targets])
    plain = st.one_of(
        good,
        st.sampled_from(list(targets)).flatmap(lambda target: _with_literal(key, target)),
        st.builds(lambda value: json.dumps(value).encode(), _JSON),
        st.builds(lambda body, cut: body[: len(body) * cut // 100], good, st.integers(0, 99)),
        st.binary(max_size=60),
        st.sampled_from(_LITERALS),
        st.sampled_from([b"\xef\xbb\xbf{}", b"{} {}", b"{}\x00", b"\x00", " ".encode("utf-16")]),
        good.map(lambda body: body.decode().encode("utf-16")),
    )
    packed = st.one_of(
        plain.map(gzip.compress),
        plain.map(lambda body: gzip.compress(body)[:-4]),
        plain.map(lambda body: gzip.compress(body) + b"trailing"),
        plain.map(lambda body: gzip.compress(body) + gzip.compress(b"{}")),
        plain.map(lambda body: gzip.compress(gzip.compress(body))),
        plain.map(zlib.compress),
        plain,
        st.just(gzip.compress(b" " * 6_000_000)),
    )
    encoding = st.sampled_from(["gzip", "x-gzip", " GZIP ", "gzip, gzip", "deflate", "br", "identity", "", "a\x80b"])
    sent = st.one_of(plain.map(lambda body: (None, body)), st.tuples(encoding, packed))
    return st.builds(_hostile, sent, _headers(), _query())


def _headers() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "Content-Type": st.sampled_from(
                ["application/json", "application/json; charset=utf-16", "text/plain", "application/xml", "*/*", "x"]
            ),
            "X-Request-ID": st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200).map(str.strip),
            "Idempotency-Key": st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=300).map(str.strip),
            "Accept": st.sampled_from(["text/html", "", "application/xml;q=9"]),
            "X-Long": st.sampled_from(["x" * 6_000, "x" * 20_000]),
            "X-Forwarded-For": st.just("127.0.0.1, ::1"),
        },
    )


def _query() -> st.SearchStrategy[list[tuple[str, str]]]:
    names = st.sampled_from(["limit", "cursor", "status", "createdAfter", "flow_id", "page", "surprise", "", "limit"])
    values = st.one_of(st.text(max_size=20).filter(_can_be_sent), st.sampled_from(["1", "-1", "9" * 400, "NaN", "%00"]))
    return st.lists(st.tuples(names, values), max_size=3)


def _can_be_sent(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _hostile(sent: tuple[str | None, bytes], headers: dict[str, str], query: list[tuple[str, str]]) -> HostileRequest:
    encoding, body = sent
    return HostileRequest(headers if encoding is None else {**headers, "Content-Encoding": encoding}, query, body)


def fuzz_settings(examples: int, *, repeatable: bool) -> hypothesis.settings:
    """Return settings for a number of cases: the same ones each time, or others."""
    return hypothesis.settings(
        max_examples=examples,
        derandomize=repeatable,
        database=None,
        deadline=None,
        # A failure is made small, and not explained by hundreds of further requests
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
