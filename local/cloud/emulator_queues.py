"""Lets the emulator find its queues again on another port.

ministack 1.5 files queues under their whole address, port included, and looks them up by today's address. Started on
another port, it feeds no function from any queue of before, and makes a second queue of the same name beside the first.
Here a queue is filed by the path of its address alone, which is its account and its name.
"""

from typing import Any
from urllib.parse import urlsplit

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import sqs


class QueuesByPath(AccountRegionScopedDict):  # type: ignore[misc] # the emulator has no types
    """Queues by their addresses, of which host and port do not count."""

    __slots__ = ()

    def _scoped(self, key: str) -> Any:
        return super()._scoped(current_address(key))

    def get_scoped(self, account_id: str, region: str, key: str, default: Any = None) -> Any:
        """Return a queue of any account and region."""
        return super().get_scoped(account_id, region, current_address(key), default)

    def set_scoped(self, account_id: str, region: str, key: str, value: Any) -> None:
        """File a queue of any account and region."""
        super().set_scoped(account_id, region, current_address(key), value)

    def contains_scoped(self, account_id: str, region: str, key: str) -> bool:
        """Tell whether there is such a queue in any account and region."""
        return bool(super().contains_scoped(account_id, region, current_address(key)))

    def pop_scoped(self, account_id: str, region: str, key: str, *default: Any) -> Any:
        """Remove a queue of any account and region."""
        return super().pop_scoped(account_id, region, current_address(key), *default)

    def update(self, other: Any) -> None:
        """Take in saved queues under today's addresses; two of one name become one, with the messages of both."""
        saved = AccountRegionScopedDict()
        saved.update(other)
        for (account_id, region, address), queue in saved.all_items():
            existing = self.get_scoped(account_id, region, address)
            if existing is None:
                self.set_scoped(account_id, region, address, {**queue, "url": current_address(address)})
            else:
                existing["messages"].extend(queue["messages"])


def current_address(address: str) -> str:
    """Return the address that a queue has on the emulator's port of today; what is no address stays as it is."""
    path = urlsplit(address).path if "://" in address else ""
    account_id, _, name = path.strip("/").rpartition("/")
    return sqs._queue_url_for_account(account_id, name) if account_id else address  # noqa: SLF001 - it offers no other


def keep_queues_on_any_port() -> None:
    """Let the emulator file its queues by path."""
    sqs._queues = QueuesByPath()  # noqa: SLF001 - it has no other place for this
