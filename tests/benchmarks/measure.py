"""Measurement of cases in turn, round after round, so that other load on the machine affects all alike."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tasklatch.runtime.settings import get_settings


@dataclass(frozen=True)
class Figure:
    """One measured or counted value.

    Attributes
    ----------
    benchmark, name
        Benchmark and name of the figure.
    value, unit
        The median, if it was measured more than once; `x` is a ratio.
    spread
        First and third quartile; None for a count.
    goal
        Upper limit; None if it only informs.
    text
        Shown in place of the value, where a number alone is not enough.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    goal: float | None = None
    text: str | None = None

    @property
    def met(self) -> bool:
        """Return True if the goal is met."""
        return self.goal is None or self.value <= self.goal


@dataclass(frozen=True)
class Sample:
    """One run of a case: wall time, and processor time of this process, in milliseconds."""

    wall_ms: float
    cpu_ms: float


def timed(call: Callable[[], Any]) -> Sample:
    """Run a case once."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Sample((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)


def in_turn(cases: Mapping[str, Callable[[], Sample]], *, rounds: int, warm_up: int = 5) -> dict[str, list[Sample]]:
    """Run all cases one after the other, and again, round after round.

    Parameters
    ----------
    rounds
        Number of rounds that count.
    warm_up
        Number of rounds before, which do not count.
    """
    for _ in range(warm_up):
        for case in cases.values():
            case()
    gc.collect()
    gc.freeze()
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            samples[name].append(case())
    return samples


def figure(benchmark: str, name: str, values: Sequence[float], unit: str, goal: float | None = None) -> Figure:
    """Return the median of some values, with its quartiles."""
    first, _, third = quantiles(values, n=4)
    return Figure(benchmark, name, median(values), unit, (first, third), goal)


def ratio(
    benchmark: str, name: str, values: Sequence[float], base: Sequence[float], goal: float | None = None
) -> Figure:
    """Return the median of the rounds' own ratios, with their quartiles."""
    return figure(benchmark, name, [value / other for value, other in zip(values, base, strict=True)], "x", goal)


def use_endpoint(url: str) -> None:
    """Let the clients that are made from here on call this address."""
    os.environ["AWS_ENDPOINT_URL"] = url
    get_settings.cache_clear()


def write_figures(figures: Sequence[Figure]) -> None:
    """Write figures into the file that the command line names, for the runner of all benchmarks."""
    Path(sys.argv[1]).write_text(json.dumps([asdict(figure) for figure in figures]), encoding="utf-8")
