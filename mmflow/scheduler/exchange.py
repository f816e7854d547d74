"""Outputs of stages that wait for the stages that read them.

Invariant: a block is handed out for deletion exactly once: when all its readers are done with it, or when
the stage's last reader has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from mmflow.blocks.references import BlockRef
from mmflow.plan.stages import ExchangeInput, Hash, Range, Stage

__all__ = ["Outputs", "Producer", "input_blocks", "join_partitions", "locate"]

#: Partitions are read together up to this size in any case, and beyond it so that there are about so many tasks.
_LEAST_BYTES = 1 << 20
_TASKS = 16


class Outputs:
    """Released outputs of a stage, in order of task.

    Args:
        stage: The stage. With output Hash or Range, blocks are read by partition; else by task, or all of them.
        readers: Exchange inputs that read this stage.

    Attributes:
        nbytes: Bytes of all outputs.
        largest: Bytes of the largest partition; 0 if blocks are not read by partition.
    """

    def __init__(self, stage: Stage, readers: int) -> None:
        self._partitioned = isinstance(stage.output, Hash | Range)
        self._readers = readers
        # Slots are partitions, or tasks.
        self._slots: dict[int, list[BlockRef]] = {}
        self._left: dict[int, int] = {}
        self._next = 0
        self._sizes: dict[int, int] = {}  # bytes of each partition with rows, kept after its blocks are gone
        self.largest = 0
        self.nbytes = 0

    def add(self, outputs: Sequence[BlockRef | None]) -> None:
        """Keep the outputs of the next task."""
        if self._partitioned:
            for number, ref in enumerate(outputs):
                if ref is not None:
                    self._slots.setdefault(number, []).append(ref)
                    size = self._sizes.get(number, 0) + ref.nbytes
                    self._sizes[number] = size
                    self.largest = max(self.largest, size)
        else:
            self._slots[self._next] = [ref for ref in outputs if ref is not None]
            self._next += 1
        self.nbytes += sum(ref.nbytes for ref in outputs if ref is not None)

    @property
    def filled(self) -> int:
        """Number of partitions that hold rows; 0 if blocks are not read by partition."""
        return len(self._sizes)

    @property
    def waiting(self) -> int:
        """Number of slots that not all readers have finished."""
        return len(self._slots)

    def slot(self, number: int) -> list[BlockRef]:
        """Return the blocks of a partition, or of a task."""
        return self._slots.get(number, [])

    def everything(self) -> Iterator[BlockRef]:
        """Yield all blocks, in order of task."""
        assert not self._partitioned, "partitions are read one by one"
        for number in sorted(self._slots):
            yield from self._slots[number]

    def done(self, number: int) -> list[BlockRef]:
        """Count one reader of a slot as finished.

        Returns:
            Blocks to delete.
        """
        left = self._left.pop(number, self._readers) - 1
        if left:
            self._left[number] = left
            return []
        return self._slots.pop(number, [])

    def drain(self) -> list[BlockRef]:
        """Forget all blocks, since no stage reads them any more, and return them for deletion."""
        left = [ref for refs in self._slots.values() for ref in refs]
        self._slots.clear()
        return left


class Producer(Protocol):
    """Stage whose outputs are read. `released`: number of tasks whose outputs are there, counted from the first."""

    outputs: Outputs
    complete: bool
    released: int


_P = TypeVar("_P", bound=Producer)


def locate(producers: Sequence[_P], number: int) -> tuple[_P, int] | None:
    """Find the task that is the `number`-th one over all producers; None: there is none, or it is not known yet."""
    for producer in producers:
        if number < producer.released:
            return producer, number
        if not producer.complete:
            return None
        number -= producer.released
    return None


def join_partitions(producers: Sequence[Producer], partitions: int, target_bytes: int) -> list[range]:
    """Return the partitions that each task reads: neighbours together, as long as they are small.

    Args:
        producers: Stages that all tasks read, which are complete.
        partitions: Number of partitions of each.
        target_bytes: Bytes for a task; 0: each reads one partition.
    """
    if not target_bytes:
        return [range(n, n + 1) for n in range(partitions)]
    sizes = [sum(ref.nbytes for p in producers for ref in p.outputs.slot(n)) for n in range(partitions)]
    most = min(target_bytes, max(_LEAST_BYTES, sum(sizes) // _TASKS))
    joined: list[range] = []
    begin = held = 0
    for number, size in enumerate(sizes):
        if number > begin and held + size > most:
            joined.append(range(begin, number))
            begin, held = number, 0
        held += size
    return [*joined, range(begin, partitions)]


def input_blocks(
    inputs: Sequence[ExchangeInput], number: int, partitions: range, producers: Mapping[int, Producer]
) -> dict[str, tuple[BlockRef, ...]]:
    """Return the blocks that task `number` of a stage reads, and of partitions those of `partitions`, by input."""
    blocks: dict[str, tuple[BlockRef, ...]] = {}
    for exchange in inputs:
        stages = [producers[s] for s in exchange.stages]
        match exchange.mode:
            case "partition":
                refs = [ref for n in partitions for p in stages for ref in p.outputs.slot(n)]
            case "all":
                refs = [ref for p in stages for ref in p.outputs.everything()]
            case "forward":
                found = locate(stages, number)
                assert found is not None, "a task is made once its input is there"
                refs = found[0].outputs.slot(found[1])
        blocks[exchange.name] = tuple(refs)
    return blocks
