"""A report as one would first write it with Powertools: routing, validation, one UpdateItem. The last report wins."""

import os
import time
from typing import Any, Literal

import boto3
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

app = APIGatewayHttpResolver(enable_validation=True)
client = boto3.client("dynamodb")


class Report(BaseModel):
    """What a worker sends."""

    status: Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
    attempt: int = 1
    message: str = ""


@app.post("/v1/executions/<execution_id>/tasks/<task_id>/status")
def report_status(execution_id: str, task_id: str, report: Report) -> dict[str, Any]:
    """Write what was reported."""
    client.update_item(
        TableName=os.environ["TABLE_NAME"],
        Key={"pk": {"S": f"EXEC#default#{execution_id}"}, "sk": {"S": f"TASK#{task_id}"}},
        UpdateExpression="SET #status = :status, #attempt = :attempt, #message = :message, #updatedAt = :now",
        ExpressionAttributeNames={
            "#status": "status",
            "#attempt": "attempt",
            "#message": "message",
            "#updatedAt": "updatedAt",
        },
        ExpressionAttributeValues={
            ":status": {"S": report.status},
            ":attempt": {"N": str(report.attempt)},
            ":message": {"S": report.message},
            ":now": {"N": str(time.time_ns() // 1_000_000)},
        },
    )
    return {"taskId": task_id, "status": report.status}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Serve one request."""
    return app.resolve(event, context)
