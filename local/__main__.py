"""The local cloud's commands; the Makefile's targets call them."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from local.cloud import Cloud, only_one
from local.deploy import build, deploy
from local.progress import console, show_tail, step
from local.stack import Home, LocalCloudError, Stack
from local.tokens import fetch_token


def main() -> int:
    """Run one command and return its exit status."""
    arguments = _parse()
    home = Home(arguments.home.resolve()) if arguments.home else Home()
    commands = {"up": _up, "down": _down, "token": _token, "run": _run, "invoke": _invoke, "replay": _replay}
    commands |= {"worker": _worker, "watch": _watch, "redrive": _redrive}
    try:
        return commands[arguments.command](arguments, home)
    except LocalCloudError as error:
        console.print(f"[red]{error}[/red]")
        return 1


def bring_up(home: Home) -> Stack:
    """Start the local cloud unless it runs, and deploy into it what changed.

    Raises
    ------
    LocalCloudError
        When a step fails; the ends of the logs have been shown then.
    """
    with only_one(home):
        build(home)
        running = Cloud.running(home)
        cloud = running
        try:
            if cloud is None:
                if Cloud.was_cut_short(home):
                    console.print("The emulator was not stopped by `make down`: what changed since it started is lost.")
                    home.deployed.unlink(missing_ok=True)
                with step("Starting the AWS emulator"):
                    cloud = Cloud.start(home)
            return deploy(home, cloud)
        except BaseException as error:
            if isinstance(error, LocalCloudError):
                show_tail(home.log, lines=15)
            if running is None and cloud is not None:
                cloud.stop(home)
            raise


def take_down(home: Home) -> bool:
    """Stop the local cloud; tell whether there was one."""
    with only_one(home):
        cloud = Cloud.running(home)
        if cloud is None:
            return False
        with step("Stopping the AWS emulator"):
            cloud.stop(home)
        return True


def _up(_arguments: argparse.Namespace, home: Home) -> int:
    already = Cloud.running(home) is not None
    stack = bring_up(home)
    console.print(f"The local cloud {'was already' if already else 'is'} up: {stack.api_url}", markup=False)
    console.print(f"Addresses and clients: {home.stack_file}", markup=False)
    return 0


def _down(_arguments: argparse.Namespace, home: Home) -> int:
    if take_down(home):
        console.print("Stopped; `make up` finds the same data again, `make clean` forgets it.")
    else:
        console.print("The local cloud is not running.")
    return 0


def _token(arguments: argparse.Namespace, home: Home) -> int:
    print(fetch_token(Stack.load(home), arguments.client))
    return 0


def _run(arguments: argparse.Namespace, home: Home) -> int:
    from local.demo import run_demo  # noqa: PLC0415 - only this command needs it

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    ours = Cloud.running(home) is None
    try:
        _take_terminal()
        stack = bring_up(home)
        status = run_demo(home.stack_file)
        if arguments.once:
            return status
        console.print(f"\nServing at {stack.api_url}. Ctrl-C stops.", markup=False)
        while Cloud.running(home):
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("\nStopping.")
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # stopping is under way
        if ours:
            take_down(home)
    show_tail(home.log)
    raise LocalCloudError("The emulator ended by itself.")


def _invoke(arguments: argparse.Namespace, home: Home) -> int:
    from local.invoke import invoke_and_print  # noqa: PLC0415 - only this command needs it

    return invoke_and_print(arguments.function, arguments.event, home)


def _replay(arguments: argparse.Namespace, home: Home) -> int:
    from local.replay import run_replay  # noqa: PLC0415 - only this command needs it

    return run_replay(
        home.stack_file, arguments.trace, arguments.speed, arguments.chaos, arguments.seed, arguments.expect
    )


def _worker(arguments: argparse.Namespace, home: Home) -> int:
    from local.worker import run_workers  # noqa: PLC0415 - only this command needs it

    _take_terminal()
    return run_workers(home, arguments.threads)


def _watch(arguments: argparse.Namespace, home: Home) -> int:
    from local.watch import run_watch  # noqa: PLC0415 - only this command needs it

    _take_terminal()
    return run_watch(home, arguments.execution)


def _redrive(arguments: argparse.Namespace, home: Home) -> int:
    from local.redrive import run_redrive  # noqa: PLC0415 - only this command needs it

    return run_redrive(home, arguments.stack)


def _take_terminal() -> None:
    """Have Ctrl-C reach this program but not the `make` that started it, which would call a clean stop a failure."""
    terminal = sys.stdin.fileno()
    if not os.isatty(terminal) or os.tcgetpgrp(terminal) != os.getpgrp():
        return
    before = os.getpgrp()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    # A stop by Ctrl-Z would go unnoticed by the shell, which waits for `make`
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
    replay.add_argument("--trace", type=Path, help="an instance in WfFormat 1.5 (default: a small one of our own)")
    replay.add_argument("--speed", type=float, help="seconds of the trace in one second (default: work takes no time)")
    replay.add_argument(
        "--chaos", type=float, default=0.0, help="share of tasks, starts and successes that go wrong, 0 to 1"
    )
    replay.add_argument("--seed", type=int, default=0, help="decides what goes wrong, and how")
    replay.add_argument(
        "--expect",
        type=str.upper,
        choices=("COMPLETED", "FAILED"),
        help="how the execution is to end (default: the seed decides; where there is chaos, one in five ends FAILED)",
    )
    worker = commands.add_parser("worker", help="run the sample worker")
    worker.add_argument("--threads", type=int, default=3)
    commands.add_parser("watch", help="show an execution's tasks as they move").add_argument("execution")
    redrive = commands.add_parser("redrive", help="send on what was set aside in the dead-letter queues")
    redrive.add_argument("--stack", help="a stack in your AWS account (default: the local cloud)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
