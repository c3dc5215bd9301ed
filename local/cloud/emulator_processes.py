"""Emulator patch: limit the processes per queue to the number that one machine can use."""

from typing import Any

from ministack.services import lambda_svc

from local.cloud.stack import QUEUE_PROCESSES


class QueueProcessLimit:
    """At most as many processes per queue as are kept warm.

    Fault of ministack 1.5: it starts a process for each batch, up to a mapping's `MaximumConcurrency`. The template's
    hundred is right for Lambda, which has a machine for each; here a hundred terminal tasks start ten processes on a
    few cores, and all of them wait for seconds until the last one runs. A number that a template's parameter gives, it
    keeps as text, and its comparison fails.
    """

    def __init__(self) -> None:
        self._concurrency = lambda_svc._sqs_esm_concurrency  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        lambda_svc._sqs_esm_concurrency = self.concurrency  # noqa: SLF001

    def concurrency(self, *mapping: Any) -> int:
        """Return the number of processes that serve a queue."""
        return min(int(self._concurrency(*mapping)), QUEUE_PROCESSES)
