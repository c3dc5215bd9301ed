"""Text of a schedule that breaks a promise: which calls are made by whom, in order, with their results."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tasklatch.dynamodb import keys
from tests.model_checking.case import Case
from tests.model_checking.simulated_cloud import Cloud, Message
from tests.model_checking.state import Step
from tests.model_checking.transitions import CONSUMERS, QUEUES


class ScheduleFormatter:
    """Formatter of the schedules of one exploration."""

    def __init__(self, case: Case, cloud: Cloud) -> None:
        self._case = case
        self._cloud = cloud
        self._clients = tuple(case.clients)

    def format_steps(self, steps: Iterable[Step], *, at_rest: bool) -> str:
        """Return a numbered line for each series of steps by the same source.

        Parameters
        ----------
        at_rest
            True if nothing more happens after the last step.
        """
        groups: list[tuple[str, list[str]]] = []
        for step in steps:
            source, action = self._line(step)
            if groups and source and groups[-1][0] == source:
                groups[-1][1].append(action)
            else:
                groups.append((source, [action]))
        if at_rest:
            groups.append(("", ["nothing more happens by itself"]))
        return "\n".join(
            f"{index:4}. {source + ': ' if source else ''}{'; '.join(actions)}"
            for index, (source, actions) in enumerate(groups, 1)
        )

    def _line(self, step: Step) -> tuple[str, str]:
        """Return one line of a schedule: source and action."""
        who = self._who(step.who)
        if step.part is None:
            return who, step.what
        call = self._cloud.calls[step.part]
        what = f"{call.operation} {_subject(call.arguments)}".strip()
        if step.what == "lands":
            return "", f"a call that was under way lands: {what}{self._outcome(step)}"
        if step.what:
            return who, f"{step.what}, {what} under way"
        return who, f"{what}{self._outcome(step)}"

    def _outcome(self, step: Step) -> str:
        if step.answer is None:
            return ""
        read = json.loads(self._cloud.answers[step.answer])
        item = read["answer"].get("Attributes") or read["answer"].get("Item") or {}
        stands = " ".join(
            f"{name} {next(iter(item[name].values()))}" for name in ("status", "attempt", "version") if name in item
        )
        messages = " ".join(filter(None, (read["error"], f"({stands})" if stands else "")))
        return f" -> {messages}" if messages else ""

    def _who(self, source: tuple[Any, ...]) -> str:
        if not source:
            return ""
        if source[0] == "stream":
            item, consumer = divmod(source[1], len(CONSUMERS))
            return f"{CONSUMERS[consumer]} on {self._cloud.followed[item][1]}"
        if source[0] == "queue":
            message: Message = source[1]
            read = json.loads(self._cloud.texts[message.text])
            about = read.get("detail", read)
            names = [about.get(name) for name in ("kind", "taskId", "status", "attempt")]
            return f"{QUEUES[message.queue]} on {' '.join(str(name) for name in names if name is not None)}"
        _, client, step, attempt = source
        request = self._case.clients[self._clients[client]][step]
        return f"{self._clients[client]} ({request.summary}{f', attempt {attempt + 1}' if attempt else ''})"


def _subject(arguments: Mapping[str, Any]) -> str:
    if "Statement" in arguments:
        sort_keys = [
            parameter["S"] for parameter in arguments["Parameters"] if str(parameter.get("S", "")).startswith("TASK#")
        ]
        return f"{', '.join(sort_keys)} to {arguments['Parameters'][0].get('S', '')}"
    if "TransactItems" in arguments:
        return ", ".join(action["Update"]["Key"][keys.SK]["S"] for action in arguments["TransactItems"])
    if "Entries" in arguments:
        return ", ".join(str(entry.get("DetailType", "")) for entry in arguments["Entries"])
    key = arguments.get("Key") or arguments.get("Item") or {}
    values = arguments.get("ExpressionAttributeValues", {})
    result = key.get(keys.SK) or values.get(":prefix") or values.get(":pk") or values.get(":key") or {}
    status = values.get(":status", {}).get("S")
    return f"{result.get('S', '')}{f' to {status}' if status else ''}"
