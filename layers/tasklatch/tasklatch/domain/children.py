"""Tasks that bring more tasks, their children: as a list that is declared, or that a reference gives at run time."""

from dataclasses import dataclass
from enum import StrEnum


class Contract(StrEnum):
    """Contract in whose form the children are defined."""

    NATIVE = "native"
    COGNITE = "cognite"


@dataclass(frozen=True, slots=True)
class ChildrenSource:
    """Form of the definitions of a task's children, which are in its input.

    Attributes
    ----------
    is_declared
        True if the definitions are in the input as they were sent; references in them are resolved for each child.
        False if a reference gives the list once the task starts.
    max_tasks
        The most tasks that lists of references may bring to one execution, all together; None without a limit.
    """

    contract: Contract
    is_declared: bool
    max_tasks: int | None = None
