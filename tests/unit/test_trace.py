"""Reading of traces: what is accepted, and the messages of refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.replay.runner import SAMPLE_TRACE
from local.replay.trace import TraceError, read_trace

Document = dict[str, Any]


def _task(name: str, parents: tuple[str, ...] = (), children: tuple[str, ...] = ()) -> Document:
    return {"id": name, "name": name, "parents": list(parents), "children": list(children)}


def _document(*tasks: Document, seconds: float = 1.0) -> Document:
    executed = [{"id": task["id"], "runtimeInSeconds": seconds} for task in tasks]
    return {
        "name": "a run",
        "schemaVersion": "1.5",
        "workflow": {"specification": {"tasks": list(tasks)}, "execution": {"tasks": executed}},
    }


def _written(document: Any, folder: Path) -> Path:
    path = folder / "trace.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_the_sample_is_a_diamond_that_takes_as_long_as_its_longest_way() -> None:
    trace = read_trace(SAMPLE_TRACE)

    assert trace.tasks[0].task_id == "open-dome"
    assert {task.parents for task in trace.tasks[1:4]} == {("open-dome",)}
    assert trace.seconds == 24.5 + 62.0 + 31.25 + 74.0 + 3.75


def test_a_task_starts_when_the_last_of_its_parents_is_done(tmp_path: Path) -> None:
    document = _document(_task("last", parents=("short", "long")), _task("short"), _task("long"))
    document["workflow"]["execution"]["tasks"][2]["runtimeInSeconds"] = 7

    trace = read_trace(_written(document, tmp_path))

    assert {task.task_id: task.starts_at for task in trace.tasks} == {"short": 0, "long": 0, "last": 7}


def test_a_dependency_counts_whichever_side_names_it(tmp_path: Path) -> None:
    trace = read_trace(_written(_document(_task("a", children=("b",)), _task("b")), tmp_path))

    assert trace.tasks[1].parents == ("a",)


def test_an_input_is_cut_to_what_the_service_takes(tmp_path: Path) -> None:
    document = _document(_task("a") | {"inputFiles": ["x" * 5000] * 5000})
    document["workflow"]["execution"]["tasks"][0]["command"] = {
        "program": "\ud800" + "p" * 50_000,
        "arguments": ["\N{SNOWMAN}" * 5000] * 5000,
    }

    (task,) = read_trace(_written(document, tmp_path)).tasks

    assert len(json.dumps(task.input, ensure_ascii=False).encode("utf-8")) < 100 * 1024
    assert task.input["arguments"]


def _of_another_version(document: Document) -> None:
    document["schemaVersion"] = "1.4"


def _without_tasks(document: Document) -> None:
    document["workflow"]["specification"]["tasks"] = []


def _with_a_negative_runtime(document: Document) -> None:
    document["workflow"]["execution"]["tasks"][1]["runtimeInSeconds"] = -1


def _never_executed(document: Document) -> None:
    del document["workflow"]["execution"]["tasks"][1]


def _executed_without_being_specified(document: Document) -> None:
    document["workflow"]["execution"]["tasks"].append({"id": "stray", "runtimeInSeconds": 1})


def _with_an_unknown_parent(document: Document) -> None:
    document["workflow"]["specification"]["tasks"][1]["parents"] = ["nobody"]


def _in_a_cycle(document: Document) -> None:
    document["workflow"]["specification"]["tasks"][0]["parents"] = ["b"]


def _with_the_same_task_twice(document: Document) -> None:
    document["workflow"]["specification"]["tasks"].append(_task("b"))


def _renamed(name: str) -> Callable[[Document], None]:
    def rename(document: Document) -> None:
        for part in ("specification", "execution"):
            document["workflow"][part]["tasks"].append({**_task(name), "runtimeInSeconds": 1})

    return rename


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_of_another_version, "schemaVersion"),
        (_without_tasks, "workflow.specification.tasks: List should have at least 1 item"),
        (_with_a_negative_runtime, "workflow.execution.tasks.1.runtimeInSeconds"),
        (_never_executed, "'b' has no execution record"),
        (_executed_without_being_specified, "'stray' has no specification"),
        (_with_an_unknown_parent, "'b' names an unknown task: 'nobody'"),
        (_in_a_cycle, "in a cycle: "),
        (_with_the_same_task_twice, "specification: 'b' is repeated"),
        (_renamed("x" * 256), "1 to 255 characters, not 256"),
        (_renamed(""), "1 to 255 characters, not 0"),
        (_renamed("a\nb"), "control characters"),
        (_renamed("\N{SNOWMAN}" * 255 + ""), None),
        (_renamed("\N{HUNDRED POINTS SYMBOL}" * 255), "900 bytes"),
    ],
)
def test_invalid_document_is_refused_with_its_position(
    spoil: Callable[[Document], None], words: str | None, tmp_path: Path
) -> None:
    document = _document(_task("a", children=("b",)), _task("b", parents=("a",)))
    spoil(document)
    path = _written(document, tmp_path)

    if words is None:
        assert len(read_trace(path).tasks) == 3
        return
    with pytest.raises(TraceError) as refusal:
        read_trace(path)

    assert str(refusal.value).startswith(f"{path}: ")
    assert words in str(refusal.value)


def test_many_faults_are_named_in_part(tmp_path: Path) -> None:
    document = _document(*(_task(f"t{number}", parents=("nobody",)) for number in range(8)))

    with pytest.raises(TraceError, match=r"\(and 3 more\)"):
        read_trace(_written(document, tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\ufeff{}"])
def test_a_file_that_holds_no_instance_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"is not (JSON|WfFormat)"):
        read_trace(_written(text, tmp_path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(TraceError, match="is not JSON"):
        read_trace(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="file not found"):
        read_trace(tmp_path / "none.json")


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)
