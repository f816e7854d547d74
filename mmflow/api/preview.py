"""Preview of a dataset where it is displayed: first rows, if they cost next to nothing.

    rows as read from a local file      a few hundred KiB of it are read
    small tables in memory              their plan is run here
    everything else                     names and types, and a hint: a display must not start a scan

Invariant: nothing is recorded, no user function is called, and a preview that fails is a hint, not an error.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from mmflow.api.run_context import RunContext
from mmflow.engines.loop import execute
from mmflow.engines.opening import open_engine
from mmflow.errors import MmflowError
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.plan.stages import (
    AggregateStep,
    FilesInput,
    FragmentStep,
    OrderedStep,
    Plan,
    ProgramStep,
    ScanInput,
    SqlStep,
    TableInput,
)
from mmflow.rows.first_rows import first_rows
from mmflow.rows.selection import Selection
from mmflow.runs.report.formatting import visible
from mmflow.sinks.text_table import ShownRows

__all__ = ["PREVIEW_ROWS", "preview"]

PREVIEW_ROWS = 10
#: Largest tables in memory whose plan is run for a display.
_BYTES = 1 << 20


def preview(
    context: RunContext, plan: Callable[[], Plan], selection: Selection | None, schema: pa.Schema
) -> tuple[ShownRows, str]:
    """Return the first rows of a plan, none where they would cost too much, and what is to be said of them.

    Args:
        context: Run context of the dataset.
        plan: Function that gives the plan of the dataset.
        selection: Columns of files, where the rows are those of files.
        schema: Schema of the dataset.
    """
    shown = ShownRows(schema, PREVIEW_ROWS)
    try:
        batches = _batches(context, plan, selection, schema)
    except (MmflowError, pa.ArrowException, OSError) as error:
        return shown, f"no preview: {visible(str(error).partition(chr(10))[0], 200)}"
    if batches is None:
        return shown, "rows are not computed for a display: show() prints the first ones"
    for batch in batches:
        shown.add(batch)
    first = selection is not None and shown.total >= PREVIEW_ROWS
    return shown, f"first {shown.total} rows" if first else ""


def _batches(
    context: RunContext, make_plan: Callable[[], Plan], selection: Selection | None, schema: pa.Schema
) -> list[pa.RecordBatch] | None:
    if selection is not None:
        table = first_rows(selection, PREVIEW_ROWS, context.settings)
        return None if table is None else table.to_batches()
    plan = make_plan()
    inputs = [i for stage in plan.stages for i in stage.inputs]
    tables = sum(i.table.nbytes for i in inputs if isinstance(i, TableInput))
    steps = [step for stage in plan.stages for step in stage.steps]
    pure = all(
        isinstance(step, FragmentStep | ProgramStep | OrderedStep | SqlStep | AggregateStep) for step in steps
    )
    files = any(isinstance(i, ScanInput | FilesInput) for i in inputs)
    if plan.functions.all or not pure or tables > _BYTES or files:
        return None
    settings = replace(context.settings, engine="local", workers=1)
    with execute(plan, settings, open_engine, run=uuid.uuid4().hex[:12]) as run:
        return [public_batch(batch, schema) for batch in run]
