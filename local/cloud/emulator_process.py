"""The AWS emulator as one process group on 127.0.0.1, with its state in one folder: start, stop and lookup."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from local.cloud.progress import console
from local.cloud.stack import CREDENTIALS, REGION, ROOT, LocalCloudError, StateDir

HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 30
# Idle time until a function's process ends: the next burst finds it running. The emulator's default is five minutes
WARM_SECONDS = 3600
# Emulators that this process started: they stay zombies after their end until this process reaps them
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _reap_children() -> None:
    """Reap emulators that another process has stopped: Python warns about children that are still running at exit."""
    for child in _children.values():
        child.poll()


@dataclass(frozen=True)
class EmulatorProcess:
    """A running emulator.

    Attributes
    ----------
    state_dir
        The folder that it was started for. A copy of a state folder also holds a process id, but of another folder's
        emulator.
    """

    pid: int
    port: int
    state_dir: str = ""

    @property
    def url(self) -> str:
        """The address of all its AWS services."""
        return f"http://{HOST}:{self.port}"

    @classmethod
    def running(cls, state_dir: StateDir) -> EmulatorProcess | None:
        """Return the emulator that was started for this folder; None if it does not run.

        Raises
        ------
        LocalCloudError
            If the folder was moved while its emulator ran.
        """
        emulator = cls._started(state_dir)
        if emulator is None or not _is_emulator(emulator.pid):
            return None
        if emulator.state_dir in {"", str(state_dir.path)}:
            return emulator
        if Path(emulator.state_dir).exists():
            return None
        raise LocalCloudError(
            f"This folder was moved while its emulator ran: process {emulator.pid} will write its data to "
            f"{emulator.state_dir}. End the process (`kill {emulator.pid}`); to keep the latest data, replace "
            f"{state_dir.state} with {emulator.state_dir}/state."
        )

    @classmethod
    def ended_unexpectedly(cls, state_dir: StateDir) -> bool:
        """Return True if the emulator of this folder ended without `stop`, so that it did not save its state."""
        emulator = cls._started(state_dir)
        return (
            emulator is not None and emulator.state_dir in {"", str(state_dir.path)} and not _is_emulator(emulator.pid)
        )

    @classmethod
    def start(cls, state_dir: StateDir) -> EmulatorProcess:
        """Start the emulator and wait until it responds; it loads the state that it saved at its last stop.

        Raises
        ------
        LocalCloudError
            If it ends at once or does not respond in time.
        """
        _remove_scratch(state_dir)
        for folder in (state_dir.path, state_dir.state, state_dir.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        # Without the lock two checkouts that start at once could choose the same free port, and share one emulator
        with _locked(Path(tempfile.gettempdir()) / f"tasklatch-start-{os.getuid()}.lock"):
            process, emulator = cls._launch(state_dir)
            if _wait_until_healthy(process, emulator.url):
                return emulator
        ended = process.poll()
        emulator.stop(state_dir)
        cause = f"ended with status {ended}" if ended is not None else f"did not respond within {START_SECONDS} s"
        raise LocalCloudError(f"The emulator {cause}.")

    @classmethod
    def _launch(cls, state_dir: StateDir) -> tuple[subprocess.Popen[bytes], EmulatorProcess]:
        port = _choose_port(state_dir)
        with state_dir.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "local.cloud.ministack_emulator"],
                cwd=ROOT,
                env=_environment(state_dir, port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        emulator = cls(pid=process.pid, port=port, state_dir=str(state_dir.path))
        _children[process.pid] = process
        _pid_file(state_dir).write_text(json.dumps(asdict(emulator)), encoding="utf-8")
        return process, emulator

    @classmethod
    def _started(cls, state_dir: StateDir) -> EmulatorProcess | None:
        """Read the record of the last start; None if the emulator was stopped since."""
        try:
            return cls(**json.loads(_pid_file(state_dir).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def stop(self, state_dir: StateDir) -> None:
        """Stop the emulator and its functions, and return once it has written its state.

        Raises
        ------
        LocalCloudError
            If it had to be killed, so that its latest state is lost.
        """
        _signal(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while (alive := _is_emulator(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        # Functions that still run are in the emulator's group, and so is the emulator itself if it hangs
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _pid_file(state_dir).unlink(missing_ok=True)
        state_dir.stack_file.unlink(missing_ok=True)
        _remove_scratch(state_dir)
        if alive:
            state_dir.deployed.unlink(missing_ok=True)
            raise LocalCloudError(
                f"The emulator did not stop in {STOP_SECONDS} s and was killed: its latest changes are lost."
            )


@contextmanager
def exclusive(state_dir: StateDir) -> Iterator[None]:
    """Hold the lock of a state folder: a second start, deployment or stop waits until the first is done."""
    state_dir.path.mkdir(parents=True, exist_ok=True)
    with _locked(state_dir.path / "lock"):
        yield


def free_port() -> int:
    """Find a port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def enforces_iam() -> bool:
    """Return True if functions may do only what their roles allow: `TASKLATCH_ENFORCE_IAM=1` in the environment."""
    return os.environ.get("TASKLATCH_ENFORCE_IAM", "") == "1"


def _choose_port(state_dir: StateDir) -> int:
    """Return the port of the last start, so that saved addresses stay valid, or a free one if it is in use."""
    remembered = state_dir.path / "port"
    port = int(remembered.read_text(encoding="utf-8")) if remembered.exists() else 4566
    with socket.socket() as probe:
        # The server sets it too: a port with connections in TIME_WAIT counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            taken, port = port, free_port()
            console.print(f"Port {taken} is used by another program: using port {port} instead.")
    remembered.write_text(str(port), encoding="utf-8")
    return port


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the emulator responds; return False if it ends before or does not respond in time."""
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=2) as client:
        while process.poll() is None and time.monotonic() < deadline:
            if _is_healthy(client, url):
                return True
            time.sleep(0.1)
    return False


def _is_healthy(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/_ministack/health").is_success
    except httpx.TransportError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_scratch(state_dir: StateDir) -> None:
    """Remove the unpacked functions of processes that have ended: the emulator leaves them behind."""
    shutil.rmtree(state_dir.scratch, ignore_errors=True)


def _environment(state_dir: StateDir, port: int) -> dict[str, str]:
    """Return the emulator's environment; functions inherit it, so only the listed variables of the user are in it."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return (
        inherited
        | CREDENTIALS
        | {
            "AWS_DEFAULT_REGION": REGION,
            "MINISTACK_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(state_dir.state),
            "S3_DATA_DIR": str(state_dir.state / "s3"),
            "S3_PERSIST": "1",
            "TMPDIR": str(state_dir.scratch),
            # Otherwise the emulator looks for a Docker engine and removes containers there
            "DOCKER_HOST": f"unix://{state_dir.path / 'no-docker.sock'}",
            "LAMBDA_EXECUTOR": "local",
            "LAMBDA_WARM_TTL_SECONDS": str(WARM_SECONDS),
            "AUTH": "true" if enforces_iam() else "false",
            "PYTHONUNBUFFERED": "1",
        }
    )


def _pid_file(state_dir: StateDir) -> Path:
    return state_dir.path / "ministack.pid"


def _signal(pid: int, number: signal.Signals) -> None:
    if _is_emulator(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_emulator(pid: int) -> bool:
    """Return True if the process is a running emulator: not a zombie, nor another program with a reused process id."""
    if pid in _children and _children[pid].poll() is not None:
        del _children[pid]
        return False
    columns = subprocess.run(
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return len(columns) == 2 and not columns[0].startswith("Z") and "ministack" in columns[1]  # noqa: PLR2004 - two columns
