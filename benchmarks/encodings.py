"""Price of encodings: the same queries of lineitem.csv with accents, as UTF-8 and in other encodings, beside the peers.

    python benchmarks/encodings.py [--folder .cache/bench] [--scale 0.5] [--repeats 5]

Every seventh comment gets an accented letter (in the East Asian files, Chinese ones). The page cache is warm; the ways
take turns. The least processor time is printed, which other work on the machine changes little; MB/s are of the bytes
of each file and of one processor. Polars 1.x has only `utf8` and `utf8-lossy` for
`scan_csv`; its `read_csv` decodes a whole file in Python first.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.csv as pacsv
from data import lineitem_csv
from timing import interleaved, table

import mmflow as mf
from mmflow import col

_ENCODINGS = {
    "utf-8": "é",
    "latin-1": "é",
    "utf-16": "é",
    "gb18030": "中",
    "shift_jis": "中",
}
QUERIES: dict[str, Callable[[mf.Dataset], Any]] = {
    "count": lambda ds: ds.count(),
    "text equal, group": lambda ds: (
        ds.filter(col("l_shipmode") == "AIR")
        .group_by("l_returnflag")
        .agg(n=col("l_quantity").sum())
        .sort("n")
        .to_arrow()
    ),
    "three columns": lambda ds: ds.agg(
        *(col(c).max() for c in ("l_quantity", "l_shipdate", "l_comment"))
    ).to_arrow(),
    "all columns": lambda ds: ds.agg(*(col(c).max() for c in ds.columns)).to_arrow(),
}


def main() -> None:
    """Measure and print a row for each query and encoding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    paths = {name: _file(options.folder, options.scale, name, letter) for name, letter in _ENCODINGS.items()}
    rows = []
    for query, run in QUERIES.items():
        ways = {n: partial(run, mf.read_csv(p, encoding=n)) for n, p in paths.items()}
        seconds = _processor_seconds(ways, options.repeats)
        for name, taken in seconds.items():
            size = paths[name].stat().st_size
            speed = {
                "MB/s": f"{size / taken / 1e6:,.0f}",
                "of UTF-8's speed": f"{seconds['utf-8'] / taken:.2f}",
            }
            rows.append({"query": query, "encoding": name, "time": f"{taken:.3f} s"} | speed)
    print(table(rows))
    print(table([_peers(paths, name, options.repeats) for name in ("latin-1", "utf-16")]))


def _processor_seconds(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the least processor time of each way, of several rounds in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return {name: min(values) for name, values in seconds.items()}


def _peers(paths: dict[str, Path], encoding: str, repeats: int) -> dict[str, str]:
    """Return the times of reading all columns of one file into memory."""
    path = paths[encoding]
    ways: dict[str, Callable[[], int]] = {
        "mmflow": lambda: mf.read_csv(path, encoding=encoding).to_arrow().num_rows,
        "DuckDB": lambda: (
            duckdb.sql(f"FROM read_csv('{path}', encoding='{encoding}')").arrow().read_all().num_rows
        ),
        "Polars": lambda: pl.read_csv(path, encoding=encoding).height,
        "pyarrow": lambda: pacsv.read_csv(path, read_options=pacsv.ReadOptions(encoding=encoding)).num_rows,
    }
    seconds = interleaved(ways, repeats=repeats, same=lambda a, b: a == b)
    return {"encoding": encoding} | {name: f"{s:.2f} s" for name, s in seconds.items()}


def _file(folder: Path, scale: float, encoding: str, letter: str) -> Path:
    """Make lineitem.csv with a letter in every seventh comment, in an encoding."""
    path = folder / f"lineitem-{scale}-{encoding}.csv"
    if path.exists():
        return path
    source = lineitem_csv(folder, scale)
    part = path.with_suffix(".part")
    with source.open(encoding="utf-8") as lines, part.open("w", encoding=encoding, newline="") as out:
        for number, line in enumerate(lines):
            out.write(line.replace("e", letter, 1) if number % 7 == 1 else line)
    os.replace(part, path)
    return path


if __name__ == "__main__":
    main()
