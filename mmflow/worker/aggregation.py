"""Native aggregation in a task: rows to states, states to results, within the memory of the task.

A partial aggregation that grows too large hands up its groups and begins again. A final one merges the states of one
part of the keys after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from mmflow.blocks.references import BlockRef, BlockStore
from mmflow.errors import EngineError, PlanError
from mmflow.formats import NativeEnd
from mmflow.formats.decoding.compact import cast_batch
from mmflow.kernels import kernels
from mmflow.plan.functions.checked_arithmetic import overflow_message
from mmflow.plan.native_aggregate import FUNCTIONS, AggregateStep
from mmflow.worker.partition import choose_part

__all__ = ["Aggregator", "merge_states", "partial_states", "whole_results"]

#: Groups of a batch of output.
_GROUPS = 1 << 15
#: States that are too many for memory are merged in as many parts, by key, which are divided again at most so often.
_PARTS = 8
_DEPTH = 3


class Aggregator:
    """Aggregation of batches. Single-threaded; the interpreter's lock is released while it works.

    Args:
        step: Keys, measures and types.
    """

    def __init__(self, step: AggregateStep) -> None:
        self._step = step
        self._kernel: Any = kernels().Aggregator(
            step.rows.__arrow_c_schema__(),
            list(step.keys),
            [(FUNCTIONS.index(m.function), _number(m.column), _number(m.filter)) for m in step.measures],
            pa.schema(list(step.results)[len(step.keys) :]).__arrow_c_schema__(),
            step.states.__arrow_c_schema__(),
        )
        if step.total is not None and step.phase != "final":
            nulls = [pa.nulls(1, kind) for kind in step.states.types]
            nulls[len(step.keys) - 1] = pa.array([step.total], step.states.types[len(step.keys) - 1])
            self.merge(pa.RecordBatch.from_arrays(nulls, schema=step.states))

    @property
    def kernel(self) -> Any:
        """The `Aggregator` of the kernels."""
        return self._kernel

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self._kernel.bytes())

    def update(self, rows: pa.RecordBatch) -> None:
        """Take rows, of the step's types by position."""
        self._kernel.update(*cast_batch(rows, self._step.rows).__arrow_c_array__())

    def merge(self, states: pa.RecordBatch) -> None:
        """Take the states of another aggregation of the same step."""
        self._kernel.merge(*cast_batch(states, self._step.states).__arrow_c_array__())

    def states(self) -> Iterator[pa.RecordBatch]:
        """Yield the keys and states of all groups."""
        yield from self._given(self._kernel.states, self._step.states)

    def results(self) -> Iterator[pa.RecordBatch]:
        """Yield the keys and results of all groups.

        Raises:
            PlanError: A sum does not fit its type.
        """
        try:
            yield from self._given(self._kernel.results, self._step.results)
        except OverflowError as error:
            number, digits = error.args
            kind = self._step.results.field(len(self._step.keys) + number).type
            raise PlanError(_overflow(self._step.measures[number].function, kind, digits)) from None

    def _given(self, give: Callable[[int, int], object], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        count = self._kernel.groups()
        for begin in range(0, count, _GROUPS):
            made = give(begin, min(count, begin + _GROUPS))
            yield pa.RecordBatch._import_from_c_capsule(schema.__arrow_c_schema__(), made)


def _number(column: int | None) -> int:
    return -1 if column is None else column


def _overflow(function: str, kind: pa.DataType, digits: str) -> str:
    if pa.types.is_decimal(kind):
        return overflow_message(function, kind, Decimal(digits).scaleb(-kind.scale, Context(prec=100)))
    return overflow_message(function, pa.int64() if pa.types.is_duration(kind) else kind, Decimal(digits))


def partial_states(
    step: AggregateStep, rows: Iterable[pa.RecordBatch], memory: int, end: NativeEnd | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the states of the groups of rows. Groups come again where they take more than `memory`.

    Args:
        step: Keys, measures and types.
        rows: Rows.
        memory: Bytes that the groups may take.
        end: Takes rows of the scan that `rows` come from; gets each new aggregator.
    """
    for aggregator, _ in _filled(step, rows, memory, end):
        yield from aggregator.states()


def whole_results(
    step: AggregateStep,
    rows: Iterable[pa.RecordBatch],
    memory: int,
    store: BlockStore,
    end: NativeEnd | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the results of the groups of rows. Where they take more than `memory`, their states go to the store.

    Takes what `partial_states` does.

    Raises:
        PlanError: A sum does not fit its type.
        EngineError: The memory is too small even for a small part of the keys.
    """
    blocks: list[BlockRef] = []
    for aggregator, last in _filled(step, rows, memory, end):
        if last and not blocks:
            yield from aggregator.results()
            return
        blocks.append(store.put(aggregator.states(), step.states))
    yield from merge_states(step, lambda: itertools.chain.from_iterable(map(store.get, blocks)), memory)
    for block in blocks:
        store.delete(block)


def _filled(
    step: AggregateStep, rows: Iterable[pa.RecordBatch], memory: int, end: NativeEnd | None
) -> Iterator[tuple[Aggregator, bool]]:
    """Yield an aggregator whenever one takes more than `memory`, and the last one, with whether it is that."""

    def fresh() -> Aggregator:
        made = Aggregator(step)
        if end is not None:
            end.aggregator = made.kernel
        return made

    aggregator = fresh()
    for batch in rows:
        if batch.num_rows:
            aggregator.update(batch)
        if aggregator.nbytes > memory and step.keys:
            yield aggregator, False
            aggregator = fresh()
    yield aggregator, True


def merge_states(
    step: AggregateStep, states: Callable[[], Iterable[pa.RecordBatch]], memory: int, depth: int = 0
) -> Iterator[pa.RecordBatch]:
    """Yield the results of merged states.

    Args:
        step: Step whose states they are.
        states: Returns the states, any number of times.
        memory: Bytes that the groups may take; where they take more, those of one part of the keys after the other.
        depth: Number of times that the keys were divided already.

    Raises:
        PlanError: A sum does not fit its type.
        EngineError: The memory is too small even for a small part of the keys.
    """
    aggregator = Aggregator(step)
    for batch in states():
        aggregator.merge(batch)
        if aggregator.nbytes > memory and step.keys:
            break
    else:
        yield from aggregator.results()
        return
    if depth == _DEPTH:
        raise EngineError(
            f"out of memory in a task that may use {memory >> 20} MiB for its groups\n"
            "  raise --memory, lower --workers, or raise the number of --partitions",
            code="MMF-ENG-002",
        )
    del aggregator
    keys = range(len(step.keys))
    for part in range(_PARTS):

        def chosen(part: int = part) -> Iterator[pa.RecordBatch]:
            return choose_part(states(), keys, part, _PARTS, depth)

        yield from merge_states(step, chosen, memory, depth + 1)
