"""References to blocks, and the protocol of the stores that hold them.

    LocalBlock        of the store of this process (`blocks.memory`)
    CheckpointBlock   in a file of the run's folder (`blocks.checkpoints`): every process can read it
    SharedBlock       in a file of a Dask worker (`blocks.shared_memory`), as its readers know it
    DaskBlock         the same, as the driver knows it: it may move when it is recomputed
    RayBlock          in Ray's object store, as the driver knows it
    MessageBlock      in a payload that comes with the message that names it

They are tuples: an exchange of m by n partitions has m n of them, and frozen dataclasses take twice as long to pickle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "BlockRef",
    "BlockStore",
    "Checkpoint",
    "CheckpointBlock",
    "DaskBlock",
    "LocalBlock",
    "MessageBlock",
    "Place",
    "RayBlock",
    "SharedBlock",
    "Span",
]


class LocalBlock(NamedTuple):
    """Block of a `LocalStore`, by its number there."""

    number: int
    rows: int
    nbytes: int


class CheckpointBlock(NamedTuple):
    """Block in a checkpoint: bytes `[offset, offset + length)` of the file `path`, and their CRC-32."""

    path: str
    offset: int
    length: int
    crc: int
    rows: int
    nbytes: int


class Span(NamedTuple):
    """Block in a file of several: bytes `[offset, offset + length)`, and their CRC-32."""

    offset: int
    length: int
    crc: int


class Place(NamedTuple):
    """File of blocks; the host whose processes can map it (`shared_host`), and the address of its owner."""

    host: str
    address: str
    path: str


class SharedBlock(NamedTuple):
    """Block in a file of a `SharedStore` of another process."""

    place: Place
    span: Span
    rows: int
    nbytes: int


class DaskBlock(NamedTuple):
    """Block on a Dask cluster: `producer`, an `engines.dask.lineage.BlockProducer`, knows the place of its file."""

    producer: object
    span: Span
    rows: int
    nbytes: int


class RayBlock(NamedTuple):
    """Block on a Ray cluster: number `slot` in `payload`, a `ray.ObjectRef`."""

    payload: object
    slot: int
    rows: int
    nbytes: int


class MessageBlock(NamedTuple):
    """Block that comes with the message that names it: number `slot` in its payload number `payload`."""

    payload: int
    slot: int
    rows: int
    nbytes: int


BlockRef = LocalBlock | CheckpointBlock | SharedBlock | DaskBlock | RayBlock | MessageBlock


class BlockStore(Protocol):
    """Store of blocks by reference, within a budget; beyond it, on disk and mapped back."""

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        """Keep batches (they don't alias an input mapping any more) and name them.

        The iterable is consumed lazily: blocks larger than memory go to disk as they come.

        Raises:
            EngineError: No room left in memory nor on disk (says where, and which setting to change).
        """
        ...

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """Return the batches of a block of this store or of a checkpoint, without a copy: in memory, or mapped.

        Raises:
            EngineError: The block is gone or damaged.
        """
        ...

    def delete(self, ref: BlockRef) -> None:
        """Forget a block of this store. Views that were returned stay valid. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Blocks of a task in its checkpoint (`blocks.checkpoints`); `outputs` as in `Done`."""

    outputs: tuple[CheckpointBlock | None, ...]
    rejects: CheckpointBlock | None
    sample: CheckpointBlock | None
