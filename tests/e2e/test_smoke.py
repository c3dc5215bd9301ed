"""The smoke checks against the local cloud, as `make smoke` runs them."""

import pytest

from local.cloud.stack import Stack, StateDir
from local.smoke.runner import CHECKS, run_smoke


@pytest.fixture(autouse=True)
def empty_queues(stack: Stack) -> None:
    """Purge the dead-letter queues: other tests send messages that no attempt can process."""
    sqs = stack.aws("sqs")
    for name, url in stack.queues.items():
        if name.endswith("Failures"):
            sqs.purge_queue(QueueUrl=url)


def test_local_cloud_keeps_its_promises(state_dir: StateDir, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_smoke(state_dir, None)

    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == f"{len(CHECKS)} ok, 0 failed, 0 skipped", shown
    assert status == 0
