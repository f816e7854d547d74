"""Rows as dicts of Python values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import any_type
from mmflow.private_apis.pyarrow_pandas import import_if_installed

__all__ = ["python_rows"]


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
    names = rows.schema.names
    if not names:
        return [{} for _ in range(rows.num_rows)]
    columns = map(_values, rows.schema, rows.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(field: pa.Field, column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        if field.type == pa.time64("ns"):  # with pandas, pyarrow cuts its nanoseconds off
            column = column.cast(pa.time64("us"))
        return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except (ValueError, OverflowError) as error:
        # The next sentence of pyarrow's is advice.
        why = str(error).partition(". ")[0]
        raise PlanError(
            f"column {field.name!r} ({field.type}) has a value that Python's types can't hold: {why}; "
            "cast the column to text, or use the rows as Arrow"
        ) from error


def _has_nanoseconds(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _has_nanoseconds(kind.value_type)
    return bool((types.is_timestamp(kind) or types.is_duration(kind)) and kind.unit == "ns")
