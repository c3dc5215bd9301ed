"""The same with what it soon gets: a condition that keeps a success, a log line and a metric."""

import os
import time
from http import HTTPStatus
from typing import Any, Literal

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

logger = Logger()
metrics = Metrics()
app = APIGatewayHttpResolver(enable_validation=True)
client = boto3.client("dynamodb")


class Report(BaseModel):
    """What a worker sends."""

    status: Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
    attempt: int = 1
    message: str = ""


@app.post("/v1/executions/<execution_id>/tasks/<task_id>/status")
def report_status(execution_id: str, task_id: str, report: Report) -> Response[dict[str, Any]]:
    """Write what was reported, unless the task has succeeded."""
    try:
        client.update_item(
            TableName=os.environ["TABLE_NAME"],
            Key={"pk": {"S": f"EXEC#default#{execution_id}"}, "sk": {"S": f"TASK#{task_id}"}},
            UpdateExpression="SET #status = :status, #attempt = :attempt, #message = :message, #updatedAt = :now",
            ConditionExpression="#status <> :completed",
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
                ":completed": {"S": "COMPLETED"},
            },
        )
    except client.exceptions.ConditionalCheckFailedException:
        return _response(HTTPStatus.CONFLICT, task_id, "COMPLETED")
    return _response(HTTPStatus.OK, task_id, report.status)


def _response(code: HTTPStatus, task_id: str, status: str) -> Response[dict[str, Any]]:
    metrics.add_metric("Reports" if code == HTTPStatus.OK else "ReportsRefused", MetricUnit.Count, 1)
    logger.info("report", extra={"task_id": task_id, "task_status": status, "code": code.value})
    return Response(code.value, "application/json", {"taskId": task_id, "status": status})


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Serve one request."""
    return app.resolve(event, context)
