"""Outputs of a finished task, kept in the folder of its run: a later driver need not compute them again.

    <place>-a0.blocks    outputs: Arrow IPC streams, one behind the other, each at a multiple of 64 bytes
    <place>-a0.aside     what is needed longer than its outputs: bad records, the sample of a sort

A `KeptBlock` is the token of a block in such a file. It means the same to every engine and process that sees
the run's folder, which may be a local path or any fsspec URL.

Invariant: a kept block is used only if its checksum is right, so files need no fsync: what a power cut took
is computed again.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from mmflow.errors import BlockLostError, EngineError
from mmflow.exec.rejects import SCHEMA as REJECTS
from mmflow.exec.streams import DamagedError, StreamFile, read_range, stream_batches
from mmflow.exec.task import BlockRef, BlockStore, Done, Kept

__all__ = ["KeptBlock", "block", "keep", "read_kept"]

_ALIGNED = 64


class KeptBlock(NamedTuple):
    """Where a block is: bytes `[offset, offset + length)` of the file `path`, and their checksum."""

    path: str
    offset: int
    length: int
    crc: int


class _File(StreamFile):
    """A file of several streams: each with a checksum of its own, which `crc` adds up."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.crc = 0

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return super().write(data)

    def _put(self, view: memoryview) -> None:
        self._length += len(view)
        while view:
            view = view[os.write(self._fd, view) :]


def keep(
    place: str, done: Done, schema: pa.Schema, store: BlockStore, scratch: str | os.PathLike[str]
) -> Kept:
    """Write the blocks of a finished task to files `<place>-a<attempt>.*`.

    Args:
        place: Path or URL; its folder exists.
        done: The task's result, whose blocks `store` has.
        schema: Of its outputs.
        store: Has them.
        scratch: Folder for a file on its way to a URL.

    Raises:
        EngineError: There is no room, or no permission.
    """
    stem = f"{place}-a{done.attempt}"
    outputs = [ref and _Source(store.get(ref), schema, ref.rows, ref.nbytes) for ref in done.outputs]
    rejects = done.rejects and _Source(store.get(done.rejects), REJECTS, *done.rejects[1:])
    sample = done.sample and _Source(
        [done.sample], done.sample.schema, done.sample.num_rows, done.sample.nbytes
    )
    try:
        kept = _put(f"{stem}.blocks", outputs, scratch)
        aside = _put(f"{stem}.aside", [rejects, sample], scratch)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "no room left" if full else f"can't write ({error.strerror or error})"
        raise EngineError(
            f"{what} in {os.path.dirname(stem)}, where outputs of finished tasks are kept; make room and go on with "
            "--resume, or set runs_dir (MMFLOW_RUNS_DIR) to a folder on a larger disk",
            path=stem,
        ) from error
    return Kept(tuple(kept), *aside)


@dataclass(frozen=True, slots=True)
class _Source:
    """Batches to write."""

    batches: Iterable[pa.RecordBatch]
    schema: pa.Schema
    rows: int
    nbytes: int


def _put(
    path: str, sources: Sequence[_Source | None], scratch: str | os.PathLike[str]
) -> list[BlockRef | None]:
    """Write sources to a file, if there are any; where each is."""
    if not any(sources):
        return [None] * len(sources)
    if "://" not in path:
        return _written(path, path, sources)
    import fsspec  # noqa: PLC0415  (only runs in remote folders need it)

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        local = os.path.join(folder, "file")
        made = _written(local, path, sources)
        fs, remote = fsspec.core.url_to_fs(path)
        fs.put_file(local, remote)
        return made


def _written(local: str, path: str, sources: Sequence[_Source | None]) -> list[BlockRef | None]:
    fd = os.open(local, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    made: list[BlockRef | None] = []
    try:
        file = _File(fd)
        for source in sources:
            if source is None:
                made.append(None)
                continue
            file.write(bytes(-file.tell() % _ALIGNED))
            begin, file.crc = file.tell(), 0
            with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), source.schema) as stream:
                for batch in source.batches:
                    stream.write_batch(batch)
            token = KeptBlock(path, begin, file.tell() - begin, file.crc)
            made.append(BlockRef(token, source.rows, source.nbytes))
        file.write_out()
    except BaseException:
        os.unlink(local)
        raise
    finally:
        os.close(fd)
    return made


def read_kept(ref: BlockRef) -> Sequence[pa.RecordBatch]:
    """The batches of a kept block: mapped, where it is a large one of a local file.

    Raises:
        BlockLostError: It is gone or damaged; its task must be run again.
    """
    where: KeptBlock = ref.token
    try:
        stream = _bytes_of(where)
    except OSError as error:
        raise _lost(where, error.strerror or str(error)) from error
    if stream.size != where.length or zlib.crc32(stream) != where.crc:
        raise _lost(where, "it was damaged")
    try:
        return stream_batches(stream, ref.rows)
    except DamagedError as error:
        raise _lost(where, str(error)) from error


def block(store: BlockStore, ref: BlockRef) -> Sequence[pa.RecordBatch]:
    """The batches of a block: a kept one, or one that the store has. Raises as these do."""
    return read_kept(ref) if isinstance(ref.token, KeptBlock) else store.get(ref)


def _bytes_of(where: KeptBlock) -> pa.Buffer:
    if "://" in where.path:
        import fsspec  # noqa: PLC0415

        fs, path = fsspec.core.url_to_fs(where.path)
        return pa.py_buffer(fs.cat_file(path, start=where.offset, end=where.offset + where.length))
    return read_range(where.path, where.offset, where.length)


def _lost(where: KeptBlock, why: str) -> BlockLostError:
    return BlockLostError(
        f"a kept output of a finished task is lost: {where.path}: {why}; --resume computes it again",
        kept=where.path,
    )
