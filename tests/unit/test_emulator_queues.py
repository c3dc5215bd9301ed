"""The emulator's queues are stored by account and name, independent of the port."""

from typing import Any

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import sqs

from local.cloud.emulator_queues import QueuesByPath, current_address

ACCOUNT = "000000000000"
REGION = "us-east-1"


def address(port: int, name: str = "parcels", host: str = "localhost") -> str:
    return f"http://{host}:{port}/{ACCOUNT}/{name}"


def queue(port: int, *messages: str) -> dict[str, Any]:
    return {"name": "parcels", "url": address(port), "messages": [{"body": body} for body in messages]}


def saved(*queues: dict[str, Any]) -> AccountRegionScopedDict:
    state = AccountRegionScopedDict()
    for queue in queues:
        state.set_scoped(ACCOUNT, REGION, queue["url"], queue)
    return state


def test_queue_is_found_by_its_address_on_any_port_and_host() -> None:
    queues = QueuesByPath()
    queues.update(saved(queue(4001, "first")))

    by_addresses = [
        queues.get_scoped(ACCOUNT, REGION, url)
        for url in (address(4001), address(4002), address(4003, host="127.0.0.1"))
    ]

    assert [result["messages"] for result in by_addresses] == [[{"body": "first"}]] * 3


def test_restored_queue_has_the_address_of_today() -> None:
    queues = QueuesByPath()
    queues.update(saved(queue(4001)))

    ((_, restored),) = queues.all_items()

    assert restored["url"] == sqs._queue_url_for_account(ACCOUNT, "parcels")
    assert restored["url"] == current_address(address(4001))


def test_two_saved_queues_of_one_name_become_one_with_the_messages_of_both() -> None:
    queues = QueuesByPath()
    queues.update(saved(queue(4001, "old"), queue(4002, "new")))

    ((_, merged),) = queues.all_items()

    assert [message["body"] for message in merged["messages"]] == ["old", "new"]


def test_queues_whose_names_begin_alike_stay_apart() -> None:
    queues = QueuesByPath()
    queues.set_scoped(ACCOUNT, REGION, address(4001, "parcels"), "parcels")
    queues.set_scoped(ACCOUNT, REGION, address(4001, "parcels-lost"), "lost")

    assert queues.get_scoped(ACCOUNT, REGION, address(4002, "parcels-lost")) == "lost"
    assert queues.pop_scoped(ACCOUNT, REGION, address(4002, "parcels")) == "parcels"
    assert not queues.contains_scoped(ACCOUNT, REGION, address(4001, "parcels"))


def test_queues_of_two_accounts_stay_apart() -> None:
    queues = QueuesByPath()
    queues.set_scoped(ACCOUNT, REGION, address(4001), "ours")

    assert queues.get_scoped("111111111111", REGION, address(4001)) is None
