"""A run of the checks against one stack: its requests, its waits, and the cancellation of what it created."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import uuid4

from local.api_client import ApiClient, ApiError, Reply, call_task
from local.cloud import self_check
from local.cloud.stack import LocalCloudError, Stack
from local.smoke.check import CheckFailedError, expect

PREFIX: Final = f"{self_check.PREFIX}smoke-"
"""Prefix of the names of all that the checks create."""

WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2

T = TypeVar("T")


class SmokeSession:
    """Requests of the checks.

    Parameters
    ----------
    has_scoped_clients
        False if one access token serves all requests, so that no token lacks a scope.
    project
        Project in the paths of Cognite's routes.

    Attributes
    ----------
    api, stack
        Client of the stack's API, and the stack's addresses.
    run_id
        Part of the names of all that this run creates.
    """

    def __init__(
        self,
        api: ApiClient,
        stack: Stack,
        *,
        has_scoped_clients: bool = True,
        project: str = "self-check",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api = api
        self.stack = stack
        self.has_scoped_clients = has_scoped_clients
        self.project = project
        self.run_id = uuid4().hex[:8]
        self.clock = clock
        self._sleep = sleep
        self._undo: list[Callable[[], object]] = []

    def name(self, what: str) -> str:
        """Return a name for something to create: it has the prefix, and no other run uses it."""
        return f"{PREFIX}{self.run_id}-{what}"

    def create(self, what: str, *tasks: Mapping[str, Any]) -> str:
        """Create an execution and return its id; it is cancelled at the end of the run."""
        execution_id = self.name(what)
        self.cancel_at_end(execution_id)
        body = {"executionId": execution_id, "name": "Check of a deployed stack", "tasks": list(tasks)}
        self.api.request("operator", "POST", "executions", body=body)
        return execution_id

    def cancel_at_end(self, execution_id: str) -> None:
        """Cancel an execution at the end of the run, unless it has ended by then."""
        self.undo_at_end(lambda: self.api.request("operator", "POST", "executions", execution_id, "cancel", body={}))

    def undo_at_end(self, undo: Callable[[], object]) -> None:
        """Call a function at the end of the run; an error response to it is ignored."""
        self._undo.append(undo)

    def report(self, execution_id: str, task_id: str, verdict: str = "applied", **body: Any) -> dict[str, Any]:
        """Send a report and return the response.

        Raises
        ------
        CheckFailedError
            If the response has another verdict.
        """
        reply = call_task(self.api, "worker", execution_id, task_id, "status", body)
        accepted = {verdict, "duplicate"} if reply.sends > 1 else {verdict}
        text = f"{body['status']} of {task_id}: verdict {reply.body['verdict']}, not {verdict}"
        expect(reply.body["verdict"] in accepted, text)
        response: dict[str, Any] = reply.body
        return response

    def task(self, execution_id: str, task_id: str) -> dict[str, Any]:
        """Return a task as the API shows it."""
        task: dict[str, Any] = call_task(self.api, "reader", execution_id, task_id).body
        return task

    def execution(self, execution_id: str) -> dict[str, Any]:
        """Return an execution as the API shows it."""
        execution: dict[str, Any] = self.api.request("reader", "GET", "executions", execution_id).body
        return execution

    def wait_for_task(self, execution_id: str, task_id: str, status: str, attempt: int = 1) -> dict[str, Any]:
        """Wait until a task has a status in an attempt, and return the task.

        Raises
        ------
        CheckFailedError
            If it does not have it in time.
        """
        last: dict[str, Any] = {}

        def look() -> dict[str, Any] | None:
            last.update(self.task(execution_id, task_id))
            return last if (last["status"], last["attempt"]) == (status, attempt) else None

        return self.poll(
            look,
            lambda: f"{task_id} is {last['status']} in attempt {last['attempt']}, not {status} in attempt {attempt}",
        )

    def wait_for_entry(self, execution_id: str, task_id: str, verdict: str) -> dict[str, Any]:
        """Wait until a task's history has an entry with a verdict, and return the entry.

        Raises
        ------
        CheckFailedError
            If it does not have one in time.
        """

        def look() -> dict[str, Any] | None:
            query = {"taskId": task_id, "limit": 400}
            page = self.api.request("reader", "POST", "executions", execution_id, "tasks", "history", body=query).body
            return next((entry for entry in page["items"] if entry["verdict"] == verdict), None)

        return self.poll(look, lambda: f"the history of {task_id} has no entry with the verdict {verdict}")

    def poll(self, look: Callable[[], T | None], describe: Callable[[], str], seconds: float = WAIT_SECONDS) -> T:
        """Call a function until it returns something true, and return that.

        Parameters
        ----------
        describe
            Returns the state that is there instead, for the error's text.
        seconds
            Maximum wait.

        Raises
        ------
        CheckFailedError
            If nothing true comes in time.
        """
        ends = self.clock() + seconds
        while True:
            result = look()
            if result:
                return result
            if self.clock() > ends:
                raise CheckFailedError(f"after {seconds:g} s {describe()}")
            self._sleep(_POLL_SECONDS)

    def refused(self, status: int, problem: str, send: Callable[[], Reply]) -> ApiError:
        """Send a request that must be refused, and return the error.

        Parameters
        ----------
        problem
            Type of the problem details; empty if the response is API Gateway's own.

        Raises
        ------
        CheckFailedError
            If it is accepted, or refused otherwise.
        """
        try:
            reply = send()
        except ApiError as error:
            kind = f"urn:tasklatch:problem:{problem}"
            text = f"{error.status} {error.problem.get('type', '')}, not {status} {problem}"
            expect(error.status == status and (not problem or error.problem.get("type") == kind), text)
            return error
        raise CheckFailedError(f"answered {reply.status}, not {status} {problem}".rstrip())

    def clean_up(self) -> None:
        """Cancel and delete what the run created, the latest first."""
        while self._undo:
            with suppress(ApiError, LocalCloudError):
                self._undo.pop()()
