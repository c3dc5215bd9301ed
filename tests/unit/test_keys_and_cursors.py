"""Keys that no two names share; cursors that are good for one list only."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.aws import keys
from tasklatch.aws.cursor import decode_cursor, encode_cursor
from tasklatch.domain.errors import InvalidRequestError

tricky = st.text(st.sampled_from("a#%2359E:"), min_size=1, max_size=6)
parts = st.tuples(tricky, tricky, tricky)


@given(parts, parts)
def test_different_names_never_make_the_same_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    for key, length in (
        (keys.history_pk, 3),
        (keys.execution_pk, 2),
        (keys.open_list, 2),
        (keys.execution_list, 1),
        (keys.task_sk, 1),
        (keys.input_sk, 1),
    ):
        same_name = one[:length] == other[:length]
        assert (key(*one[:length]) == key(*other[:length])) is same_name


@given(st.tuples(tricky, st.integers(0, 99), tricky), st.tuples(tricky, st.integers(0, 99), tricky))
def test_different_outputs_never_have_the_same_key(one: tuple[str, int, str], other: tuple[str, int, str]) -> None:
    one, other = (one[0], one[1], one[2].replace("#", "")), (other[0], other[1], other[2].replace("#", ""))
    assert (keys.output_sk(*one) == keys.output_sk(*other)) is (one == other)


@given(tricky)
def test_items_of_a_task_are_no_tasks(task_id: str) -> None:
    for other in (keys.input_sk(task_id), keys.output_sk(task_id, 1, "f"), keys.EXECUTION_SK):
        assert not other.startswith(keys.TASK_PREFIX)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_history_sorts_by_version(one: int, other: int) -> None:
    assert (keys.history_sk(one) < keys.history_sk(other)) is (one < other)
    assert (keys.history_sk(one, "f" * 16) < keys.history_sk(other)) is (one < other)


@given(st.integers(0, keys.LONGEST_TIME), st.integers(0, keys.LONGEST_TIME), tricky)
def test_executions_sort_by_time(one: int, other: int, execution_id: str) -> None:
    first, second = keys.execution_list_sort(one, execution_id), keys.execution_list_sort(other, execution_id)
    assert (first < second) is (one < other)


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


@pytest.mark.parametrize("position", ["", "\ud800", "x" * 1025])
def test_position_that_can_be_no_key_is_refused(position: str) -> None:
    with pytest.raises(InvalidRequestError):
        decode_cursor(encode_cursor("list", position), "list")


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        decode_cursor(text, "list")
