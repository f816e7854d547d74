"""Blocks without a name: memory (memfd), or files that are unlinked as soon as they are made.

They go from process to process as descriptors. The kernel drops one with its last descriptor and its last mapping,
however its holders died; so there is nothing to sweep, and no /dev/shm of a container bounds them.

Invariant: memory that is passed on is sealed: nobody can change it or cut it short under its readers. What can't be
sealed (a disk) has a checksum, which its reader compares.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa

from mmflow.errors import BlockLostError, EngineError
from mmflow.exec.streams import DamagedError, mapped, stream_batches
from mmflow.store.files import BlockWriter, Tier, block_in, write_block
from mmflow.store.folder import segment_name

__all__ = ["make_block", "take_block"]

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_SETTING = "give more memory (--memory, MMFLOW_MEMORY), or pass smaller batches"


@dataclass(frozen=True, slots=True)
class _Memory(Tier):
    """Anonymous memory that descriptors hold."""

    def create(self, name: str) -> int:
        """See `Tier.create`."""
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def seal(self, fd: int) -> None:
        """See `Tier.seal`."""
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


@dataclass(frozen=True, slots=True)
class _Unlinked(Tier):
    """A folder for files that only descriptors hold. One whose maker died before it was unlinked is swept."""

    def create(self, name: str) -> int:
        """See `Tier.create`."""
        fd = Tier.create(self, name)
        with contextlib.suppress(FileNotFoundError):  # swept just now
            os.unlink(os.path.join(self.folder, name))
        return fd


def make_block(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    room: Callable[[int], bool] | None = None,
    spill_dir: str | None = None,
) -> tuple[int, int]:
    """Write a block.

    Args:
        batches: Its rows.
        schema: Of them.
        room: May it take so many bytes of memory? Else it goes to `spill_dir`.
        spill_dir: A folder; None: memory only.

    Returns:
        Its descriptor, which is the caller's to close, and its size in bytes.

    Raises:
        EngineError: There is no room.
    """
    tiers: list[Tier] = [_Memory("", room, checked=False, setting=_SETTING)]
    if spill_dir is not None:
        setting = "set spill_dir (MMFLOW_SPILL_DIR) to a folder on a larger disk"
        tiers.append(_Unlinked(spill_dir, None, checked=True, setting=setting))
    writer = BlockWriter(segment_name(), tiers)
    _, nbytes = write_block(writer, batches, schema, close=False)
    return writer.fd, nbytes


def take_block(fd: int) -> list[pa.RecordBatch]:
    """The batches of a block, over its mapping. Closes its descriptor.

    Raises:
        EngineError: It can't be mapped.
        BlockLostError: It is cut short, or damaged.
    """
    try:
        sealed = _sealed(fd)
        whole = mapped(fd)
    except OSError as error:
        raise EngineError(f"can't map a block of rows: {error}") from error
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
