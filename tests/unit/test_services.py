"""Composition of the services, and settings that a deployment lacks."""

from collections.abc import Iterator
from typing import Final

import pytest

from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime import services
from tasklatch.runtime.services import EventServices, RequestServices, Services
from tasklatch.runtime.settings import MissingSettingError, get_settings
from tests.template.template import functions

NEEDED: Final = {
    "change_publisher": ["EVENT_BUS_NAME", "LIVE_CALLBACK_URL"],
    "retry_planner": ["TIMER_QUEUE_URL"],
    "timer_handler": ["TIMER_QUEUE_URL"],
    "reconciler": ["TIMER_QUEUE_URL", "ADVANCE_QUEUE_URL", "EVENT_BUS_NAME", "LIVE_CALLBACK_URL"],
    "execution_closer": ["ADVANCE_QUEUE_URL"],
    "execution_reopener": ["ADVANCE_QUEUE_URL"],
    "follow_ups": ["ADVANCE_QUEUE_URL"],
    "timer_sweep": ["TIMER_QUEUE_URL"],
    "dead_letters": ["DEAD_LETTER_QUEUE_URL"],
    "ledger": ["TABLE_NAME"],
}
USED: Final = {
    "cognite_executions": ["execution_reopener"],
    "execution_control": ["execution_reopener"],
    "notifier": ["change_publisher", "follow_ups"],
    "reconciler": ["reconciler", "enlisting"],
    "retry_dispatcher": ["timer_handler", "dead_letters"],
    "retry_scheduler": ["retry_planner"],
    "timer_sweeper": ["timer_sweep"],
    "workflow_advancer": ["advance_handler", "dead_letters"],
}


@pytest.fixture(autouse=True)
def _clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("dynamodb", "events", "scheduler", "sqs"):
        monkeypatch.setattr(services, name, object)
    yield
    get_settings.cache_clear()


@pytest.mark.parametrize(("service", "variable"), [(name, item) for name, items in NEEDED.items() for item in items])
def test_missing_variable_fails_the_first_call_with_its_name(
    service: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable)

    with pytest.raises(MissingSettingError, match=f"^{variable} is not set$"):
        getattr(EventServices(lambda: 10_000), service)


def test_variable_that_a_function_does_not_need_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in {variable for variables in NEEDED.values() for variable in variables} - {"TABLE_NAME"}:
        monkeypatch.delenv(variable)

    assert isinstance(RequestServices(lambda: 10_000).ledger, Ledger)


@pytest.mark.parametrize("function", sorted(USED))
def test_template_sets_what_each_function_needs(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # given the variables of the function in the template
    for variables in NEEDED.values():
        for variable in variables:
            monkeypatch.delenv(variable, raising=False)
    for variable in functions()[function]["Environment"]["Variables"]:
        monkeypatch.setenv(variable, "1")

    # then its services can be made
    of_function = EventServices(lambda: 10_000)
    assert all(getattr(of_function, name) for name in USED[function])


def test_service_is_made_once_for_an_invocation() -> None:
    of_one: Services = EventServices(lambda: 10_000)
    assert of_one.ledger is of_one.ledger
    assert of_one.ledger is not EventServices(lambda: 10_000).ledger
