"""The response times that replay and demonstration show are those that the sender of a request waits for."""

from io import StringIO

import pytest
from rich.console import Console

from local.replay.tables import Wait, percentile, waits_table


def rows(*waits: Wait) -> list[list[str]]:
    console = Console(file=StringIO(), width=80)
    console.print(waits_table(waits))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined] # it is the StringIO
    return [line.split("  ") for line in lines if line.strip().startswith(("sent once", "sent more than once"))]


def cells(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row if cell.strip()]


def test_requests_that_were_sent_again_have_a_row_of_their_own() -> None:
    waits = [
        *(Wait(0.025, was_sent_again=False),) * 19,
        Wait(0.4, was_sent_again=False),
        Wait(15.2, was_sent_again=True),
    ]

    sent_once, sent_again = (cells(row) for row in rows(*waits))

    assert sent_once == ["sent once", "20", "25 ms", "25 ms", "400 ms"]
    assert sent_again == ["sent more than once", "1", "15,200 ms", "15,200 ms", "15,200 ms"]


def test_empty_row_is_left_out() -> None:
    (row,) = rows(Wait(0.025, was_sent_again=False))

    assert cells(row)[0] == "sent once"


@pytest.mark.parametrize(("percent", "expected"), [(50, 10.0), (95, 19.0), (100, 20.0), (0, 1.0)])
def test_percentile_is_a_value_that_was_measured(percent: int, expected: float) -> None:
    values = [float(number) for number in range(20, 0, -1)]

    assert percentile(values, percent) == expected
