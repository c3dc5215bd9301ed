"""Cold starts in Lambda's own runtime protocol: every function, a bare boto3 client, the alternatives.

Each start is a fresh process under the runtime interface emulator, which sees the built, byte-compiled layer, its own
folder and Python's standard library. The init ends when the handler has been imported; up to the first response, a
function of this service also makes its client and the connection.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3

from local.cloud.deploy import build
from local.cloud.stack import ROOT, StateDir
from local.invoke import Invocation, invoke_handler
from tasklatch.domain.conditional_write import write_for_report
from tasklatch.dynamodb import keys, write_expression
from tasklatch.dynamodb.batch_write import batch_put
from tests.benchmarks import alternatives
from tests.benchmarks.dynamodb_stand_in import running
from tests.benchmarks.measure import Figure, figure, ratio, use_endpoint, write_figures
from tests.conftest import ENVIRONMENT
from tests.factories import NOW, a_report, a_task, fresh_name, stored_item
from tests.integration.emulators import make_backoff

NAME: Final = "cold start"
REPORT_GOAL: Final = 1.3
OTHERS_GOAL: Final = 2.0
BARE: Final = "bare_client"
REPORTING: Final = "report_status"
_ROUNDS: Final = 15
_ROUNDS_OF_OTHERS: Final = 7
# The init does not depend on the event; with so little time left no handler begins a call
_NO_TIME_FOR_CALLS: Final = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "3"}


@dataclass(frozen=True)
class _Start:
    """One cold start, in milliseconds."""

    init: float
    first_answer: float


def figures() -> list[Figure]:
    """Measure all functions."""
    state_dir = StateDir()
    build(state_dir)
    others = sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py"))
    others.remove(REPORTING)
    starts: dict[str, list[_Start]] = {name: [] for name in (BARE, *alternatives.HANDLERS, *others)}
    with tempfile.TemporaryDirectory() as folder, running(service_ms=5) as url:
        use_endpoint(url)
        client = boto3.client("dynamodb")
        environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": url, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024"}
        packages = [state_dir.layer / "python"]
        for number in range(_ROUNDS):
            starts[BARE].append(_start(_alone(Path(folder), BARE), _update(_fresh_task(client)), environment, packages))
            for name in alternatives.HANDLERS:
                own = name == REPORTING
                handler = ROOT / "functions" / name if own else _alone(Path(folder), name)
                event = alternatives.report_event(_fresh_task(client), "COMPLETED")
                starts[name].append(_start(handler, event, environment, packages))
            for name in others if number < _ROUNDS_OF_OTHERS else ():
                nothing = environment | _NO_TIME_FOR_CALLS
                starts[name].append(_start(ROOT / "functions" / name, {"Records": []}, nothing, packages))
    return _figures_of(starts, others)


def _figures_of(starts: Mapping[str, list[_Start]], others: list[str]) -> list[Figure]:
    init = {name: [item.init for item in taken] for name, taken in starts.items()}
    answered = {name: [start.first_answer for start in starts[name]] for name in (BARE, *alternatives.HANDLERS)}
    return [
        figure(NAME, "init of a handler that only makes a boto3 client", init[BARE], "ms"),
        figure(NAME, f"init of {REPORTING}", init[REPORTING], "ms"),
        ratio(NAME, f"init of {REPORTING} / of the bare handler", init[REPORTING], init[BARE], REPORT_GOAL),
        ratio(NAME, f"{REPORTING}, first report answered / bare, first write", answered[REPORTING], answered[BARE]),
        *(
            ratio(NAME, f"init of {name} / of the bare handler", init[name], init[BARE][: len(init[name])], OTHERS_GOAL)
            for name in others
        ),
        *(
            figure(alternatives.NAME, title, answered[name], "cold: first answer ms")
            for name, title in alternatives.HANDLERS.items()
        ),
        *(
            ratio(NAME, f"first report answered: {REPORTING} / {title}", answered[REPORTING], answered[name])
            for name, title in alternatives.HANDLERS.items()
            if name != REPORTING
        ),
    ]


def _start(folder: Path, event: Any, environment: Mapping[str, str], packages: list[Path]) -> _Start:
    done: Invocation = invoke_handler(folder, event, environment, packages)
    if folder.name in (BARE, *alternatives.HANDLERS) and "errorType" in done.answer | json.loads(
        done.answer.get("body", "{}")
    ):
        raise RuntimeError(f"{folder.name} answered {done.answer}: {done.log}")
    return _Start(done.init_ms, done.init_ms + done.invoke_ms)


def _alone(folder: Path, name: str) -> Path:
    """Copy a handler's folder into an empty one: Lambda would see nothing of this project either."""
    copied = folder / name
    if not copied.exists():
        copied.mkdir()
        (copied / "handler.py").write_bytes((Path(__file__).parent / name / "handler.py").read_bytes())
    return copied


def _fresh_task(client: Any) -> str:
    task_id = fresh_name()
    batch_put(client, "ledger", [stored_item(a_task(task_id=task_id))], make_backoff())
    return task_id


def _update(task_id: str) -> dict[str, Any]:
    write = write_for_report(a_report(task_id=task_id, attempt=1), now=NOW, request_id="0" * 32)
    return write_expression.render_update_item(write, "ledger", keys.execution_pk("default", "nightly"), NOW // 1000)


if __name__ == "__main__":
    write_figures(figures())
