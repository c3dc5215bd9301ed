"""The runbook has a section for each alarm, and its commands are about resources that the template has."""

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.template.template import ROOT, resources, transformed

RUNBOOK: Final = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
SECTIONS: Final = dict(re.findall(r"^## (\w+Alarm)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
ALARMS: Final = {
    name: resource["Properties"]
    for name, resource in transformed()["Resources"].items()
    if resource["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
}
PARTS: Final = ("For users", "Look at", "Do", "Over when")


def test_each_alarm_has_a_section_and_each_section_an_alarm() -> None:
    assert list(SECTIONS) == list(ALARMS)


@pytest.mark.parametrize("name", SECTIONS)
def test_section_says_what_it_means_where_to_look_what_to_do_and_when_it_is_over(name: str) -> None:
    assert [part for part in PARTS if f"- **{part}**: " not in SECTIONS[name]] == []


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_leads_to_the_runbook(name: str) -> None:
    assert ALARMS[name]["AlarmDescription"].endswith("docs/runbook.md")


def test_outputs_and_log_groups_of_the_commands_exist() -> None:
    outputs = set(re.findall(r"\$\(output (\w+)\)", RUNBOOK))
    assert outputs
    assert outputs <= set(transformed()["Outputs"])
    names = json.dumps([group["LogGroupName"] for group in resources("AWS::Logs::LogGroup").values()])
    for name in re.findall(r"^(?:LOG|ACCESS)=(\S+)", RUNBOOK, re.MULTILINE):
        assert name.replace("$STACK", "${AWS::StackName}") in names


def test_metrics_and_messages_of_the_queries_are_those_of_the_code() -> None:
    sources = [*(ROOT / "layers").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    messages = set(re.findall(r'message (?:=|in \[)+ ?((?:"[^"]+"(?:, )?)+)', RUNBOOK))
    texts = {text for group in messages for text in re.findall(r'"([^"]+)"', group)}
    assert texts >= {"unhandled error", "reconciled"}
    assert [text for text in texts if f'"{text}"' not in code] == []


def test_shell_commands_can_be_parsed() -> None:
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", RUNBOOK, re.MULTILINE | re.DOTALL)

    read = subprocess.run(["bash", "-n"], input="\n".join(blocks), capture_output=True, text=True, check=False)  # noqa: S607

    assert (len(blocks) > len(ALARMS), read.stderr) == (True, "")


def test_templates_for_an_import_name_the_restored_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    [script] = re.findall(r"^ +```python\n(.*?)^ +```", RUNBOOK, re.MULTILINE | re.DOTALL)
    code = re.sub(r"^   ", "", script, flags=re.MULTILINE)
    now = copy.deepcopy(transformed())
    arn = "arn:aws:dynamodb:eu-north-1:123456789012:table/ledger-restored"
    table = {"TableName": "ledger-restored", "TableArn": arn, "LatestStreamArn": f"{arn}/stream/now"}
    (tmp_path / "now.json").write_text(json.dumps(now), encoding="utf-8")
    (tmp_path / "restored.json").write_text(json.dumps({"Table": table}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    # when
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # noqa: S102 - the runbook's own lines, as its reader runs them

    # then
    without = json.loads((tmp_path / "without.json").read_text(encoding="utf-8"))
    imported = json.loads((tmp_path / "import.json").read_text(encoding="utf-8"))
    assert "LedgerTable" not in json.dumps(without)
    assert set(without["Resources"]) == set(now["Resources"]) - {"LedgerTable"}
    variables = without["Resources"]["ReportStatusFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["TABLE_NAME"] == "ledger-restored"
    mappings = [item["Properties"] for item in without["Resources"].values() if "EventSourceMapping" in item["Type"]]
    assert [mapping["EventSourceArn"] for mapping in mappings].count(f"{arn}/stream/now") == 2
    ledger = imported["Resources"].pop("LedgerTable")
    assert (imported, ledger["DeletionPolicy"]) == (without, "Retain")
    assert ledger["Properties"] == now["Resources"]["LedgerTable"]["Properties"]
