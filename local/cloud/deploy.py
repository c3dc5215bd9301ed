"""Build of the service's template with `sam build`, and its deployment into the running emulator with `sam deploy`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import ClientError

from local.cloud.emulator_process import EmulatorProcess
from local.cloud.progress import console, show_tail, step
from local.cloud.self_check import PREFIX, check_background
from local.cloud.stack import (
    API_PROCESSES,
    QUEUE_PROCESSES,
    REGION,
    ROOT,
    STACK_NAME,
    Client,
    LocalCloudError,
    Stack,
    StateDir,
    aws_client,
    clean_environment,
    snake_case,
)
from local.cloud.tokens import fetch_token

BUCKET = "tasklatch-artifacts"
WORK_QUEUE = "tasklatch-work"
QUEUE_FUNCTIONS = ("workflow_advancer", "retry_dispatcher")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"
# Shared by all state folders: these are downloads, not state
PACKAGES = ROOT / ".local" / "packages"
PARAMETERS = {
    "PythonVersion": f"python{PYTHON}",
    "Architecture": ARCHITECTURE,
    "DeletionProtection": "false",
}


def build(state_dir: StateDir) -> None:
    """Build template and layer for this machine's Python and processor, unless the last build is still current.

    Raises
    ------
    LocalCloudError
        If `sam build` fails.
    """
    fingerprint = _fingerprint(state_dir)
    done = state_dir.path / "built"
    if state_dir.layer.exists() and done.exists() and done.read_text(encoding="utf-8") == fingerprint:
        return
    done.unlink(missing_ok=True)
    with step(f"Building functions and layer for Python {PYTHON} on {ARCHITECTURE}"):
        template = ROOT / "template.yaml"
        _sam(state_dir, "build", "--template-file", str(template), "--build-dir", str(state_dir.build), env=_target())
    done.write_text(fingerprint, encoding="utf-8")


def deploy(state_dir: StateDir, emulator: EmulatorProcess) -> Stack:
    """Deploy the build, unless it is deployed already, and write `stack.json`.

    Raises
    ------
    LocalCloudError
        If the deployment fails, or the self-check after it.
    """
    built = f"{(state_dir.path / 'built').read_text(encoding='utf-8')} at {emulator.url}"
    current = state_dir.deployed.exists() and state_dir.deployed.read_text(encoding="utf-8") == built
    if not (current and _stack_status(emulator) in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}):
        state_dir.deployed.unlink(missing_ok=True)
        with step("Deploying template.yaml into the local cloud"):
            _remove_failed_stack(emulator)
            try:
                _deploy_with_sam(state_dir, emulator)
            except LocalCloudError:
                _show_failures(emulator)
                raise
        state_dir.deployed.write_text(built, encoding="utf-8")
    stack = describe_stack(emulator)
    with step("Starting the processes of the functions"):
        _warm_up(stack)
    with step("Checking that failed tasks are retried and dependent tasks are scheduled"):
        check_background(stack)
    stack.save(state_dir)
    return stack


def describe_stack(emulator: EmulatorProcess) -> Stack:
    """Read the addresses and clients of the deployed stack from the emulator."""
    cloudformation = aws_client("cloudformation", emulator.url)
    described: dict[str, Any] = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    cognito, sqs = aws_client("cognito-idp", emulator.url), aws_client("sqs", emulator.url)
    clients = {
        name: read_client(cognito, outputs["UserPoolId"], outputs[f"{name.capitalize()}ClientId"])
        for name in ("worker", "reader", "operator")
    }
    resources = cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
    functions = {
        snake_case(resource["LogicalResourceId"].removesuffix("Function")): resource["PhysicalResourceId"]
        for resource in resources
        if resource["ResourceType"] == "AWS::Lambda::Function"
    }
    stack = Stack(
        # By path: the emulator's own host names do not resolve everywhere
        api_url=f"{emulator.url}/_aws/execute-api/{outputs['ApiId']}/$default",
        token_url=f"{emulator.url}/oauth2/token",
        region=REGION,
        aws_endpoint_url=emulator.url,
        table_name=outputs["TableName"],
        live_url=f"{_parameters(emulator)['LiveUrlBase']}/{outputs['LiveApiId']}/live",
        event_bus_name=outputs["EventBusName"],
        queues={
            name.removesuffix("Url"): _address(sqs, url)
            for name, url in outputs.items()
            if name.endswith(("QueueUrl", "FailuresUrl"))
        },
        clients=clients,
        functions=functions,
    )
    return replace(stack, work_queue_url=_attach_workers_queue(stack, outputs["EventBusName"]))


def read_client(cognito: Any, pool: str, client_id: str) -> Client:
    """Read a client of a user pool, with its secret."""
    user_pool_client = cognito.describe_user_pool_client(UserPoolId=pool, ClientId=client_id)["UserPoolClient"]
    return Client(client_id, user_pool_client["ClientSecret"], " ".join(user_pool_client["AllowedOAuthScopes"]))


def _address(sqs: Any, url: str) -> str:
    """Return a queue's address on the current port: a stack output keeps the port at the queue's creation."""
    address: str = sqs.get_queue_url(QueueName=url.rpartition("/")[2])["QueueUrl"]
    return address


def _deploy_with_sam(state_dir: StateDir, emulator: EmulatorProcess) -> None:
    aws_client("s3", emulator.url).create_bucket(Bucket=BUCKET)
    _sam(
        state_dir,
        "deploy",
        *("--template-file", str(state_dir.build / "template.yaml")),
        *("--stack-name", STACK_NAME),
        *("--s3-bucket", BUCKET),
        *("--capabilities", "CAPABILITY_IAM"),
        *("--parameter-overrides", *(f"{name}={value}" for name, value in _parameters(emulator).items())),
        "--no-confirm-changeset",
        "--no-fail-on-empty-changeset",
        "--no-progressbar",
        env={"AWS_ENDPOINT_URL": emulator.url},
    )


def _parameters(emulator: EmulatorProcess) -> dict[str, str]:
    """Return the template's parameters: WebSocket connections are reached by path here, like the API."""
    base = f"{emulator.url.removeprefix('http://')}/_aws/execute-api"
    return PARAMETERS | {"LiveUrlBase": f"ws://{base}", "LiveCallbackBase": f"http://{base}"}


def _attach_workers_queue(stack: Stack, bus: str) -> str:
    """Create the workers' queue and the rule that puts scheduled tasks into it, as docs/workers.md shows for AWS."""
    sqs, events = stack.aws("sqs"), stack.aws("events")
    url: str = sqs.create_queue(QueueName=WORK_QUEUE, Attributes={"VisibilityTimeout": "30"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    # The demonstration, the replay and the self-check run their own workers
    others = [{"anything-but": {"prefix": ["demo-", "replay-", PREFIX]}}]
    pattern = {"source": ["tasklatch"], "detail-type": ["Task Scheduled"], "detail": {"executionId": others}}
    events.put_rule(Name=WORK_QUEUE, EventBusName=bus, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=WORK_QUEUE, EventBusName=bus, Targets=[{"Id": "workers", "Arn": arn}])
    return url


def _stack_status(emulator: EmulatorProcess) -> str:
    """Return the stack's status; empty if the stack does not exist."""
    try:
        stacks = aws_client("cloudformation", emulator.url).describe_stacks(StackName=STACK_NAME)["Stacks"]
    except ClientError:
        return ""
    status: str = stacks[0]["StackStatus"]
    return status


def _remove_failed_stack(emulator: EmulatorProcess) -> None:
    """Delete a stack whose creation failed: CloudFormation cannot update such a stack."""
    if _stack_status(emulator) in {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"}:
        cloudformation = aws_client("cloudformation", emulator.url)
        cloudformation.delete_stack(StackName=STACK_NAME)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=STACK_NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )


def _show_failures(emulator: EmulatorProcess) -> None:
    if not _stack_status(emulator):
        return
    events = aws_client("cloudformation", emulator.url).describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    for event in events:
        if event["ResourceStatus"].endswith("_FAILED"):
            console.print(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}", markup=False)


def _warm_up(stack: Stack) -> None:
    """Start the processes that a burst needs, with as many concurrent calls to their functions.

    The calls name an execution that does not exist, or carry no messages, so nothing is written.
    """
    with httpx.Client(base_url=stack.api_url, timeout=60, trust_env=False) as http, ThreadPoolExecutor(32) as pool:
        responses = [pool.submit(http.request, *call, **kwargs) for call, kwargs in _warm_up_requests(stack)]
        functions = stack.aws("lambda")
        batches = [
            pool.submit(functions.invoke, FunctionName=stack.functions[name], Payload=b'{"Records": []}')
            for name in QUEUE_FUNCTIONS * QUEUE_PROCESSES
        ]
        for response in (future.result() for future in responses):
            if response.is_server_error or response.status_code == httpx.codes.UNAUTHORIZED:
                raise LocalCloudError(f"{response.request.url} returned {response.status_code}: {response.text}")
        for result in (future.result() for future in batches):
            if "FunctionError" in result:
                raise LocalCloudError(f"A function failed on an empty batch: {result['Payload'].read().decode()}")


def _warm_up_requests(stack: Stack) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    path = "/v1/executions/warm-up"
    tokens = {name: {"Authorization": f"Bearer {fetch_token(stack, name)}"} for name in stack.clients}
    yield ("GET", "/v1/health"), {}
    yield ("POST", f"{path}/cancel"), {"headers": tokens["operator"], "json": {}}
    for _ in range(API_PROCESSES):
        yield ("GET", path), {"headers": tokens["reader"]}
        report = {"headers": tokens["worker"], "json": {"status": "IN_PROGRESS"}}
        yield ("POST", f"{path}/tasks/warm-up/status"), report


def _target() -> dict[str, str]:
    """Return the build variables for the layer: the Python and processor that run the functions here.

    On Linux the wheels are the same as for Lambda; elsewhere they must be for this machine.
    """
    target = {
        "TASKLATCH_PYTHON": PYTHON,
        "TASKLATCH_ARCH": ARCHITECTURE,
        "TASKLATCH_PACKAGES": str(PACKAGES),
    }
    if sys.platform != "linux":
        target["TASKLATCH_PLATFORM"] = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return target


def _sam(state_dir: StateDir, *arguments: str, env: dict[str, str]) -> None:
    """Run the SAM command line and write its output to a log; show the end of the log if the command fails."""
    log = state_dir.path / f"sam-{arguments[0]}.log"
    programs = Path(sys.executable).parent
    with log.open("wb") as output:
        status = subprocess.run(
            [sys.executable, "-m", "samcli", *arguments],
            cwd=ROOT,
            env=clean_environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}", SAM_CLI_TELEMETRY="0", **env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status:
        show_tail(log)
        raise LocalCloudError(f"`sam {arguments[0]}` failed.")


def _fingerprint(state_dir: StateDir) -> str:
    """Return a digest of the inputs of a build: the sources, the Python and processor, and the build's location."""
    # The built template names the functions' folders by their path relative to itself
    location = os.path.relpath(ROOT, state_dir.build)
    digest = hashlib.sha256(repr((sorted(PARAMETERS.items()), sys.platform, location)).encode())
    for path in _sources():
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    yield ROOT / "template.yaml"
    for folder in (ROOT / "functions", ROOT / "layers"):
        yield from sorted(
            path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc" and path.name != ".gitignore"
        )
