"""Functions, classes and modules of the product stay of a size that a reader takes in at once."""

import ast
from collections.abc import Iterator, Sequence
from textwrap import dedent
from typing import Final

import pytest

from local.handlers import ROOT

MAX_FUNCTION_LINES: Final = 40
"""From `def` to the last line, docstring included."""
MAX_NESTING: Final = 3
MAX_PUBLIC_METHODS: Final = 12
MAX_MODULE_LINES: Final = 350
MAX_HANDLER_LINES: Final = 100
"""A handler only wires: what an operation does is beside its contract, in `requests.py`."""

EXCEPTIONS: Final[frozenset[str]] = frozenset()
"""What is still too large. The list only gets shorter: an entry that is no longer true fails its test too."""

SOURCES: Final = sorted(
    path.relative_to(ROOT).as_posix() for folder in ("functions", "layers") for path in (ROOT / folder).rglob("*.py")
)

Block = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match


def nesting(statements: Sequence[ast.stmt]) -> int:
    """Depth of the blocks in a function's body; an `elif` is as deep as its `if`, and a nested function starts anew."""
    return max((1 + inner_nesting(statement) for statement in statements if isinstance(statement, Block)), default=0)


def inner_nesting(block: Block) -> int:
    """Depth of the blocks inside a block."""
    bodies = [getattr(block, part, []) for part in ("body", "finalbody")]
    bodies += [part.body for parts in ("handlers", "cases") for part in getattr(block, parts, [])]
    rest: list[ast.stmt] = getattr(block, "orelse", [])
    is_elif = isinstance(block, ast.If) and len(rest) == 1 and isinstance(rest[0], ast.If)
    return max(nesting(rest) - is_elif, *map(nesting, bodies))


def public_methods(definition: ast.ClassDef) -> int:
    methods = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
    return sum(not method.name.startswith("_") for method in methods)


def oversized(text: str) -> Iterator[str]:
    """Describe everything in a module that is larger than allowed."""
    lines = len(text.splitlines())
    if lines > MAX_MODULE_LINES:
        yield f"{lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"
            if nesting(node.body) > MAX_NESTING:
                yield f"{node.name} is nested {nesting(node.body)} deep"
        elif isinstance(node, ast.ClassDef) and public_methods(node) > MAX_PUBLIC_METHODS:
            yield f"{node.name} has {public_methods(node)} public methods"


@pytest.mark.parametrize("path", SOURCES)
def test_nothing_is_larger_than_a_reader_takes_in(path: str) -> None:
    large = {f"{path}: {fault}" for fault in oversized((ROOT / path).read_text(encoding="utf-8"))}

    assert large == {entry for entry in EXCEPTIONS if entry.startswith(f"{path}: ")}


def test_no_exception_is_for_a_module_that_is_gone() -> None:
    assert {entry.partition(": ")[0] for entry in EXCEPTIONS} <= set(SOURCES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n" * 351, ["351 lines"]),
        ("x = 1\n" * 350, []),
        ("def long():\n" + "    pass\n" * 40, ["long has 41 lines"]),
        ("def long():\n" + "    pass\n" * 39, []),
        ("class Wide:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(13)), ["Wide has 13 public methods"]),
        ("class Fits:\n" + "".join(f"    def _m{n}(self): ...\n" for n in range(13)), []),
    ],
)
def test_sizes_are_measured_to_the_line(text: str, expected: list[str]) -> None:
    assert list(oversized(text)) == expected


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        ("x = 1", 0),
        ("if a:\n    pass", 1),
        ("if a:\n    pass\nelif b:\n    pass\nelif c:\n    pass\nelse:\n    pass", 1),
        ("if a:\n    pass\nelse:\n    x = 1\n    if b:\n        pass", 2),
        ("if a:\n    pass\nelif b:\n    for c in d:\n        pass", 2),
        ("try:\n    pass\nexcept E:\n    while a:\n        pass", 2),
        ("try:\n    pass\nfinally:\n    with a:\n        pass", 2),
        ("match a:\n    case 1:\n        if b:\n            pass", 2),
        ("for a in b:\n    if c:\n        with d:\n            if e:\n                pass", 4),
        ("for a in b:\n    def inner():\n        if c:\n            pass", 1),
    ],
)
def test_nesting_counts_the_blocks_inside_blocks(body: str, depth: int) -> None:
    assert nesting(ast.parse(dedent(body)).body) == depth


def test_handlers_only_wire() -> None:
    lines = {path.parent.name: len(path.read_text().splitlines()) for path in ROOT.glob("functions/*/handler.py")}

    assert lines
    assert {name: count for name, count in lines.items() if count > MAX_HANDLER_LINES} == {}
