"""CloudFormation's own rules (cfn-lint) find nothing in the template."""

import subprocess
import sys
from pathlib import Path

from tests.template.template import ROOT


def test_cloudformation_would_take_the_template() -> None:
    linted = subprocess.run(  # noqa: S603 - our own
        [Path(sys.executable).parent / "cfn-lint", "--regions", "us-east-1", "--", ROOT / "template.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (linted.returncode, linted.stdout) == (0, "")
