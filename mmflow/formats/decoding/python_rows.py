"""Rows as dicts of Python values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import any_type
from mmflow.private_apis.pyarrow_pandas import import_if_installed

__all__ = ["python_rows"]

_TIME = pa.time64("ns")


def python_rows(rows: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """Return rows as dicts of Python values.

    Instants and spans in nanoseconds are those of pandas where it is installed, which Python's own can't say.

    Raises:
        PlanError: A value is none of Python's, such as a date in the year 10000.

    >>> python_rows(pa.record_batch({"a": [1, None]}))
    [{'a': 1}, {'a': None}]
    """
    if any(any_type(field.type, _has_nanoseconds) for field in rows.schema):
        import_if_installed()
    try:
        for field, column in zip(rows.schema, rows.columns, strict=True):
            if field.type == _TIME:  # with pandas, pyarrow cuts its nanoseconds off
                column.cast(pa.time64("us"))
        return rows.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except (ValueError, OverflowError) as error:
        for field, column in zip(rows.schema, rows.columns, strict=True):
            _check(field, column)
        raise PlanError(f"the rows can't be made Python values: {error}") from error


def _check(field: pa.Field, column: pa.Array | pa.ChunkedArray) -> None:
    """Raise PlanError if a value of the column is none of Python's."""
    try:
        (column.cast(pa.time64("us")) if field.type == _TIME else column).to_pylist()
    except (ValueError, OverflowError) as error:
        # pyarrow goes on with what it would do.
        why = str(error).partition(". ")[0]
        raise PlanError(
            f"column {field.name!r} ({field.type}) has a value that Python's types can't hold: {why}; "
            "cast the column to text, or use the rows as Arrow"
        ) from error


def _has_nanoseconds(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _has_nanoseconds(kind.value_type)
    return bool((types.is_timestamp(kind) or types.is_duration(kind)) and kind.unit == "ns")
