"""The 22 TPC-H queries on Parquet: mmflow against DataFusion and DuckDB on one machine, as medians and their ratios.

    python benchmarks/tpch.py [--folder .cache/bench] [--scale 1] [--repeats 3] [QUERY ...]

All run in one process, interleaved, with the page cache warm, on two threads; rows are checked equal first. Opening the
files counts, for each of the three.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datafusion
import duckdb
import pyarrow as pa
from timing import interleaved, same_rows, table

import mmflow as mf

THREADS = 2
#: An average of decimals has six places in DataFusion, and is a double in DuckDB.
SAME = functools.partial(same_rows, places=1e-6)
QUERIES = Path(__file__).parents[1] / "tests" / "tpch" / "queries"
TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def tables(folder: Path, scale: float) -> dict[str, str]:
    """Paths of the eight tables by name; made by tpchgen-cli where they are missing."""
    out = folder / f"tpch-{scale:g}-parquet"
    if not (out / "done").exists():
        tool = Path(sys.executable).with_name("tpchgen-cli")
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run([str(tool), "parquet", "-s", f"{scale:g}", f"--output-dir={out}"], check=True)
        (out / "done").touch()
    return {name: str(out / f"{name}.parquet") for name in TABLES}


def ways(paths: dict[str, str], query: str) -> dict[str, Callable[[], pa.Table]]:
    """Each system's way of running a query."""

    def mmflow() -> pa.Table:
        with mf.Session(workers=THREADS) as session:
            return session.sql(query, **{n: session.read_parquet(p) for n, p in paths.items()}).to_arrow()

    def from_datafusion() -> pa.Table:
        context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(THREADS))
        for name, path in paths.items():
            context.register_parquet(name, path)
        return context.sql(query).to_arrow_table()

    def duck() -> pa.Table:
        connection = duckdb.connect()
        connection.execute(f"SET threads={THREADS}")
        for name, path in paths.items():
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{path}'")
        return connection.sql(query).to_arrow_table()

    return {"mmflow": mmflow, "datafusion": from_datafusion, "duckdb": duck}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("queries", nargs="*", help="numbers of queries, all by default")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    paths = tables(options.folder, options.scale)
    totals: dict[str, float] = {}
    rows = []
    for number in map(int, options.queries or range(1, 23)):
        print(f"query {number} …", file=sys.stderr)
        query = (QUERIES / f"q{number:02}.sql").read_text()
        seconds = interleaved(ways(paths, query), repeats=options.repeats, same=SAME)
        totals = {name: totals.get(name, 0) + value for name, value in seconds.items()}
        rows.append(_row(str(number), seconds))
    print(table([*rows, _row("total", totals)]))


def _row(name: str, seconds: dict[str, float]) -> dict[str, str]:
    row = {"query": name} | {n: f"{s:.3f} s" for n, s in seconds.items()}
    return row | {f"mmflow / {n}": f"{seconds['mmflow'] / seconds[n]:.2f}" for n in ("datafusion", "duckdb")}


if __name__ == "__main__":
    main()
