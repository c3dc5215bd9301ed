"""Calls that go side by side: a few threads, made when they are first needed and then kept."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 4
"""A batch of 100 statements is four calls; more threads than that only wait for the interpreter."""


def map_concurrently(function: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """Make a call for each value, four at a time, and wait for all of them. It must not itself make calls side by side.

    Returns
    -------
    list
        What they returned, in the order of the values.

    Raises
    ------
    Exception
        What the first of the calls that failed raised, once all have ended.
    """
    items = list(values)
    if len(items) <= 1:
        return [function(value) for value in items]
    futures = [_threads().submit(function, value) for value in items]
    wait(futures)
    return [future.result() for future in futures]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="call")
