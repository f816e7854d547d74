"""Context in which a worker runs tasks: store, memory, and the flags that stop a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from mmflow.blocks.references import BlockStore
from mmflow.blocks.run_folder import RunFolder
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import Io
from mmflow.remote.options import RemoteOptions
from mmflow.worker.heap import HeapWatch
from mmflow.worker.kept import Kept

__all__ = ["Cancelled", "Flag", "ProcessApply", "WorkerContext"]


class Cancelled(Exception):  # noqa: N818  (a signal, not an error)
    """Signal inside a task that it was cancelled."""


class ProcessApply(Protocol):
    """Caller of functions in other processes."""

    def apply(
        self, function: Callable[[pa.RecordBatch], object], batch: pa.RecordBatch
    ) -> list[pa.RecordBatch]: ...


class Flag(Protocol):
    """Flag that another thread sets."""

    def is_set(self) -> bool: ...


_LOCAL = RemoteOptions()


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Context of `run_task`.

    Attributes:
        store: Block store for inputs and outputs.
        memory: Bytes of anonymous memory that one task may use.
        io: auto, mmap or pread.
        remote_options: Options of remote files.
        folder: Folder of the run for data that operators spill; made when its path is first asked for.
        cancelled: Set when the task should stop; checked between batches.
        processes: Processes for functions that want them; None: functions run in this process.
        worker: Name for metrics.
        stop_request: Set when the task should stop after its current batch (`Done.resume_offset`); only for tasks over
            one shard of a record format. None: never.
        heap: Makes allocators return freed memory where memory is short; None: they keep it.
        kept: What the thread keeps from one task of a stage to the next.
    """

    store: BlockStore
    memory: int
    io: Io
    folder: RunFolder
    cancelled: Flag
    processes: ProcessApply | None = None
    worker: str = ""
    stop_request: Flag | None = None
    remote_options: RemoteOptions = _LOCAL
    heap: HeapWatch | None = None
    kept: Kept = field(default_factory=Kept)

    @property
    def spill(self) -> Path:
        """Path of the folder for data that operators spill, which exists."""
        return self.folder.path

    def stop_requested(self) -> bool:
        """Return whether the task should stop here, and return what it has."""
        return self.stop_request is not None and self.stop_request.is_set()

    def check(self) -> None:
        """Check that the task was not cancelled, and return freed memory if it is time.

        Raises:
            Cancelled: The task was cancelled.
        """
        if self.cancelled.is_set():
            raise Cancelled
        if self.heap is not None:
            self.heap.check()
