"""Values that a format can't represent though it can their type: found before a wrong one is written.

Text has years 1 to 9999 (pyarrow 26 prints others as `<value out of range>`, and moments with a zone as other moments);
Parquet and text have whole days for date64 (pyarrow 26 cuts the time off without a word).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.lazy import compute as pc

__all__ = ["UnwritableError", "check_batch_days", "check_days", "check_years", "unwritable_value_error"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECONDS = tuple(
    (moment - _EPOCH) // dt.timedelta(seconds=1)
    for moment in (dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC))
)
_DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class UnwritableError(ValueError):
    """Value of a column that the format can't represent; says which, and what to do."""


def unwritable_value_error(column: str, error: UnwritableError) -> SinkError:
    """Return the error for a column that holds such a value."""
    return SinkError(f"column {column!r} holds {error}", column=column)


def check_years(array: Any) -> None:
    """Check that all dates or timestamps of an array lie in the years 1 to 9999.

    Raises:
        UnwritableError: One has not; or is a date64 that is no whole day.
    """
    kind = array.type
    if pa.types.is_date64(kind):
        check_days(array)
    if pa.types.is_timestamp(kind):
        per = _PER_SECOND[kind.unit]
        low, high = _SECONDS[0] * per, (_SECONDS[1] + 1) * per - 1
    elif pa.types.is_date64(kind):
        low, high = _SECONDS[0] * 1000, _SECONDS[1] * 1000
    else:
        low, high = _SECONDS[0] // _DAY, _SECONDS[1] // _DAY
    found = pc.min_max(array.view(pa.int32() if pa.types.is_date32(kind) else pa.int64()))
    least, most = found["min"].as_py(), found["max"].as_py()
    if least is not None and (least < low or most > high):
        raise UnwritableError(
            f"a {kind} beyond the years 1 to 9999, which text has no form for; cast it to an integer, "
            "or write parquet or arrow"
        )


def check_days(array: Any) -> None:
    """Check that every value of a date64 array is a whole day.

    Raises:
        UnwritableError: One is not.
    """
    values = numpy_values(array.view(pa.int64()).drop_null())
    if np.any(values % (_DAY * 1000)):
        raise UnwritableError(
            "a date64 that is no whole day, so no date; cast the column to timestamp (arrow_cast(…, 'Timestamp(ms)'))"
        )


def check_batch_days(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch after a check that its date64 columns hold whole days.

    Raises:
        SinkError: A column holds one that is not.
    """
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_date64(field.type):
            try:
                check_days(column)
            except UnwritableError as error:
                raise unwritable_value_error(field.name, error) from None
    return batch
