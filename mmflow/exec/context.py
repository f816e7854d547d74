"""What a worker has at hand to run tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mmflow.exec.heap import HeapWatch
from mmflow.exec.task import BlockStore
from mmflow.mapping import Io
from mmflow.remote.reach import Reach

__all__ = ["Cancelled", "ProcessApply", "WorkerContext"]


class Cancelled(Exception):  # noqa: N818  (a signal, not an error)
    """Raised inside a task that was told to stop."""


class ProcessApply(Protocol):
    """Calls a function in another process."""

    def apply(self, function: Any, batch: pa.RecordBatch) -> list[pa.RecordBatch]: ...


class _Flag(Protocol):
    def is_set(self) -> bool: ...


_LOCAL = Reach()


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Handed to `run_task`.

    Attributes:
        store: Where outputs go and inputs come from.
        memory: Bytes of anonymous memory that one task may use.
        io: auto, mmap or pread.
        reach: How remote files are reached.
        spill: Folder of the run for what operators spill; exists.
        cancelled: Set when the task should stop; looked at between batches.
        processes: For functions that want processes; None: run them here.
        worker: Name for metrics.
        hand_in: Set when the task should end after the batch that it is at, and give what it has (`Done.rest`); only of
            tasks over one shard of a record format. None: never.
        heap: Has allocators give back what they hold, where memory is short; None: they keep it.
    """

    store: BlockStore
    memory: int
    io: Io
    spill: Path
    cancelled: _Flag
    processes: ProcessApply | None = None
    worker: str = ""
    hand_in: _Flag | None = None
    reach: Reach = _LOCAL
    heap: HeapWatch | None = None

    def handing_in(self) -> bool:
        """Should the task end here, and give what it has?"""
        return self.hand_in is not None and self.hand_in.is_set()

    def check(self) -> None:
        """Stop here if the task was cancelled.

        Raises:
            Cancelled: It was.
        """
        if self.cancelled.is_set():
            raise Cancelled
        if self.heap is not None:
            self.heap.look()
