"""Keys that no two names share; cursors that are good for one list only."""

import base64
import json
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.errors import InvalidRequestError
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor

tricky = st.text(st.sampled_from("a#%2359E:"), min_size=1, max_size=6)


def names_up_to(length: int) -> list[str]:
    """Every name of the characters that a key could confuse."""
    return ["".join(chosen) for size in range(1, length + 1) for chosen in product("#%23", repeat=size)]


@pytest.mark.parametrize(
    ("key", "parts", "length"),
    [
        (keys.task_sk, 1, 4),
        (keys.input_sk, 1, 4),
        (keys.execution_list, 1, 4),
        (keys.execution_pk, 2, 3),
        (keys.open_list, 2, 3),
        (keys.idempotency_pk, 2, 3),
        (keys.history_pk, 3, 2),
        (keys.output_pk, 3, 2),
    ],
)
def test_different_names_never_make_the_same_key(key: Callable[..., str], parts: int, length: int) -> None:
    created: dict[str, tuple[str, ...]] = {}
    for names in product(names_up_to(length), repeat=parts):
        assert created.setdefault(key(*names), names) == names


def test_different_outputs_never_have_the_same_key() -> None:
    names = list(product([*names_up_to(3), "a#1", "a"], [1, 2, 12], ["2f", "f"]))
    assert len({keys.early_output_sk(*item) for item in names}) == len(names)
    created = {
        (keys.output_pk("t", "e", task_id), keys.output_sk(attempt, fingerprint))
        for task_id, attempt, fingerprint in names
    }
    assert len(created) == len(names)


@given(tricky)
def test_items_of_a_task_are_no_tasks(task_id: str) -> None:
    for other in (keys.input_sk(task_id), keys.early_output_sk(task_id, 1, "f"), keys.EXECUTION_SK):
        assert not other.startswith(keys.TASK_PREFIX)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_history_sorts_by_version(item: int, other: int) -> None:
    assert (keys.history_sk(item) < keys.history_sk(other)) is (item < other)
    assert (keys.history_sk(item, "f" * 16) < keys.history_sk(other)) is (item < other)


@given(st.integers(0, keys.LONGEST_TIME), st.integers(0, keys.LONGEST_TIME), tricky)
def test_executions_sort_by_time(item: int, other: int, execution_id: str) -> None:
    first, second = keys.execution_list_sort(item, execution_id), keys.execution_list_sort(other, execution_id)
    assert (first < second) is (item < other)


@given(st.text(min_size=1, max_size=50), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_cursor_gives_its_position_back_for_its_own_list_only(scope: str, position: str) -> None:
    scope = scope.encode("utf-8", "replace").decode()
    cursor = encode_cursor(scope, position)
    assert cursor.isascii()
    assert decode_cursor(cursor, scope) == position
    with pytest.raises(InvalidRequestError):
        decode_cursor(cursor, scope + "x")


def made_up(*content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content[0] if len(content) == 1 else content).encode()).decode()


GARBAGE = [
    "",
    "=",
    "a",
    "garbage",
    "ä",
    "\ud800",
    "A" * 5000,
    base64.b64encode(b"\xff\xfe").decode(),
    base64.b64encode(b"[" * 3000).decode(),
    made_up({"a": 1}),
    made_up(1),
    made_up(None),
    made_up([]),
    made_up("scope", "a"),
    made_up("scope", 5),
    made_up(["a"]),
    encode_cursor("list", "")[:-2],
]


@pytest.mark.parametrize("cursor", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_no_cursor(cursor: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_cursor(cursor, "list")
    assert caught.value.errors[0]["loc"] == ["query", "cursor"]


@pytest.mark.parametrize("position", ["", "\ud800", "x" * 1024, "\U0001f600" * 257])
def test_position_that_can_be_no_key_is_refused(position: str) -> None:
    with pytest.raises(InvalidRequestError):
        decode_cursor(encode_cursor("list", position), "list")


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        decode_cursor(text, "list")
