"""What is installed is pinned, by hash, to the same versions for tests and for Lambda."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.template.template import ROOT

LAYER: Final = ROOT / "layers" / "tasklatch" / "requirements.txt"
LOCKS: Final = (LAYER, ROOT / "requirements" / "bootstrap.txt", ROOT / "requirements" / "dev.txt")


def _pins(lock: Path) -> dict[str, str]:
    pin = re.compile(r"^([a-z0-9_.-]+)(?:\[[a-z0-9,_-]+\])?==(\S+)", re.MULTILINE)
    return dict(pin.findall(lock.read_text(encoding="utf-8")))


def test_the_layer_holds_the_versions_that_are_tested() -> None:
    tested = _pins(ROOT / "requirements" / "dev.txt")
    shipped = _pins(LAYER)

    assert shipped
    assert {name: tested.get(name) for name in shipped} == shipped


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_package_is_pinned_by_hash(lock: Path) -> None:
    comment = re.compile(r"^\s*#.*\n", re.MULTILINE)
    requirements = re.split(r"\n(?=[a-z0-9])", comment.sub("", lock.read_text(encoding="utf-8")))

    assert [name for name in requirements if "==" not in name or "--hash=sha256:" not in name] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_a_lock_names_no_place_to_download_from(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")

    assert not re.search(r"https?://|file://|--(extra-)?index-url|--find-links", text)


def test_the_layer_needs_no_condition_that_pip_would_read_from_the_wrong_python() -> None:
    # pip judges "python_version < ..." by the Python it runs on, not by the Lambda's
    assert ";" not in LAYER.read_text(encoding="utf-8")
