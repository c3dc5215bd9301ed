"""How figures are taken: cases in turn, round after round, so that what the machine does besides meets all alike."""

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
    """One thing that was measured or counted.

    Attributes
    ----------
    benchmark, name
        What it is a figure of.
    value, unit
        The median, where it was measured more than once; `x` is a ratio.
    spread
        First and third quartile; None for what is counted.
    goal
        The most that it may be; None where it only informs.
    text
        Shown in place of the value, where a number alone says too little.
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
        """Whether the goal is met."""
        return self.goal is None or self.value <= self.goal


@dataclass(frozen=True)
class Sample:
    """One run of a case: wall time, and processor time of this process, in milliseconds."""

    wall_ms: float
    cpu_ms: float


def timed(call: Callable[[], Any]) -> Sample:
    """Run something once."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Sample((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)


def in_turn(cases: Mapping[str, Callable[[], Sample]], *, rounds: int, warm_up: int = 5) -> dict[str, list[Sample]]:
    """Run all cases one after the other, and again, round after round.

    Parameters
    ----------
    rounds
        How many count.
    warm_up
        How many go before and do not.
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
    """The median of some values, with its quartiles."""
    first, _, third = quantiles(values, n=4)
    return Figure(benchmark, name, median(values), unit, (first, third), goal)


def ratio(
    benchmark: str, name: str, values: Sequence[float], base: Sequence[float], goal: float | None = None
) -> Figure:
    """The median of the rounds' own ratios, with their quartiles."""
    return figure(benchmark, name, [value / other for value, other in zip(values, base, strict=True)], "x", goal)


def use_endpoint(url: str) -> None:
    """Let the clients that are made from here on call this address."""
    os.environ["AWS_ENDPOINT_URL"] = url
    get_settings.cache_clear()


def write_figures(figures: Sequence[Figure]) -> None:
    """Write figures into the file that the command line names: who runs all benchmarks reads them there."""
    Path(sys.argv[1]).write_text(json.dumps([asdict(figure) for figure in figures]), encoding="utf-8")
