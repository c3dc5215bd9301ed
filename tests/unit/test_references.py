"""References in inputs: which tasks they can name, how they are read, and which are refused."""

import json
import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.api.ids import is_valid_task_id
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.json_text import dump_payload
from tasklatch.domain.reference import Reference, get_path, resolve_references
from tasklatch.domain.reference_check import MAX_POSSIBLE_NAMES, check_references, possible_names
from tasklatch.domain.task_definition import TaskDefinition

PAYLOADS: dict[tuple[str, str], Any] = {
    ("a", "output"): {
        "x": 1,
        "deep": {"y": [1, 2]},
        "text": "hé",
        "none": None,
        "yes": True,
        "rows": [None, {"cells": [["a", "b"]]}],
    },
    ("a", "input"): {"url": "here"},
    ("a.b", "output"): {"x": "dotted"},
    ("task 7/ü", "output"): {"x": "odd"},
    ("output", "output"): {"x": "named output"},
}
SCOPE: Final = {name for name, _ in PAYLOADS} | {"lost"}


def look_up(reference: Reference) -> Any:
    try:
        return get_path(PAYLOADS[reference.name, reference.part], reference.path)
    except KeyError as error:
        raise LookupError(reference.name) from error


@pytest.mark.parametrize(
    ("initial", "becomes"),
    [
        ("${a.output}", PAYLOADS["a", "output"]),
        ("${a.output.x}", 1),
        ("${a.output.deep.y}", [1, 2]),
        ("${a.output.none}", None),
        ("${a.output.yes}", True),
        ("${a.output.missing}", None),
        ("${a.output.x.deeper.still}", None),
        ("${a.output.deep.y[1]}", 2),
        ("${a.output.deep.y[2]}", None),
        ("${a.output.x[0]}", None),
        ("${a.output.rows[1].cells[0][1]}", "b"),
        ("${a.output.rows[1]}", {"cells": [["a", "b"]]}),
        ("${a.output.rows[x]}", None),
        ("${a.output.deep\nkey}", None),
        ("${a.input.url}", "here"),
        ("${a.b.output.x}", "dotted"),
        ("${task 7/ü.output.x}", "odd"),
        ("${output.output.x}", "named output"),
        ("x ${a.output.x}, ${a.output.text}!", "x 1, hé!"),
        ("${a.output.x}${a.output.x}", "11"),
        ("is ${a.output.yes}/${a.output.none}", "is true/null"),
        ("${a.output.deep}.", '{"y": [1, 2]}.'),
        ("${nobody.output.x}", "${nobody.output.x}"),
        ("${nobody.output.x} ${a.output.x} ${lost.output.x}", "${nobody.output.x} 1 ${lost.output.x}"),
        ("${${a.output.x}", "${1"),
        ("${a.result.x}", "${a.result.x}"),
        ("${a}", "${a}"),
        ("${}", "${}"),
        ("${a.output", "${a.output"),
        ("$a.output", "$a.output"),
        ("plain", "plain"),
        ("", ""),
        (5, 5),
        (None, None),
        ({"${a.output.x}": ["${a.output.x}", {"k": "${a.output.x}"}]}, {"${a.output.x}": [1, {"k": 1}]}),
    ],
)
def test_reference_becomes_what_it_refers_to(initial: Any, becomes: Any) -> None:
    assert resolve_references(initial, SCOPE, look_up) == becomes


def test_what_comes_from_a_payload_is_not_resolved_again() -> None:
    # given: a worker's output is data, whatever it says
    assert resolve_references("${evil.output.x}", {"a", "evil"}, lambda _: "${a.output.x}") == "${a.output.x}"
    assert resolve_references("see ${evil.output.x}", {"a", "evil"}, lambda _: "${a.output.x}") == "see ${a.output.x}"


# ---------------------------------------------------------------- any name

ODD_NAMES: Final = (
    "a.b",
    "a.output",
    "a.output.x",
    "input",
    ".",
    "a{b}",
    "}",
    "${",
    "${a.output.x}",
    "a}.output.x}",
    'say "hi"',
    "back\\slash",
    "a[0]",
    " a ",
    "\U0001f600" * 50,
    "x" * 255,
)


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_reference_names_any_task(name: str) -> None:
    text = f"${{{name}.output.x}}"
    assert resolve_references([text, f"<{text}>"], {name}, lambda reference: {(name, "output"): 7}[reference[:2]]) == [
        7,
        "<7>",
    ]
    definition = TaskDefinition("t", input=dump_payload({"v": text}, "it", 9_000), depends_on=(name,))
    assert check_references([definition], {name}) == {"t": ()}


names = st.text(st.sampled_from('ab.{}$[0]"\\ é') | st.characters(exclude_categories=["C"]), min_size=1, max_size=255)


@given(names.filter(is_valid_task_id), st.sampled_from(["input", "output"]))
def test_every_name_that_a_task_can_have_can_be_referred_to(name: str, part: str) -> None:
    expected = Reference(name, part, ("k", "l[0]"))
    observed: list[Reference] = []
    resolve_references(f"${{{name}.{part}.k.l[0]}}", {name}, observed.append)
    assert observed == [expected]


def test_the_longest_name_that_is_waited_for_is_meant() -> None:
    payloads = {"a": {"output": {"x": "of a"}}, "a.output": {"x": "of a.output"}}
    text = "${a.output.output.x}"

    def look_up_in(reference: Reference) -> Any:
        return get_path(payloads[reference.name], reference.path)

    assert resolve_references(text, {"a"}, look_up_in) == "of a"
    assert resolve_references(text, {"a", "a.output"}, look_up_in) == "of a.output"
    assert resolve_references(text, {"a.output"}, look_up_in) == "of a.output"


# ---------------------------------------------------------------- what is refused


def task(name: str, *depends_on: str, refers_to: str = "", **more: Any) -> TaskDefinition:
    return TaskDefinition(name, input=json.dumps({"v": refers_to}), depends_on=depends_on, **more)


def faults(*definitions: TaskDefinition, **existing: Any) -> list[tuple[Any, ...]]:
    with pytest.raises(InvalidRequestError) as caught:
        check_references(definitions, **existing)
    return [(fault["type"], *fault["loc"][2:]) for fault in caught.value.errors]  # type: ignore[index]


def test_reference_to_what_is_waited_for_at_any_remove_is_taken_and_noted() -> None:
    chain = [task("a"), task("b", "a"), task("c", "b", refers_to="${a.output.x} ${b.output.x}")]
    assert check_references(chain) == {"c": ("a",)}


@pytest.mark.parametrize(
    "definitions",
    [
        [task("a"), task("b", refers_to="${a.output.x}")],
        [task("a", "b"), task("b", refers_to="see ${a.input}")],
        [task("a"), task("b", refers_to="${b.input.v}")],
        [task("a"), task("b"), task("c", "a", refers_to="${a.output.x}${b.output.x}")],
    ],
    ids=["beside it", "that waits for it", "itself", "one of two"],
)
def test_reference_to_a_task_that_is_not_waited_for_is_refused(definitions: list[TaskDefinition]) -> None:
    assert faults(*definitions) == [("reference_not_awaited", len(definitions) - 1, "input")]


def test_reference_that_could_be_of_two_tasks_is_refused() -> None:
    both = task("c", "a", "a.output", refers_to="${a.output.output.x}")
    assert faults(task("a"), task("a.output"), both) == [("ambiguous_reference", 2, "input")]
    assert check_references([task("a"), task("c", "a", refers_to="${a.output.output.x}")]) == {"c": ()}


def test_what_names_no_task_is_text() -> None:
    texts = "${nobody.output.x} ${HOME} ${event.input.name} ${workflow.input.x} ${a.result}"
    assert check_references([task("a"), task("b", "a", refers_to=texts)]) == {"b": ()}


def test_input_that_is_handed_on_as_it_is_refers_to_nothing() -> None:
    assert check_references([task("a"), task("b", refers_to="${a.output.x}", includes_attempt_id=True)]) == {}


def test_tasks_that_are_done_may_be_referred_to_by_those_that_are_added() -> None:
    added = task("c", refers_to="${a.output.x}")
    assert possible_names([added]) == {"a"}
    assert check_references([added], {"a"}, terminal={"a"}) == {"c": ("a",)}
    assert faults(added, existing={"a"}) == [("reference_not_awaited", 0, "input")]


def test_names_that_are_looked_for_are_bounded() -> None:
    many = "".join(f"${{t{number}.output}}" for number in range(MAX_POSSIBLE_NAMES + 1))
    with pytest.raises(InvalidRequestError):
        possible_names([task("c", refers_to=many)])


def test_faults_are_bounded() -> None:
    pairs = [task(f"t{number}", refers_to="${t0.output}" * 100) for number in range(100)]
    assert len(faults(*pairs)) == 20


@pytest.mark.parametrize(
    "text", ["${" * 50_000, "${x.output" * 10_000, "${" + ".output" * 14_000, "${.output.output}" * 6_000]
)
def test_texts_that_look_like_references_cost_little(text: str) -> None:
    begun = time.process_time()
    definition = task("c", "x", refers_to=text)
    check_references([definition], {"x"})
    assert resolve_references(text, {"x"}, lambda _: 1) == text
    assert time.process_time() - begun < 5
