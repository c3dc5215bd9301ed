"""The emulator's queues after a restart on another port: the same queues, with their messages and their functions."""

import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from local.cloud.emulator_process import EmulatorProcess, free_port
from local.cloud.stack import StateDir, aws_client
from tests.polling import poll
from tests.ports import occupied

QUEUE: Final = "parcels"
DEAD_LETTERS: Final = "lost-parcels"


@pytest.fixture
def state_dir(tmp_path: Path) -> StateDir:
    """A folder whose emulator takes a port that nothing else here uses."""
    (tmp_path / "port").write_text(str(free_port()), encoding="utf-8")
    return StateDir(tmp_path)


@contextmanager
def running(state_dir: StateDir) -> Iterator[EmulatorProcess]:
    """Run the emulator until the block ends, then stop it so that it writes its state."""
    cloud = EmulatorProcess.start(state_dir)
    try:
        yield cloud
    finally:
        cloud.stop(state_dir)


def test_queue_keeps_its_messages_on_every_port(state_dir: StateDir) -> None:
    with running(state_dir) as cloud:
        first = cloud.port
        sqs = aws_client("sqs", cloud.url)
        old_url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        sqs.send_message(QueueUrl=old_url, MessageBody="sent on the first port")

    ports = {first}
    for _ in range(2):
        with occupied(_remembered(state_dir)), running(state_dir) as cloud:
            ports.add(cloud.port)
            sqs = aws_client("sqs", cloud.url)
            url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
            queues = sqs.list_queues()["QueueUrls"]
            waiting = [_count(sqs, address) for address in (url, old_url)]

        assert url == f"{cloud.url}/000000000000/{QUEUE}"
        assert queues == [url]
        assert waiting == [1, 1]
    assert len(ports) == 3


def test_function_is_still_fed_by_its_queue_on_another_port(state_dir: StateDir) -> None:
    with running(state_dir) as cloud:
        first = cloud.port
        sqs = aws_client("sqs", cloud.url)
        _attach_function(cloud, sqs.create_queue(QueueName=QUEUE)["QueueUrl"])

    with occupied(first), running(state_dir) as cloud:
        sqs = aws_client("sqs", cloud.url)
        url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="sent on the second port")
        poll(lambda: _count(sqs, url) == 0)

    assert cloud.port != first


def test_dead_letter_queue_is_found_on_another_port(state_dir: StateDir) -> None:
    with running(state_dir) as cloud:
        first = cloud.port
        sqs = aws_client("sqs", cloud.url)
        dead = sqs.create_queue(QueueName=DEAD_LETTERS)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 1}}'
        attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "0"}
        url = sqs.create_queue(QueueName=QUEUE, Attributes=attributes)["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="received too often")

    with occupied(first), running(state_dir) as cloud:
        sqs = aws_client("sqs", cloud.url)
        for _ in range(2):
            sqs.receive_message(QueueUrl=url)
        dead_letters = _count(sqs, dead)

    assert dead_letters == 1


def _remembered(state_dir: StateDir) -> int:
    return int((state_dir.path / "port").read_text(encoding="utf-8"))


def _attach_function(cloud: EmulatorProcess, url: str) -> None:
    """Create a function that takes whatever comes, and let the queue feed it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("consumer.py", "def handler(event, context):\n    return None\n")
    functions = aws_client("lambda", cloud.url)
    functions.create_function(
        FunctionName="consumer",
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role="arn:aws:iam::000000000000:role/consumer",
        Handler="consumer.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    attributes = aws_client("sqs", cloud.url).get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    functions.create_event_source_mapping(
        FunctionName="consumer", EventSourceArn=attributes["Attributes"]["QueueArn"], BatchSize=1
    )


def _count(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)
