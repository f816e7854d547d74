"""A million random rows of a file: `ds.take`, and what one would do without it.

    python benchmarks/random_access.py [--folder .cache/bench] [--scale 2] [--rows 20000000] [--taken 1000000]

lineitem.csv and lineitem.parquet (TPC-H) and fixed-width records of 64 bytes, two threads each. Row numbers are drawn
evenly, ascending (which is what the others need least work for); of the Parquet file four of sixteen columns are read.
The record index is there already; what building it takes is said apart. Cold: the file's pages are dropped before each
run.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 2
os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))  # before Polars starts its threads

import data  # noqa: E402  (after POLARS_MAX_THREADS is set)
import duckdb  # noqa: E402  (after POLARS_MAX_THREADS is set)
import numpy as np  # noqa: E402  (after POLARS_MAX_THREADS is set)
import polars as pl  # noqa: E402  (after POLARS_MAX_THREADS is set)
import pyarrow as pa  # noqa: E402  (after POLARS_MAX_THREADS is set)
import pyarrow.csv as pacsv  # noqa: E402  (after POLARS_MAX_THREADS is set)
import pyarrow.parquet as pq  # noqa: E402  (after POLARS_MAX_THREADS is set)
from timing import drop, interleaved, table  # noqa: E402  (after POLARS_MAX_THREADS is set)

import mmflow as mf  # noqa: E402  (after POLARS_MAX_THREADS is set)
from mmflow.rows import index_file  # noqa: E402  (after POLARS_MAX_THREADS is set)

COLUMNS = ["l_orderkey", "l_extendedprice", "l_shipdate", "l_comment"]
LAYOUT = [
    {"name": "id", "type": "int64", "offset": 0},
    {"name": "key", "type": "int32", "offset": 8},
    {"name": "price", "type": "float64", "offset": 16},
    {"name": "count", "type": "int32", "offset": 24, "order": "big"},
]

Ways = dict[str, Callable[[], pa.Table]]


def lineitem_parquet(folder: Path, scale: float) -> Path:
    """lineitem.csv as Parquet, in row groups of some 120,000 rows."""
    path = folder / f"tpch-{scale:g}" / "lineitem.parquet"
    if not path.exists():
        types = {
            n: {"string": pa.string(), "date32": pa.date32()}.get(t, t) for n, t in data.LINEITEM.items()
        }
        options = pacsv.ConvertOptions(column_types=types)
        source = pacsv.open_csv(
            data.lineitem_csv(folder, scale),
            read_options=pacsv.ReadOptions(block_size=16 << 20),
            convert_options=options,
        )
        unfinished = path.with_suffix(".part")
        with pq.ParquetWriter(unfinished, source.schema) as sink:
            for batch in source:
                sink.write_batch(batch)
        unfinished.rename(path)
    return path


def by_mmflow(dataset: mf.Dataset, rows: np.ndarray) -> pa.Table:
    return dataset.take(rows)


def by_polars(frame: pl.LazyFrame, rows: np.ndarray) -> pa.Table:
    """A semi join of numbered rows."""
    wanted = pl.LazyFrame({"row": rows.astype(np.uint32)})
    found = frame.with_row_index("row").join(wanted, on="row", how="semi", maintain_order="left").drop("row")
    return found.collect(engine="streaming").to_arrow()


def by_duckdb(relation: str, columns: str, rows: np.ndarray) -> pa.Table:
    """A semi join of numbered rows, in order of their numbers."""
    wanted = pa.table({"row": rows})
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.register("wanted", wanted)
        numbered = f"SELECT {columns}, row_number() OVER () - 1 AS n FROM {relation}"
        query = f"SELECT {columns} FROM ({numbered}) SEMI JOIN wanted ON n = wanted.row ORDER BY n"
        return connection.sql(query).to_arrow_table()


def by_memmap(path: Path, rows: np.ndarray) -> pa.Table:
    """numpy.memmap, which has no bounds on memory and no checks; columns by hand."""
    taken = np.memmap(path, data.RECORD, mode="r")[rows]
    names = [str(item["name"]) for item in LAYOUT]
    return pa.table(
        {n: pa.array(np.ascontiguousarray(taken[n].astype(taken[n].dtype.newbyteorder("=")))) for n in names}
    )


def same(a: pa.Table, b: pa.Table) -> bool:
    """Equal keys in equal order: first and second column."""
    return a.num_rows == b.num_rows and all(
        np.array_equal(a.column(i).to_numpy(), b.column(i).to_numpy()) for i in (0, 1)
    )


def index_seconds(dataset: mf.Dataset, path: Path) -> float:
    """Return the seconds that the record index takes to build."""
    for side in index_file.sidecar_paths(str(path)):
        Path(side).unlink(missing_ok=True)
    index_file._indexes.clear()
    start = time.perf_counter()
    dataset.take([-(10**6), -1])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2, help="of TPC-H; 13 makes 10 GB of CSV")
    parser.add_argument("--rows", type=int, default=20_000_000, help="of the file of records; 64 bytes each")
    parser.add_argument("--taken", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    session = mf.Session(workers=THREADS)
    csv, parquet = (
        data.lineitem_csv(options.folder, options.scale),
        lineitem_parquet(options.folder, options.scale),
    )
    records = data.records_bin(options.folder, options.rows)
    count = pq.ParquetFile(parquet).metadata.num_rows
    rng = np.random.default_rng(13)
    some = np.sort(rng.choice(count, min(options.taken, count), replace=False))
    of_records = np.sort(rng.choice(options.rows, min(options.taken, options.rows), replace=False))
    lines = session.read_csv(str(csv), schema=data.LINEITEM)
    groups = session.read_parquet(str(parquet)).select(*COLUMNS)
    fixed = session.read_records(str(records), layout=LAYOUT, record_size=data.RECORD.itemsize)
    kinds = {n: {"string": pl.String, "float64": pl.Float64, "date32": pl.Date, "int32": pl.Int32}.get(t, pl.Int64)
             for n, t in data.LINEITEM.items()}  # fmt: skip
    files: dict[str, tuple[Path, Ways]] = {
        "CSV": (csv, {
            "mmflow": functools.partial(by_mmflow, lines, some),
            "Polars": functools.partial(by_polars, pl.scan_csv(csv, schema=kinds), some),
            "DuckDB": functools.partial(by_duckdb, f"read_csv('{csv}')", ", ".join(data.LINEITEM), some),
        }),
        "Parquet, 4 columns": (parquet, {
            "mmflow": functools.partial(by_mmflow, groups, some),
            "Polars": functools.partial(by_polars, pl.scan_parquet(parquet).select(COLUMNS), some),
            "DuckDB": functools.partial(by_duckdb, f"'{parquet}'", ", ".join(COLUMNS), some),
        }),
        "records": (records, {
            "mmflow": functools.partial(by_mmflow, fixed, of_records),
            "numpy.memmap": functools.partial(by_memmap, records, of_records),
        }),
    }  # fmt: skip
    print(f"{len(some):,} of {count:,} rows, {len(of_records):,} of {options.rows:,} records")
    print(f"index of {csv.stat().st_size >> 20:,} MiB of CSV: {index_seconds(lines, csv):.2f} s")
    rows: list[dict[str, Any]] = []
    for name, (path, ways) in files.items():
        for state, before in (("warm", lambda: None), ("cold", functools.partial(drop, path))):
            seconds = interleaved(ways, repeats=options.repeats, same=same, before=before)
            rows.append({"file": name, "page cache": state} | {w: f"{s:.3f} s" for w, s in seconds.items()})
    print(table(rows))


if __name__ == "__main__":
    main()
