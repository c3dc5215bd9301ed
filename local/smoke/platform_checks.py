"""Checks of the other platforms' routes: a success through each of them stands after a failure."""

from typing import Any, Final
from uuid import uuid4

from local.smoke.check import Check, expect
from local.smoke.session import SmokeSession


def check_forge(session: SmokeSession) -> str:
    """Register a scan of Forge's, and report its task as `updateTaskStatus` does."""
    scan_id, task_id = session.name("forge"), str(uuid4())
    session.cancel_at_end(scan_id)
    scan = {"connectionId": session.name("connection"), "scanId": scan_id, "tasks": [{"taskId": task_id}]}
    created = session.api.request("operator", "POST", "scans", body=scan, base="forge").body
    for status in ("success", "failure"):
        update = {
            "scanId": scan_id,
            "connectionId": scan["connectionId"],
            "status": status,
            "task": {"taskId": task_id},
        }
        reply = session.api.request("worker", "POST", "updateTaskStatus", body=update, base="forge")
        expect(reply.body["status"] == "ACCEPTED", f"{status} is answered {reply.body}")
    _expect_success(session, created["executionId"], task_id)
    return "a success stands after a failure, both ACCEPTED"


def check_superai(session: SmokeSession) -> str:
    """Create a flow execution of SuperAI's, and report its task."""
    body = {"flow_id": str(uuid4()), "input": {}, "task_names": [session.name("work")]}
    flow = session.api.request("operator", "POST", "flow-executions", body=body, base="api").body
    path = ("flow-executions", flow["id"])
    session.undo_at_end(lambda: session.api.request("operator", "DELETE", *path, base="api"))
    statuses = [{"task_name": session.name("work"), "status": status} for status in ("completed", "failed")]
    reply = session.api.request("worker", "POST", *path, "task-status", body={"statuses": statuses}, base="api")
    words = [item["status"] for item in reply.body]
    expect(words == ["completed", "failed"], f"the two updates are answered {words}")
    _expect_success(session, flow["id"], session.name("work"))
    return "two updates recorded, the success stands"


def check_cognite(session: SmokeSession) -> str:
    """Define and run a workflow of Cognite's, and update its task."""
    base = f"api/v1/projects/{session.project}"

    def request(client: str, method: str, *path: str, body: dict[str, Any] | None = None) -> Any:
        return session.api.request(client, method, *path, body=body, base=base).body

    workflow = session.name("workflow")
    parameters = {"function": {"externalId": "fn"}, "isAsyncComplete": True}
    task = {"externalId": "work", "type": "function", "parameters": parameters}
    version = {"workflowExternalId": workflow, "version": "1", "workflowDefinition": {"tasks": [task]}}
    workflows = {"items": [{"externalId": workflow}]}
    session.undo_at_end(lambda: request("operator", "POST", "workflows", "delete", body=workflows))
    request("operator", "POST", "workflows", body=workflows)
    request("operator", "POST", "workflows", "versions", body={"items": [version]})
    nonce = request("operator", "POST", "sessions", body={"items": [{"tokenExchange": True}]})["items"][0]["nonce"]
    run = ("workflows", workflow, "versions", "1", "run")
    execution_id = request("operator", "POST", *run, body={"authentication": {"nonce": nonce}})["id"]
    session.cancel_at_end(execution_id)
    [shown] = request("reader", "GET", "workflows", "executions", execution_id)["executedTasks"]
    for status in ("COMPLETED", "FAILED"):
        answer = request("worker", "POST", "workflows", "tasks", shown["id"], "update", body={"status": status})
        expect(str(answer["status"]).upper() == "COMPLETED", f"after {status} the task is {answer['status']}")
    _expect_success(session, execution_id, "work")
    return "a run's task is COMPLETED, and stays so after a failure"


def _expect_success(session: SmokeSession, execution_id: str, task_id: str) -> None:
    status = session.task(execution_id, task_id)["status"]
    expect(status == "COMPLETED", f"the task is {status} after a success and a failure")


CHECKS: Final = (
    Check("forge", check_forge, "the log of forge_contract"),
    Check("superai", check_superai, "the log of superai_contract"),
    Check("cognite", check_cognite, "the logs of cognite_definitions, cognite_executions and cognite_contract"),
)
