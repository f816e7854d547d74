"""Sizes of the files of a task, files of a destination that are replaced, and options of Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.sinks import open_commit, sink_spec
from tests.sinks.sink_rows import names, write, write_all

ROWS = pa.table({"k": [n % 3 for n in range(900)], "n": list(range(900)), "t": [f"v{n}" for n in range(900)]})


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "out")
        return
    memory = fsspec.filesystem("memory")
    yield "memory://bucket/out"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("name", ["parquet", "arrow", "csv", "ndjson"])
def test_files_have_so_many_rows_and_their_order_is_that_of_the_rows(tmp_path: Path, name: str) -> None:
    batches = ROWS.to_batches(max_chunksize=70)
    write_all(tmp_path / "out", [batches[:6], batches[6:]], format=name, max_rows_per_file=100)
    written = mf.read(str(tmp_path / "out"))
    assert written.to_arrow()["n"].to_pylist() == list(range(900))
    manifest = json.loads((tmp_path / "out" / "_mmflow_manifest.json").read_text())
    files = sorted(manifest["files"], key=lambda file: str(file["path"]))
    assert [file["rows"] for file in files] == [100, 100, 100, 100, 20, 100, 100, 100, 100, 80]


@pytest.mark.parametrize("kept", ["first", "second"])
def test_an_attempt_that_runs_twice_at_once_gives_whole_files(folder: str, kept: str) -> None:
    """Engines do so when they take a worker for dead that only hangs, and drivers that die leave tasks running."""
    spec = sink_spec(folder, format="csv", max_rows_per_file=100)
    batches = ROWS.to_batches(max_chunksize=70)
    made = {}

    def hanging() -> Iterator[pa.RecordBatch]:
        yield from batches[:4]
        made["second"] = write(spec, batches, ROWS.schema)
        yield from batches[4:]

    with open_commit(spec, "r1") as commit:
        commit.prepare(schema=ROWS.schema)
        made["first"] = write(spec, hanging(), ROWS.schema)
        assert {f.staged for f in made["first"]}.isdisjoint(f.staged for f in made["second"])
        commit.commit(made[kept], ROWS.schema)
    files = fsspec.open_files(f"{folder}/part-*")
    assert sorted(line for file in files for line in file.open().read().split(b"\n")[1:-1]) == sorted(
        f"{n % 3},{n},v{n}".encode() for n in range(900)
    )


@pytest.mark.parametrize("name", ["parquet", "arrow", "csv", "npy"])
def test_files_have_about_so_many_bytes(tmp_path: Path, name: str) -> None:
    whole = ROWS.select(["n", "k"]).to_batches()
    write_all(tmp_path / "out", [whole], format=name, approximate_bytes_per_file=4_000)
    assert mf.read(str(tmp_path / "out")).count() == 900
    sizes = [p.stat().st_size for p in (tmp_path / "out").glob("part-*")]
    assert len(sizes) > 1
    assert max(sizes) < 8_000


def test_partitions_are_cut_too(tmp_path: Path) -> None:
    write_all(tmp_path / "out", [ROWS.to_batches()], format="csv", partition_by="k", max_rows_per_file=200)
    assert names(tmp_path / "out") == {
        "_mmflow_manifest.json",
        *(f"k={k}/part-00000{more}.csv" for k in range(3) for more in ("", "_000000001")),
    }


def test_only_the_partitions_that_have_new_rows_are_replaced(folder: str) -> None:
    options: dict[str, Any] = {"format": "csv", "partition_by": "k", "if_exists": "replace-partitions"}
    write_all(folder, [ROWS.to_batches(), ROWS.to_batches()], run="r1", **options)
    new = pa.table({"k": [1, 5], "n": [-1, -2], "t": ["a", "b"]})
    write_all(folder, [new.to_batches()], run="r2", **options)
    rows = mf.read(folder).group_by("k").agg(n=mf.col("n").sum()).sort("k").to_dicts()
    sums = [2 * sum(n for n in range(900) if n % 3 == k) for k in range(3)]
    assert rows == [{"k": 0, "n": sums[0]}, {"k": 1, "n": -1}, {"k": 2, "n": sums[2]}, {"k": 5, "n": -2}]
    write_all(
        folder, [new.slice(0, 0).to_batches() or [new.to_batches()[0].slice(0, 0)]], run="r3", **options
    )
    assert mf.read(folder).count() == 2 * 600 + 2


def test_a_commit_that_died_while_it_replaced_partitions_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, (batch,) = tmp_path / "out", ROWS.combine_chunks().to_batches()
    write_all(out, [[batch]], run="r1", format="csv", partition_by="k")
    before = mf.read(str(out)).count()
    spec = sink_spec(out, "csv", partition_by="k", if_exists="replace-partitions")
    new = batch.filter(pa.array([k == 1 for k in batch["k"].to_pylist()])).slice(0, 7)

    def die(step: str) -> None:
        if step == "manifest":
            raise RuntimeError(step)

    monkeypatch.setattr("mmflow.sinks.commit.local.failpoint", die)
    with open_commit(spec, "r2", resumable=True) as commit:
        commit.prepare(schema=batch.schema)
        files = write(spec, [new], batch.schema, run="r2")
        with pytest.raises(RuntimeError):
            commit.commit(files, batch.schema)
    monkeypatch.undo()
    assert mf.read(str(out)).count() == before
    with open_commit(spec, "r2", resumable=True) as commit:
        commit.prepare(schema=batch.schema)
        commit.commit(files, batch.schema)
    assert mf.read(str(out)).value_counts("k").sort("k").to_arrow()["count"].to_pylist() == [300, 7, 300]


@pytest.mark.parametrize(
    ("query", "sorted_by"),
    [
        ("SELECT * FROM t ORDER BY k, t DESC, n", ["k", "t DESC NULLS FIRST", "n"]),
        ("SELECT t, k + 1 AS j, k FROM t ORDER BY k DESC NULLS LAST, t", ["k DESC", "t"]),
        (
            "SELECT n, s, t FROM (SELECT *, {'x': n, 'y': k} AS s FROM t) ORDER BY t NULLS FIRST",
            ["t NULLS FIRST"],
        ),
        ("SELECT * FROM t ORDER BY k LIMIT 20", ["k"]),
        ("SELECT t, n FROM t ORDER BY k, n", []),  # the first key is not there
        ("SELECT * FROM t ORDER BY n + 1, k", []),
        ("SELECT n, k / 2.0 AS f, k FROM t ORDER BY k, f, n", ["k"]),  # readers differ on NaN
        ("SELECT a.n FROM (SELECT * FROM t ORDER BY k LIMIT 20) a JOIN t USING (n)", []),
        ("SELECT n FROM (SELECT * FROM t ORDER BY n LIMIT 9) UNION ALL SELECT n FROM t", []),
        ("SELECT * FROM t", []),
    ],
)
@pytest.mark.parametrize("name", ["out", "one.parquet"])
def test_sorted_files_say_so(query: str, sorted_by: list[str], name: str, tmp_path: Path) -> None:
    with mf.Session(partitions=3, broadcast=0) as session:
        rows = session.from_arrow(ROWS)
        session.sql(query, t=rows).write_parquet(str(tmp_path / name))
        if sorted_by == ["k", "t DESC NULLS FIRST", "n"]:
            session.sql(query, t=rows).write_parquet(
                str(tmp_path / f"hive-{name}"), partition_by="k", max_rows_per_file=50
            )
    made = sorted(tmp_path.rglob("*.parquet"))
    for path in [p for p in made if p.is_file()]:
        file = pq.ParquetFile(path)
        names = [file.schema.column(i).path for i in range(len(file.schema))]
        wanted = [w for w in sorted_by if w.split()[0] in names]
        for group in range(file.metadata.num_row_groups):
            columns = file.metadata.row_group(group).sorting_columns or ()
            shown = [
                names[c.column_index]
                + (" DESC" if c.descending else "")
                + (" NULLS FIRST" if c.nulls_first else "")
                for c in columns
            ]
            assert shown == wanted
        if wanted:
            text = file.read()
            order = ", ".join(w if "NULLS" in w else f"{w} NULLS LAST" for w in wanted)
            keys = [w.split()[0] for w in wanted]
            assert duckdb.sql(f"SELECT * FROM text ORDER BY {order}").to_arrow_table().select(
                keys
            ) == text.select(keys)


def test_options_of_parquet(tmp_path: Path) -> None:
    ds, path = mf.from_arrow(ROWS), tmp_path / "a.parquet"
    ds.write_parquet(
        str(path),
        compression="zstd",
        compression_level=7,
        row_group_rows=300,
        statistics=False,
        bloom_filters=["t"],
    )
    meta = pq.ParquetFile(path).metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [300] * 3
    assert meta.row_group(0).column(2).compression == "ZSTD"
    assert not meta.row_group(0).column(1).is_stats_set
    filters = duckdb.sql(
        f"SELECT path_in_schema, bloom_filter_offset IS NOT NULL FROM parquet_metadata('{path}') WHERE row_group_id = 0"
    ).fetchall()
    assert filters == [("k", False), ("n", False), ("t", True)]
    probed = duckdb.sql(
        f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{path}', 't', 'no such text')"
    )
    assert probed.fetchall() == [(True,)] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression_level": 3}, "snappy has no levels"),
        ({"compression": "zstd", "compression_level": 99}, "the levels of zstd are"),
        ({"max_rows_per_file": 0}, "max_rows_per_file = 0"),
        ({"approximate_bytes_per_file": 1.5}, "whole number"),
        ({"bloom_filters": ["u"]}, "no column 'u'"),
        ({"if_exists": "replace-partitions"}, "partition_by says which"),
        ({"path": "out.parquet", "max_rows_per_file": 5}, "is one file"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(mf.MmflowError, match=message):
        mf.from_arrow(ROWS).write(str(tmp_path / options.pop("path", "out")), "parquet", **options)
    assert not list(tmp_path.iterdir())
