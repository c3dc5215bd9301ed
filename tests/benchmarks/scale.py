"""Growth of a report's cost with its execution's size, and with its own: counted.

The tasks of the large execution are put into the table as creating them would leave them; reports on them then go
through the real handlers, with all that follows, as in `tests.benchmarks.cost`.
"""

from typing import Any, Final

from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import FollowUp
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.execution_item import execution_to_item
from tests.benchmarks.cost import DOLLARS, emulated_service, figures_of
from tests.benchmarks.measure import Figure, write_figures
from tests.benchmarks.metered_service import Service
from tests.factories import NOW, a_task, stored_item
from tests.integration.emulators import make_backoff

NAME: Final = "scale"
SIZES: Final = (10, 100, 1_000, 10_000)
# A log line contains milliseconds: it can be a byte longer
FLAT_GOAL: Final = 1.01
_SUCCESS: Final = "a success and all that follows"
_LAST: Final = "the last success, which ends it"
_PAYLOADS: Final = (1, 10, 90)


def figures() -> list[Figure]:
    """Count reports in executions of each size, and reports of each size."""
    result: list[Figure] = []
    with emulated_service() as service:
        for size in SIZES:
            result += _of_size(service, size)
        result += _of_payloads(service)
    prices = {item.name: item.value for item in result if item.unit == DOLLARS}
    small, large = (prices[_case(_SUCCESS, size)] for size in (SIZES[0], SIZES[-1]))
    flat = f"a success in an execution of {SIZES[-1]:,} tasks / of {SIZES[0]}, in dollars"
    return [Figure(NAME, flat, large / small, "x", goal=FLAT_GOAL), *result]


def _of_size(service: Service, size: int) -> list[Figure]:
    _put_execution(service, f"open-{size}", size, still_open=size)
    with service.used() as usage:
        service.report(f"open-{size}", "task-0", "COMPLETED", attempt=1)
    _put_execution(service, f"ending-{size}", size, still_open=1)
    with service.used() as at_the_end:
        service.report(f"ending-{size}", "task-0", "COMPLETED", attempt=1)
    return [
        *figures_of(NAME, _case(_SUCCESS, size), usage),
        *figures_of(NAME, _case(_LAST, size), at_the_end),
    ]


def _case(what: str, size: int) -> str:
    return f"{what}, of {size:,}"


def _put_execution(service: Service, execution_id: str, size: int, *, still_open: int) -> None:
    """Put an execution of which all tasks but some are done."""
    execution = Execution(
        tenant="default",
        execution_id=execution_id,
        status=ExecutionStatus.RUNNING,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        definition="none",
    )
    tasks = (
        a_task(
            TaskStatus.SCHEDULED if number < still_open else TaskStatus.COMPLETED,
            execution_id=execution_id,
            task_id=f"task-{number}",
            version=2,
            follow_up=FollowUp.END,
        )
        for number in range(size)
    )
    items = [execution_to_item(execution), *map(stored_item, tasks)]
    batch_put(service.meter.client, service.meter.table, items, make_backoff())


def _of_payloads(service: Service) -> list[Figure]:
    _put_execution(service, "payloads", 20, still_open=20)
    reports: dict[str, dict[str, Any]] = {
        "a success with nothing beside": {},
        "a success with a message of 1,024 letters": {"message": "x" * 1024},
        "a success with a message of 1,024 emoji": {"message": "\U0001f600" * 1024},
        **{f"a success with an output of {kb} KB": {"output": {"text": "x" * (kb * 1024 - 200)}} for kb in _PAYLOADS},
    }
    result = []
    for number, (case, fields) in enumerate(reports.items()):
        with service.used() as usage:
            service.report("payloads", f"task-{number}", "COMPLETED", attempt=1, **fields)
        result += figures_of(NAME, case, usage)
    return result


if __name__ == "__main__":
    write_figures(figures())
