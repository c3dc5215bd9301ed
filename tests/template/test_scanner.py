"""What a security scanner (checkov) and CloudFormation's own rules (cfn-lint) find in the template."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.template.template import ROOT, transformed

SCANNER: Final = ROOT / ".venv" / "checkov" / "bin" / "checkov"
EXPLAINED: Final = re.compile(r"# checkov:skip=(CKV\w+):\S.{20,}")
Found = set[tuple[str, str]]


def _scan(*templates: Path) -> dict[tuple[str, str], Found]:
    """Give pairs of rule and resource, by file and what came of them: `passed`, `failed` or `skipped`."""
    assert SCANNER.exists(), "`make check` installs the scanner"
    done = subprocess.run(  # noqa: S603 - our own
        [
            SCANNER,
            *(part for template in templates for part in ("--file", template)),
            *("--framework", "cloudformation", "--output", "json"),
            # It would fetch guidance from its maker; nothing leaves this machine
            "--skip-download",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["summary"]["parsing_errors"] == 0, done.stderr
    came = defaultdict(set)
    for kind, found in answer["results"].items():
        for one in found if kind.endswith("_checks") else []:
            resource = one["resource"].rpartition(".")[2]
            came[Path(one["file_path"]).name, kind.removesuffix("_checks")].add((one["check_id"], resource))
    return came


def test_a_scanner_finds_nothing_that_is_not_explained_beside_its_resource(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    # given
    template, expanded = ROOT / "template.yaml", tmp_path / "expanded.json"
    expanded.write_text(json.dumps(transformed()), encoding="utf-8")

    # when
    came = _scan(template, expanded)

    # then
    explained = came["template.yaml", "skipped"]
    assert came["template.yaml", "failed"] == set()
    # In the expanded template there are no comments, and nothing else is found
    assert came["expanded.json", "failed"] == explained
    # An explanation that nothing needs any more is gone
    assert len(EXPLAINED.findall(template.read_text(encoding="utf-8"))) == len(explained)
    record_property("rules that hold, by resource", len(came["expanded.json", "passed"]))
    record_property("exceptions, explained", len(explained))


def test_cloudformation_would_take_the_template() -> None:
    linted = subprocess.run(  # noqa: S603 - our own
        [Path(sys.executable).parent / "cfn-lint", "--regions", "us-east-1", "--", ROOT / "template.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (linted.returncode, linted.stdout) == (0, "")
