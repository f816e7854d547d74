"""Execution of a fragment, a Substrait plan or SQL over named batches, by DataFusion in one thread.

DataFusion has one partition, so that rows keep their order. A step whose input is too large for the task's memory runs
on parts of it, by key. A sort, which can't be divided so, spills to the folder of the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from datafusion import DataFrame, RuntimeEnvBuilder, SessionConfig, SessionContext
from datafusion.substrait import Consumer, Serde

from mmflow.errors import EngineError, MmflowError, PlanError
from mmflow.formats.decoding.compact import cast_batch, rename_columns
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping.system.forks import require_threads
from mmflow.plan.errors import explain_failed_value, find_refusal, is_datafusion_error
from mmflow.plan.stages import FragmentStep, Functions, SqlStep
from mmflow.usercode.failures import find_failure
from mmflow.worker.null_structs import with_null_fields
from mmflow.worker.partition import choose_part

if TYPE_CHECKING:
    from mmflow.worker.direct_files import DirectFiles

__all__ = ["Fragment"]

#: A part that is too large for memory after all is divided into as many parts again, at most twice.
_PARTS = 8
_DEPTH = 2
_MOST_PARTS = 64
#: Anonymous memory of DataFusion 55 for each byte of input that it sorts, groups, joins or ranks without spilling:
#: 0.7 to 1.9, measured with RssAnon over rows of three numbers and a text of 50 bytes; the rest is for other shapes.
_PER_BYTE = 3


class Fragment:
    """Fragment that can run on batches any number of times.

    Args:
        step: Plan or query, names and schemas of its tables.
        functions: UDFs that it may call.
        memory: Bytes that the task may use.
        given: Bytes of the input of a step that is not `streaming`.
        spill: Folder for spilled data; None: nothing is spilled.
        files: Files that DataFusion reads by itself, which has all cores and the memory of all tasks then.
    """

    def __init__(
        self,
        step: FragmentStep | SqlStep,
        functions: Functions,
        *,
        memory: int,
        given: int = 0,
        spill: Path | None,
        files: DirectFiles | None = None,
    ) -> None:
        require_threads()
        self.step = step
        self._split = step.split if isinstance(step, FragmentStep) else ()
        # Spilling costs more memory than it saves where all fits: DataFusion 55 reads what was spilled in threads
        # of their own, each of which keeps some 4 MiB of what it freed (half a byte for each that was spilled).
        needed = given * _PER_BYTE
        self._parts = (
            min(_MOST_PARTS, 1 << max(0, -(-needed // memory) - 1).bit_length()) if self._split else 1
        )
        pool = memory if not step.streaming and needed // self._parts <= memory else memory // 2
        threads = 1 if files is None else files.threads
        pool *= threads
        config = SessionConfig().with_target_partitions(threads)
        if files is None:
            # Round-robin repartitioning would lose row order; one task is one thread anyway.
            for key in ("aggregations", "joins", "sorts", "windows"):
                config = getattr(config, f"with_repartition_{key}")(enabled=False)
        else:
            config = files.configured(config)
        # A task sorts in memory what it can: the reservation for merging would eat small budgets.
        reservation = str(min(10 << 20, pool // 8))
        config = config.set("datafusion.execution.sort_spill_reservation_bytes", reservation)
        runtime = RuntimeEnvBuilder().with_fair_spill_pool(pool)
        if spill is None:
            runtime = runtime.with_disk_manager_disabled()
        else:
            runtime = runtime.with_disk_manager_specified(str(spill))
        self._memory = memory
        try:
            self._context = SessionContext(config, runtime)
        except Exception as error:  # DataFusion's own: it makes a folder for spilled data
            if _IO_ERROR.search(str(error)) is None:
                raise
            raise self._explained(error) from error
        functions.register(self._context)
        self._schemas = dict(step.inputs)
        self._bound: dict[str, Sequence[pa.RecordBatch]] = {}
        self._files = files
        if files is not None:
            files.register(self._context, self._schemas)

    def bind(self, name: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Bind rows to table `name`, columns by position. They replace rows bound before."""
        schema = self._schemas[name]
        self._bound[name] = batches
        rows = [_stored(b, schema) for b in batches if b.num_rows]
        if isinstance(self.step, SqlStep):
            rows = [with_null_fields(b) for b in rows]
        if not rows:
            rows = [pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in schema.types], schema=schema)]
        quoted = '"' + name.replace('"', '""') + '"'
        self._context.deregister_table(quoted)
        self._context.register_record_batches(quoted, [rows])

    def run(self, tables: Mapping[str, Sequence[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        """Bind tables, run the fragment, and yield batches of `step.schema`.

        Raises:
            EngineError: Memory ran out although operators spilled, or the disk for spilled data is full.
            UserFunctionError: A Python UDF raised.
            PlanError: A value made an expression fail (overflow, cast, division by zero).
        """
        for name, batches in tables.items():
            self.bind(name, batches)
        yield from self._run(0) if self._parts == 1 else self._run_in_parts(0, self._parts)

    def _run(self, depth: int) -> Iterator[pa.RecordBatch]:
        given = False
        try:
            frame = self._frame()
            for batch in _batches(frame) if self._files is None else self._files.batches(frame):
                if batch.num_rows:
                    given = True
                    yield cast_batch(batch, self.step.schema)
            return
        except MmflowError:
            raise
        except BaseException as error:  # datafusion raises bare Exception for whatever went wrong inside
            if self._files is not None and is_datafusion_error(error):
                found = self._files.explained(error)
                if found is not None:
                    raise found from error
            if not isinstance(error, Exception):
                raise
            if given or not self._split or depth == _DEPTH or not _exhausted(error):
                raise self._explained(error) from error
        yield from self._run_in_parts(depth, _PARTS)

    def _run_in_parts(self, depth: int, parts: int) -> Iterator[pa.RecordBatch]:
        """Run the fragment on one part of the rows after the other. Rows with equal keys are in one part."""
        whole = {name: self._bound[name] for name, _ in self._split}
        for part in range(parts):
            for name, keys in self._split:
                self.bind(name, list(choose_part(whole[name], keys, part, parts, depth)))
            yield from self._run(depth + 1)
        for name, batches in whole.items():
            self.bind(name, batches)

    def _frame(self) -> DataFrame:
        match self.step:
            case FragmentStep(plan=encoded):
                plan = Consumer.from_substrait_plan(self._context, Serde.deserialize_bytes(encoded))
                return self._context.create_dataframe_from_logical_plan(plan)
            case SqlStep(query=query, parameters=parameters):
                return self._context.sql(query, param_values=dict(parameters))

    def _explained(self, error: Exception) -> MmflowError:
        text = str(error).removeprefix("DataFusion error: ")
        failure = find_failure(text)
        if failure is not None:
            return failure
        if _exhausted(error):
            return EngineError(
                f"out of memory in a task that may use {self._memory >> 20} MiB: {text.splitlines()[0]}\n"
                "  raise --memory, lower --workers, or raise the number of --partitions",
                code="MMF-ENG-002",
            )
        if "No space left on device" in text:
            return EngineError(
                f"no space left for spilled data: {text}\n  set --spill-dir to a larger disk",
                code="MMF-ENG-003",
            )
        failed = _IO_ERROR.search(text)
        if failed is not None:
            return EngineError(
                f"spilled data can't be written or read: {failed[1]}\n"
                "  check the disk (dmesg), or set --spill-dir to another"
            )
        refused = find_refusal(text)
        if refused is not None:
            return PlanError(refused)
        raised = _PYTHON_ERROR.search(text)  # in a function of mmflow
        why = f"{raised[1]}: {raised[2]}" if raised is not None else explain_failed_value(text)
        return PlanError(f"the query failed on a value: {why}", code="MMF-PLN-003")


#: Error of the system in the text of DataFusion's: of temporary files, where no files are read directly.
_IO_ERROR = lazy_regex(r"IO error: (.* \(os error \d+\).*)")
#: Error of a Python function in the text of DataFusion's.
_PYTHON_ERROR = lazy_regex(
    r"PyErr \{ type: <class '(?:\w+\.)*(\w+)'>, value: \w+\(['\"](.*?)['\"]\), traceback", re.DOTALL
)


def _batches(frame: DataFrame) -> Iterator[pa.RecordBatch]:
    for item in frame.execute_stream():
        yield item.to_pyarrow()


def _exhausted(error: Exception) -> bool:
    return any(sign in str(error) for sign in ("Resources exhausted", "Failed to allocate"))


def _stored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the column names of its table, by position; with a dummy column if it has none."""
    if batch.num_columns:
        return rename_columns(batch, schema)
    return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows, t) for t in schema.types], schema=schema)
