"""Lets the emulator unpack a layer once instead of once for every process of every function.

ministack 1.5 unpacks all layers anew for each process that it starts, and does so in its own process, which answers
nobody meanwhile. A burst that needs ten processes waits for ten copies of the same thousand files; on AWS nothing
corresponds to that. The copy is shared here, and removed when the local cloud stops.
"""

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final

from ministack.core.lambda_runtime import Worker
from ministack.services import lambda_svc

# Where a function's process looks for its layers
_LAYER_FOLDERS: Final = "_LAMBDA_LAYERS_DIRS"

_lock: Final = Lock()


def share_unpacked_layers() -> None:
    """Let all functions' processes read one copy of each layer."""
    spawn = Worker._spawn  # noqa: SLF001 - it has no other place for this

    def spawn_with_shared_layers(worker: Any) -> None:
        config = worker.config
        worker.config = _with_folders(config)
        try:
            spawn(worker)
        finally:
            worker.config = config

    Worker._spawn = spawn_with_shared_layers  # noqa: SLF001


def unpack_once(packed: bytes) -> Path:
    """Return the folder with what a zip file holds, unpacked by the first who asks."""
    folder = Path(tempfile.gettempdir()) / f"layer-{hashlib.sha256(packed).hexdigest()}"
    with _lock:
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                archive.extractall(unfinished)
            unfinished.rename(folder)
    return folder


def _with_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function's settings with folders in place of layers."""
    layers = (lambda_svc._resolve_layer_zip(layer) for layer in config.get("Layers", []))  # noqa: SLF001
    folders = [str(unpack_once(packed)) for packed in layers if packed]
    variables = config.get("Environment", {}).get("Variables", {})
    if folders:
        variables = {**variables, _LAYER_FOLDERS: os.pathsep.join(folders)}
    return {**config, "Layers": [], "Environment": {**config.get("Environment", {}), "Variables": variables}}
