"""A release that CloudFormation takes back by itself if an alarm of the stack goes off.

`sam deploy` knows no rollback triggers, so the release is a change set of its own, from the template that `sam package`
has written. An alarm that goes off during the update, or in the minutes after it, makes CloudFormation put back every
function, the layer and all else as it was, in one piece.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import WaiterError

from local.aws.parameters import DeployError, Parameters
from local.aws.release import Run, Target, run_sam
from local.cloud.stack import ROOT

TRIGGERS: Final = (
    "ServerErrorsAlarm",
    "UnhandledErrorsAlarm",
    "RequestErrorsAlarm",
    "BackgroundErrorsAlarm",
    "DeadLettersAlarm",
)
"""Alarms that take a release back. CloudFormation watches five at most, and these are what new code can set off."""

MAX_MINUTES: Final = 180
_PACKAGED: Final = ROOT / ".aws-sam" / "packaged.yaml"
_BUCKET: Final = re.compile(r"s3://([^/\s]+)/")
_CAPABILITIES: Final = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
_POLL_SECONDS: Final = 15
_UPDATE_SECONDS: Final = 3600
_NOTHING_TO_DO: Final = re.compile("didn't contain changes|No updates are to be performed")


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of the account."""

    cloudformation: Any
    s3: Any


def release_watched(
    target: Target,
    clients: Clients,
    parameters: Parameters,
    minutes: int,
    run: Run,
    confirm: Callable[[str], bool],
) -> None:
    """Update a stack that exists, and wait until its alarms have been watched.

    Parameters
    ----------
    minutes
        Time for which the alarms are watched after the update, at most `MAX_MINUTES`.
    confirm
        Asks whether to go on; the text has the changes.

    Raises
    ------
    DeployError
        If the minutes are too many, `sam package` or the update fails, or an alarm has taken the release back.
    """
    if not 0 < minutes <= MAX_MINUTES:
        raise DeployError(f"ROLLBACK_MINUTES is from 1 to {MAX_MINUTES}, not {minutes}.")
    url = _package(target, clients.s3, run)
    change_set = {"StackName": target.stack_name, "ChangeSetName": f"release-{time.time_ns()}"}
    clients.cloudformation.create_change_set(
        **change_set,
        ChangeSetType="UPDATE",
        TemplateURL=url,
        Capabilities=list(_CAPABILITIES),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in sorted(parameters.items())],
        RollbackConfiguration={
            "RollbackTriggers": list(_triggers(clients.cloudformation, target.stack_name)),
            "MonitoringTimeInMinutes": minutes,
        },
    )
    if not _is_to_execute(clients.cloudformation, change_set, confirm):
        clients.cloudformation.delete_change_set(**change_set)
        return
    clients.cloudformation.execute_change_set(**change_set)
    _wait(clients.cloudformation, target.stack_name, minutes)


def _package(target: Target, s3: Any, run: Run) -> str:
    """Upload code and template, and return the template's address."""
    arguments = ["--resolve-s3", "--s3-prefix", target.stack_name, "--region", target.region]
    run_sam(run, ["package", *arguments, "--output-template-file", str(_PACKAGED)])
    template = Path(_PACKAGED).read_bytes()
    bucket = _BUCKET.search(template.decode())
    if bucket is None:
        raise DeployError("`sam package` has uploaded no code.")
    key = f"{target.stack_name}/release-{time.time_ns()}.template"
    s3.put_object(Bucket=bucket[1], Key=key, Body=template)
    return f"https://{bucket[1]}.s3.{target.region}.amazonaws.com/{key}"


def _triggers(cloudformation: Any, stack_name: str) -> Iterator[dict[str, str]]:
    for logical_id in TRIGGERS:
        described = cloudformation.describe_stack_resource(StackName=stack_name, LogicalResourceId=logical_id)
        resource = described["StackResourceDetail"]
        _, partition, _, region, account, _ = resource["StackId"].split(":", 5)
        arn = f"arn:{partition}:cloudwatch:{region}:{account}:alarm:{resource['PhysicalResourceId']}"
        yield {"Arn": arn, "Type": "AWS::CloudWatch::Alarm"}


def _is_to_execute(cloudformation: Any, change_set: dict[str, str], confirm: Callable[[str], bool]) -> bool:
    """Wait for a change set, and return True if it changes something and is confirmed."""
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(**change_set)
    except WaiterError as error:
        reason = str(error.last_response.get("StatusReason", error))
        if _NOTHING_TO_DO.search(reason):
            print("Nothing has changed.")
            return False
        raise DeployError(f"The change set failed: {reason}") from error
    pages = cloudformation.get_paginator("describe_change_set").paginate(**change_set)
    changes = (change["ResourceChange"] for page in pages for change in page["Changes"])
    lines = [f"{change['Action']:8} {change['ResourceType']} {change['LogicalResourceId']}" for change in changes]
    return confirm("\n".join(lines))


def _wait(cloudformation: Any, stack_name: str, minutes: int) -> None:
    attempts = (_UPDATE_SECONDS + minutes * 60) // _POLL_SECONDS
    try:
        cloudformation.get_waiter("stack_update_complete").wait(
            StackName=stack_name, WaiterConfig={"Delay": _POLL_SECONDS, "MaxAttempts": attempts}
        )
    except WaiterError as error:
        raise DeployError(
            f"The release did not hold, and {stack_name} is put back as it was: its events say which alarm or resource "
            "was the cause."
        ) from error
