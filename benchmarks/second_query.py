"""A second query over the same raw file: columns from the cache against the text, and DuckDB on CSV and on Parquet.

    python benchmarks/second_query.py [--folder .cache/bench] [--scale 2] [--rows 3000000] [--repeats 5] [WORK ...]

All run in one process, interleaved, with the page cache warm, on two threads; results are checked equal first. `off` is
mmflow without a cache, `cached` with all columns kept before, `eager` the query that keeps them (in a new cache each
time), and `noting` the first query of `auto`, which only notes what it reads. DuckDB's connection is the same for all
its queries, so its second query over the CSV has what it keeps of the file. Ratios are those of medians; `size` is that
of the kept columns in the text's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import duckdb
import pyarrow as pa
from timing import interleaved, same_rows, table
from works import LOG_GROUP, LOG_SCHEMA, Q1, Q6, THREADS

import mmflow as mf
from mmflow.cache.store import open_store

EQUALITY = "SELECT l_suppkey, l_quantity, l_shipdate FROM {t} WHERE l_partkey = 155190 ORDER BY l_suppkey, l_shipdate"


def parquet_of(csv: Path, connection: duckdb.DuckDBPyConnection) -> Path:
    """The same rows as Parquet, by DuckDB."""
    made = csv.with_suffix(".duckdb.parquet")
    if not made.exists():
        connection.execute(f"COPY (SELECT * FROM '{csv}') TO '{made}' (FORMAT parquet)")
    return made


def measured(
    query: str,
    read: Callable[[mf.Session], Any],
    peers: dict[str, Callable[[], pa.Table]],
    *,
    text: Path,
    repeats: int,
) -> dict[str, str]:
    """Seconds of each way, and the ratios that the targets name."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:

        def once(session: mf.Session) -> pa.Table:
            return session.sql(query.format(t="t"), t=read(session)).to_arrow()

        def anew(cache: str) -> pa.Table:
            with mf.Session(workers=THREADS, cache=cache, cache_dir=f"{folder}/{next(numbers)}") as session:
                return once(session)

        with (
            mf.Session(workers=THREADS, cache="off") as off,
            mf.Session(workers=THREADS, cache="eager", cache_dir=f"{folder}/kept") as kept,
        ):
            once(kept)
            store = open_store(f"{folder}/kept", None, "")
            size = 0 if store is None else store.measure()
            ways = {
                "off": lambda: once(off),
                "cached": lambda: once(kept),
                "noting": lambda: anew("auto"),
                "eager": lambda: anew("eager"),
                **peers,
            }
            seconds = interleaved(ways, repeats=repeats, same=same_rows)
    row = {name: f"{s:.3f} s" for name, s in seconds.items()}
    row["off / cached"] = f"{seconds['off'] / seconds['cached']:.2f}"
    if "DuckDB, CSV" in seconds:
        row["DuckDB's CSV / cached"] = f"{seconds['DuckDB, CSV'] / seconds['cached']:.2f}"
        row["cached / DuckDB's Parquet"] = f"{seconds['cached'] / seconds['DuckDB, Parquet']:.2f}"
    row["noting / off"] = f"{seconds['noting'] / seconds['off']:.2f}"
    row["eager / off"] = f"{seconds['eager'] / seconds['off']:.2f}"
    row["size"] = f"{size / os.path.getsize(text):.1%}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help="q6, q1, equality, ndjson; all by default")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    connection = duckdb.connect()
    connection.execute(f"SET threads={THREADS}")
    rows = []
    for name in options.works or ("q6", "q1", "equality", "ndjson"):
        print(name, file=sys.stderr)
        if name == "ndjson":
            text = data.log_ndjson(options.folder, options.rows)

            def read_logs(session: mf.Session, path: str = str(text)) -> Any:
                return session.read_ndjson(path, schema=LOG_SCHEMA)

            made = measured(LOG_GROUP, read_logs, {}, text=text, repeats=options.repeats)
        else:
            text = data.lineitem_csv(options.folder, options.scale)
            query = {"q6": Q6, "q1": Q1, "equality": EQUALITY}[name]
            files = {"DuckDB, CSV": text, "DuckDB, Parquet": parquet_of(text, connection)}

            def read_lines(session: mf.Session, path: str = str(text)) -> Any:
                return session.read_csv(path)

            def peer(path: Path, query: str = query) -> pa.Table:
                return connection.sql(query.format(t=f"'{path}'")).to_arrow_table()

            peers = {system: (lambda path=path: peer(path)) for system, path in files.items()}
            made = measured(query, read_lines, peers, text=text, repeats=options.repeats)
        rows.append({"work": name, **made})
        print(json.dumps(made), file=sys.stderr)
    for row in rows:
        print(table([row]), end="\n\n")


if __name__ == "__main__":
    main()
