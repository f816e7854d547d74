"""Program of a step, run on one batch after the other."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mmflow.formats.decoding.compact import cast_batch
from mmflow.formats.decoding.kernel_types import import_batch
from mmflow.kernels import kernels
from mmflow.plan.native.program import Program, layout_of

__all__ = ["RowProgram"]

_NEEDS_FALLBACK = 1


class RowProgram:
    """Native program that keeps its memory, and what it learns of its conjuncts, from batch to batch.

    Args:
        program: The program.
        given: Types of the batches.
        schema: Names and types of what it gives.
    """

    def __init__(self, program: Program, given: pa.Schema, schema: pa.Schema) -> None:
        native = kernels()
        self._native = native.RowProgram(
            native.simd_used(),
            list(program.columns),
            list(program.nodes),
            list(program.conjuncts),
            list(program.outputs),
        )
        self._outputs = program.outputs
        self._given = given.types
        self._schema = schema
        # Text that is computed comes as views.
        fields = list(zip(schema, (column for _, column in program.outputs), strict=True))
        self._made = pa.schema(
            [
                f if column >= 0 or not _is_text(f.type) else f.with_type(pa.string_view())
                for f, column in fields
            ]
        )
        self._computed = pa.schema(
            [f for f, (_, column) in zip(self._made, fields, strict=True) if column < 0]
        )
        self._seen: pa.Schema | None = None

    @property
    def kernel(self) -> Any:
        """The `RowProgram` of the kernels."""
        return self._native

    def runs_alone(self, given: pa.Schema) -> bool:
        """Return whether the kernel makes all of the result of such batches, in its types."""
        passed = all(column < 0 or layout_of(self._given[column]) is not None for _, column in self._outputs)
        return passed and bool(given.types == self._given and self._made.equals(self._schema))

    def run(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """Return the rows that are left, and the computed columns; None: a value needs the fallback."""
        if self._seen is None or not batch.schema.equals(self._seen):
            # The kernel takes the types of the columns on trust.
            if batch.num_columns and batch.schema.types != self._given:
                raise pa.ArrowInvalid(f"a batch of {batch.schema.types} where {self._given} are expected")
            self._seen = batch.schema
        status, rows, whole, capsule = self._native.run(batch.__arrow_c_array__()[1], batch.num_rows)
        if status == _NEEDS_FALLBACK:
            return None
        if not whole:
            return cast_batch(import_batch(self._made, capsule, rows), self._schema)
        made = iter(import_batch(self._computed, capsule, rows).columns if len(self._computed) else ())
        columns = [batch.column(column) if column >= 0 else next(made) for _, column in self._outputs]
        if not columns:
            return import_batch(self._schema, None, rows)
        return cast_batch(pa.RecordBatch.from_arrays(columns, schema=self._made), self._schema)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
