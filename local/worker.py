"""Sample worker: takes scheduled tasks from a queue, works on them and reports the results.

A rule on the event bus feeds the queue, which delivers at least once and in any order. A worker therefore reports the
start to check that the attempt is still current, and deletes the message only after the outcome is recorded. If a
worker dies, the service times the attempt out, or the queue delivers the message again.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from local.api_client import ApiClient, ApiError, call_task
from local.cloud.stack import LocalCloudError, Stack, StateDir
from local.replay.tables import result_console, status

_WAIT_SECONDS: Final = 1
_MESSAGES: Final = 10
_HEARTBEAT_SECONDS: Final = 2.0
_HIDDEN_SECONDS: Final = 30
_SAMPLE_SECONDS: Final = 0.5
_LONGEST_MESSAGE: Final = 1000
_THREADS: Final = 3
_WRONG_USE: Final = 2


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at a task, from an event "Task Scheduled".

    Attributes
    ----------
    task_execution_id
        Id of the attempt; every report on it carries this id.
    input
        The task's input, with references resolved.
    receipt_handle
        SQS receipt handle of its message.
    """

    execution_id: str
    task_id: str
    attempt: int
    task_execution_id: str
    input: Mapping[str, Any]
    receipt_handle: str

    @property
    def path(self) -> tuple[str, ...]:
        """Path segments of the task in the API, if its id fits into a path."""
        return ("executions", self.execution_id, "tasks", self.task_id)


@dataclass(frozen=True, slots=True)
class Done:
    """Work that succeeded."""

    output: Mapping[str, Any] = field(default_factory=dict)

    @property
    def report(self) -> dict[str, Any]:
        """Fields of the report."""
        return {"status": "COMPLETED", "output": dict(self.output)}


@dataclass(frozen=True, slots=True)
class Failed:
    """Work that failed.

    Attributes
    ----------
    reason
        One of the service's eight failure reasons; it decides whether the task is retried.
    retry_after_seconds
        Minimum delay of the next attempt; None leaves it to the retry policy.
    """

    reason: str
    message: str = ""
    retry_after_seconds: float | None = None

    @property
    def report(self) -> dict[str, Any]:
        """Fields of the report."""
        body: dict[str, Any] = {"status": "FAILED", "failureReason": self.reason}
        if self.message:
            body["message"] = self.message
        if self.retry_after_seconds is not None:
            body["retryAfterSeconds"] = self.retry_after_seconds
        return body


Work = Callable[[Assignment, Event], Done | Failed]
"""Function that works on an assignment. It should return soon after the event is set: its result is ignored then."""


class WorkQueue:
    """The queue that a rule on "Task Scheduled" feeds.

    Parameters
    ----------
    sqs
        A boto3 client of SQS.
    api
        Used, as `reader`, to read inputs that are too large for an event.

    Attributes
    ----------
    url
        URL of the queue.
    """

    def __init__(self, sqs: Any, url: str, api: ApiClient) -> None:
        self._sqs = sqs
        self.url = url
        self._api = api

    def take(self, wait_seconds: int = _WAIT_SECONDS, at_most: int = 1) -> Iterator[Assignment]:
        """Receive assignments and yield them; each is hidden from other workers for 30 s.

        Parameters
        ----------
        wait_seconds
            Maximum wait for the first message.
        at_most
            Maximum number of assignments; ten at most.

        Raises
        ------
        ApiError, LocalCloudError
            If an input cannot be read.
        """
        response = self._sqs.receive_message(
            QueueUrl=self.url,
            WaitTimeSeconds=wait_seconds,
            MaxNumberOfMessages=min(at_most, _MESSAGES),
            VisibilityTimeout=_HIDDEN_SECONDS,
        )
        for message in response.get("Messages", []):
            yield self._read(json.loads(message["Body"])["detail"], message["ReceiptHandle"])

    def hide(self, assignment: Assignment) -> None:
        """Hide an assignment from other workers for another 30 s, while the work continues."""
        with self._ignoring_expired_handle():
            self._sqs.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=assignment.receipt_handle, VisibilityTimeout=_HIDDEN_SECONDS
            )

    def delete(self, assignment: Assignment) -> None:
        """Delete the message of an assignment."""
        with self._ignoring_expired_handle():
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=assignment.receipt_handle)

    def _ignoring_expired_handle(self) -> AbstractContextManager[None]:
        """Ignore an expired receipt handle: the queue delivers the message again, and a repeat does no harm."""
        errors = self._sqs.exceptions
        return suppress(errors.ReceiptHandleIsInvalid, errors.MessageNotInflight)

    def _read(self, detail: Mapping[str, Any], receipt_handle: str) -> Assignment:
        execution_id, task_id = detail["executionId"], detail["taskId"]
        task_input = detail.get("input")
        if task_input is None:  # too large for an event
            task_input = call_task(self._api, "reader", execution_id, task_id).body.get("input")
        return Assignment(
            execution_id=execution_id,
            task_id=task_id,
            attempt=detail["attempt"],
            task_execution_id=detail["taskExecutionId"],
            input=task_input or {},
            receipt_handle=receipt_handle,
        )


class Worker:
    """Worker that processes one assignment at a time.

    Parameters
    ----------
    work
        Function that does the work; an exception is reported as a failure with the reason RETRYABLE_ERROR.
    heartbeat_seconds
        Interval of the heartbeats. Keep it well below `heartbeatTimeoutSeconds`.
    print_text
        Prints a line about each step.
    """

    def __init__(
        self,
        queue: WorkQueue,
        api: ApiClient,
        work: Work,
        *,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
        print_text: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._queue = queue
        self._api = api
        self._work = work
        self._heartbeat_seconds = heartbeat_seconds
        self._print_text = print_text

    def run(self, stop: Event) -> None:
        """Work until the event is set; the current assignment is finished first."""
        while not stop.is_set():
            try:
                self.work_once()
            except (ApiError, LocalCloudError, BotoCoreError, ClientError) as error:
                # The message is not deleted, so the queue delivers it again once it is visible
                self._print_text(f"[red]error, the queue delivers the task again:[/red] {escape(str(error))}")
                stop.wait(_WAIT_SECONDS)

    def work_once(self) -> bool:
        """Wait for an assignment and process it; return False if none arrived.

        Raises
        ------
        ApiError, LocalCloudError, BotoCoreError, ClientError
            If the service or the queue fails; the queue then delivers the assignment again.
        """
        processed = False
        for assignment in self._queue.take():
            self._process(assignment)
            self._queue.delete(assignment)
            processed = True
        return processed

    def _process(self, assignment: Assignment) -> None:
        name = f"{escape(assignment.task_id)} [dim]#{assignment.attempt}[/dim]"
        started = self._report(assignment, {"status": "IN_PROGRESS"})
        if not _is_current(started, assignment):
            self._print_text(f"{name} skipped: {_outcome_text(started)}")
            return
        self._print_text(f"{name} started")
        outcome = self._run_work(assignment)
        if outcome is None:
            self._print_text(f"{name} stopped: the service does not expect a result any more")
            return
        response = self._report(assignment, outcome.report)
        text = f"{name} {_outcome_text(response)}"
        if response is not None and "retry" in response:
            text += f"; {escape(response['retry']['reason'])}"
        self._print_text(text)

    def _run_work(self, assignment: Assignment) -> Done | Failed | None:
        """Do the work and send heartbeats meanwhile; None if the service responds that the worker should stop."""
        canceled = Event()
        with ThreadPoolExecutor(1, "work") as pool:
            running = pool.submit(self._work, assignment, canceled)
            try:
                self._send_heartbeats(assignment, running, canceled)
            except BaseException:
                canceled.set()
                raise
        return None if canceled.is_set() else _work_outcome(running)

    def _send_heartbeats(self, assignment: Assignment, running: "Future[Done | Failed]", canceled: Event) -> None:
        """Send heartbeats until the work is done; set the event if the worker should stop."""
        while wait((running,), timeout=self._heartbeat_seconds).not_done and not canceled.is_set():
            self._queue.hide(assignment)
            if not self._should_continue(assignment):
                canceled.set()

    def _should_continue(self, assignment: Assignment) -> bool:
        body = {"taskExecutionId": assignment.task_execution_id}
        response = self._call(assignment, "heartbeat", body)
        return bool(response["continue"])

    def _report(self, assignment: Assignment, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a report and return the response; None if the service rejects the report for good."""
        body = {**fields, "taskExecutionId": assignment.task_execution_id}
        try:
            response = self._call(assignment, "status", body)
        except ApiError as error:
            if not error.is_final:
                raise
            self._print_text(f"[red]rejected:[/red] {escape(str(error))}")
            return None
        return response

    def _call(self, assignment: Assignment, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        reply = call_task(self._api, "worker", assignment.execution_id, assignment.task_id, route, body)
        response: dict[str, Any] = reply.body
        return response


def sample_work(assignment: Assignment, canceled: Event) -> Done | Failed:
    """Wait for the input's `seconds` (0.5), then succeed or fail as the input requests: the sample worker's work.

    With `failureReason` the first `failAttempts` attempts (1) fail, with the input's `retryAfterSeconds`, if any;
    otherwise the attempt succeeds with the input's `output`.
    """
    parameters = assignment.input
    canceled.wait(float(parameters.get("seconds", _SAMPLE_SECONDS)))
    if "failureReason" in parameters and assignment.attempt <= int(parameters.get("failAttempts", 1)):
        return Failed(str(parameters["failureReason"]), "requested by the input", parameters.get("retryAfterSeconds"))
    return Done(parameters.get("output", {"attempt": assignment.attempt}))


def run_workers(state_dir: StateDir, threads: int = _THREADS, stop: Event | None = None) -> int:
    """Run the sample worker against the local cloud in several threads, until it is interrupted.

    Returns
    -------
    int
        0, or 2 if the local cloud is not running.
    """
    try:
        stack = Stack.load(state_dir)
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    console = result_console()
    stop = stop or Event()
    console.print(f"{threads} workers are waiting for tasks. Press Ctrl-C to stop.")
    with ApiClient(stack) as api, ThreadPoolExecutor(threads, "worker") as pool:
        queue = WorkQueue(stack.aws("sqs"), stack.work_queue_url, api)
        worker = Worker(queue, api, sample_work, print_text=console.print)
        running = [pool.submit(worker.run, stop) for _ in range(threads)]
        try:
            for future in running:
                future.result()
        except KeyboardInterrupt:
            console.print("Stopping after the current tasks.")
        finally:
            stop.set()
    return 0


def _is_current(started: Mapping[str, Any] | None, assignment: Assignment) -> bool:
    """Return True if this attempt is in progress: started now, or by an earlier receiver of the same message."""
    if started is None:
        return False
    task = started["task"]
    return bool(task["status"] == "IN_PROGRESS" and task.get("taskExecutionId") == assignment.task_execution_id)


def _work_outcome(work: "Future[Done | Failed]") -> Done | Failed:
    error = work.exception()
    return Failed("RETRYABLE_ERROR", f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]) if error else work.result()


def _outcome_text(response: Mapping[str, Any] | None) -> str:
    if response is None:
        return "report rejected"
    return f"verdict {response['verdict']}, task is {status(response['task']['status'])}"
