"""Lineage of blocks, by which lost ones are recomputed.

    BlockProducer (blocks of a task) --task--> DaskBlocks of its inputs --producer--> BlockProducer ...

A task is deterministic: run again, it gives the same blocks. A `DaskBlock` holds all tasks that led to it (not their
rows), so blocks that were lost with a machine are recomputed on others, however far back that goes.

Invariant: a `BlockProducer` has its blocks (`place`) as long as one of them is not deleted, or a task that reads them
is under way.
"""

from __future__ import annotations

import itertools

from mmflow.blocks.references import DaskBlock, Place
from mmflow.plan.stages import Functions
from mmflow.plan.tasks import Task

__all__ = ["BlockProducer", "get_producer", "input_producers"]


class BlockProducer:
    """Task whose blocks are in use, and where these are.

    Attributes:
        task: Task that computes the blocks.
        functions: UDFs of the task.
        live: Number of blocks that were not deleted.
        place: Place of the blocks; None: they were dropped, or lost.
        held: Future that keeps the blocks where they are.
        users: Number of tasks under way, or waiting, that read the blocks.
        recomputing: Whether the task runs again.
        failures: Number of failed recomputations.
    """

    __slots__ = (
        "__weakref__", "failures", "functions", "held", "live", "place", "recomputing", "task", "users",
    )  # fmt: skip

    def __init__(self, task: Task, functions: Functions, live: int, place: Place, held: object) -> None:
        self.task = task
        self.functions = functions
        self.live = live
        self.place: Place | None = place
        self.held: object | None = held
        self.users = 0
        self.recomputing = False
        self.failures = 0

    def drop(self) -> None:
        """Drop the blocks."""
        self.place = self.held = None

    def drop_if_unused(self) -> None:
        """Drop the blocks if no task will read them."""
        if self.live <= 0 and not self.users:
            self.drop()


def get_producer(block: DaskBlock) -> BlockProducer:
    """Return the producer of a block."""
    assert isinstance(block.producer, BlockProducer)
    return block.producer


def input_producers(task: Task) -> list[BlockProducer]:
    """Return the producers of the blocks that a task reads."""
    read = itertools.chain.from_iterable(task.blocks.values())
    return list(dict.fromkeys(get_producer(ref) for ref in read if isinstance(ref, DaskBlock)))
