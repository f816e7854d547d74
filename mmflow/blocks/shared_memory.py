"""Blocks that the processes of one host find by path: files in memory (/dev/shm), beyond the budget on disk.

    /dev/shm/mmflow-<run>-<pid>/<n>.block     up to the budget of the store
    <spill>/mmflow-<run>-<pid>/<n>.block      the rest

A file holds blocks, one behind the other, each a `Span` of it: what a Dask worker keeps of a task, for tasks that come
later, in whichever process. (Blocks that go to one process, now, need no name: `blocks.memfd`.)

Invariant: all files lie in the owner's two folders, which go with the owner (see `blocks.run_folder`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import zlib
from collections.abc import Iterable

import pyarrow as pa

from mmflow.blocks.files import BlockWriter, Tier
from mmflow.blocks.references import Span
from mmflow.blocks.run_folder import RunFolder, sweep
from mmflow.blocks.streams import read_range
from mmflow.errors import BlockLostError
from mmflow.mapping.system.host import read_boot_id

__all__ = ["SharedStore", "read_span", "shared_host", "shared_memory_folder"]

_SHM = "/dev/shm"  # noqa: S108  (its files are memory; the run's folder in it is private)
_SETTING = "set spill_dir (MMFLOW_SPILL_DIR) to a larger disk, or give more memory (--memory, MMFLOW_MEMORY)"


#: Arrow wants its buffers aligned to this, and they are within a stream.
_ALIGNED = 64


def shared_memory_folder() -> str | None:
    """Return the folder whose files are memory on this machine; None if there is none."""
    return _SHM if os.path.isdir(_SHM) and os.access(_SHM, os.W_OK | os.X_OK) else None


def shared_host() -> str:
    """Return a name that is equal in processes that see the same shared memory: this boot, and this /dev/shm."""
    folder = shared_memory_folder()
    return f"{read_boot_id()}-{'' if folder is None else os.stat(folder).st_dev}"


class SharedStore:
    """Store of blocks of this process that other processes find by path. Thread-safe.

    Args:
        run: Name of the run.
        budget: Bytes that it may keep in memory.
        spill_dir: Parent of the run's folder on disk.
        memory_dir: Parent of its folder in memory; None: everything goes to disk.

    Raises:
        EngineError: The folders can't be made.
    """

    def __init__(
        self, run: str, budget: int, spill_dir: str | os.PathLike[str], memory_dir: str | None = _SHM
    ) -> None:
        parents = [spill_dir] if memory_dir is None else [memory_dir, spill_dir]
        for parent in parents:
            sweep(parent)
        self._owned: list[RunFolder] = []
        try:
            for parent in parents:
                self._owned.append(RunFolder(parent, run))
        except BaseException:
            self.close()
            raise
        paths = [os.fspath(f.path) for f in self._owned]
        self._memory = None if memory_dir is None else paths[0]
        self._disk = paths[-1]
        self._budget = budget
        self._used = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def put(self, streams: Iterable[pa.Buffer]) -> tuple[str, list[Span]]:
        """Keep blocks, given as the bytes of IPC streams, in one file.

        Returns:
            Its path, and where in it each block is. No blocks: no file, and an empty path.

        Raises:
            EngineError: No room left in memory nor on disk.
        """
        writer: BlockWriter | None = None
        spans: list[Span] = []
        try:
            for stream in streams:
                writer = writer or self._open()
                spans.append(Span(writer.tell(), stream.size, zlib.crc32(stream)))
                writer.write(stream)
                writer.write(bytes(-writer.tell() % _ALIGNED))
            if writer is None:
                return "", []
            nbytes = writer.finish(0)  # which may move the file on to disk
            self._count(writer.path, nbytes)
        except BaseException:
            if writer is not None:
                writer.discard()
            raise
        return writer.path, spans

    def _open(self) -> BlockWriter:
        tiers = [Tier(self._disk, None, _SETTING)]  # each span has a checksum
        if self._memory is not None:
            tiers.insert(0, Tier(self._memory, self._room))
        return BlockWriter(f"{next(self._numbers)}.block", tiers)

    def _count(self, path: str, nbytes: int) -> None:
        """Count bytes that came, or went (less than 0), if the file is in memory."""
        if self._memory is not None and os.path.dirname(path) == self._memory:
            with self._lock:
                self._used += nbytes

    def _room(self, nbytes: int) -> bool:
        with self._lock:
            return self._used + nbytes <= self._budget

    def delete(self, path: str) -> None:
        """Remove a file of this store; those who mapped it keep what they have."""
        with contextlib.suppress(FileNotFoundError):
            nbytes = os.stat(path).st_size
            os.unlink(path)
            self._count(path, -nbytes)

    def close(self) -> None:
        """Remove the folders, and all in them. Idempotent."""
        for folder in self._owned:
            folder.close()
        self._owned = []


def read_span(path: str, span: Span) -> pa.Buffer:
    """Return the bytes of a block that `put` stored: mapped, or read if they are few.

    Raises:
        FileNotFoundError: The file is gone, or is another host's.
        BlockLostError: It is cut short, or damaged.
    """
    found = read_range(path, span.offset, span.length)
    if found.size != span.length:
        raise BlockLostError(f"a file of intermediate rows is cut short: {path}", path=path)
    if zlib.crc32(found) != span.crc:
        raise BlockLostError(
            f"a file of intermediate rows was damaged: {path}: check disk and memory", path=path
        )
    return found
