"""mmflow against DuckDB, Polars and DataFusion on one machine, as ratios of medians.

    python benchmarks/single_node.py [--folder .cache/bench] [--scale 2] [--rows 3000000] [--repeats 5] [WORK ...]

All run in one process, interleaved, with the page cache warm, on two threads; results are checked equal first.
Beside each stands the physical limit: the time in which this machine passes once over the same bytes, mapped, counting
newlines (numpy, on as many threads).
"""

from __future__ import annotations

import argparse
import functools
import mmap
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import datafusion
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from timing import interleaved, table

import mmflow as mf

THREADS = 2
Ways = dict[str, Callable[[], pa.Table]]


@dataclass(frozen=True)
class Work:
    """One row of the table: a file, and how each system computes the same from it."""

    path: Path
    ways: Ways


def _duck(query: str) -> Callable[[], pa.Table]:
    def run() -> pa.Table:
        connection = duckdb.connect()
        connection.execute(f"SET threads={THREADS}")
        return connection.sql(query).to_arrow_table()

    return run


def _datafusion(register: Callable[[Any], None], query: str) -> Callable[[], pa.Table]:
    def run() -> pa.Table:
        context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(THREADS))
        register(context)
        return context.sql(query).to_arrow_table()

    return run


def _mmflow(query: str, read: Callable[[mf.Session], mf.Dataset]) -> Callable[[], pa.Table]:
    def run() -> pa.Table:
        with mf.Session(workers=THREADS) as session:
            return session.sql(query, t=read(session)).to_arrow()

    return run


Q6 = """SELECT sum(l_extendedprice * l_discount) AS revenue FROM {t}
WHERE l_shipdate >= date '1994-01-01' AND l_shipdate < date '1995-01-01'
  AND l_discount >= 0.05 AND l_discount <= 0.07 AND l_quantity < 24"""
Q1 = """SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base,
  sum(l_extendedprice * (1 - l_discount)) AS sum_disc,
  sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
  avg(l_quantity) AS avg_qty, avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS n
FROM {t} WHERE l_shipdate <= date '1998-09-02'
GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus"""
COUNT = "SELECT count(*) AS n FROM {t}"
SELECTIVE = """SELECT count(*) AS n, max(l_orderkey) AS k FROM {t}
WHERE l_shipmode = 'RAIL' AND l_comment = 'final deposits'"""

# Each type as SQL, pyarrow and Polars write it.
_TYPES = {
    "string": ("VARCHAR", pa.string(), pl.String),
    "int64": ("BIGINT", pa.int64(), pl.Int64),
    "int32": ("INTEGER", pa.int32(), pl.Int32),
    "float64": ("DOUBLE", pa.float64(), pl.Float64),
    "date32": ("DATE", pa.date32(), pl.Date),
}


def _lineitem(path: Path, query: str) -> Work:
    columns = ", ".join(f"'{n}': '{_TYPES[t][0]}'" for n, t in data.LINEITEM.items())
    from_duck = f"read_csv('{path}', header=true, columns={{{columns}}})"
    schema = pa.schema([(n, _TYPES[t][1]) for n, t in data.LINEITEM.items()])
    polars_types = {n: _TYPES[t][2] for n, t in data.LINEITEM.items()}

    def polars() -> pa.Table:
        frame = pl.scan_csv(path, schema=polars_types)
        return pl.SQLContext(t=frame).execute(query.format(t="t"), eager=True).to_arrow()

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), lambda s: s.read_csv(str(path), schema=data.LINEITEM)),
            "duckdb": _duck(query.format(t=from_duck)),
            "polars": polars,
            "datafusion": _datafusion(
                lambda c: c.register_csv("t", str(path), schema=schema), query.format(t="t")
            ),
        },
    )


LIKE = "SELECT count(*) AS n FROM {t} WHERE line LIKE '%item/499 %'"
REGEX = r"SELECT count(*) AS n FROM {t} WHERE regexp_like(line, 'item/4[0-9]9 .* 50[03] ')"
REGEX_DUCK = REGEX.replace("regexp_like", "regexp_matches")


def _lines(path: Path, query: str, polars_filter: pl.Expr, duck_query: str) -> Work:
    # Peers have no format for lines: a CSV of one column, delimited by a byte that no line holds.
    from_duck = (
        f"read_csv('{path}', header=false, auto_detect=false, columns={{'line': 'VARCHAR'}}, "
        "delim=chr(1), quote='', escape='')"
    ).replace("chr(1)", "'\x01'")

    def polars() -> pa.Table:
        frame = pl.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String}
        )
        return frame.filter(polars_filter).select(pl.len().alias("n")).collect().to_arrow()

    def register(context: Any) -> None:
        schema = pa.schema([("line", pa.string())])
        context.register_csv(
            "t", str(path), schema=schema, has_header=False, delimiter="\x01", file_extension=path.suffix
        )

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), lambda s: s.read_text(str(path))),
            "duckdb": _duck(duck_query.format(t=from_duck)),
            "polars": polars,
            "datafusion": _datafusion(register, query.format(t="t")),
        },
    )


def _same(a: pa.Table, b: pa.Table) -> bool:
    """Equal rows; numbers to nine digits, since peers choose different types for sums and averages."""

    def rows(t: pa.Table) -> list[tuple[str, ...]]:
        def text(v: object) -> str:
            try:
                return f"{float(v):.6g}"  # type: ignore[arg-type]
            except (TypeError, ValueError):
                return str(v)

        return sorted(tuple(text(v) for v in row.values()) for row in t.to_pylist())

    return rows(a) == rows(b)


def newline_scan(path: Path) -> int:
    """Newlines of a file, mapped, by as many threads as the others use: the memory's own speed."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        step = 1 << 22

        with ThreadPoolExecutor(THREADS) as pool:
            total = sum(pool.map(functools.partial(_newlines, view, step), range(0, size, step)))
        del view
    return total


def _newlines(view: np.ndarray, step: int, start: int) -> int:
    return int(np.count_nonzero(view[start : start + step] == 10))


def works(folder: Path, scale: float, rows: int) -> dict[str, Callable[[], Work]]:
    def lineitem(query: str) -> Callable[[], Work]:
        return lambda: _lineitem(data.lineitem_csv(folder, scale), query)

    return {
        "csv-q6": lineitem(Q6),
        "csv-q1": lineitem(Q1),
        "csv-count": lineitem(COUNT),
        "csv-equal": lineitem(SELECTIVE),
        "text-like": lambda: _lines(
            data.log_text(folder, rows), LIKE, pl.col("line").str.contains("item/499 ", literal=True), LIKE
        ),
        "text-regex": lambda: _lines(
            data.log_text(folder, rows),
            REGEX,
            pl.col("line").str.contains("item/4[0-9]9 .* 50[03] "),
            REGEX_DUCK,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    made = works(options.folder, options.scale, options.rows)
    for name in options.works or made:
        work = made[name]()
        scan = functools.partial(newline_scan, work.path)
        limit = interleaved({"limit": scan}, repeats=3, same=lambda a, b: a == b)
        print(f"{name} …", file=sys.stderr)
        seconds = interleaved(work.ways, repeats=options.repeats, same=_same)
        best = min((s, n) for n, s in seconds.items() if n != "mmflow")
        row = {"work": name, "GB": f"{os.path.getsize(work.path) / 1e9:.2f}"}
        row |= {n: f"{s:.3f} s" for n, s in seconds.items()}
        row |= {
            "best peer": best[1],
            "ratio": f"{best[0] / seconds['mmflow']:.2f}",
            "limit": f"{limit['limit']:.3f} s",
        }
        rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    main()
