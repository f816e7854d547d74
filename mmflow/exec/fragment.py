"""Executing a fragment: a Substrait plan over named batches, by DataFusion, in one thread's time.

One partition, so that rows keep their order. A step whose input is too much for the task's memory runs on parts of it,
by key; what can't be divided so spills to the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext
from datafusion.substrait import Consumer, Serde

from mmflow.errors import EngineError, MmflowError, PlanError, UserFunctionError
from mmflow.exec.compact import cast_batch, renamed
from mmflow.exec.partition import hash_rows, taken_rows
from mmflow.exec.refusals import refusal_in
from mmflow.exec.stage import FragmentStep, Functions
from mmflow.mapping.forks import require_threads

__all__ = ["Fragment"]

#: A part that is too much for memory after all is divided into so many again, at most so often.
_PARTS = 8
_DEPTH = 2
_MOST_PARTS = 64
#: Anonymous memory of DataFusion 55 for each byte of input that it sorts, groups, joins or ranks without spilling:
#: 0.7 to 1.9, measured with RssAnon over rows of three numbers and a text of 50 bytes; the rest is for other shapes.
_PER_BYTE = 3


class Fragment:
    """A fragment ready to run on batches, again and again.

    Args:
        step: Plan, names and schemas of its tables.
        functions: UDFs that it may call.
        memory: Bytes that the task may use.
        given: Bytes of the input of a step that is not `streaming`.
        spill: Folder for what spills.
    """

    def __init__(
        self, step: FragmentStep, functions: Functions, *, memory: int, given: int = 0, spill: Path
    ) -> None:
        require_threads()
        self.step = step
        # Spilling costs more memory than it saves where all fits: DataFusion 55 reads what was spilled in threads
        # of their own, each of which keeps some 4 MiB of what it freed (half a byte for each that was spilled).
        needed = given * _PER_BYTE
        self._parts = (
            min(_MOST_PARTS, 1 << max(0, -(-needed // memory) - 1).bit_length()) if step.split else 1
        )
        pool = memory if not step.streaming and needed // self._parts <= memory else memory // 2
        config = SessionConfig().with_target_partitions(1)
        # Round-robin repartitioning would lose row order; one task is one thread anyway.
        for key in ("aggregations", "joins", "sorts", "windows"):
            config = getattr(config, f"with_repartition_{key}")(enabled=False)
        # A task sorts in memory what it can: the reservation for merging would eat small budgets.
        reservation = str(min(10 << 20, pool // 8))
        config = config.set("datafusion.execution.sort_spill_reservation_bytes", reservation)
        runtime = RuntimeEnvBuilder().with_fair_spill_pool(pool).with_disk_manager_specified(str(spill))
        self._context = SessionContext(config, runtime)
        functions.register(self._context)
        self._schemas = dict(step.inputs)
        self._memory = memory
        self._bound: dict[str, Sequence[pa.RecordBatch]] = {}

    def bind(self, name: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Give table `name` its rows (columns by position; they replace those bound before)."""
        schema = self._schemas[name]
        self._bound[name] = batches
        rows = [_stored(b, schema) for b in batches if b.num_rows]
        if not rows:
            rows = [pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in schema.types], schema=schema)]
        quoted = '"' + name.replace('"', '""') + '"'
        self._context.deregister_table(quoted)
        self._context.register_record_batches(quoted, [rows])

    def run(self, tables: Mapping[str, Sequence[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        """Bind tables and run; batches of `step.schema` as they come.

        Raises:
            EngineError: Memory ran out although operators spilled.
            UserFunctionError: A Python UDF raised.
            PlanError: A value made an expression fail (overflow, cast, division by zero).
        """
        for name, batches in tables.items():
            self.bind(name, batches)
        yield from self._run(0) if self._parts == 1 else self._run_in_parts(0, self._parts)

    def _run(self, depth: int) -> Iterator[pa.RecordBatch]:
        given = False
        try:
            for item in self._frame().execute_stream():
                batch = item.to_pyarrow()
                if batch.num_rows:
                    given = True
                    yield cast_batch(batch, self.step.schema)
            return
        except MmflowError:
            raise
        except Exception as error:  # datafusion raises bare Exception for whatever went wrong inside
            if given or not self.step.split or depth == _DEPTH or not _exhausted(error):
                raise self._explained(error) from error
        yield from self._run_in_parts(depth, _PARTS)

    def _run_in_parts(self, depth: int, parts: int) -> Iterator[pa.RecordBatch]:
        """Rows that belong together are in one part: those with equal keys."""
        whole = {name: self._bound[name] for name, _ in self.step.split}
        for part in range(parts):
            for name, keys in self.step.split:
                self.bind(name, list(_part(whole[name], keys, part, parts, depth)))
            yield from self._run(depth + 1)
        for name, batches in whole.items():
            self.bind(name, batches)

    def _frame(self) -> Any:
        if isinstance(self.step.plan, str):
            return self._context.sql(self.step.plan)
        plan = Consumer.from_substrait_plan(self._context, Serde.deserialize_bytes(self.step.plan))
        return self._context.create_dataframe_from_logical_plan(plan)

    def _explained(self, error: Exception) -> MmflowError:
        text = str(error).removeprefix("DataFusion error: ")
        if _exhausted(error):
            return EngineError(
                f"out of memory in a task that may use {self._memory >> 20} MiB: {text.splitlines()[0]}\n"
                "  raise --memory, lower --workers, or raise the number of --partitions"
            )
        if "No space left on device" in text:
            return EngineError(f"no space left for spilled data: {text}\n  set --spill-dir to a larger disk")
        refused = refusal_in(text)
        if refused is not None:
            return PlanError(refused)
        for marker in ("PyErr", "Python error", "Traceback"):
            if marker in text:
                return UserFunctionError(f"a Python function in the query raised: {text}")
        return PlanError(f"the query failed on a value: {text}")


def _exhausted(error: Exception) -> bool:
    return any(sign in str(error) for sign in ("Resources exhausted", "Failed to allocate"))


def _part(
    batches: Iterable[pa.RecordBatch], keys: Sequence[int], part: int, parts: int, depth: int
) -> Iterator[pa.RecordBatch]:
    """Rows of one part. Other bits of the hash choose it than those by which the exchange did."""
    for batch in batches:
        mixed = hash_rows([batch.column(k) for k in keys]) * np.uint64(0x9E3779B97F4A7C15)
        chosen = (mixed >> np.uint64(40 + 8 * depth)) % np.uint64(parts)
        rows = np.flatnonzero(chosen == part)
        if len(rows):
            yield taken_rows(batch, rows)


def _stored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch as its table is registered: renamed by position; without columns, a dummy one."""
    if batch.num_columns:
        return renamed(batch, schema)
    return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows, t) for t in schema.types], schema=schema)
