"""Loader of the functions' handlers, as in Lambda: by file, one module for each folder."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FUNCTIONS: Final = ROOT / "functions"


@cache
def load_handler(function: str) -> ModuleType:
    """Load ``functions/<function>/handler.py`` as a module.

    Raises
    ------
    FileNotFoundError
        If the function does not exist.
    """
    path = FUNCTIONS / function / "handler.py"
    if not path.is_file():
        raise FileNotFoundError(f"function {function!r} not found")
    spec = importlib.util.spec_from_file_location(f"{function}_handler", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
