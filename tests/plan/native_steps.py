"""Row-wise steps of a query, run by their program and by DataFusion, and how the two are compared."""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

import mmflow as mf
from mmflow.plan.stages import Functions, ProgramStep, Stage, TableInput
from mmflow.worker.fragment import Fragment
from mmflow.worker.row_program import RowProgram

Rows = tuple[int, list[tuple[pa.DataType, list[Any]]]]


@functools.cache
def _session() -> mf.Session:
    return mf.Session()


def planned(query: str, table: pa.Table) -> tuple[Stage, Functions]:
    """Return the one stage of a query over table t, and the functions that it calls."""
    session = _session()
    plan = session.sql(query, t=session.from_arrow(table))._plan()
    (stage,) = plan.stages
    return stage, plan.functions


def program_step(stage: Stage) -> ProgramStep | None:
    """Return the program that is all of a stage; None: DataFusion runs it."""
    (step,) = stage.steps or (None,)
    return step if isinstance(step, ProgramStep) else None


def given(stage: Stage) -> list[pa.RecordBatch]:
    """Return the batches of the table that a stage reads."""
    (source,) = stage.inputs
    assert isinstance(source, TableInput)
    batches: list[pa.RecordBatch] = source.table.to_batches()
    return batches


def by_program(step: ProgramStep, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch] | None:
    """Run the program; None: a batch needs the fallback."""
    program = RowProgram(step.program, step.fallback.inputs[0][1], step.schema)
    made = [program.run(batch) for batch in batches]
    whole = [batch for batch in made if batch is not None]
    for batch in whole:
        batch.validate(full=True)
    return whole if len(whole) == len(made) else None


def by_datafusion(
    step: ProgramStep, functions: Functions, batches: list[pa.RecordBatch]
) -> list[pa.RecordBatch]:
    """Run the fragment.

    Raises:
        MmflowError: It fails.
    """
    ((name, _),) = step.fallback.inputs
    fragment = Fragment(step.fallback, functions, memory=1 << 28, spill=Path(tempfile.gettempdir()))
    return list(fragment.run({name: batches}))


def rows_of(batches: list[pa.RecordBatch], schema: pa.Schema) -> Rows:
    """Return the number of rows, and each column's type and values: floats by their bits, but for NaN."""
    columns = []
    for number, field in enumerate(schema):
        values: list[Any] = []
        for batch in batches:
            assert batch.schema.field(number).type == field.type
            column = batch.column(number)
            values += (
                column.cast(pa.string()) if pa.types.is_string_view(column.type) else column
            ).to_pylist()
        if pa.types.is_floating(field.type):
            values = [_shown(v) for v in values]
        columns.append((field.type, values))
    return sum(batch.num_rows for batch in batches), columns


def _shown(value: float | None) -> str:
    if value is None or math.isnan(value):
        return str(value)
    return value.hex()
