"""Handling of the advance queue's messages: each kind by the part that it requests."""

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.child_tasks import ChildTasks
from tasklatch.workflow.closer import ExecutionCloser
from tasklatch.workflow.reopener import ExecutionReopener
from tasklatch.workflow.slot_assigner import SlotAssigner


class AdvanceHandler:
    """Handler of the messages of one invocation. Every message is safe to repeat."""

    def __init__(
        self,
        advancer: WorkflowAdvancer,
        closer: ExecutionCloser,
        reopener: ExecutionReopener,
        slot_assigner: SlotAssigner,
        child_tasks: ChildTasks,
    ) -> None:
        self._advancer = advancer
        self._child_tasks = child_tasks
        self._closer = closer
        self._reopener = reopener
        self._slot_assigner = slot_assigner
        self._checked: set[tuple[str, str]] = set()

    def handle(self, message: AdvanceMessage) -> None:
        """Handle one message.

        Raises
        ------
        NotFoundError
            If the task or the execution does not exist, or the execution is not committed yet.
        ServiceBusyError
            If a service stays busy until the deadline; the message must be delivered again.
        """
        tenant, execution_id, position = message.tenant, message.execution_id, message.position
        if message.kind is Advance.COMPLETE:
            self._complete(message)
        elif message.kind is Advance.CANCEL and position is not None:
            self._closer.cancel_open_tasks(tenant, execution_id, position)
        elif message.kind in (Advance.CANCEL, Advance.RESUME):
            self._resume_or_cancel(message)
        elif message.kind is Advance.SCHEDULE:
            self._reopener.schedule(tenant, execution_id, position)
        elif message.kind is Advance.SLOT:
            self._slot_assigner.assign(tenant, message.concurrency_key, execution_id)
        elif message.kind is Advance.REOPEN and position is not None:
            self._reopener.reopen(tenant, execution_id, position)
        elif message.kind is Advance.CHILDREN:
            self._child_tasks.create(tenant, execution_id, message.task_id)
        elif message.kind is Advance.TASK:
            self._advance(message)
        else:
            raise ValueError(f"no position in {message}")

    def _advance(self, message: AdvanceMessage) -> None:
        may_be_complete = self._advancer.schedule_dependents(
            message.tenant, message.execution_id, message.task_id, is_final=message.is_final
        )
        if may_be_complete:
            self._complete(message)

    def _resume_or_cancel(self, message: AdvanceMessage) -> None:
        """Cancel what is open in an execution that has ended, unless what failed it has succeeded since.

        A success may have come, and have been published, between the read and the write of what failed it.
        """
        tenant, execution_id = message.tenant, message.execution_id
        if not self._reopener.resume_if_rescued(tenant, execution_id, message.position):
            self._closer.cancel_open_tasks(tenant, execution_id)

    def _complete(self, message: AdvanceMessage) -> None:
        """End an execution if it is finished; one check covers all messages that came with it."""
        execution = (message.tenant, message.execution_id)
        if message.position is None and execution in self._checked:
            return
        if self._closer.complete_if_finished(*execution, message.position):
            self._reopener.resume_if_rescued(*execution)
        self._checked.add(execution)


def short_first(body: str) -> int:
    """Return the rank of a message: what schedules tasks first, then what may go over a whole execution."""
    return 0 if '"kind":"task"' in body else 1
