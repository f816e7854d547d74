"""Parquet columns get a dictionary where values come again, and hold the same rows either way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.formats.schemas.schema import public_schema
from mmflow.sinks.writers.columnar import open_parquet
from mmflow.sinks.writers.dictionaries import TextColumn


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


def groups(path: Path) -> int:
    return int(pq.read_metadata(path).num_row_groups)


def written(path: Path, batches: Sequence[pa.RecordBatch], **options: object) -> pa.Table:
    """Return the table that pyarrow reads back, after a check that it, Polars and DuckDB see what was written."""
    writer = open_parquet(str(path), batches[0].schema, options)
    for batch in batches:
        writer.write(batch)
    writer.close()
    stored = public_schema(batches[0].schema)
    table = pq.read_table(path)
    assert table.schema.equals(stored, check_metadata=True)
    wanted = pa.Table.from_batches([public_batch(b) for b in batches], stored)
    assert table.equals(wanted)
    assert pl.read_parquet(path).rows() == [tuple(r.values()) for r in wanted.to_pylist()]
    assert duckdb.sql(f"SELECT * FROM '{path}'").fetchall() == [tuple(r.values()) for r in wanted.to_pylist()]
    return table


def text(values: Sequence[str | None]) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(len(values))), "t": pa.array(values, pa.string_view())})


@pytest.mark.parametrize("row_group_rows", [1 << 20, 1000, 7])
@pytest.mark.parametrize("piece", [10_000, 333])
def test_text_of_every_kind(tmp_path: Path, row_group_rows: int, piece: int) -> None:
    rows = 3000
    columns: dict[str, Sequence[str | None]] = {
        "few": [("", "a", "long enough for a buffer", None, "é")[i % 5] for i in range(rows)],
        "null": [None] * rows,
        "empty": [""] * rows,
        "many": [f"value {i}" for i in range(rows)],
        "late": ["x" if i < rows // 2 else f"long value number {i}" for i in range(rows)],
        "some": [None if i % 3 else f"{i % 100}" for i in range(rows)],
    }
    batch = pa.record_batch({n: pa.array(v, pa.string_view()) for n, v in columns.items()})
    pieces = [batch.slice(at, piece) for at in range(0, rows, piece)]
    path = tmp_path / "t.parquet"
    written(path, pieces, row_group_rows=row_group_rows)
    assert groups(path) == -(-rows // row_group_rows)
    if row_group_rows >= 1000:
        assert encodings(path) == {
            "few": True, "null": True, "empty": True, "many": False, "late": True, "some": True
        }  # fmt: skip


def test_a_dictionary_that_gives_up_loses_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    few, many = [f"v{i % 9}" for i in range(6000)], [f"a value, number {i}" for i in range(6000)]
    for values in (few + many, many + few, few + many + few, few[:5] + many[:4091] + few):
        batches = [text(values[at : at + 500]) for at in range(0, len(values), 500)]
        for rows in (1 << 20, 6000, 1500):
            written(path, batches, row_group_rows=rows)
    # After the first row group too: the file's column then still is one of dictionaries.
    written(path, [text(few), text(many)], row_group_rows=6000)
    assert encodings(path)["t"]


@pytest.mark.parametrize("seed", range(20))
def test_any_batches(seed: int) -> None:
    random = Random(seed)
    column = TextColumn(max_values=random.choice([2, 5, 50]), max_bytes=random.choice([40, 4000]))
    kinds = set()
    for _ in range(6):
        pool = [
            None,
            *(f"{'text that is long ' * random.randint(0, 1)}{i}" for i in range(random.choice([1, 4, 60]))),
        ]
        added: list[str | None] = []
        for _ in range(random.randint(0, 4)):
            values = [random.choice(pool) for _ in range(random.randint(0, 40))]
            skipped = random.randint(0, len(values))
            # Partitioned rows come as plain text.
            column.add(pa.array(values, random.choice([pa.string_view(), pa.string()]))[skipped:])
            added += values[skipped:]
        taken = column.take()
        kinds.add(taken.type)
        assert taken.cast(pa.string()).to_pylist() == added
        if pa.types.is_dictionary(taken.type):
            assert len({id(c.dictionary) and tuple(c.dictionary.to_pylist()) for c in taken.chunks}) <= 1
    assert len(kinds) == 1


def test_what_is_recorded_of_types_is_what_pyarrow_would_record(tmp_path: Path) -> None:
    types = [
        pa.timestamp("us", "Europe/Paris"), pa.timestamp("ns"), pa.timestamp("s"), pa.large_binary(), pa.binary(),
        pa.binary(3), pa.duration("us"), pa.null(), pa.uint32(), pa.date64(), pa.time32("s"), pa.decimal128(20, 3),
        pa.large_list(pa.int8()), pa.list_(pa.string_view(), 2), pa.map_(pa.string_view(), pa.int8()), pa.string_view(),
    ]  # fmt: skip
    schema = pa.schema([(str(t), t) for t in types])
    stored = public_schema(schema)
    for rows in (0, 2):
        batch = pa.RecordBatch.from_arrays([pa.nulls(rows, t) for t in types], schema=schema)
        path, plain = tmp_path / f"{rows}.parquet", tmp_path / f"{rows}-plain.parquet"
        writer = open_parquet(str(path), schema, {})
        writer.write(batch)
        writer.close()
        pq.write_table(pa.Table.from_batches([public_batch(batch)], stored), plain, store_schema=True)
        ours, theirs = pq.ParquetFile(path), pq.ParquetFile(plain)
        assert ours.metadata.metadata == theirs.metadata.metadata
        assert ours.schema.equals(theirs.schema)
        assert ours.read().equals(theirs.read(), check_metadata=True)


def test_a_sorted_key_does_not_look_repeating(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = 1 << 18
    batch = pa.record_batch({"key": pa.array(np.arange(rows) // 4), "few": pa.array(np.arange(rows) % 50)})
    writer = open_parquet(str(path), batch.schema, {})
    writer.write(batch)
    writer.close()
    assert encodings(path) == {"key": False, "few": True}
