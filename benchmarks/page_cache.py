"""mmflow with the page cache cold and warm: against a bare read of the file, and `io` auto against mmap and pread.

    python benchmarks/page_cache.py [--folder .cache/bench] [--scale 2] [--repeats 5]

TPC-H Q6 on lineitem.csv, two workers. Before each cold run the file's pages are dropped (fsync, POSIX_FADV_DONTNEED).
The bare read is one thread that reads the file in order, 4 MiB at a time, and does nothing with it.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import pyarrow as pa
from timing import bare_read, drop, interleaved, table
from works import Q6, THREADS

import mmflow as mf


def query(path: Path, io: str) -> pa.Table:
    """Q6 with a way of filling windows."""
    with mf.Session(workers=THREADS, io=io) as session:
        return session.sql(Q6.format(t="t"), t=session.read_csv(str(path), schema=data.LINEITEM)).to_arrow()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = data.lineitem_csv(options.folder, options.scale)
    ways: dict[str, Callable[[], Any]] = {
        io: functools.partial(query, path, io) for io in ("auto", "mmap", "pread")
    }
    ways["bare read"] = functools.partial(bare_read, path)
    rows = []
    for state, before in (("warm", lambda: None), ("cold", functools.partial(drop, path))):
        seconds = interleaved(ways, repeats=options.repeats, same=lambda a, b: True, before=before)
        row = {"page cache": state} | {n: f"{s:.3f} s" for n, s in seconds.items()}
        row["auto / better of both"] = f"{seconds['auto'] / min(seconds['mmap'], seconds['pread']):.2f}"
        row["auto / bare read"] = f"{seconds['auto'] / seconds['bare read']:.2f}"
        rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    main()
