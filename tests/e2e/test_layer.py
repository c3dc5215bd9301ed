"""The layer is complete and holds nothing more: each function runs with it, its own folder and Python alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PathDistribution
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final

import pytest

from local.cloud.stack import ROOT, Stack, StateDir, clean_environment
from local.invoke import deployed_environment
from tests.e2e.test_events import ANSWERS, CONNECTIONS, EVENTS, FAILED_RECORDS, ON_SCHEDULE
from tests.template.template import functions

# Lambda's quota: a function with its layers, unpacked
MOST_BYTES: Final = 250 * 1024 * 1024
SECONDS: Final = 60

# Run by an interpreter that knows nothing of this environment (-I) nor of any installed package (-S)
RUN: Final = """
import json, sys
folder, layer, event, told = sys.argv[1:]
sys.path[:0] = [folder, layer]
import handler
class Context:
    aws_request_id = function_name = invoked_function_arn = "sample"
    memory_limit_in_mb = "512"
    def get_remaining_time_in_millis(self):
        return 30_000
answer = handler.handler(json.loads(event), Context())
files = {name: module.__spec__.origin for name, module in sys.modules.items() if getattr(module, "__spec__", None)}
with open(told, "w") as file:
    json.dump({"answer": answer, "files": files}, file)
"""


@dataclass(frozen=True)
class Ran:
    """What a function answered, and the files of the modules that it had loaded by then."""

    answer: Any
    files: dict[str, Path]


def sample_of(function: str) -> Any:
    """A sample event of a function."""
    by_function = {
        **{function: name for name, (function, _) in (ANSWERS | FAILED_RECORDS).items()},
        **{function: name for name, function in ON_SCHEDULE.items()},
        "live_connection": next(iter(CONNECTIONS)),
    }
    [sample] = EVENTS.rglob(f"{by_function[function]}.json")
    return json.loads(sample.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(stack: Stack, state_dir: StateDir) -> Callable[[str], Ran]:
    """Run a function on one sample event; each is run once."""

    @cache
    def run_once(function: str) -> Ran:
        python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        folder, layer = ROOT / "functions" / function, state_dir.layer / "python"
        messages = state_dir.path / f"{function}.json"
        done = subprocess.run(  # noqa: S603 - our own
            [python, "-I", "-S", "-B", "-c", RUN, folder, layer, json.dumps(sample_of(function)), messages],
            cwd=state_dir.path,
            env=clean_environment(**deployed_environment(function, stack)),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(messages.read_text(encoding="utf-8"))
        built_in = {None, "built-in", "frozen"}
        return Ran(result["answer"], {name: Path(at) for name, at in result["files"].items() if at not in built_in})

    return run_once


def standard_library() -> tuple[Path, ...]:
    """Where the interpreter that runs the functions here has its own modules."""
    result = Path(json.__file__).parents[1]
    return result, result / "lib-dynload"


def shipped(state_dir: StateDir) -> dict[str, Distribution]:
    """The packages in the layer, by name."""
    return {
        folder.name.partition("-")[0]: PathDistribution(folder)
        for folder in (state_dir.layer / "python").glob("*.dist-info")
    }


@pytest.mark.parametrize("function", functions())
def test_a_function_takes_every_module_from_its_folder_the_layer_or_python(
    function: str, run: Callable[[str], Ran], state_dir: StateDir
) -> None:
    # given
    allowed = (ROOT / "functions" / function, state_dir.layer / "python", *standard_library())

    # when
    ran = run(function)

    # then
    elsewhere = {
        name: str(at) for name, at in ran.files.items() if not any(at.is_relative_to(item) for item in allowed)
    }
    assert elsewhere == {}
    assert not [name for name, at in ran.files.items() if {"site-packages", "dist-packages"} & set(at.parts)]
    assert ran.files["tasklatch"].is_relative_to(state_dir.layer)


def test_every_package_in_the_layer_is_loaded_by_a_function(run: Callable[[str], Ran], state_dir: StateDir) -> None:
    loaded = {at for function in functions() for at in run(function).files.values()}

    packages = shipped(state_dir)
    needless = [
        name
        for name, package in packages.items()
        if not loaded & {Path(str(package.locate_file(file))) for file in package.files or []}
    ]
    assert packages
    assert needless == []


def test_the_layer_is_well_within_what_lambda_takes(
    state_dir: StateDir, record_property: Callable[[str, object], None]
) -> None:
    unpacked = sum(path.stat().st_size for path in state_dir.layer.rglob("*") if path.is_file())
    largest = max(
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in (ROOT / "functions").iterdir()
    )

    record_property("layer, unpacked, MB", round(unpacked / 1e6, 1))
    assert unpacked + largest < MOST_BYTES / 5


def test_everything_in_the_layer_is_compiled_for_the_python_that_runs_it(state_dir: StateDir) -> None:
    sources = list((state_dir.layer / "python").rglob("*.py"))

    compiled = [Path(cache_from_source(str(source))) for source in sources]
    assert sources
    assert [str(path) for path in compiled if not path.exists()] == []
    # PEP 552: by hash, and never held against the source again
    assert {path.read_bytes()[4:8] for path in compiled} == {(1).to_bytes(4, "little")}
