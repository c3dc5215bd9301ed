"""Reports in the requests of a case's clients."""

from collections.abc import Iterable, Iterator, Mapping

from tasklatch.api.v1.reports.models import BatchedReportBody, ReportBody
from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.report import Report
from tests.model_checking.case import EXECUTION, TENANT, Case, Request
from tests.model_checking.checks import ClientResponse


class ClientReports:
    """Reports of all clients of a case."""

    def __init__(self, case: Case) -> None:
        self._requests = case.clients

    def __iter__(self) -> Iterator[Report]:
        for requests in self._requests.values():
            for request in requests:
                yield from reports_of(request).values()

    def of_task(self, task_id: str) -> list[Report]:
        """Return the reports on a task."""
        return [report for report in self if report.task_id == task_id]

    def of_request(self, request_id: str | None) -> Report | None:
        """Return the report of a request id (client, step, attempt, and index in a batch); None if it has none."""
        client, _, step = (request_id or "").rpartition("-")[0].rpartition("-")
        if request_id is None or client not in self._requests:
            return None
        _, hash_sign, index = request_id.partition("#")
        return reports_of(self._requests[client][int(step) - 1]).get(hash_sign + index)


def reports_of(request: Request) -> Mapping[str, Report]:
    """Return the reports of a request, by the suffix of their request ids; empty for another request."""
    if request.route.endswith("/status"):
        try:
            return {"": ReportBody.model_validate(request.body).report(TENANT, EXECUTION, request.path["taskId"])}
        except AttemptNotOpenError:
            # It names an attempt at another task, and so concerns none.
            return {}
    if request.route.endswith("/statuses"):
        bodies = [BatchedReportBody.model_validate(body) for body in request.body["statuses"]]
        return {f"#{index}": body.report(TENANT, EXECUTION, body.taskId) for index, body in enumerate(bodies)}
    return {}


def reports_with_responses(response: ClientResponse) -> Iterable[tuple[ClientResponse, Report]]:
    """Yield each report of a request, with the response to it."""
    for suffix, report in reports_of(response.request).items():
        if not suffix:
            yield response, report
            continue
        result = response.body["results"][int(suffix[1:])]
        yield (
            ClientResponse(
                response.request,
                response.request_id + suffix,
                result["status"],
                {**result, **result.get("problem", {})},
            ),
            report,
        )
