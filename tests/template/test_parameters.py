"""Rules of the template: combinations of parameters that CloudFormation refuses before it changes anything."""

from typing import Any, Final

import pytest
from ministack.services.cloudformation.engine import _check_rules_section, _evaluate_rules

from tests.template.template import transformed

OWN_PROVIDER: Final = {"JwtIssuer": "https://login.example.com/", "JwtAudience": "tasklatch"}
SECRET: Final = "arn:aws:secretsmanager:eu-north-1:123456789012:secret:ids-a1b2c3"


def _evaluate(**chosen: str) -> None:
    """Evaluate the rules as the emulator does, with the template's defaults for what is not chosen.

    Raises
    ------
    ValueError
        If a rule refuses the parameters; the text is the rule's.
    """
    template = {name: transformed()[name] for name in ("Parameters", "Rules")}
    defaults = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    assert chosen.keys() <= defaults.keys()
    parameters: dict[str, Any] = {name: {"Value": str(value)} for name, value in (defaults | chosen).items()}
    _check_rules_section(template)
    _evaluate_rules(template, parameters, {})


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        OWN_PROVIDER,
        {**OWN_PROVIDER, "Tenants": "by-claim", "TenantClaim": "org_id"},
        {"AttentionWebhookUrl": "https://example.com/hook"},
        {"FleetClientIds": "1a2b3c,4d5e6f"},
        {"AttemptIdSecret": SECRET},
        {"AttemptIds": "required", "AttemptIdSecret": SECRET},
        {
            "AttentionWebhookUrl": "https://example.com/hook",
            "AttentionWebhookSecret": "arn:aws:secretsmanager:eu-north-1:123456789012:secret:hook-a1b2c3",
        },
    ],
    ids=[
        "defaults",
        "own-provider",
        "tenants-by-claim",
        "webhook",
        "fleets",
        "ids-signed",
        "ids-required",
        "webhook-with-key",
    ],
)
def test_what_works_is_accepted(chosen: dict[str, str]) -> None:
    _evaluate(**chosen)


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"JwtIssuer": "https://login.example.com/"}, "JwtAudience is needed"),
        # No token of the stack's own user pool has the claim, so every caller would be refused
        ({"Tenants": "by-claim", "TenantClaim": "org_id"}, "needs JwtIssuer"),
        # Emptying the claim alone would let every tenant see all the others
        ({**OWN_PROVIDER, "Tenants": "by-claim", "TenantClaim": ""}, "needs TenantClaim"),
        ({**OWN_PROVIDER, "TenantClaim": "org_id"}, "needs Tenants=by-claim"),
        (
            {"AttentionWebhookSecret": "arn:aws:secretsmanager:eu-north-1:123456789012:secret:hook-a1b2c3"},
            "needs AttentionWebhookUrl",
        ),
        # Tokens of clients of another provider are told apart by their audience
        ({**OWN_PROVIDER, "FleetClientIds": "1a2b3c"}, "own user pool"),
        # Ids that anyone can compute would be no proof of anything
        ({"AttemptIds": "required"}, "needs AttemptIdSecret"),
    ],
    ids=[
        "no-audience",
        "tenants-of-own-pool",
        "claim-emptied",
        "claim-without-tenants",
        "key-without-address",
        "fleets-elsewhere",
        "ids-unsigned",
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(chosen: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _evaluate(**chosen)


def test_every_parameter_is_in_a_group_and_has_a_default() -> None:
    groups = transformed()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]

    assert sorted(grouped) == sorted(transformed()["Parameters"])
    # One without would make `sam deploy` ask, and never take Enter for an answer
    assert all("Default" in parameter for parameter in transformed()["Parameters"].values())
