"""Pairs of a fault and a call, derived from a recording of the calls that a scenario makes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from threading import Lock
from typing import Final

from tests.fault_injection.check import Outcome, broken_promises, differences, outcome_of
from tests.fault_injection.emulated_aws import WireRequest, WireResponse
from tests.fault_injection.faults import LASTING, LATENCY_MS, Fault, faults_of, inflict
from tests.fault_injection.records import PromiseBrokenError
from tests.fault_injection.scenarios import SCENARIOS
from tests.fault_injection.whole_service import WholeService, whole_service

_MOST_ALIKE: Final = 3
"""Of calls of one kind in one invocation, the third stands for all that follow."""


@dataclass(frozen=True)
class Case:
    """One fault, at one of the calls that one function makes in one scenario.

    Attributes
    ----------
    number
        Number of the call among the function's calls, from 1.
    location
        Trigger of the invocation, operation, and number of the call among those of that operation in the invocation.
    """

    scenario: str
    function: str
    number: int
    location: tuple[str, str, int]
    fault: Fault

    def __str__(self) -> str:
        trigger, operation, ordinal = self.location
        return (
            f"{self.scenario}: {self.fault} at call {self.number} of {self.function} "
            f"({operation} {ordinal} on {trigger})"
        )


@dataclass
class _FaultInjection:
    """Injection of a fault into one call; a lasting fault also meets all later calls of the same invocation."""

    service: WholeService
    case: Case
    fired: int = 0
    _calls: int = 0
    _during: object = None
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, call: WireRequest, serve: Callable[[WireRequest], WireResponse]) -> WireResponse:
        invocation = self.service.invocation
        with self._lock:
            if invocation.function == self.case.function:
                self._calls += 1
                is_met = self._calls == self.case.number
            else:
                is_met = False
            goes_on = self.fired and self.case.fault in LASTING and self._during is invocation
            if is_met:
                self._during = invocation
            self.fired += is_met
        if is_met:
            invocation.left_ms -= LATENCY_MS.get(self.case.fault, 0)
            return inflict(self.case.fault, call, serve)
        return inflict(Fault.OUTAGE, call, serve) if goes_on else serve(call)


@dataclass(frozen=True)
class Recording:
    """Run without faults: its outcome, and every case that its calls make."""

    outcome: Outcome
    cases: tuple[Case, ...]


@cache
def recording_of(scenario: str) -> Recording:
    """Run a scenario without faults.

    Raises
    ------
    PromiseBrokenError
        If even that run breaks a promise.
    """
    cases: list[Case] = []
    calls: Counter[str] = Counter()
    within: Counter[tuple[int, str]] = Counter()
    lock = Lock()
    with whole_service() as service:

        def record(call: WireRequest, serve: Callable[[WireRequest], WireResponse]) -> WireResponse:
            invocation = service.invocation
            if invocation.function:
                with lock:
                    calls[invocation.function] += 1
                    within[id(invocation), call.operation] += 1
                    index = (invocation.trigger, call.operation, within[id(invocation), call.operation])
                    cases.extend(
                        Case(scenario, invocation.function, calls[invocation.function], index, fault)
                        for fault in faults_of(call)
                    )
                    invocations.append(invocation)
            return serve(call)

        invocations: list[object] = []  # stored, so that no two have the same id
        service.aws.around = record
        SCENARIOS[scenario](service)
        service.aws.around = lambda call, serve: serve(call)
        result = list(broken_promises(service))
        if result:
            raise PromiseBrokenError(f"{scenario}, without any fault: {result}")
        return Recording(outcome_of(service), tuple(cases))


def each_place_once(cases: Iterable[Case]) -> list[Case]:
    """Return one case for each fault at each place in the code; of many calls at one place, the first is used."""
    first: dict[tuple[Fault, str, str, str, int], Case] = {}
    for case in cases:
        trigger, operation, ordinal = case.location
        first.setdefault((case.fault, case.function, trigger, operation, min(ordinal, _MOST_ALIKE)), case)
    return list(first.values())


def each_pair_once(cases: Iterable[Case]) -> list[Case]:
    """Return few cases that cover each fault at each function, each fault at each operation, and each function's calls.

    Of three things that a case combines, any two meet wherever they can (all-pairs testing).
    """
    left = {(case.function, case.location[1], case.fault): case for case in reversed(list(cases))}
    uncovered = {pair for combination in left for pair in combinations(combination, 2)}
    chosen = []
    while uncovered:
        best = max(left, key=lambda combination: len(uncovered.intersection(combinations(combination, 2))))
        uncovered.difference_update(combinations(best, 2))
        chosen.append(left.pop(best))
    return chosen


def faults_found(case: Case) -> list[str]:
    """Run a scenario with one fault in it; return all differences, and a fault that never fired."""
    expected = recording_of(case.scenario).outcome
    with whole_service() as service:
        injection = _FaultInjection(service, case)
        service.aws.around = injection
        try:
            SCENARIOS[case.scenario](service)
        except PromiseBrokenError as broken:
            return [f"{case}: {broken}"]
        service.aws.around = lambda call, serve: serve(call)
        result = list(_wrong(expected, service))
        if not injection.fired:
            result.append("the fault never fired")
        return [f"{case}: {item}" for item in result]


def _wrong(expected: Outcome, service: WholeService) -> Iterator[str]:
    yield from broken_promises(service)
    yield from differences(expected, outcome_of(service), service)
