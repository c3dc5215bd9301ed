"""Consumption of a batch of the table's stream: what fails by itself is set aside alone, what is busy is retried."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from botocore.exceptions import BotoCoreError, ClientError

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.notifications.set_aside import SetAsideRecords
from tasklatch.notifications.stream import AnyChange, read_changes
from tasklatch.runtime.aws_errors import is_refused
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.failure_reason import failure_reason
from tasklatch.runtime.observability import SET_ASIDE_METRIC, logger, metrics

Process = Callable[[Sequence[AnyChange]], Collection[AnyChange] | None]


class StreamConsumer:
    """Consumer of batches of the table's stream.

    Parameters
    ----------
    process
        Processes changes, in order; must be safe to repeat. It returns those that a busy service left undone and that
        must come again, if any; it raises ServiceBusyError if all must.
    set_aside
        Store of the records that no attempt can process.
    """

    def __init__(self, process: Process, set_aside: SetAsideRecords) -> None:
        self._process = process
        self._set_aside = set_aside

    def consume(self, event: Mapping[str, Any]) -> PartialItemFailureResponse:
        """Process a batch; return the records that Lambda must deliver again, with all behind the first of them.

        Parameters
        ----------
        event
            An event of the stream's mapping, or of a redrive, which has ``redrive`` set: its records are stored
            already, so those that cannot be processed are returned instead of set aside.

        Raises
        ------
        BotoCoreError, ClientError
            If a service refuses all requests, as it does without permission: no record is at fault.
        """
        changes, rejected = read_changes(event["Records"])
        failed, refused = self._process_changes(changes)
        rejected |= refused
        if event.get("redrive"):
            failed += rejected
        elif rejected:
            failed += self._store([record for record in event["Records"] if _number(record) in rejected], rejected)
        return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}

    def _process_changes(self, changes: Mapping[str, AnyChange]) -> tuple[list[str], dict[str, str]]:
        """Process all changes at once or, if that fails for another reason than a busy service, one by one.

        Returns
        -------
        list, dict
            The numbers of those that must come again; the reasons, by number, of those that no attempt can process.
        """
        try:
            left = self._process(list(changes.values())) or ()
        except ServiceBusyError as busy:
            return _defer(list(changes), str(busy)), {}
        except Exception as error:
            if _is_of_a_service(error):
                raise
            return self._process_one_by_one(changes)
        return _defer([number for number, change in changes.items() if change in left]), {}

    def _process_one_by_one(self, changes: Mapping[str, AnyChange]) -> tuple[list[str], dict[str, str]]:
        refused: dict[str, str] = {}
        deferred: list[str] = []
        numbers = list(changes)
        for index, number in enumerate(numbers):
            try:
                left = self._process([changes[number]])
            except ServiceBusyError as busy:
                return _defer([*deferred, *numbers[index:]], str(busy)), refused
            except Exception as error:
                if _is_of_a_service(error):
                    raise
                logger.exception("change cannot be processed", extra={"sequence_number": number})
                refused[number] = failure_reason(error)
            else:
                deferred += [number] if left else []
        return _defer(deferred), refused

    def _store(self, records: Sequence[Mapping[str, Any]], reasons: Mapping[str, str]) -> list[str]:
        """Set records aside; return the numbers of those that the store did not take."""
        stored = map_concurrently(partial(self._put, reasons=reasons), records)
        if any(stored):
            metrics.add_metric(SET_ASIDE_METRIC, MetricUnit.Count, sum(stored))
        return [_number(record) for record, was_stored in zip(records, stored, strict=True) if not was_stored]

    def _put(self, record: Mapping[str, Any], reasons: Mapping[str, str]) -> bool:
        number = _number(record)
        try:
            self._set_aside.put(record, reasons[number])
        except (BotoCoreError, ClientError, ServiceBusyError):
            logger.exception("record not set aside", extra={"sequence_number": number})
            return False
        logger.error("record set aside", extra={"sequence_number": number})
        return True


def _number(record: Mapping[str, Any]) -> str:
    number: str = record["dynamodb"]["SequenceNumber"]
    return number


def _defer(numbers: list[str], detail: str = "a service is busy") -> list[str]:
    if numbers:
        logger.warning("changes deferred", extra={"changes": len(numbers), "detail": detail})
    return numbers


def _is_of_a_service(error: Exception) -> bool:
    """Return True if an error is a service's that refuses whatever it gets: the records are not its cause."""
    return isinstance(error, BotoCoreError) or (isinstance(error, ClientError) and not is_refused(error))
