"""Executing a fragment: a Substrait plan over named batches, by DataFusion, in one thread's time.

One partition, so that rows keep their order; sorts, joins and aggregations that outgrow the task's
memory spill to the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext
from datafusion.substrait import Consumer, Serde

from mmflow.errors import EngineError, MmflowError, PlanError, UserFunctionError
from mmflow.exec.compact import cast_batch, renamed
from mmflow.exec.stage import FragmentStep, Functions

__all__ = ["Fragment"]


class Fragment:
    """A fragment ready to run on batches, again and again.

    Args:
        step: Plan, names and schemas of its tables.
        functions: UDFs that it may call.
        memory: Bytes that its operators may hold before they spill.
        spill: Folder for what spills.
    """

    def __init__(self, step: FragmentStep, functions: Functions, *, memory: int, spill: Path) -> None:
        self.step = step
        config = SessionConfig().with_target_partitions(1)
        # Round-robin repartitioning would lose row order; one task is one thread anyway.
        for key in ("aggregations", "joins", "sorts", "windows"):
            config = getattr(config, f"with_repartition_{key}")(enabled=False)
        # A task sorts in memory what it can: the reservation for merging would eat small budgets.
        reservation = str(min(10 << 20, memory // 8))
        config = config.set("datafusion.execution.sort_spill_reservation_bytes", reservation)
        runtime = RuntimeEnvBuilder().with_fair_spill_pool(memory).with_disk_manager_specified(str(spill))
        self._context = SessionContext(config, runtime)
        functions.register(self._context)
        self._schemas = dict(step.inputs)
        self._memory = memory

    def bind(self, name: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Give table `name` its rows (columns by position; they replace those bound before)."""
        schema = self._schemas[name]
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
        try:
            for item in self._frame().execute_stream():
                batch = item.to_pyarrow()
                if batch.num_rows:
                    yield cast_batch(batch, self.step.schema)
        except MmflowError:
            raise
        except Exception as error:  # datafusion raises bare Exception for whatever went wrong inside
            raise self._explained(error) from error

    def _frame(self) -> Any:
        if isinstance(self.step.plan, str):
            return self._context.sql(self.step.plan)
        plan = Consumer.from_substrait_plan(self._context, Serde.deserialize_bytes(self.step.plan))
        return self._context.create_dataframe_from_logical_plan(plan)

    def _explained(self, error: Exception) -> MmflowError:
        text = str(error).removeprefix("DataFusion error: ")
        if "Resources exhausted" in text or "Failed to allocate" in text:
            return EngineError(
                f"out of memory in a task that may use {self._memory >> 20} MiB: {text.splitlines()[0]}\n"
                "  raise --memory, lower --workers, or raise the number of --partitions"
            )
        if "No space left on device" in text:
            return EngineError(f"no space left for spilled data: {text}\n  set --spill-dir to a larger disk")
        for marker in ("PyErr", "Python error", "Traceback"):
            if marker in text:
                return UserFunctionError(f"a Python function in the query raised: {text}")
        return PlanError(f"the query failed on a value: {text}")


def _stored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch as its table is registered: renamed by position; without columns, a dummy one."""
    if batch.num_columns:
        return renamed(batch, schema)
    return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows, t) for t in schema.types], schema=schema)
