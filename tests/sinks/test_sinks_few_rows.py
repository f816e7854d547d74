"""CSV of a few values, which Python writes, against that of many, which Arrow writes: the same bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmflow.errors import SinkError
from mmflow.sinks.writers.rows import csv_header
from mmflow.sinks.writers.text import csv_lines, csv_rows, lines

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
    "bool": st.booleans(),
    "string": st.text("ab,;\"'\r\n\0\ufeff 1.é", max_size=6),
    "float64": st.floats()
    | st.floats(-1000, 1000)
    | st.sampled_from([0.0, -0.0, 1e-4, 1e10, 9999999999.5, 123456789.0]),
    "float32": st.floats(width=32),
    "date32": st.dates(),
}


@given(data=st.data(), kinds=st.lists(st.sampled_from(sorted(VALUES)), min_size=2, max_size=4))
def test_few_values_are_written_as_many(data: st.DataObject, kinds: list[str]) -> None:
    count = data.draw(st.integers(0, 4))
    delimiter, null = data.draw(st.sampled_from(",;\t1")), data.draw(st.sampled_from(["", "NULL", "1", "a"]))
    columns = [
        pa.array(
            data.draw(st.lists(VALUES[kind] | st.none(), min_size=count, max_size=count)),
            pa.type_for_alias(kind),
        )
        for kind in kinds
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=[str(n) for n in range(len(kinds))])
    written = bytes(memoryview(csv_lines(batch, delimiter=delimiter, null=null)))
    assert written == bytes(memoryview(lines(csv_rows(batch, delimiter=delimiter, null=null))))


@given(value=st.floats(allow_nan=False, allow_infinity=False))
@example(value=1e-4)
@example(value=9.999999999999999e-05)
@example(value=9999999999.999998)
@example(value=1e10)
@example(value=-0.0)
def test_floats_are_written_as_arrow_writes_them(value: float) -> None:
    batch = pa.record_batch([pa.array([value]), pa.array([1])], names=["x", "y"])
    written = bytes(memoryview(csv_lines(batch, delimiter=",", null="")))
    assert written == bytes(memoryview(lines(csv_rows(batch, delimiter=",", null=""))))


def test_a_null_in_one_column_has_no_form() -> None:
    batch = pa.record_batch([pa.array([1, None])], names=["x"])
    with pytest.raises(SinkError, match="CSV of one column has no form"):
        csv_lines(batch, delimiter=",", null="")
    assert csv_lines(batch, delimiter=",", null="-") == b"1\n-\n"


def test_headers_are_quoted() -> None:
    assert csv_header(["a", "", 'b"c', "d,e", "f;g", "h\n"], ";") == b'a;"";"b""c";"d,e";"f;g";"h\n"\n'
