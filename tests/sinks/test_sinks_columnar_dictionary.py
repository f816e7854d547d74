"""Parquet columns get a dictionary where values come again, and hold the same rows either way."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmflow.sinks.columnar import open_parquet


def encodings(path: Path) -> dict[str, bool]:
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {c.path_in_schema: "RLE_DICTIONARY" in c.encodings for c in columns}


def test_only_columns_that_repeat_have_a_dictionary(tmp_path: Path) -> None:
    rows = 40_000
    batch = pa.record_batch(
        {
            "key": pa.array(range(rows)),
            "few": pa.array([f"v{i % 7}" for i in range(rows)], pa.string_view()),
            "many": pa.array([f"text {i}" for i in range(rows)], pa.string_view()),
            "none": pa.nulls(rows, pa.float64()),
            "flag": pa.array([i % 3 == 0 for i in range(rows)]),
        }
    )
    path = tmp_path / "t.parquet"
    writer = open_parquet(str(path), batch.schema, {})
    for start in range(0, rows, 7_000):
        writer.write(batch.slice(start, 7_000))
    writer.close()
    assert encodings(path) == {"key": False, "few": True, "many": False, "none": True, "flag": False}
    assert pq.read_table(path).to_pylist() == batch.to_pylist()


def test_an_empty_file_and_nested_columns(tmp_path: Path) -> None:
    schema = pa.schema([("l", pa.list_(pa.int64())), ("s", pa.struct([("a.b", pa.string_view())]))])
    for rows in (0, 3):
        path = tmp_path / f"{rows}.parquet"
        batch = pa.record_batch([[[1, 2]] * rows, [{"a.b": "x"}] * rows], schema=schema)
        writer = open_parquet(str(path), schema, {})
        if rows:
            writer.write(batch)
        writer.close()
        assert pq.read_table(path).to_pylist() == batch.to_pylist()
