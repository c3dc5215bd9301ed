"""Emulator patch: keep queues when the port changes."""

from typing import Any
from urllib.parse import urlsplit

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import sqs


class QueuesByPath(AccountRegionScopedDict):  # type: ignore[misc] # the emulator has no types
    """Queues by their addresses, without regard to host and port."""

    __slots__ = ()

    def _scoped(self, key: str) -> Any:
        return super()._scoped(current_address(key))

    def get_scoped(self, account_id: str, region: str, key: str, default: Any = None) -> Any:
        """Return a queue of any account and region."""
        return super().get_scoped(account_id, region, current_address(key), default)

    def set_scoped(self, account_id: str, region: str, key: str, value: Any) -> None:
        """Store a queue of any account and region."""
        super().set_scoped(account_id, region, current_address(key), value)

    def contains_scoped(self, account_id: str, region: str, key: str) -> bool:
        """Return True if the queue exists in the account and region."""
        return bool(super().contains_scoped(account_id, region, current_address(key)))

    def pop_scoped(self, account_id: str, region: str, key: str, *default: Any) -> Any:
        """Remove a queue of any account and region."""
        return super().pop_scoped(account_id, region, current_address(key), *default)

    def update(self, other: Any) -> None:
        """Load saved queues under their current addresses; two of the same name become one, with both's messages."""
        saved = AccountRegionScopedDict()
        saved.update(other)
        for (account_id, region, address), queue in saved.all_items():
            existing = self.get_scoped(account_id, region, address)
            if existing is None:
                self.set_scoped(account_id, region, address, {**queue, "url": current_address(address)})
            else:
                existing["messages"].extend(queue["messages"])


def current_address(address: str) -> str:
    """Return a queue's address on the emulator's current port; a text that is no address stays as it is."""
    path = urlsplit(address).path if "://" in address else ""
    account_id, _, name = path.strip("/").rpartition("/")
    return sqs._queue_url_for_account(account_id, name) if account_id else address  # noqa: SLF001 - it offers no other


class PortIndependentQueues:
    """Queues that are stored by the path of their address alone: account and name.

    Fault of ministack 1.5: it stores queues by their whole address, port included, and looks them up by the current
    address. Started on another port, it feeds no function from any earlier queue, and creates a second queue of the
    same name beside the first.
    """

    def install(self) -> None:
        """Patch the emulator."""
        sqs._queues = QueuesByPath()  # noqa: SLF001 - it has no other place for this
