"""Commands of the local cloud; the Makefile's targets call them."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from local.cloud.deploy import build, deploy
from local.cloud.emulator_process import EmulatorProcess, exclusive
from local.cloud.progress import console, show_tail, step
from local.cloud.stack import LocalCloudError, Stack, StateDir
from local.cloud.tokens import fetch_token


def main() -> int:
    """Run one command and return its exit status."""
    arguments = _parse()
    state_dir = StateDir(arguments.home.resolve()) if arguments.home else StateDir()
    commands = {"up": _up, "down": _down, "token": _token, "run": _run, "invoke": _invoke, "replay": _replay}
    commands |= {"worker": _worker, "watch": _watch, "redrive": _redrive, "smoke": _smoke, "restore": _restore}
    try:
        return commands[arguments.command](arguments, state_dir)
    except LocalCloudError as error:
        console.print(f"[red]{error}[/red]")
        return 1


def start(state_dir: StateDir) -> Stack:
    """Start the local cloud unless it runs, and deploy the current build.

    Raises
    ------
    LocalCloudError
        If a step fails; the end of the emulator's log is shown first.
    """
    with exclusive(state_dir):
        build(state_dir)
        running = EmulatorProcess.running(state_dir)
        emulator = running
        try:
            emulator = emulator or _start_emulator(state_dir)
            return deploy(state_dir, emulator)
        except BaseException as error:
            if isinstance(error, LocalCloudError):
                show_tail(state_dir.log, lines=15)
            if running is None and emulator is not None:
                emulator.stop(state_dir)
            raise


def _start_emulator(state_dir: StateDir) -> EmulatorProcess:
    if EmulatorProcess.ended_unexpectedly(state_dir):
        console.print("The emulator was not stopped by `make down`: changes since it started are lost.")
        state_dir.deployed.unlink(missing_ok=True)
    with step("Starting the AWS emulator"):
        return EmulatorProcess.start(state_dir)


def stop(state_dir: StateDir) -> bool:
    """Stop the local cloud; return False if none was running."""
    with exclusive(state_dir):
        emulator = EmulatorProcess.running(state_dir)
        if emulator is None:
            return False
        with step("Stopping the AWS emulator"):
            emulator.stop(state_dir)
        return True


def _up(_arguments: argparse.Namespace, state_dir: StateDir) -> int:
    was_running = EmulatorProcess.running(state_dir) is not None
    stack = start(state_dir)
    console.print(f"The local cloud {'was already running' if was_running else 'is running'}.")
    console.print(f"API: {stack.api_url}", markup=False)
    console.print(f"All addresses and the clients' credentials: {state_dir.stack_file}", markup=False)
    return 0


def _down(_arguments: argparse.Namespace, state_dir: StateDir) -> int:
    if stop(state_dir):
        console.print("Stopped. `make up` starts it again with the same data, `make clean` deletes the data.")
    else:
        console.print("The local cloud is not running.")
    return 0


def _token(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    print(fetch_token(Stack.load(state_dir), arguments.client))
    return 0


def _run(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.demo import run_demo  # noqa: PLC0415 - only this command needs it

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    was_running = EmulatorProcess.running(state_dir) is not None
    try:
        _take_terminal()
        stack = start(state_dir)
        status = run_demo(state_dir.stack_file)
        if arguments.once:
            return status
        console.print(f"\nThe local cloud is running at {stack.api_url}. Press Ctrl-C to stop it.", markup=False)
        while EmulatorProcess.running(state_dir):
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("\nStopping.")
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # stopping is under way
        if not was_running:
            stop(state_dir)
    show_tail(state_dir.log)
    raise LocalCloudError("The emulator ended unexpectedly.")


def _invoke(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.invoke import invoke_and_print  # noqa: PLC0415 - only this command needs it

    return invoke_and_print(arguments.function, arguments.event, state_dir)


def _replay(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.replay.runner import run_replay  # noqa: PLC0415 - only this command needs it

    return run_replay(
        state_dir.stack_file, arguments.trace, arguments.speed, arguments.chaos, arguments.seed, arguments.expect
    )


def _worker(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.worker import run_workers  # noqa: PLC0415 - only this command needs it

    _take_terminal()
    return run_workers(state_dir, arguments.threads)


def _watch(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.watch import run_watch  # noqa: PLC0415 - only this command needs it

    _take_terminal()
    return run_watch(state_dir, arguments.execution)


def _redrive(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.redrive import run_redrive  # noqa: PLC0415 - only this command needs it

    return run_redrive(state_dir, arguments.stack)


def _smoke(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.smoke.runner import run_smoke  # noqa: PLC0415 - only this command needs it

    return run_smoke(state_dir, arguments.stack)


def _restore(arguments: argparse.Namespace, state_dir: StateDir) -> int:
    from local.restore import run_restore  # noqa: PLC0415 - only this command needs it

    return run_restore(state_dir, arguments.stack, arguments.source)


def _take_terminal() -> None:
    """Let Ctrl-C reach this program but not the `make` that started it, which would report a clean stop as failed."""
    terminal = sys.stdin.fileno()
    if not os.isatty(terminal) or os.tcgetpgrp(terminal) != os.getpgrp():
        return
    before = os.getpgrp()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    # The shell waits for `make` and would not notice a stop by Ctrl-Z
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    atexit.register(os.tcsetpgrp, terminal, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--home", type=Path, help="folder for state, build and logs (default .local)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start and deploy")
    commands.add_parser("down", help="stop, keeping the data")
    commands.add_parser("token", help="print an access token").add_argument("client", nargs="?", default="worker")
    commands.add_parser("run", help="demonstration, then serve").add_argument("--once", action="store_true")
    invoke = commands.add_parser("invoke", help="run one function on one event")
    invoke.add_argument("function")
    invoke.add_argument("event", nargs="?", type=Path)
    replay = commands.add_parser("replay", help="replay a recorded run")
    replay.add_argument("--trace", type=Path, help="an instance in WfFormat 1.5 (default: the sample of this project)")
    replay.add_argument("--speed", type=float, help="seconds of the trace per second (default: work takes no time)")
    replay.add_argument(
        "--chaos", type=float, default=0.0, help="share of tasks, starts and successes with a fault, 0 to 1"
    )
    replay.add_argument("--seed", type=int, default=0, help="seed that chooses the faults")
    replay.add_argument(
        "--expect",
        type=str.upper,
        choices=("COMPLETED", "FAILED"),
        help="final status of the execution (default: the seed decides; with chaos, one in five ends FAILED)",
    )
    worker = commands.add_parser("worker", help="run the sample worker")
    worker.add_argument("--threads", type=int, default=3)
    commands.add_parser("watch", help="show the status changes of an execution's tasks").add_argument("execution")
    redrive = commands.add_parser("redrive", help="redrive the messages of the dead-letter queues")
    redrive.add_argument("--stack", help="a stack in your AWS account (default: the local cloud)")
    smoke = commands.add_parser("smoke", help="check that a deployed stack keeps its promises")
    smoke.add_argument("--stack", help="a stack in your AWS account (default: the local cloud)")
    restore = commands.add_parser("restore", help="copy what the ledger has lost from a restored copy of its table")
    restore.add_argument("source", metavar="table", help="the restored table")
    restore.add_argument("--stack", help="a stack in your AWS account (default: the local cloud)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
