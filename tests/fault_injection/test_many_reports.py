"""Thousands of reports under random faults; 100,000 of them with `TASKLATCH_PROVE=1`."""

import os
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.fault_injection.storm import KINDS, Storm, run_storm
from tests.fault_injection.whole_service import whole_service

PROVES = bool(os.environ.get("TASKLATCH_PROVE"))
RATE = 0.05
# Two halves, as there are two processors or more; each has a table of its own
SEEDS, REPORTS = ((1, 2), 50_000) if PROVES else ((1,), 4_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_report_is_lost_and_each_retry_is_opened_once(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    # given
    storm = Storm(seed, RATE)
    began = time.monotonic()

    # when
    with whole_service() as service:
        wrong = run_storm(service, storm, REPORTS)
        verdicts = Counter(item.verdict for item in service.acknowledged)
        redelivered = service.redelivered

    # then
    assert not wrong, "\n".join(wrong[:20])
    assert set(storm.fired) >= KINDS
    assert redelivered["report_status"]
    record_property("reports", f"{REPORTS:,} in {time.monotonic() - began:.0f} s, {dict(verdicts)}")
    record_property("calls to AWS", f"{storm.calls:,}, of which {storm.fired.total():,} met a fault")
    record_property("faults", {str(fault): count for fault, count in sorted(storm.fired.items())})
    record_property("sent or delivered again", dict(sorted(redelivered.items())))
