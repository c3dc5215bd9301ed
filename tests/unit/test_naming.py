"""Names and docstrings stay in the field's plain language: what is not wanted does not come back."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from local.handlers import ROOT

UNWANTED_VARIABLES: Final = frozenset(
    {
        *("asked", "found", "given", "it", "kept", "known", "made", "named"),
        *("noted", "one", "place", "places", "said", "seen", "told", "wanted"),
    }
)
"""Words that tell how a value was come by and not what it is."""

UNWANTED_NAMES: Final = frozenset(
    {
        *("Announcer", "Call", "Dispatcher", "Home", "Latch", "Live", "Patience", "Pulse", "Recorded", "SafetyNet"),
        *("TaskPointers", "Trouble", "Disturbance", "Wording"),
        *("checked_body", "judge", "latch_of", "lets_through", "moment", "payload_text", "receipt", "side_by_side"),
        *("attempt_spoken_of", "is_a_sign_of_life", "path_confusion"),
    }
)
"""Words of a vocabulary of its own, for which the field has others. The latch stays the name of the idea."""

UNWANTED_PHRASES: Final = (
    *("asked for", "broke off", "called off", "gave up", "goes on", "how to go on", "never had", "not as told"),
    *("put off", "said", "set aside", "spoke of", "told", "wanted any more"),
)
"""Phrases in which the programs of `local/` do not speak to a user."""

UNWANTED_OPENINGS: Final = frozenset({"how", "what", "when", "where", "whether", "which", "who", "whose", "why"})
"""A docstring begins with a verb or a noun."""

SOURCES: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("functions", "layers", "local", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
)
PRODUCT: Final = [path for path in SOURCES if not path.startswith("tests/")]


def nodes(path: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))


def variables(node: ast.AST) -> Iterator[str]:
    """Variables and parameters that a node binds."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name


def definitions(node: ast.AST) -> Iterator[str]:
    """Functions, classes and attributes that a node defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


@pytest.mark.parametrize("path", SOURCES)
def test_no_variable_is_named_after_how_it_was_come_by(path: str) -> None:
    unwanted = {name for node in nodes(path) for name in variables(node)} & UNWANTED_VARIABLES

    assert not unwanted, f"name the thing instead: {sorted(unwanted)}"


@pytest.mark.parametrize("path", PRODUCT)
def test_nothing_is_defined_under_a_word_that_only_this_project_uses(path: str) -> None:
    defined = {name.strip("_") for node in nodes(path) for name in (*variables(node), *definitions(node))}

    assert not defined & UNWANTED_NAMES


@pytest.mark.parametrize("path", [path for path in PRODUCT if path.startswith("local/")])
def test_local_programs_use_plain_words(path: str) -> None:
    texts = [
        node.value.lower() for node in nodes(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]

    assert not [(phrase, text) for phrase in UNWANTED_PHRASES for text in texts if phrase in text]


@pytest.mark.parametrize("path", PRODUCT)
def test_docstrings_begin_with_a_verb_or_a_noun(path: str) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in nodes(path) if isinstance(node, documented)]
    firsts = [text.split(maxsplit=1)[0].lower().rstrip(",:") for text in texts if text]

    assert not UNWANTED_OPENINGS.intersection(firsts)
