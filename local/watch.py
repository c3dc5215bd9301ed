"""Live view of an execution's tasks in the terminal, over a WebSocket connection.

The connection delivers each change at least once. Repeats are recognized by their version and dropped. Changes that
were missed, before the connection or while it was lost, are read from the list of tasks.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from local.api_client import ApiClient, ApiError
from local.backoff import DeadlineBackoff, TransientError
from local.cloud.stack import LocalCloudError, Stack, StateDir
from local.replay.tables import result_console, status, time_of_day

_QUIET_SECONDS: Final = 15.0
_LAST_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.5
_RUNNING: Final = "RUNNING"
_OPEN: Final = frozenset({"PENDING", "SCHEDULED", "IN_PROGRESS"})
_WRONG_USE: Final = 2


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """State of a task, or of the execution itself if `task_id` is None, after its last change.

    Attributes
    ----------
    at
        Time of the change, RFC 3339.
    is_listed
        True if it was read from a list; False if it came over the WebSocket connection.
    """

    task_id: str | None
    status: str
    version: int
    at: str
    attempt: int = 1
    reason: str = ""
    is_listed: bool = False


class ExecutionFeed:
    """Changes of one execution, each at most once; those of one task in the order of its versions.

    Attributes
    ----------
    connections
        Number of WebSocket connections so far.
    """

    def __init__(self, api: ApiClient, execution_id: str, backoff: DeadlineBackoff | None = None) -> None:
        self._api = api
        self._backoff = backoff or DeadlineBackoff()
        self._path = ("executions", execution_id)
        self._seen: dict[str | None, int] = {}
        self.connections = 0

    def updates(self) -> Generator[StatusUpdate, None, None]:
        """Yield the current state of all tasks and of the execution, then each change until the execution has ended.

        Raises
        ------
        ApiError, LocalCloudError
            If the execution does not exist, or requests or connections still fail at the deadline.
        """
        has_ended = False
        while not has_ended:
            with self._connect() as socket:
                # Listed after the connection is open, so that no change is missed in between
                yield from self._listed()
                has_ended = yield from self._follow(socket)
        deadline = time.monotonic() + _LAST_SECONDS
        while self._has_open_tasks() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        yield from self._listed()

    def _connect(self) -> ClientConnection:
        """Request a ticket, which is valid for one connection, and connect with it; retry while that fails."""

        def attempt(_: int) -> ClientConnection:
            url = self._api.request("reader", "POST", *self._path, "watch").body["url"]
            try:
                return connect(url, proxy=None)
            except (OSError, InvalidHandshake) as error:
                failure = LocalCloudError(f"The WebSocket API refused the connection: {error}")
                raise TransientError(failure) from error

        socket = self._backoff.run(attempt)
        self.connections += 1
        return socket

    def _follow(self, socket: ClientConnection) -> Generator[StatusUpdate, None, bool]:
        """Yield the updates until the execution has ended; return False if the connection was lost before."""
        try:
            while not self._has_ended():
                yield from self._receive(socket)
                yield from self._listed()
        except ConnectionClosed:
            return False
        return True

    def _receive(self, socket: ClientConnection) -> Iterator[StatusUpdate]:
        """Yield the updates from the connection until the execution has ended, or no message arrives for a while."""
        while True:
            try:
                message: dict[str, Any] = json.loads(socket.recv(timeout=_QUIET_SECONDS))
            except TimeoutError:
                return
            update = _parse_update(message)
            if self._is_new(update):
                yield update
                if update.task_id is None and update.status != _RUNNING:
                    return

    def _listed(self) -> Iterator[StatusUpdate]:
        for task in self._api.paginate("reader", *self._path, "tasks"):
            update = StatusUpdate(
                task_id=task["taskId"],
                status=task["status"],
                version=task["version"],
                at=task["updatedAt"],
                attempt=task["attempt"],
                reason=task.get("failureReason", ""),
                is_listed=True,
            )
            if self._is_new(update):
                yield update
        execution = self._execution()
        update = StatusUpdate(
            task_id=None,
            status=execution["status"],
            version=execution["version"],
            at=execution["updatedAt"],
            reason=execution.get("reason", ""),
            is_listed=True,
        )
        if self._is_new(update):
            yield update

    def _is_new(self, update: StatusUpdate) -> bool:
        if update.version <= self._seen.get(update.task_id, 0):
            return False
        self._seen[update.task_id] = update.version
        return True

    def _has_ended(self) -> bool:
        return bool(self._execution()["status"] != _RUNNING)

    def _has_open_tasks(self) -> bool:
        counts = self._execution()["counts"]
        return any(counts.get(name) for name in _OPEN)

    def _execution(self) -> dict[str, Any]:
        execution: dict[str, Any] = self._api.request("reader", "GET", *self._path).body
        return execution


def run_watch(state_dir: StateDir, execution_id: str) -> int:
    """Show an execution until it has ended.

    Returns
    -------
    int
        0 if it has ended or the user stops the view, 1 if the API returns an error, 2 if no execution is named or the
        local cloud cannot be reached.
    """
    if not execution_id:
        print("Set EXECUTION to the id of the execution to watch: make watch EXECUTION=<id>", file=sys.stderr)
        return _WRONG_USE
    try:
        with ApiClient(Stack.load(state_dir)) as api:
            _show(ExecutionFeed(api, execution_id), execution_id)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            print(f"Execution {execution_id!r} not found.", file=sys.stderr)
            return _WRONG_USE
        print(f"Watch failed: {error}", file=sys.stderr)
        return 1
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    except KeyboardInterrupt:
        print("Stopped watching. The execution continues.", file=sys.stderr)
    return 0


def format_update(update: StatusUpdate) -> str:
    """Return a change as one line: time, task, attempt, status and reason."""
    name = "[bold]execution[/bold]" if update.task_id is None else escape(update.task_id)
    attempt = f" #{update.attempt}" if update.attempt > 1 else ""
    reason = f" {escape(update.reason)}" if update.reason else ""
    return f"{time_of_day(update.at)}  {name}{attempt} {status(update.status)}{reason}"


def _show(feed: ExecutionFeed, execution_id: str) -> None:
    console = result_console()
    tasks: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        is_first = True
        for update in feed.updates():
            if update.task_id is not None:
                tasks[update.task_id] = update.status
            if not is_first:
                console.print(format_update(update))
            elif update.task_id is None:
                # The first listing ends with the execution; every later update is a change
                is_first = False
                console.print(f"execution {execution_id} is {update.status}: {_format_counts(tasks)}", markup=False)
            ended = sum(name not in _OPEN for name in tasks.values())
            progress.update(bar, description=_format_counts(tasks), completed=ended, total=len(tasks))
    console.print(_format_counts(tasks))


def _format_counts(tasks: Mapping[str, str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(tasks.values()).items()))


def _parse_update(message: dict[str, Any]) -> StatusUpdate:
    if message["type"] == "execution.status":
        return StatusUpdate(
            None, message["status"], message["version"], message["at"], reason=message.get("reason", "")
        )
    return StatusUpdate(
        task_id=message["taskId"],
        status=message["status"],
        version=message["version"],
        at=message["at"],
        attempt=message["attempt"],
        reason=message.get("failureReason", ""),
    )
