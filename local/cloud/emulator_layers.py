"""Emulator patch: unpack a layer once instead of once for every process of every function."""

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

# Environment variable from which a function's process reads its layer folders
_LAYER_FOLDERS: Final = "_LAMBDA_LAYERS_DIRS"

_lock: Final = Lock()


class SharedLayers:
    """One unpacked copy of each layer for all functions' processes.

    Fault of ministack 1.5: it unpacks all layers again for each process that it starts, in its own process, which
    responds to no request meanwhile. A burst that needs ten processes waits for ten copies of the same thousand files;
    AWS has no such delay. The shared copy is removed when the local cloud stops.
    """

    def __init__(self) -> None:
        self._spawn = Worker._spawn  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""

        # A function, not the bound method: the emulator's worker must be passed as the first argument
        def spawn(worker: Any) -> None:
            self.spawn(worker)

        Worker._spawn = spawn  # noqa: SLF001

    def spawn(self, worker: Any) -> None:
        """Start a function's process with layer folders instead of layers."""
        config = worker.config
        worker.config = _with_folders(config)
        try:
            self._spawn(worker)
        finally:
            worker.config = config


def unpack_once(packed: bytes) -> Path:
    """Return the folder with a zip file's contents; the first call unpacks it."""
    folder = Path(tempfile.gettempdir()) / f"layer-{hashlib.sha256(packed).hexdigest()}"
    with _lock:
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                archive.extractall(unfinished)
            unfinished.rename(folder)
    return folder


def _with_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function's configuration with layer folders instead of layers."""
    layers = (lambda_svc._resolve_layer_zip(layer) for layer in config.get("Layers", []))  # noqa: SLF001
    folders = [str(unpack_once(packed)) for packed in layers if packed]
    variables = config.get("Environment", {}).get("Variables", {})
    if folders:
        variables = {**variables, _LAYER_FOLDERS: os.pathsep.join(folders)}
    return {**config, "Layers": [], "Environment": {**config.get("Environment", {}), "Variables": variables}}
