"""A layer is unpacked once, and all processes of all functions read that copy."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local.cloud.emulator_layers import SharedLayers, unpack_once


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def packed(content: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("python/module.py", content)
    return memory.getvalue()


def test_layer_is_unpacked_once_for_all_who_ask_at_the_same_time(scratch: Path) -> None:
    layer = packed("VALUE = 1\n")

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(unpack_once, [layer] * 8))

    assert [path.name for path in scratch.iterdir()] == [folder.name for folder in folders]
    assert (folders.pop() / "python" / "module.py").read_text() == "VALUE = 1\n"


def test_layers_that_differ_have_folders_of_their_own() -> None:
    assert unpack_once(packed("VALUE = 1\n")) != unpack_once(packed("VALUE = 2\n"))


def test_process_is_started_with_folders_in_place_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(lambda_runtime.Worker, "_spawn", lambda worker: started.append(worker.config))
    monkeypatch.setattr(lambda_svc, "_resolve_layer_zip", packed)
    SharedLayers().install()
    config = {"Layers": ["one", "two"], "Environment": {"Variables": {"KEPT": "yes"}}, "Timeout": 15}
    worker = lambda_runtime.Worker("function", config, b"")

    worker._spawn()

    folders = [str(unpack_once(packed(name))) for name in ("one", "two")]
    variables = {"KEPT": "yes", "_LAMBDA_LAYERS_DIRS": ":".join(folders)}
    assert started == [{"Layers": [], "Environment": {"Variables": variables}, "Timeout": 15}]
    assert worker.config is config
