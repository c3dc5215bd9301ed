"""States of an exploration, and the steps between them."""

from typing import Any, NamedTuple

from tests.model_checking.case import Faults
from tests.model_checking.simulated_cloud import Message


class Run(NamedTuple):
    """Function at work: its source, its position, and the parts of its call that are done."""

    source: tuple[Any, ...]
    node: int
    done: tuple[tuple[int, int], ...]


class State(NamedTuple):
    """One state. Runs, messages and late calls are sorted, so that equal states are equal values."""

    moment: int
    now: int
    cursors: tuple[int, ...]
    queued: tuple[Message, ...]
    runs: tuple[Run, ...]
    clients: tuple[tuple[int, int], ...]
    late: tuple[int, ...]
    faults: Faults

    def without_run(self, run: Run) -> "State":
        """Return the state without one of its runs."""
        return self._replace(runs=tuple(other for other in self.runs if other is not run))


class Step(NamedTuple):
    """Step from one state to the next: source, action, call and outcome."""

    what: str
    who: tuple[Any, ...] = ()
    part: int | None = None
    answer: int | None = None


def without(values: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
    """Return the values without the first that equals the item."""
    index = values.index(item)
    return values[:index] + values[index + 1 :]


def replaced(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    """Return the values with another value at an index."""
    return (*values[:index], value, *values[index + 1 :])
