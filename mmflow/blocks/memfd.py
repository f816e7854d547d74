"""Blocks without a name: memory (memfd), or files that are unlinked as soon as they are made.

They go from process to process as descriptors. The kernel drops one with its last descriptor and its last mapping,
however its holders died. So there is nothing to sweep, and the size of /dev/shm in a container does not bound them.

Invariant: memory that is passed on is sealed, so that no process can change it or cut it short under its readers.
Files on disk can't be sealed; they have a checksum, which the reader compares.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable

import pyarrow as pa

from mmflow.blocks.files import BlockWriter, Tier, block_in, write_block_file
from mmflow.blocks.run_folder import segment_name
from mmflow.blocks.streams import DamagedError, mapped, stream_batches
from mmflow.errors import BlockLostError, EngineError
from mmflow.lazy.dataclasses import dataclass

__all__ = ["map_block", "write_block"]

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_SETTING = "give more memory (--memory, MMFLOW_MEMORY), or pass smaller batches"


@dataclass(frozen=True, slots=True)
class _Memory(Tier):
    """Tier of anonymous memory that descriptors hold."""

    def create(self, name: str) -> int:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def seal(self, fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


@dataclass(frozen=True, slots=True)
class _Unlinked(Tier):
    """Tier of files that only descriptors hold. A file whose maker died before it was unlinked is swept."""

    def create(self, name: str) -> int:
        fd = Tier.create(self, name)
        with contextlib.suppress(FileNotFoundError):  # swept just now
            os.unlink(os.path.join(self.folder, name))
        return fd


def write_block(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    room: Callable[[int], bool] | None = None,
    spill_dir: str | None = None,
) -> tuple[int, int]:
    """Write a block.

    Args:
        batches: Rows of the block.
        schema: Schema of the rows.
        room: Returns whether the block may take so many bytes of memory; else it goes to `spill_dir`.
        spill_dir: Folder on disk; None: memory only.

    Returns:
        Descriptor of the block, which the caller closes, and its size in bytes.

    Raises:
        EngineError: There is no room.
    """
    tiers: list[Tier] = [_Memory("", room, _SETTING)]
    if spill_dir is not None:
        setting = "set spill_dir (MMFLOW_SPILL_DIR) to a folder on a larger disk"
        tiers.append(_Unlinked(spill_dir, None, setting, checked=True))
    writer = BlockWriter(segment_name(), tiers)
    _, nbytes = write_block_file(writer, batches, schema, close=False)
    return writer.fd, nbytes


def map_block(fd: int) -> list[pa.RecordBatch]:
    """Map a block and return its batches. Closes its descriptor.

    Raises:
        EngineError: It can't be mapped, nor read.
        BlockLostError: It is cut short, or damaged.
    """
    try:
        sealed = _sealed(fd)
        whole = mapped(fd)
    except OSError as error:
        raise EngineError(f"can't read a block of rows: {error.strerror or error}") from error
    finally:
        os.close(fd)
    try:
        stream, rows = block_in(whole, check=not sealed)
        return stream_batches(stream, rows)
    except DamagedError as error:
        where = "in memory" if sealed else "on disk: check the disk"
        raise BlockLostError(f"a block of rows was damaged {where}: {error}") from error


def _sealed(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # a file of a disk takes no seals
        return False
