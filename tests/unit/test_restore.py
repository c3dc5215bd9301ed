"""What comes back from a restored table: what the ledger lost, and no success is lost to it."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from local import restore
from local.cloud.stack import Stack, StateDir
from local.restore import COPIED, PRESENT, SUCCESS_RESTORED, copy_missing, run_restore

LEDGER = "ledger"
COPY = "ledger-at-noon"
Item = dict[str, Any]


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("dynamodb")
        for table in (LEDGER, COPY):
            client.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            )
        yield client


def item(pk: str, sk: str, **strings: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}, **{name: {"S": value} for name, value in strings.items()}}


def task(name: str, status: str, version: int) -> Item:
    return {**item("EXEC#default#night", f"TASK#{name}", status=status), "version": {"N": str(version)}}


def fill(dynamodb: Any, table: str, *items: Item) -> None:
    for entry in items:
        dynamodb.put_item(TableName=table, Item=entry)


def rows(dynamodb: Any, table: str = LEDGER) -> list[Item]:
    return sorted(dynamodb.scan(TableName=table)["Items"], key=lambda entry: (entry["pk"]["S"], entry["sk"]["S"]))


def test_what_the_ledger_has_lost_comes_back(dynamodb: Any) -> None:
    lost = [task("expose", "IN_PROGRESS", 3), item("EXEC#default#night", "EXEC", status="RUNNING")]
    lost += [item("HIST#default#night#expose", "0000000001"), item("EXEC#default#night", "OUTPUT#expose#1#f")]
    fill(dynamodb, COPY, *lost)

    counts = copy_missing(dynamodb, COPY, LEDGER)

    assert counts == {COPIED: 4}
    assert rows(dynamodb) == rows(dynamodb, COPY)


def test_execution_comes_after_all_else(dynamodb: Any) -> None:
    fill(dynamodb, COPY, item("EXEC#a#a", "EXEC"), item("EXEC#a#a", "WAITS#t"), item("EXEC#z#z", "INPUT#t"))
    order: list[str] = []
    put = restore._put

    def note(client: Any, ledger: str, entry: Item, **condition: Any) -> bool:
        order.append(entry["sk"]["S"])
        return put(client, ledger, entry, **condition)

    with patch.object(restore, "_put", note):
        copy_missing(dynamodb, COPY, LEDGER)

    assert (len(order), order[-1]) == (3, "EXEC")


@pytest.mark.parametrize("since", ["COMPLETED", "FAILED", "SCHEDULED"])
def test_what_was_recorded_since_stays(since: str, dynamodb: Any) -> None:
    fill(dynamodb, COPY, task("expose", "FAILED", 3), item("EXEC#default#night", "WAITS#expose", left="2"))
    fill(dynamodb, LEDGER, task("expose", since, 5), item("EXEC#default#night", "WAITS#expose", left="1"))
    before = rows(dynamodb)

    counts = copy_missing(dynamodb, COPY, LEDGER)

    assert counts == {PRESENT: 2}
    assert rows(dynamodb) == before


def test_success_of_the_copy_wins_over_another_end_with_a_version_of_its_own(dynamodb: Any) -> None:
    fill(dynamodb, COPY, task("expose", "COMPLETED", 4))
    fill(dynamodb, LEDGER, task("expose", "FAILED", 7))

    counts = copy_missing(dynamodb, COPY, LEDGER)

    assert counts == {SUCCESS_RESTORED: 1}
    assert rows(dynamodb) == [task("expose", "COMPLETED", 8)]


def test_report_that_arrives_meanwhile_is_not_overwritten(dynamodb: Any) -> None:
    fill(dynamodb, COPY, task("expose", "COMPLETED", 4))
    fill(dynamodb, LEDGER, task("expose", "FAILED", 7))
    put = restore._put
    raced: list[bool] = []

    def race(client: Any, ledger: str, entry: Item, **condition: Any) -> bool:
        if ":version" in str(condition) and not raced:
            raced.append(True)
            fill(dynamodb, LEDGER, task("expose", "COMPLETED", 8))
        return put(client, ledger, entry, **condition)

    with patch.object(restore, "_put", race):
        counts = copy_missing(dynamodb, COPY, LEDGER)

    assert (counts, raced) == ({PRESENT: 1}, [True])
    assert rows(dynamodb) == [task("expose", "COMPLETED", 8)]


@pytest.mark.parametrize("pk", ["TICKET#t", "CONNECTION#c", "LIVE#default#night", "RECONCILER"])
def test_what_meant_something_only_then_is_left_out(pk: str, dynamodb: Any) -> None:
    fill(dynamodb, COPY, item(pk, "x"))

    assert copy_missing(dynamodb, COPY, LEDGER) == {}
    assert rows(dynamodb) == []


def test_command_says_what_was_done(
    dynamodb: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(dynamodb, COPY, task("expose", "COMPLETED", 4))
    Stack("", "", "", "", LEDGER, {}, "", "").save(StateDir(tmp_path))
    monkeypatch.setattr(Stack, "aws", lambda _stack, _service: dynamodb)

    assert run_restore(StateDir(tmp_path), None, COPY) == 0
    assert capsys.readouterr().out == "1 copied, 0 successes restored, 0 already there\n"
    assert run_restore(StateDir(tmp_path), None, "no-such-table") == 1
    assert "can be started again" in capsys.readouterr().err


def test_ledger_of_a_stack_on_aws_is_in_its_outputs(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def client(self, service: str) -> Any:
            return dynamodb if service == "dynamodb" else self

        def describe_stacks(self, **requested: str) -> Item:
            if requested != {"StackName": "night"}:
                raise ClientError({"Error": {"Code": "ValidationError", "Message": "no"}}, "DescribeStacks")
            outputs = [("ApiUrl", "https://api"), ("TableName", LEDGER)]
            return {"Stacks": [{"Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs]}]}

    monkeypatch.setattr(boto3, "Session", Session)
    fill(dynamodb, COPY, task("expose", "COMPLETED", 4))

    assert run_restore(StateDir(), "night", COPY) == 0
    assert run_restore(StateDir(), "another", COPY) == 2
    assert rows(dynamodb) == [task("expose", "COMPLETED", 4)]
