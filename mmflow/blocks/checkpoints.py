"""Checkpoints: outputs of a finished task in the folder of its run, which a later driver need not compute again.

    <path>-a0.blocks    outputs: Arrow IPC streams, one behind the other, each at a multiple of 64 bytes
    <path>-a0.retained  what is needed longer than its outputs: bad records, the sample of a sort

A `CheckpointBlock` names a block in such a file. It means the same to every engine and process that sees the run's
folder, which may be a local path or any fsspec URL.

Invariant: a block is used only if its checksum is right, so files need no fsync: what a power cut took is recomputed.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence

import pyarrow as pa

from mmflow.blocks.references import BlockRef, BlockStore, Checkpoint, CheckpointBlock
from mmflow.blocks.streams import DamagedError, StreamFile, read_range, stream_batches, write_stream
from mmflow.errors import BlockLostError, EngineError
from mmflow.formats.rejects import REPORTED
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage import disk
from mmflow.storage.object_store import open_store

__all__ = ["read_checkpoint", "write_checkpoint"]

_ALIGNED = 64


class _File(StreamFile):
    """File of several streams, each with a checksum of its own, which `crc` adds up."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.crc = 0

    def write(self, data: bytes | pa.Buffer) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return super().write(data)

    def _put(self, view: memoryview) -> None:
        self._length += len(view)
        disk.write_all(self._fd, view)


def write_checkpoint(
    path: str,
    attempt: int,
    blocks: Sequence[BlockRef | None],
    rejects: BlockRef | None,
    sample: pa.RecordBatch | None,
    schema: pa.Schema,
    store: BlockStore,
    scratch: str | os.PathLike[str],
) -> Checkpoint:
    """Write the blocks of a finished task to files `<path>-a<attempt>.*`.

    Args:
        path: Path or URL without suffix; its folder exists.
        attempt: Number of the attempt that finished.
        blocks: Outputs of the task, which `store` has.
        rejects: Bad records, which `store` has.
        sample: Sample of a sort.
        schema: Schema of the outputs.
        store: Store of the blocks.
        scratch: Folder for a file on its way to a URL.

    Raises:
        EngineError: There is no room, or no permission.
    """
    stem = f"{path}-a{attempt}"
    outputs = [ref and _Source(store.get(ref), schema, ref.rows, ref.nbytes) for ref in blocks]
    bad = rejects and _Source(store.get(rejects), REPORTED, rejects.rows, rejects.nbytes)
    sampled = sample and _Source([sample], sample.schema, sample.num_rows, sample.nbytes)
    try:
        written = _put(f"{stem}.blocks", outputs, scratch)
        retained = _put(f"{stem}.retained", [bad, sampled], scratch)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "no room left" if full else f"can't write ({error.strerror or error})"
        raise EngineError(
            f"{what} in {os.path.dirname(stem)}, where checkpoints are written; make room and resume with "
            "--resume, or set runs_dir (MMFLOW_RUNS_DIR) to a folder on a larger disk",
            path=stem,
        ) from error
    return Checkpoint(tuple(written), *retained)


@dataclass(frozen=True, slots=True)
class _Source:
    """Batches to write."""

    batches: Iterable[pa.RecordBatch]
    schema: pa.Schema
    rows: int
    nbytes: int


def _put(
    path: str, sources: Sequence[_Source | None], scratch: str | os.PathLike[str]
) -> list[CheckpointBlock | None]:
    """Write sources to a file, if there are any, and return where each is."""
    if not any(sources):
        return [None] * len(sources)
    if "://" not in path:
        return _written(path, path, sources)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        local = os.path.join(folder, "file")
        made = _written(local, path, sources)
        open_store(path, action="keep runs in").upload(local, path)
        return made


def _written(local: str, path: str, sources: Sequence[_Source | None]) -> list[CheckpointBlock | None]:
    fd = disk.open(local, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    made: list[CheckpointBlock | None] = []
    try:
        file = _File(fd)
        for source in sources:
            if source is None:
                made.append(None)
                continue
            file.write(bytes(-file.tell() % _ALIGNED))
            begin, file.crc = file.tell(), 0
            write_stream(file, source.schema, source.batches)
            length = file.tell() - begin
            made.append(CheckpointBlock(path, begin, length, file.crc, source.rows, source.nbytes))
        file.write_out()
    except BaseException:
        disk.unlink(local)
        raise
    finally:
        disk.close(fd)
    return made


def read_checkpoint(block: CheckpointBlock) -> Sequence[pa.RecordBatch]:
    """Read the batches of a checkpoint block: mapped, if it is a large one of a local file.

    Raises:
        BlockLostError: It is gone or damaged; its task must run again.
    """
    try:
        stream = _bytes_of(block)
    except OSError as error:
        # Arrow says the path once more in place of the system's words.
        raise _lost(block, os.strerror(error.errno) if error.errno else str(error)) from error
    if stream.size != block.length or zlib.crc32(stream) != block.crc:
        raise _lost(block, "it was damaged")
    try:
        return stream_batches(stream, block.rows)
    except DamagedError as error:
        raise _lost(block, str(error)) from error


def _bytes_of(block: CheckpointBlock) -> pa.Buffer:
    if "://" in block.path:
        end = block.offset + block.length
        return pa.py_buffer(open_store(block.path).read(block.path, block.offset, end))
    return read_range(block.path, block.offset, block.length)


def _lost(block: CheckpointBlock, why: str) -> BlockLostError:
    return BlockLostError(
        f"a checkpoint of a finished task is lost: {block.path}: {why}; --resume computes it again",
        lost_file=block.path,
    )
