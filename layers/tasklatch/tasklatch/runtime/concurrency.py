"""Concurrent calls in a few threads, which are created on first use and then reused."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 4
"""A batch of 100 statements is four calls; more threads would only wait for the interpreter."""


def map_concurrently(function: Callable[[T], R], values: Iterable[T], at_once: int = _AT_ONCE) -> list[R]:
    """Call a function for each value, a few at a time, and wait for all calls.

    Parameters
    ----------
    function
        The function; it must not call `map_concurrently` itself.
    at_once
        Number of threads.

    Returns
    -------
    list
        The results, in the order of the values.

    Raises
    ------
    Exception
        The error of the first call that failed, in the order of the values, after all calls have ended.
    """
    items = list(values)
    if len(items) <= 1:
        return [function(value) for value in items]
    futures = [_threads(at_once).submit(function, value) for value in items]
    wait(futures)
    return [future.result() for future in futures]


@cache
def _threads(at_once: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(at_once, thread_name_prefix="call")
