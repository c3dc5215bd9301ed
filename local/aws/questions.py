"""Questions of a first deployment: only what others cannot know, each with a default that Enter takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from local.aws.parameters import Parameters, declared_parameters

QUESTIONS: Final[Mapping[str, str | None]] = {
    "JwtIssuer": None,
    "JwtAudience": "JwtIssuer",
    "TenantClaim": "JwtIssuer",
    "CorsOrigins": None,
    "AttentionEmail": None,
    "AttentionWebhookUrl": None,
    "AttentionWebhookSecret": "AttentionWebhookUrl",
    "AlarmTopicArn": None,
}
"""Parameters that are asked for, each with the one that must have a value for the question to mean anything."""


def ask(current: Mapping[str, str], read: Callable[[str], str]) -> Parameters:
    """Ask for the parameters of a deployment, and return the answers.

    Parameters
    ----------
    current
        Values that Enter keeps; a hyphen empties one.
    read
        Shows a prompt and returns a line.
    """
    declared = declared_parameters()
    answers: Parameters = {}
    for name, needed in QUESTIONS.items():
        if needed and not answers[needed]:
            answers[name] = ""
            continue
        current_value = current.get(name, str(declared[name]["Default"]))
        line = read(f"{declared[name]['Description']}\n{name} [{current_value}]: ").strip()
        answers[name] = "" if line == "-" else line or current_value
    return answers
