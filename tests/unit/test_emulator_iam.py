"""The local cloud's emulator takes requests on this machine as encrypted in transit, as those to AWS are."""

import pytest
from ministack.core import iam_evaluator

from local.cloud.emulator_iam import IamTransport


@pytest.mark.parametrize(("value", "holds"), [("true", True), ("false", False)])
def test_condition_on_encryption_in_transit_is_met(monkeypatch: pytest.MonkeyPatch, value: str, *, holds: bool) -> None:
    monkeypatch.setattr(iam_evaluator, "_resolve_condition_key", iam_evaluator._resolve_condition_key)
    IamTransport().install()
    context = iam_evaluator.EvalContext(
        principal_arn="arn:aws:iam::000000000000:role/notifier",
        principal_type="AssumedRole",
        principal_account="000000000000",
        action="s3:PutObject",
        resource_arn="arn:aws:s3:::failures/records/notifier/1",
        region="us-east-1",
        service_context={},
    )

    assert iam_evaluator._conditions_met({"Bool": {"aws:SecureTransport": value}}, context) is holds
