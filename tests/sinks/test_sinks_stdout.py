"""Results on a stream."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from mmflow.errors import ConfigError, SinkError
from mmflow.formats.schemas.schema import public_schema
from mmflow.sinks.stdout import write_table
from tests.sinks.sink_rows import sample


def written(batches: list[pa.RecordBatch], schema: pa.Schema, form: str, **keys: Any) -> bytes:
    stream = io.BytesIO()
    assert write_table(iter(batches), schema, form, stream, **keys) == sum(b.num_rows for b in batches)
    return stream.getvalue()


def test_json_is_one_array_with_exact_numbers() -> None:
    batch = sample()
    rows = json.loads(
        written([batch, batch.slice(0, 0), batch.slice(2)], batch.schema, "json"), parse_float=Decimal
    )
    assert len(rows) == 6
    expected = batch.to_pylist()
    for key in ("i", "s", "b", "l", "st", "dec"):
        assert [r[key] for r in rows[:4]] == [r[key] for r in expected]
    assert rows[0]["tz"] == "2024-02-29T12:30:01.500000Z"


@pytest.mark.parametrize(("form", "text"), [("json", b"[]\n"), ("csv", b"a,b\n")])
def test_results_without_rows_are_complete(form: str, text: bytes) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string_view())])
    assert written([], schema, form) == text


def test_csv_has_a_header_and_reads_back() -> None:
    batch = sample()
    rows = list(csv.DictReader(io.StringIO(written([batch], batch.schema, "csv").decode(), newline="")))
    assert [r["s"] for r in rows] == [s or "" for s in batch.column("s").to_pylist()]
    assert rows[3]["i"] == str(2**63 - 1)


def test_arrow_is_a_stream_of_public_types() -> None:
    batch = sample()
    with pa.ipc.open_stream(written([batch, batch], batch.schema, "arrow")) as reader:
        assert reader.schema.equals(public_schema(batch.schema))
        assert reader.read_all().to_pylist() == batch.to_pylist() * 2
    assert pa.ipc.open_stream(written([], batch.schema, "arrow")).read_all().num_rows == 0


def test_what_can_not_be_shown() -> None:
    with pytest.raises(
        ConfigError, match="must be one of table, csv, json, ndjson, markdown, arrow, parquet"
    ):
        written([], pa.schema([]), "xml")
    with pytest.raises(SinkError, match=r"column 'a'.*calendar intervals"):
        written([], pa.schema([("a", pa.month_day_nano_interval())]), "csv")


def test_nulls_of_one_column_of_csv_and_bytes_are_refused() -> None:
    null = pa.RecordBatch.from_pydict({"a": [1, None]})
    with pytest.raises(SinkError, match="column 'a' holds a null"):
        written([null], null.schema, "csv")
    raw = pa.RecordBatch.from_pydict({"a": [b"x"]})
    with pytest.raises(SinkError, match="no form for bytes"):
        written([raw], raw.schema, "csv")


def test_tables_show_moments_that_text_has_no_form_for() -> None:
    far = pa.RecordBatch.from_arrays([pa.array([2**62, None], pa.timestamp("us"))], names=["t"])
    assert b"148108-07-06T" in written([far], far.schema, "table")
