"""Blocks that processes of one host share: files in memory (/dev/shm), beyond the budget on disk.

    /dev/shm/mmflow-<run>-<pid>/<writer>-<n>.block     up to the budget of each writer
    <spill>/mmflow-<run>-<pid>/<writer>-<n>.block      the rest

A file holds one block, or (`put_streams`) all blocks of a task, one behind the other, each a `Span` of it.
A token is the path of a file, so it means the same in every process of the host. The process that makes the
store owns it; a pickled copy attaches to it: puts, gets and deletes, but leaves folders alone.

Invariant: all files lie in the owner's two folders, which go with the owner (see `store.folder`); so
nothing that a writer left when it died outlives the run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from mmflow.errors import BlockLostError
from mmflow.exec.streams import read_range
from mmflow.exec.task import BlockRef
from mmflow.store.files import BlockWriter, Tier, read_block, write_block
from mmflow.store.folder import RunFolder, sweep

__all__ = ["SharedStore", "Span", "read_span", "shared_memory_folder"]

_SHM = "/dev/shm"  # its files are memory; the run's folder in it is private
_MEMORY_SETTING = "give more memory (--memory, MMFLOW_MEMORY)"
_DISK_SETTING = "set spill_dir (MMFLOW_SPILL_DIR) to a folder on a larger disk, or " + _MEMORY_SETTING


#: Arrow wants its buffers aligned to this, and they are within a stream.
_ALIGNED = 64


class Span(NamedTuple):
    """A block in a file of several: bytes `[offset, offset + length)`, and their CRC-32."""

    offset: int
    length: int
    crc: int


def shared_memory_folder() -> str | None:
    """Where files are memory on this machine; None where there is no such place."""
    return _SHM if os.path.isdir(_SHM) and os.access(_SHM, os.W_OK | os.X_OK) else None


class SharedStore:
    """A `BlockStore` for the processes of one host. Thread-safe.

    Args:
        run: Name of the run.
        budget: Bytes that this process, and each one that attaches, may keep in memory.
        spill_dir: Where the run's folder on disk is made.
        memory_dir: Where its folder in memory is made; None: everything goes to disk.

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
        self._attach(budget, None if memory_dir is None else paths[0], paths[-1])

    def _attach(self, budget: int, memory: str | None, disk: str) -> None:
        self._budget = budget
        self._memory = memory
        self._disk = disk
        self._used = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._writer = f"{os.getpid()}-{os.urandom(3).hex()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _attached, (self._budget, self._memory, self._disk)

    @property
    def folders(self) -> tuple[str, ...]:
        """The run's folders, memory first."""
        return (self._disk,) if self._memory is None else (self._memory, self._disk)

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        """See `BlockStore.put`."""
        writer = self._open()
        rows, nbytes = write_block(writer, batches, schema)
        self._count(writer.path, nbytes)
        return BlockRef(writer.path, rows, nbytes)

    def put_streams(self, streams: Iterable[pa.Buffer]) -> tuple[str, list[Span]]:
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
            self._count(writer.path, writer.finish(0))
        except BaseException:
            if writer is not None:
                writer.discard()
            raise
        return writer.path, spans

    def _open(self) -> BlockWriter:
        tiers = [Tier(self._disk, None, checked=True, setting=_DISK_SETTING)]
        if self._memory is not None:
            tiers.insert(0, Tier(self._memory, self._room, checked=False, setting=_MEMORY_SETTING))
        return BlockWriter(f"{self._writer}-{next(self._numbers)}.block", tiers)

    def _count(self, path: str, nbytes: int) -> None:
        if self._memory is not None and path.startswith(self._memory):
            with self._lock:
                self._used += nbytes

    def _room(self, nbytes: int) -> bool:
        with self._lock:
            if self._used and self._used + nbytes > self._budget and self._memory is not None:
                # Others may have deleted blocks of ours: look before giving memory up.
                self._used = _folder_bytes(self._memory, self._writer)
            return self._used + nbytes <= self._budget

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """See `BlockStore.get`. Every process checks what it reads from disk."""
        return read_block(ref.token, check=ref.token.startswith(self._disk))

    def delete(self, ref: BlockRef) -> None:
        """See `BlockStore.delete`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ref.token)
            own = os.path.basename(ref.token).startswith(self._writer)
            if own and self._memory is not None and ref.token.startswith(self._memory):
                with self._lock:
                    self._used = max(0, self._used - ref.nbytes)

    def close(self) -> None:
        """See `BlockStore.close`. Does nothing in a process that only attached."""
        for folder in self._owned:
            folder.close()
        self._owned = []


def read_span(path: str, span: Span) -> pa.Buffer:
    """The bytes of a block that `put_streams` kept: mapped, or read where they are few.

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


def _attached(budget: int, memory: str | None, disk: str) -> SharedStore:
    store = SharedStore.__new__(SharedStore)
    store._owned = []
    store._attach(budget, memory, disk)
    return store


def _folder_bytes(folder: str, prefix: str) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
    return total
