"""The API in memory for the tests of the smoke checks: right unless it is told which promise to break."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from local.api_client import ApiError, Reply

Body = dict[str, Any]
Answer = tuple[int, Any]

START: Final = 1_800_000_000.0
REQUEST_SECONDS: Final = 0.01
LIMIT: Final = 100 * 1024
SCOPES: Final = {"worker": {"report"}, "reader": {"read"}, "operator": {"report", "read", "manage"}}
ENDED: Final = ("COMPLETED", "CANCELED", "FAILED_WITH_TERMINAL_ERROR")


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Run:
    """An execution with its tasks and their histories."""

    execution_id: str
    created_at: float
    tasks: dict[str, Body] = field(default_factory=dict)
    history: dict[str, list[Body]] = field(default_factory=dict)
    status: str = "RUNNING"
    keeps_open: bool = False


class SmokeApi:
    """Routes of the service and of the platforms, and timers that fire while somebody waits.

    Parameters
    ----------
    broken
        Name of the promise that it does not keep; each stands in the code at the place that breaks it.
    """

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.now = START
        self.runs: dict[str, Run] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.removed: list[str] = []
        self.tickets: set[str] = set()
        self.flows: dict[str, Body] = {}

    # ------------------------------------------------------------ clock

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    # ------------------------------------------------------------ API

    def request(
        self,
        client: str | None,
        method: str,
        *path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        base: str = "v1",
    ) -> Reply:
        self.now += REQUEST_SECONDS
        self._fire_timers()
        self.requests.append((method, base, "/".join(path)))
        if base == "v1":
            status, response = self._native(client, method, path, body or {}, dict(query or {}), headers or {})
        else:
            status, response = self._platform(method, base, path, body or {})
        if status >= 400:
            raise ApiError(f"{method} {path}", status, response)
        kind = "text/html" if path == ("docs",) and self.broken != "no page" else "application/json"
        return Reply(status, response, {"content-type": kind}, 1, REQUEST_SECONDS)

    def paginate(self, client: str, *path: str) -> Iterator[Body]:
        yield from self.request(client, "GET", *path, query={"limit": "400"}).body["items"]

    def _native(
        self, client: str | None, method: str, path: tuple[str, ...], body: Any, query: Body, headers: Any
    ) -> Answer:
        match (method, *path):
            case ("GET", "health"):
                return 200, {"status": "down" if self.broken == "health" else "ok"}
            case ("GET", "openapi.json"):
                paths = ["/v1/executions", "/v1/executions/{executionId}/statuses", "/forge/updateTaskStatus"]
                served = paths[: 1 if self.broken == "routes" else 3]
                version = "3.0.0" if self.broken == "old description" else "3.1.0"
                return 200, {"openapi": version, "info": {"version": "1"}, "paths": dict.fromkeys(served)}
            case ("GET", "docs"):
                return 200, "<html>"
        is_open = self.broken == "any token" if headers.get("authorization") else self.broken == "open to all"
        if client is None and not is_open:
            return 401, {"message": "Unauthorized"}
        scope = self._scope(method, path)
        if scope not in SCOPES[client or "operator"] and self.broken != f"{scope} for all":
            return 403, {"message": "Forbidden"}
        return self._executions(method, path, body, query, headers)

    def _scope(self, method: str, path: tuple[str, ...]) -> str:
        if path[-1] in ("status", "statuses", "heartbeat", "heartbeats"):
            return "report"
        return "read" if method == "GET" or path[-1] in ("read", "history", "watch") else "manage"

    def _executions(self, method: str, path: tuple[str, ...], body: Any, query: Body, headers: Any) -> Answer:
        if path == ("executions",):
            if method == "POST":
                return self._create(body, headers.get("Idempotency-Key"))
            shown = [self._execution(run) for run in reversed(self.runs.values())]
            return 200, self._page(shown if self.broken != "index" else [], query)
        run = self.runs.get(path[1])
        if run is None:
            return 404, {"type": "urn:tasklatch:problem:not-found"}
        return self._execution_routes(method, run, path, body, query)

    def _execution_routes(self, method: str, run: Run, path: tuple[str, ...], body: Any, query: Body) -> Answer:
        match (method, *path[2:]):
            case ("GET",):
                return 200, self._execution(run)
            case ("GET", "tasks"):
                return 200, self._page([self._shown(run, name) for name in sorted(run.tasks)], query)
            case ("POST", "tasks"):
                self._add(run, body["tasks"])
                return 200, {}
            case ("POST", "cancel" | "retry" | "watch" as what):
                return self._control(run, what)
            case ("POST", "statuses"):
                return 200, {"results": [self._batched(run, report) for report in body["statuses"]]}
        return self._tasks(method, run, path[2:], body)

    def _tasks(self, method: str, run: Run, path: tuple[str, ...], body: Any) -> Answer:
        match (method, *path):
            case ("POST", *_, "heartbeat" | "heartbeats"):
                return self._heartbeat(run, body["taskId"] if path[-1] == "heartbeats" else path[1])
            case ("POST", "tasks", "read"):
                return 200, self._shown(run, body["taskId"])
            case ("POST", "tasks", "history"):
                return 200, {"items": run.history[body["taskId"]]}
            case ("GET", "tasks", _):
                return 200, self._shown(run, path[1])
        report = self._confused if "/" in path[1] else self._report
        return report(run, path[1], body)

    def _confused(self, run: Run, task_id: str, body: Body) -> Answer:
        if self.broken == "path accepted":
            return 200, {}
        if self.broken == "path names another":
            self._report(run, task_id.partition("/")[0], body)
        return (502 if self.broken == "path breaks" else 422), {"type": "urn:tasklatch:problem:id-not-in-path"}

    # ------------------------------------------------------------ executions

    def _create(self, body: Body, key: str | None) -> Answer:
        text = json.dumps(body)
        if key in self.keys and self.broken != "created twice":
            if self.keys[key][0] != text and self.broken != "key reused":
                kind = "conflict" if self.broken == "other conflict" else "idempotency-key-reused"
                return 409, {"type": f"urn:tasklatch:problem:{kind}"}
            return 200, self._execution(self.runs[self.keys[key][1]])
        run = self.runs.setdefault(body["executionId"], Run(body["executionId"], self.now))
        self._add(run, body["tasks"])
        if key is not None:
            self.keys[key] = (text, run.execution_id)
        return 201, self._execution(run)

    def _add(self, run: Run, tasks: list[Body]) -> None:
        for task in tasks:
            waits = bool(task.get("dependsOn"))
            state = {"status": "PENDING", "attempt": 1, "version": 1, "updatedAt": rfc3339(self.now), "output": None}
            run.tasks[task["taskId"]] = {"input": None, **task, **state, "executionId": run.execution_id}
            run.history[task["taskId"]] = []
            self._record(run, task["taskId"], "PENDING", "applied")
            if not waits:
                self._open(run, task["taskId"], 1)

    def _control(self, run: Run, what: str) -> Answer:
        if what == "watch":
            ticket = f"ws://live?ticket={uuid4()}"
            self.tickets.add(ticket)
            return 200, {"url": ticket}
        if what == "cancel":
            if run.status != "RUNNING":
                return 409, {"type": "urn:tasklatch:problem:conflict"}
            run.status = "RUNNING" if self.broken == "not cancelled" else "TERMINATED"
            for name, task in run.tasks.items():
                if task["status"] not in ENDED and self.broken != "open after cancel":
                    self._set(run, name, status="CANCELED")
            return 200, self._execution(run)
        run.status = "FAILED" if self.broken == "not retried" else "RUNNING"
        for name, task in run.tasks.items():
            if task["status"] == "FAILED_WITH_TERMINAL_ERROR" and self.broken != "no attempt more":
                self._open(run, name, task["attempt"] + 1)
        return 200, self._execution(run)

    def _page(self, items: list[Body], query: Body) -> Body:
        start, limit = int(query.get("cursor", 0)), int(query.get("limit", 25))
        if self.broken == "no cursor":
            return {"items": items[:limit]}
        if self.broken == "long pages":
            return {"items": items}
        step = limit - 1 if self.broken == "pages overlap" else limit
        end = start + max(step, 1)
        return {"items": items[start : start + limit]} | ({"nextCursor": str(end)} if end < len(items) else {})

    def _execution(self, run: Run) -> Body:
        counts: dict[str, int] = {}
        for task in run.tasks.values():
            counts[task["status"]] = counts.get(task["status"], 0) + 1
        created = rfc3339(run.created_at)
        name = f"{run.execution_id}{self.now if self.broken == 'another id' else ''}"
        return {"executionId": name, "status": run.status, "counts": counts, "createdAt": created, "version": 1} | {
            "updatedAt": created
        }

    # ------------------------------------------------------------ tasks

    def _batched(self, run: Run, report: Body) -> Body:
        status, response = self._report(run, report["taskId"], report)
        if status >= 400:
            return {"status": status, "taskId": report["taskId"], "problem": response}
        if self.broken == "batch in part" and report["taskId"] == "task-099":
            response["verdict"] = "stale_attempt"
        return {"status": status, "taskId": report["taskId"], **response}

    def _report(self, run: Run, task_id: str, body: Body) -> Answer:
        task = run.tasks[task_id]
        if task["status"] == "PENDING" and self.broken != "waiting task reported":
            return 409, {"type": "urn:tasklatch:problem:attempt-not-open"}
        if len(json.dumps(body.get("output"), separators=(",", ":"))) > LIMIT and self.broken != "no limit":
            return 413, {"type": "urn:tasklatch:problem:too-large"}
        verdict = self._verdict(task["status"], body["status"])
        if verdict == "applied":
            output = None if self.broken == "output lost" else body.get("output")
            self._set(run, task_id, status=body["status"], output=output)
            self._settle(run, task_id)
        elif self.broken != "ignored report lost":
            self._record(run, task_id, body["status"], verdict)
        response: Body = {"verdict": verdict, "task": self._shown(run, task_id)}
        if self.broken == "late failure changes the task" and verdict == "ignored_after_success":
            response["task"]["version"] += 1
        if task["status"].startswith("FAILED"):
            response["retry"] = self._decide(task)
        return 200, response

    def _verdict(self, current: str, status: str) -> str:
        if current == "CANCELED":
            return "applied" if self.broken == "not sealed" else "sealed"
        if current == "COMPLETED" and self.broken != "late failure wins":
            return "duplicate" if status == "COMPLETED" else "ignored_after_success"
        return "applied"

    def _decide(self, task: Body) -> Body:
        seconds = task.get("retryPolicy", {}).get("initialSeconds", 10)
        if self.broken == "short timer":
            seconds = min(seconds, 900)
        task["due"] = self.now + seconds
        will_retry = task["status"] == "FAILED" and self.broken != "no retry"
        reason = "attempt 1 of 3"
        return {"willRetry": will_retry, "nextAttempt": 2, "notBefore": rfc3339(task["due"]), "reason": reason}

    def _heartbeat(self, run: Run, task_id: str) -> Answer:
        if self.broken != "heartbeats ignored":
            run.tasks[task_id]["alive"] = self.now
        return 200, {"continue": run.tasks[task_id]["status"] != "TIMED_OUT"}

    def _settle(self, run: Run, task_id: str) -> None:
        if run.tasks[task_id]["status"] == "FAILED_WITH_TERMINAL_ERROR" and self.broken != "never fails":
            run.status = "FAILED"
        for name, task in run.tasks.items():
            if task_id in task.get("dependsOn", ()) and self.broken != "dependent waits":
                if self.broken != "reference stays":
                    task["input"] = {"rows": run.tasks[task_id]["output"]["rows"]}
                self._open(run, name, 1)
        ends = self.broken != "never ends" and not run.keeps_open
        if ends and all(task["status"] == "COMPLETED" for task in run.tasks.values()):
            run.status = "COMPLETED"

    def _fire_timers(self) -> None:
        for run in self.runs.values():
            for name, task in run.tasks.items():
                due = task.get("due", self.now) - (1.5 if self.broken == "early retry" else 0)
                if task["status"] == "FAILED" and due <= self.now and self.broken != "no timer":
                    self._open(run, name, task["attempt"] + 1)
                limit, alive = task.get("heartbeatTimeoutSeconds"), task.get("alive", self.now)
                if self.broken == "early time-out":
                    limit = limit and 1
                if limit and task["status"] == "IN_PROGRESS" and self.now - alive > limit:
                    status = "IN_PROGRESS" if self.broken == "no time-out" else "TIMED_OUT"
                    task["status"] = status

    def _open(self, run: Run, task_id: str, attempt: int) -> None:
        self._set(run, task_id, status="SCHEDULED", attempt=attempt, scheduledAt=rfc3339(self.now))

    def _set(self, run: Run, task_id: str, **fields: Any) -> None:
        task = run.tasks[task_id]
        task |= {**fields, "version": task["version"] + 1, "updatedAt": rfc3339(self.now), "alive": self.now}
        task["taskExecutionId"] = f"{run.execution_id}/{task_id}/{task['attempt']}"
        if self.broken != "no history":
            self._record(run, task_id, task["status"], "applied")

    def _record(self, run: Run, task_id: str, status: str, verdict: str) -> None:
        shown = "COMPLETED" if self.broken == "another entry" else status
        run.history[task_id].append({"status": shown, "verdict": verdict})

    def _shown(self, run: Run, task_id: str) -> Body:
        hidden = {"alive", "due"}
        task = {name: value for name, value in run.tasks[task_id].items() if name not in hidden}
        if self.broken == "input cut" and task["input"] is not None:
            task["input"] = {}
        return task

    # ------------------------------------------------------------ other platforms

    def _platform(self, method: str, base: str, path: tuple[str, ...], body: Any) -> Answer:
        if base == "forge":
            return self._forge(path, body)
        return self._superai(method, path, body) if base == "api" else self._cognite(path, body)

    def _forge(self, path: tuple[str, ...], body: Any) -> Answer:
        if path == ("scans",):
            self._create({"executionId": body["scanId"], "tasks": body["tasks"]}, None)
            return 201, {"executionId": body["scanId"]}
        status = "COMPLETED" if body["status"] == "success" else "FAILED"
        self._report(self.runs[body["scanId"]], body["task"]["taskId"], {"status": status})
        return 200, {"status": "REJECTED" if self.broken == "forge" else "ACCEPTED"}

    def _superai(self, method: str, path: tuple[str, ...], body: Any) -> Answer:
        if path == ("flow-executions",):
            tasks = [{"taskId": name} for name in body["task_names"]]
            self._create({"executionId": body["flow_id"], "tasks": tasks}, None)
            return 201, {"id": body["flow_id"]}
        if method == "DELETE":
            self.removed.append(path[1])
            return 204, ""
        for update in body["statuses"]:
            self._report(self.runs[path[1]], update["task_name"], {"status": update["status"].upper()})
        return 200, [{"status": item["status"]} for item in body["statuses"][: 1 if self.broken == "superai" else 2]]

    def _cognite(self, path: tuple[str, ...], body: Any) -> Answer:
        match path:
            case ("workflows", "delete"):
                self.removed.append(body["items"][0]["externalId"])
            case ("workflows",) | ("workflows", "versions"):
                self.flows |= {item.get("externalId", "version"): item for item in body["items"]}
            case ("sessions",):
                return 201, {"items": [{"nonce": "nonce"}]}
            case ("workflows", name, "versions", "1", "run"):
                self._create({"executionId": f"run-of-{name}", "tasks": [{"taskId": "work"}]}, None)
                return 200, {"id": f"run-of-{name}"}
            case ("workflows", "executions", name):
                return 200, {"executedTasks": [{"id": name}]}
            case ("workflows", "tasks", name, "update"):
                self._report(self.runs[name], "work", body)
                return 200, {"status": body["status"].lower() if self.broken == "cognite" else "completed"}
        return 200, {}
