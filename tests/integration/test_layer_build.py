"""The layer as `make deploy` builds it by default: for Lambda's Python and processor, whatever this machine has."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from local.cloud.deploy import PACKAGES
from tests.template.template import ROOT, transformed

# Lambda's quota for a function with its layers, unpacked
MOST_BYTES: Final = 250 * 1024 * 1024


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer, built as `sam build` does it, with this environment's Python first on the path."""
    folder = tmp_path_factory.mktemp("layer")
    initial = {name: value for name, value in os.environ.items() if not name.startswith("TASKLATCH_")}
    subprocess.run(
        ["make", "build-TasklatchLayer"],  # noqa: S607 - whichever the machine has
        cwd=ROOT / "layers" / "tasklatch",
        env=initial
        | {
            "ARTIFACTS_DIR": str(folder),
            "TASKLATCH_PACKAGES": str(PACKAGES),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "python"


def test_the_layer_is_for_lambdas_python_and_processor_and_small(
    built: Path, record_property: Callable[[str, object], None]
) -> None:
    # given
    defaults = {name: item.get("Default") for name, item in transformed()["Parameters"].items()}
    python = defaults["PythonVersion"].removeprefix("python").replace(".", "")
    machine = {"arm64": "aarch64", "x86_64": "x86_64"}[defaults["Architecture"]]

    # when
    native = [path.name for path in built.rglob("*.so*")]
    compiled = {path.name.split(".")[-2] for path in built.rglob("*.pyc")}
    unpacked = sum(path.stat().st_size for path in built.rglob("*") if path.is_file())

    # then
    assert native
    assert [name for name in native if f"cpython-{python}-{machine}" not in name] == []
    # Compiled for that Python where it is at hand, and for no other
    assert compiled <= {f"cpython-{python}"}
    assert unpacked < MOST_BYTES / 5
    record_property("layer for Lambda's default, unpacked, MB", round(unpacked / 1e6, 1))
