"""Invocation of one function with one event by Lambda's own runtime protocol, with only the built layer.

If a Docker engine responds, `sam local invoke` runs the function in Lambda's own image. Otherwise the runtime interface
emulator and client run it on this machine: the function then sees only the built layer, its own folder and Python's
standard library, so a package that is missing from the layer is missing here too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local.cloud.deploy import ARCHITECTURE, build
from local.cloud.emulator_process import HOST, EmulatorProcess, free_port
from local.cloud.progress import console
from local.cloud.stack import REGION, ROOT, LocalCloudError, Stack, StateDir, clean_environment

# The runtime client and its imports: part of Lambda's image, so not in a layer
RUNTIME_CLIENT = ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")
INVOKE_SECONDS = 60
# The phases are read from these two lines: the emulator's REPORT line adds the first duration to the second
_INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")
_INVOKE = re.compile(r"INVOKE RTDONE\(.*duration: ([\d.]+)ms\)")
_EMULATOR_LINES = re.compile(r"^(?:.*\(rapid\) .*|(?:START|END|REPORT) RequestId: .*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Invocation:
    """Result of one invocation.

    Attributes
    ----------
    answer
        The function's response, parsed from JSON.
    init_ms
        Milliseconds of the cold start before the handler is called: start of Python and import of the handler.
    invoke_ms
        Milliseconds of the handler's call.
    log
        The log lines of the function.
    """

    answer: Any
    init_ms: float
    invoke_ms: float
    log: str


def invoke(
    function: str, event: Any, env: Mapping[str, str] | None = None, state_dir: StateDir | None = None
) -> Invocation:
    """Run a function with an event in a new process.

    Parameters
    ----------
    function
        Name of its folder, such as `report_status`.
    event
        The event, as a value that JSON can encode.
    env
        The function's environment; by default that of the deployed function, so that it uses the local table.

    Raises
    ------
    LocalCloudError
        If the function does not exist, is not deployed or does not respond, or if the build fails.
    """
    state_dir = state_dir or StateDir()
    folder = ROOT / "functions" / function
    if not (folder / "handler.py").exists():
        names = ", ".join(sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py")))
        raise LocalCloudError(f"Function {function!r} not found; available: {names}.")
    environment = env if env is not None else deployed_environment(function, Stack.load(state_dir))
    build(state_dir)
    return invoke_handler(folder, event, environment, [state_dir.layer / "python"])


def invoke_handler(folder: Path, event: Any, env: Mapping[str, str], packages: Sequence[Path]) -> Invocation:
    """Run a folder's `handler.py` with an event in a new process, which sees only the folder and the packages.

    Raises
    ------
    LocalCloudError
        If it does not respond, or this machine does not run Linux.
    """
    if os.uname().sysname != "Linux":
        raise LocalCloudError("The runtime interface emulator runs on Linux; elsewhere start a Docker engine.")
    with tempfile.TemporaryDirectory(prefix="tasklatch-invoke-") as scratch:
        return _invoke_in(Path(scratch), folder, event, env, packages)


def deployed_environment(function: str, stack: Stack) -> dict[str, str]:
    """Return the variables that the template sets for a function, with the emulator as endpoint of its AWS calls.

    Raises
    ------
    LocalCloudError
        If the function is not deployed.
    """
    if function not in stack.functions:
        raise LocalCloudError(f"{function} is not deployed in the local cloud. Run `make up`.")
    configuration = stack.aws("lambda").get_function_configuration(FunctionName=stack.functions[function])
    return {
        **configuration["Environment"]["Variables"],
        "AWS_ENDPOINT_URL": stack.aws_endpoint_url,
        "AWS_LAMBDA_FUNCTION_NAME": function,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"]),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(configuration["Timeout"]),
    }


def invoke_and_print(function: str, event: Path | None, state_dir: StateDir) -> int:
    """Run a function with an event from a file; print its response, its log and its times in milliseconds.

    Returns
    -------
    int
        0, or 1 if the function raised an error; with a Docker engine, the exit status of `sam local invoke`.

    Raises
    ------
    LocalCloudError
        If no event is named, its file does not exist, or the local cloud is not running.
    """
    if event is None:
        samples = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "events").rglob("*.json"))
        raise LocalCloudError("Set EVENT to the file of an event, for example: " + ", ".join(samples))
    if not event.is_file():
        raise LocalCloudError(f"File {event} not found.")
    if EmulatorProcess.running(state_dir) is None:
        raise LocalCloudError("The function needs the table of the local cloud. Start it with `make up`.")
    if _docker_is_running():
        return _invoke_with_sam(function, event, state_dir)
    result = invoke(function, json.loads(event.read_text(encoding="utf-8")), state_dir=state_dir)
    console.print(result.log, markup=False, end="")
    console.print(f"[bold]init {result.init_ms:.0f} ms, invoke {result.invoke_ms:.0f} ms[/bold]")
    print(json.dumps(result.answer, indent=2))
    return int(isinstance(result.answer, dict) and "errorType" in result.answer)


def _invoke_in(
    scratch: Path, folder: Path, event: Any, environment: Mapping[str, str], packages: Sequence[Path]
) -> Invocation:
    client = scratch / "runtime"
    client.mkdir()
    for module in RUNTIME_CLIENT:
        copy_module(module, client)
    log = scratch / "log"
    with _emulator(folder, [*map(str, packages), str(client)], environment, log) as url:
        response = _post(url, event, log)
    text = log.read_text(encoding="utf-8", errors="replace")
    return Invocation(
        answer=response,
        init_ms=_milliseconds(_INIT, text),
        invoke_ms=_milliseconds(_INVOKE, text),
        log=_EMULATOR_LINES.sub("", text),
    )


def _milliseconds(phase: re.Pattern[str], log: str) -> float:
    """Return the milliseconds of a phase; NaN if it never ended."""
    match = phase.search(log)
    return float(match[1]) if match else math.nan


@contextmanager
def _emulator(folder: Path, path: list[str], environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run the runtime interface emulator on free ports; end it and the function's process after use."""
    port, api_port = free_port(), free_port()
    rapid = importlib.util.find_spec("samcli")
    if rapid is None or rapid.origin is None:
        raise LocalCloudError("aws-sam-cli is not installed.")
    program = Path(rapid.origin).parent / "local" / "rapid" / f"aws-lambda-rie-{ARCHITECTURE}"
    # Not the virtual environment's Python: the function must not see its packages
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    command = [
        *(str(program), "--runtime-interface-emulator-address", f"{HOST}:{port}"),
        *("--runtime-api-address", f"{HOST}:{api_port}"),
        *(str(base), "-S", "-m", "awslambdaric", "handler.handler"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(
                **environment,
                LAMBDA_TASK_ROOT=str(folder),
                PYTHONPATH=os.pathsep.join(path),
                PYTHONDONTWRITEBYTECODE="1",
                _HANDLER="handler.handler",
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://{HOST}:{port}/2015-03-31/functions/function/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _post(url: str, event: Any, log: Path) -> Any:
    """Send the event as soon as the emulator listens; return the response."""
    deadline = time.monotonic() + INVOKE_SECONDS
    with httpx.Client(trust_env=False, timeout=INVOKE_SECONDS) as http:
        response = None
        while response is None:
            try:
                response = http.post(url, json=event)
            except httpx.ConnectError:
                _check_deadline(deadline, log)
                time.sleep(0.02)
    return response.json() if response.content else None


def _check_deadline(deadline: float, log: Path) -> None:
    if time.monotonic() > deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise LocalCloudError(f"The runtime interface emulator does not listen:\n{text}")


def copy_module(module: str, to: Path) -> None:
    """Copy an installed package or module into a folder.

    Raises
    ------
    LocalCloudError
        If it is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LocalCloudError(f"{module} is not installed.")
    origin = Path(spec.origin)
    if spec.submodule_search_locations:
        shutil.copytree(origin.parent, to / module)
    else:
        shutil.copy2(origin, to)


def _docker_is_running() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        result = subprocess.run(["docker", "version"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0


def _invoke_with_sam(function: str, event: Path, state_dir: StateDir) -> int:
    """Run the function in Lambda's own image; the container reaches the local cloud through the host's network."""
    stack = Stack.load(state_dir)
    logical_id = "".join(part.capitalize() for part in function.split("_")) + "Function"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as variables:
        json.dump({logical_id: deployed_environment(function, stack)}, variables)
        variables.flush()
        programs = Path(sys.executable).parent
        return subprocess.run(
            [
                *(programs / "sam", "local", "invoke", logical_id),
                *("--template-file", str(state_dir.build / "template.yaml"), "--event", str(event)),
                *("--env-vars", variables.name, "--docker-network", "host", "--region", REGION),
            ],
            cwd=ROOT,
            env=clean_environment(SAM_CLI_TELEMETRY="0"),
            check=False,
        ).returncode
