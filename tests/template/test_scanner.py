"""What a security scanner (checkov) finds in the template. `make check` runs this, and `make test` does not."""

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.template.template import ROOT, transformed

SCANNER: Final = ROOT / ".venv" / "checkov" / "bin" / "checkov"
SETTINGS: Final = ROOT / ".checkov.yaml"
EXPLAINED: Final = re.compile(r"# checkov:skip=(CKV\w+):\S.{20,}")
EXPLAINED_FOR_ALL: Final = re.compile(r"(?:^  # \S.{20,}\n)+^  - (CKV\w+)$", re.MULTILINE)
Results = set[tuple[str, str]]


def _scan(template: Path, *arguments: str) -> dict[str, Results]:
    """Return pairs of rule and resource, by what came of them: `passed`, `failed` or `skipped`.

    The scanner takes its settings from the template's folder.
    """
    assert SCANNER.exists(), "`make check` installs the scanner"
    done = subprocess.run(  # noqa: S603 - our own
        [SCANNER, "--file", template, "--output", "json", *arguments],
        cwd=template.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0, done.stderr
    results = defaultdict(set)
    for kind, checks in report["results"].items():
        for check in checks if kind.endswith("_checks") else []:
            resource = check["resource"].rpartition(".")[2]
            results[kind.removesuffix("_checks")].add((check["check_id"], resource))
    return results


def test_a_scanner_finds_nothing_that_is_not_explained(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    # given
    template, expanded = ROOT / "template.yaml", tmp_path / "expanded.json"
    expanded.write_text(json.dumps(transformed()), encoding="utf-8")
    settings = SETTINGS.read_text(encoding="utf-8")
    for_all = set(EXPLAINED_FOR_ALL.findall(settings))

    # when
    as_written = _scan(template)
    as_deployed = _scan(expanded, "--framework", "cloudformation", "--skip-download")

    # then
    explained = as_written["skipped"]
    assert as_written["failed"] == set()
    # In the expanded template there are no comments, and nothing else is found
    assert {(rule, resource) for rule, resource in as_deployed["failed"] if rule not in for_all} == explained
    # An exception that nothing needs any more is gone, and none is without its reason
    assert len(EXPLAINED.findall(template.read_text(encoding="utf-8"))) == len(explained)
    assert for_all <= {rule for rule, _ in as_deployed["failed"]}
    assert len(for_all) == settings.count("- CKV")
    record_property("rules that hold, by resource", len(as_deployed["passed"]))
    record_property("exceptions, explained", len(as_deployed["failed"]))
