"""How blocks came to be, so that lost ones can be made again.

    Made (blocks of a task) --task--> BlockRefs of its inputs --token--> Made ...

A task is deterministic: run again, it gives the same blocks. Whoever holds a `BlockRef` holds all that led to it
(the tasks, not their rows), so what is lost with a machine is made again on others, however far back that goes.

Invariant: a `Made` has its blocks (`place`) for as long as one of them is not deleted, or a task that reads them is
under way.
"""

from __future__ import annotations

from typing import Any

from mmflow.exec.kept import KeptBlock
from mmflow.exec.stage import Functions
from mmflow.exec.task import Task

__all__ = ["Made", "inputs"]


class Made:
    """The blocks of one task.

    Attributes:
        task: Which made them.
        functions: Its UDFs.
        live: Blocks that were not deleted.
        place: Where they are; None: let go, or lost.
        held: What keeps them there (the engine's business).
        users: Tasks under way, or waiting, that read them.
        remaking: The task runs again.
        failures: How often that failed.
    """

    __slots__ = (
        "__weakref__", "failures", "functions", "held", "live", "place", "remaking", "task", "users",
    )  # fmt: skip

    def __init__(self, task: Task, functions: Functions, live: int, place: Any, held: Any) -> None:
        self.task = task
        self.functions = functions
        self.live = live
        self.place: Any | None = place
        self.held: Any | None = held
        self.users = 0
        self.remaking = False
        self.failures = 0

    def let_go(self) -> None:
        """Drop the blocks."""
        self.place = self.held = None

    def let_go_if_unused(self) -> None:
        """Drop the blocks if nobody will read them."""
        if self.live <= 0 and not self.users:
            self.let_go()


def inputs(task: Task) -> list[Made]:
    """What made the blocks that a task reads."""
    read = (ref.token for refs in task.blocks.values() for ref in refs)
    return list(dict.fromkeys(token.payload for token in read if not isinstance(token, KeptBlock)))
