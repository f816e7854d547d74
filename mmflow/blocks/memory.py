"""Blocks by reference in this process, and beyond the budget in files that are mapped back.

When memory is full, the block that comes in goes to disk, not one that is already kept: it is the
only one that can be written as it streams by, no task reads it yet, and a kept block whose
views are in use wouldn't free a byte.

Invariant: `held` is the real size of what is kept in memory: a batch that is a small view of big buffers
is copied first, so a block never keeps an input window alive.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from mmflow.blocks.files import BlockWriter, Tier, read_block_file, stream_of, write_block_file
from mmflow.blocks.references import BlockRef, CheckpointBlock, LocalBlock
from mmflow.blocks.run_folder import RunFolder
from mmflow.blocks.streams import write_stream
from mmflow.errors import EngineError
from mmflow.formats.decoding.compact import compact, has_views, without_views
from mmflow.lazy.dataclasses import dataclass

__all__ = ["LocalStore", "compacted", "compacted_views", "retained_bytes"]

_SETTING = (
    "set spill_dir (MMFLOW_SPILL_DIR) to a folder on a larger disk, "
    "or give more memory (--memory, MMFLOW_MEMORY)"
)
#: A copy pays when a batch keeps this much more alive than its rows need.
_WASTE = 1 << 16


@dataclass(slots=True)
class _Block:
    batches: list[pa.RecordBatch] | None
    schema: pa.Schema
    path: str
    nbytes: int
    checked: bool = False


class LocalStore:
    """`BlockStore` of one process. Thread-safe.

    Args:
        budget: Bytes to keep in memory.
        folder: Folder for blocks beyond it; closed with the store.
    """

    def __init__(self, budget: int, folder: RunFolder) -> None:
        self.budget = budget
        self._folder = folder
        self._lock = threading.Lock()
        self._blocks: dict[int, _Block] = {}
        self._numbers = itertools.count()
        self._held = 0
        self._spilled = 0
        self._closed = False

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._held

    @property
    def spilled(self) -> int:
        """Bytes on disk."""
        return self._spilled

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> LocalBlock:
        number = next(self._numbers)
        kept: list[pa.RecordBatch] = []
        size = 0
        flow = iter(batches)
        try:
            for batch in flow:
                kept_batch = compacted(batch)
                need = retained_bytes(kept_batch)
                if not self._reserve(need):
                    # Each batch is dropped as it is written, so memory shrinks from here on.
                    rest = itertools.chain(_drained(kept), (kept_batch,), (compacted(b) for b in flow))
                    del kept_batch, batch
                    return self._spill(number, rest, schema)
                kept.append(kept_batch)
                size += need
            rows = sum(b.num_rows for b in kept)
            self._keep(number, _Block(kept, schema, "", size))
            reserved, size = size, 0
            return LocalBlock(number, rows, reserved)
        finally:
            self._release(size)

    def _spill(self, number: int, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> LocalBlock:
        tier = Tier(os.fspath(self._folder.path), None, checked=True, setting=_SETTING)
        writer = BlockWriter(f"{number}.block", (tier,))
        rows, nbytes = write_block_file(writer, batches, schema)
        self._keep(number, _Block(None, schema, writer.path, nbytes))
        return LocalBlock(number, rows, nbytes)

    def _reserve(self, nbytes: int) -> bool:
        with self._lock:
            self._check_open()
            if self._held + nbytes > self.budget:
                return False
            self._held += nbytes
            return True

    def _release(self, nbytes: int) -> None:
        with self._lock:
            self._held -= nbytes

    def _keep(self, number: int, block: _Block) -> None:
        with self._lock:
            if not self._closed:
                self._blocks[number] = block
                if block.path:
                    self._spilled += block.nbytes
                return
        if block.path:
            _unlink(block.path)
        raise _closed()

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        if isinstance(ref, CheckpointBlock):
            from mmflow.blocks.checkpoints import read_checkpoint  # noqa: PLC0415  (slow)

            return read_checkpoint(ref)
        block = self._block(ref)
        if block.batches is not None:
            return list(block.batches)
        batches = read_block_file(block.path, check=not block.checked)
        block.checked = True
        return batches

    def _block(self, ref: BlockRef) -> _Block:
        with self._lock:
            self._check_open()
            block = self._blocks.get(_number(ref))
        if block is None:
            raise EngineError(f"{ref} is gone: it was deleted before all its readers were done")
        return block

    def on_disk(self, ref: BlockRef) -> bool:
        """Return whether a block was spilled to disk."""
        with self._lock:
            block = self._blocks.get(_number(ref))
        return block is not None and block.batches is None

    def exported(self, ref: BlockRef) -> pa.Buffer:
        """Return a block as the bytes of an Arrow IPC stream; mapped if it lies on disk.

        Raises:
            EngineError: The block is gone or damaged.
        """
        block = self._block(ref)
        if block.batches is None:
            return stream_of(block.path)
        # To measure first costs nothing, and a buffer that grows is held twice.
        size = pa.MockOutputStream()
        write_stream(size, block.schema, block.batches)
        made = pa.allocate_buffer(size.size())
        write_stream(pa.FixedSizeBufferWriter(made), block.schema, block.batches)
        return made

    def delete(self, ref: BlockRef) -> None:
        """Forget a block; not one of a checkpoint, which goes when its stage is read."""
        if isinstance(ref, CheckpointBlock):
            return
        with self._lock:
            block = self._blocks.pop(_number(ref), None)
            if block is None:
                return
            if block.batches is not None:
                self._held -= block.nbytes
            else:
                self._spilled -= block.nbytes
        if block.path:
            _unlink(block.path)

    def close(self) -> None:
        """Delete all blocks and files. Puts that are under way fail, and leave nothing behind."""
        with self._lock:
            self._closed = True
            self._blocks.clear()
        self._folder.close()


def _number(ref: BlockRef) -> int:
    assert isinstance(ref, LocalBlock), f"{ref} is of another store"
    return ref.number


def _closed() -> EngineError:
    return EngineError("the block store is closed: the run has ended")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _drained(kept: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    kept.reverse()
    while kept:
        yield kept.pop()


def compacted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch itself, or a copy if it keeps far more memory alive than its rows take."""
    retained = retained_bytes(batch)
    if retained <= _WASTE or retained <= sum(map(_row_bytes, batch.columns)) * 5 // 4 + _WASTE:
        return batch
    sink = pa.BufferOutputStream()
    # IPC cuts slices to size, but writes the data buffers of views whole.
    write_stream(sink, batch.schema, [compact(batch)])
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


def compacted_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Call `compacted` for a batch that goes into an IPC stream, which cuts all but the data of views to size."""
    return compacted(batch) if any(has_views(t) for t in batch.schema.types) else batch


def retained_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes that a batch keeps alive: each buffer counts as the whole allocation that it is part of."""
    roots: dict[int, int] = {}
    for column in batch.columns:
        for buffer in _buffers(column):
            while buffer.parent is not None:
                buffer = buffer.parent
            roots[buffer.address] = max(buffer.size, roots.get(buffer.address, 0))
    return sum(roots.values())


def _buffers(array: pa.Array) -> Iterator[pa.Buffer]:
    yield from (b for b in array.buffers() if b is not None)
    if pa.types.is_dictionary(array.type):
        yield from _buffers(array.dictionary)


def _row_bytes(array: pa.Array) -> int:
    """Return the bytes that the rows of an array need by themselves."""
    if not has_views(array.type):
        return int(array.nbytes)
    views = array.buffers()[1]
    if pa.types.is_nested(array.type) or views is None:
        return int(without_views(array).nbytes)
    lengths = np.frombuffer(views, np.int32)[4 * array.offset : 4 * (array.offset + len(array)) : 4]
    # Up to 12 bytes stand in the view itself; a null's view may hold anything.
    texts = int(lengths[lengths > 12].sum(dtype=np.int64)) if not array.null_count else None
    return 16 * len(array) + texts if texts is not None else int(without_views(array).nbytes)
