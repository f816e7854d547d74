"""Price of `validate=all`: the same queries of a CSV file, with the columns checked that they read, and with all.

    python benchmarks/validate.py [--folder .cache/bench] [--scale 0.5] [--repeats 5]

The page cache is warm; the ways take turns, and medians are printed. `validate=all` is the default where
`on_bad_record` is skip, null or quarantine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from data import lineitem_csv
from timing import interleaved, table

import mmflow as mf
from mmflow import col

QUERIES: dict[str, Callable[[mf.Dataset], Any]] = {
    "count": lambda ds: ds.count(),
    "three columns": lambda ds: (
        ds.filter(col("l_discount") > 0.05)
        .group_by("l_returnflag")
        .agg(total=col("l_quantity").sum())
        .sort("l_returnflag")
        .to_arrow()
    ),
    "all columns": lambda ds: ds.agg(*(col(c).max() for c in ds.columns)).to_arrow(),
}
WAYS = {
    "error, projected": {"on_bad_record": "error"},
    "error, all": {"on_bad_record": "error", "validate": "all"},
    "skip (all)": {"on_bad_record": "skip"},
}


def main() -> None:
    """Measure and print a row for each query."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    path = lineitem_csv(options.folder, options.scale)
    rows = []
    for name, query in QUERIES.items():
        ways = {way: partial(query, mf.read_csv(path, **given)) for way, given in WAYS.items()}
        seconds = interleaved(ways, repeats=options.repeats, same=lambda a, b: a == b)
        first, *_, last = seconds.values()
        shown = {way: f"{s:.3f} s" for way, s in seconds.items()}
        rows.append({"query": name} | shown | {"skip / projected": f"{last / first:.2f}"})
    print(table(rows))


if __name__ == "__main__":
    main()
