"""Commands that deploy into an AWS account; the Makefile's targets call them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.aws.deployed import DeployedStack, read_stack, require_same_tenants
from local.aws.limits import Concurrency, read_concurrency
from local.aws.parameters import (
    DEFAULT_STACK,
    DeployError,
    Parameters,
    SavedParameters,
    parse_assignments,
    read_environment,
    read_file,
)
from local.aws.preflight import AccountClients, Finding, Level, has_problem, preflight
from local.aws.questions import ask
from local.aws.release import Sources, Target, build, changes, deploy, load_for, run_program, with_defaults
from local.aws.watched_release import Clients, release_watched


def main() -> int:
    """Run one command and return its exit status: 1 if it failed, 2 if there is no account or region to work with."""
    arguments = _parse()
    saved = SavedParameters(arguments.stack)
    session = boto3.Session(
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or saved.region()
    )
    if not session.region_name:
        print("No region is set: set AWS_REGION.", file=sys.stderr)
        return 2
    try:
        return (
            _preflight(arguments, session, saved)
            if arguments.command == "preflight"
            else _deploy(arguments, session, saved)
        )
    except DeployError as error:
        print(error, file=sys.stderr)
        return 1
    except EOFError:
        print("\nNobody answers; `make deploy-ci` asks nothing.", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"AWS refuses or cannot be reached: {error}", file=sys.stderr)
        return 2


def _preflight(arguments: argparse.Namespace, session: Any, saved: SavedParameters) -> int:
    stack = read_stack(session.client("cloudformation"), arguments.stack)
    return int(has_problem(_report(session, stack, _sources(arguments, session, stack, saved).chosen())))


def _deploy(arguments: argparse.Namespace, session: Any, saved: SavedParameters) -> int:
    stack = read_stack(session.client("cloudformation"), arguments.stack)
    sources = _sources(arguments, session, stack, saved)
    if arguments.asks and (arguments.again or not stack.exists):
        sources.explicit.update(ask(sources.known() | sources.explicit, input))
    parameters = sources.chosen()
    require_same_tenants(stack, parameters, may_change=arguments.change_tenants)
    if has_problem(_report(session, stack, parameters)):
        raise DeployError("Nothing was deployed.")
    for change in changes(stack, parameters):
        print(f"change   {change}")
    build(parameters, run_program)
    if arguments.asks:
        saved.save(parameters)
    target = Target(
        arguments.stack, session.region_name, tuple(shlex.split(arguments.sam_arguments)), confirms=arguments.asks
    )
    if arguments.rollback_minutes and stack.exists:
        clients = Clients(session.client("cloudformation"), session.client("s3"))
        confirm = _confirm if arguments.asks else _show
        release_watched(target, clients, parameters, arguments.rollback_minutes, run_program, confirm)
    else:
        deploy(target, session.client("cloudformation"), parameters, run_program)
    return 0


def _confirm(changes_text: str) -> bool:
    return _show(changes_text) and input("Deploy this? [y/N] ").strip().lower() == "y"


def _show(changes_text: str) -> bool:
    print(changes_text)
    return True


def _sources(arguments: argparse.Namespace, session: Any, stack: DeployedStack, saved: SavedParameters) -> Sources:
    explicit: Parameters = {}
    if arguments.file:
        explicit |= read_file(arguments.file)
    explicit |= read_environment(os.environ)
    explicit |= parse_assignments(shlex.split(arguments.parameters), "PARAMETERS")
    return Sources(load_for(stack, _concurrency(session)), stack.parameters, saved.read(), explicit)


def _concurrency(session: Any) -> Concurrency | None:
    """Return the account's concurrency; None if it cannot be read, which the preflight says."""
    try:
        return read_concurrency(session.client("lambda"))
    except (BotoCoreError, ClientError):
        return None


def _report(session: Any, stack: DeployedStack, parameters: Parameters) -> list[Finding]:
    """Print the preflight, problems last, and return it."""
    clients = AccountClients(*(session.client(name) for name in ("sts", "lambda", "service-quotas", "apigateway")))
    findings = list(preflight(clients, stack, with_defaults(parameters)))
    for finding in sorted(findings, key=lambda finding: list(Level).index(finding.level)):
        print(finding)
    return findings


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    deploying = commands.add_parser("deploy", help="build and deploy")
    checking = commands.add_parser("preflight", help="say what would stop a deployment or its first load")
    for command in (deploying, checking):
        command.add_argument("--stack", default=DEFAULT_STACK, help="name of the stack")
        command.add_argument("--file", type=Path, help="file of Name=value lines")
        command.add_argument("--parameters", default="", help="Name=value, separated by spaces")
    deploying.add_argument("--no-questions", dest="asks", action="store_false", help="ask nothing, save nothing")
    deploying.add_argument("--again", action="store_true", help="ask also for a stack that exists")
    deploying.add_argument("--change-tenants", action="store_true", help="allow another TenantClaim than is deployed")
    deploying.add_argument("--sam-arguments", default="", help="more arguments of sam deploy")
    deploying.add_argument(
        "--rollback-minutes", type=int, default=0, help="watch the alarms for so long, and take the release back"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
