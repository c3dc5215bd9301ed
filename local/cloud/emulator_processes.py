"""Emulator patch: limit the processes per queue to the number that one machine can use.

ministack 1.5 starts a process for each batch, up to a mapping's `MaximumConcurrency`. A hundred can be right
for Lambda, which has a machine for each; here a hundred terminal tasks start ten processes on a few cores, and all of
them wait for seconds until the last one runs. A number that a template's parameter gives, ministack keeps as text, and
its comparison fails.
"""

from typing import Any

from ministack.services import lambda_svc

from local.cloud.stack import QUEUE_PROCESSES


def bound_queue_processes() -> None:
    """Patch the emulator to serve a queue with at most as many processes as are kept warm."""
    allowed = lambda_svc._sqs_esm_concurrency  # noqa: SLF001 - it has no other place for this

    def bounded(*mapping: Any) -> int:
        return min(int(allowed(*mapping)), QUEUE_PROCESSES)

    lambda_svc._sqs_esm_concurrency = bounded  # noqa: SLF001
