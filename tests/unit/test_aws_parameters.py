"""Where a deployment's parameters come from, which of two values counts, and what is never lost by pressing Enter."""

import shutil
from pathlib import Path

import pytest
from samcli.lib.config.samconfig import SamConfig

from local.aws.deployed import DeployedStack, require_same_tenants
from local.aws.parameters import (
    DeployError,
    SavedParameters,
    declared_parameters,
    overrides,
    parse_assignments,
    read_environment,
    read_file,
)
from local.aws.questions import QUESTIONS, ask
from local.aws.release import Sources, changes
from local.cloud.stack import ROOT

ISSUER = "https://login.example.com/"
DEPLOYED = DeployedStack("UPDATE_COMPLETE", {"JwtIssuer": ISSUER, "JwtAudience": "a,b", "TenantClaim": "org_id"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the repository's samconfig.toml."""
    shutil.copy(ROOT / "samconfig.toml", tmp_path)
    return tmp_path


def test_a_file_has_a_parameter_a_line(tmp_path: Path) -> None:
    path = tmp_path / "production"
    path.write_text('# ours\n\nJwtIssuer = https://login.example.com/\nJwtAudience="a,b"\nTenantClaim=\n')

    assert read_file(path) == {"JwtIssuer": ISSUER, "JwtAudience": "a,b", "TenantClaim": ""}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="nowhere"):
        read_file(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "why"),
    [("TenantClaim", "Name=value"), ("TenantClaims=x", "no parameter TenantClaims"), ('LogLevel=a"b', "quotation")],
)
def test_a_line_that_means_nothing_is_refused_with_its_source(line: str, why: str) -> None:
    with pytest.raises(DeployError, match=f"the file.*{why}"):
        parse_assignments([line], "the file")


def test_variables_are_read_and_empty_ones_are_none() -> None:
    # A CI system makes an empty variable of a setting that nobody has set: it must not empty the parameter
    environment = {"PARAMETER_LogLevel": "DEBUG", "PARAMETER_TenantClaim": "", "PATH": "/bin"}

    assert read_environment(environment) == {"LogLevel": "DEBUG"}


def test_a_variable_that_names_no_parameter_is_refused() -> None:
    with pytest.raises(DeployError, match="LogLevels"):
        read_environment({"PARAMETER_LogLevels": "DEBUG"})


def test_saved_parameters_are_read_again_by_this_tool_and_by_sam(folder: Path) -> None:
    parameters = {"JwtIssuer": ISSUER, "JwtAudience": "a,b", "TenantClaim": ""}

    SavedParameters("tasklatch", folder).save(parameters)

    assert SavedParameters("tasklatch", folder).read() == parameters
    options = SamConfig(folder).get_all(["deploy"], "parameters")
    assert options["parameter_overrides"] == overrides(parameters)
    # What stood in the file before is still there, comments too
    assert options["resolve_s3"] is True
    assert "# `make deploy`" in (folder / "samconfig.toml").read_text()


def test_two_stacks_parameters_are_apart(folder: Path) -> None:
    SavedParameters("tasklatch", folder).save({"TenantClaim": "org_id"})
    SavedParameters("trial", folder).save({"LogLevel": "DEBUG"})

    assert SavedParameters("tasklatch", folder).read() == {"TenantClaim": "org_id"}
    assert SavedParameters("trial", folder).read() == {"LogLevel": "DEBUG"}


def test_what_sam_saved_after_its_own_questions_is_read(folder: Path) -> None:
    config = SamConfig(folder)
    config.put(["deploy"], "parameters", "parameter_overrides", 'JwtAudience="a,b" TenantClaim=""')
    config.put(["deploy"], "parameters", "region", "eu-north-1")
    config.flush()

    saved = SavedParameters("tasklatch", folder)

    assert (saved.read(), saved.region()) == ({"JwtAudience": "a,b", "TenantClaim": ""}, "eu-north-1")


def test_the_repository_saves_no_parameters() -> None:
    assert SavedParameters("tasklatch").read() == {}


def test_a_later_source_counts() -> None:
    sources = Sources(
        fitting={"ThrottlingRate": "1000", "LogLevel": "fitting"},
        deployed={"LogLevel": "deployed", "RetentionDays": "30"},
        saved={"LogLevel": "saved", "LogRetentionDays": "7"},
        explicit={"LogLevel": "DEBUG"},
    )

    chosen = sources.chosen()

    assert {name: chosen[name] for name in ("LogLevel", "ThrottlingRate", "RetentionDays", "LogRetentionDays")} == {
        "LogLevel": "DEBUG",
        "ThrottlingRate": "1000",
        "RetentionDays": "30",
        "LogRetentionDays": "7",
    }


def test_a_second_deployment_of_which_nothing_is_said_changes_nothing() -> None:
    chosen = Sources(deployed=DEPLOYED.parameters).chosen()

    assert chosen.items() >= DEPLOYED.parameters.items()
    assert chosen["Tenants"] == "by-claim"
    assert list(changes(DEPLOYED, chosen)) == []


def test_a_parameter_that_the_template_no_longer_has_is_left_behind() -> None:
    assert "AttentionWebhookKey" not in Sources(deployed={"AttentionWebhookKey": "****"}).chosen()


@pytest.mark.parametrize(("claim", "tenants"), [("org_id", "by-claim"), ("", "one")])
def test_tenants_follow_from_the_claim_of_now_and_not_from_before(claim: str, tenants: str) -> None:
    deployed = {"Tenants": "one" if claim else "by-claim"}

    assert Sources(deployed=deployed, explicit={"TenantClaim": claim}).chosen()["Tenants"] == tenants


def test_tenants_that_are_named_are_left_to_the_templates_rule() -> None:
    assert Sources(explicit={"Tenants": "by-claim"}).chosen()["Tenants"] == "by-claim"


@pytest.mark.parametrize(
    ("sources", "protection"),
    [
        (Sources(), "true"),
        # A creation whose second step never came is completed by the next deployment
        (Sources(deployed={"DeletionProtection": "false"}), "true"),
        (Sources(saved={"DeletionProtection": "false"}), "false"),
        (Sources(explicit={"DeletionProtection": "false"}), "false"),
    ],
    ids=["nothing", "deployed", "saved", "explicit"],
)
def test_the_table_is_protected_unless_somebody_says_otherwise(sources: Sources, protection: str) -> None:
    assert sources.chosen()["DeletionProtection"] == protection


@pytest.mark.parametrize(("claim", "effect"), [("", "tasks of all tenants"), ("team", "no longer see their tasks")])
def test_other_tenants_than_those_deployed_are_refused_unless_asked_for(claim: str, effect: str) -> None:
    chosen = Sources(deployed=DEPLOYED.parameters, explicit={"TenantClaim": claim}).chosen()

    with pytest.raises(DeployError, match=f"org_id.*{effect}.*CHANGE_TENANTS=yes"):
        require_same_tenants(DEPLOYED, chosen, may_change=False)
    require_same_tenants(DEPLOYED, chosen, may_change=True)
    assert list(changes(DEPLOYED, chosen)) == [f"TenantClaim: org_id becomes {claim or 'empty'}"]


def test_tenants_of_a_stack_that_does_not_exist_are_free() -> None:
    require_same_tenants(DeployedStack(), {"TenantClaim": "org_id"}, may_change=False)


def test_enter_keeps_every_value_and_a_hyphen_empties_one() -> None:
    current = dict(DEPLOYED.parameters)
    lines = {"TenantClaim": "-"}
    prompts: list[str] = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        return lines.get(prompt.splitlines()[-1].partition(" ")[0], "")

    answers = ask(current, read)

    assert answers == {**dict.fromkeys(QUESTIONS, ""), **current, "TenantClaim": ""}
    assert "JwtAudience [a,b]: " in prompts[1]


def test_what_would_mean_nothing_is_not_asked() -> None:
    prompts: list[str] = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        return ""

    answers = ask({}, read)

    asked_for = [prompt.splitlines()[-1].partition(" ")[0] for prompt in prompts]
    assert asked_for == ["JwtIssuer", "CorsOrigins", "AttentionEmail", "AttentionWebhookUrl", "AlarmTopicArn"]
    assert answers == dict.fromkeys(QUESTIONS, "")


def test_questions_are_of_parameters() -> None:
    assert QUESTIONS.keys() <= declared_parameters().keys()
