"""Lets the emulator feed a function's queue to as many processes as one machine can use.

ministack 1.5 starts a process for each batch that a mapping's `MaximumConcurrency` admits. The template's hundred is
right for Lambda, which has a machine for each; here a hundred settled tasks start ten processes on a few cores, and
everybody waits for seconds until the last of them runs.
"""

from typing import Any

from ministack.services import lambda_svc

from local.cloud.stack import QUEUE_PROCESSES


def bound_queue_processes() -> None:
    """Let no queue be served by more processes than are kept warm."""
    allowed = lambda_svc._sqs_esm_concurrency  # noqa: SLF001 - it has no other place for this

    def bounded(*mapping: Any) -> int:
        concurrency: int = allowed(*mapping)
        return min(concurrency, QUEUE_PROCESSES)

    lambda_svc._sqs_esm_concurrency = bounded  # noqa: SLF001
