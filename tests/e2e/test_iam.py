"""The local cloud of these tests holds each function to its role, as AWS does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from local.cloud.stack import Stack, StateDir
from tests.e2e.conftest import REFUSED, TAKEN_AWAY
from tests.factories import fresh_name
from tests.polling import poll


@contextmanager
def without(action: str, function: str, stack: Stack) -> Iterator[None]:
    """Take an action from a function's role for a while."""
    iam = stack.aws("iam")
    existing = stack.aws("lambda").get_function_configuration(FunctionName=stack.functions[function])
    role = existing["Role"].rpartition("/")[2]
    [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    less = json.dumps(document).replace(f'"{action}"', '"dynamodb:DescribeLimits"')
    assert less != json.dumps(document)
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=less)
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def test_a_function_can_only_do_what_its_role_allows(
    stack: Stack, state_dir: StateDir, worker: httpx.Client, operator: httpx.Client
) -> None:
    # given
    name = fresh_name()
    operator.post("/v1/executions", json={"executionId": name, "tasks": [{"taskId": "fetch"}]}).raise_for_status()
    path = f"/v1/executions/{name}/tasks/fetch/status"
    report = {"status": "COMPLETED", "attempt": 1}

    # when
    with without(TAKEN_AWAY[1], "report_status", stack):
        refused = worker.post(path, json=report)
    allowed = worker.post(path, json=report)

    # then
    assert refused.is_server_error
    assert (allowed.status_code, allowed.json()["verdict"]) == (httpx.codes.OK, "applied")
    # By which it would be noticed, were anything else refused
    assert poll(lambda: TAKEN_AWAY in REFUSED.findall(state_dir.log.read_text(encoding="utf-8", errors="replace")))
