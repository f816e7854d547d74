"""mmflow against DuckDB, Polars and DataFusion on one machine, as ratios of medians.

    python benchmarks/single_node.py [--folder .cache/bench] [--scale 2] [--rows 3000000] [--stations 20000000]
        [--repeats 5] [WORK ...]

All run in one process, interleaved, with the page cache warm, on two threads; results are checked equal first. The
works `process-…` are whole processes (see startup.py). Beside each stands the physical limit: the time in which this
machine passes once over the same bytes, mapped, counting newlines (numpy, on as many threads).
"""

from __future__ import annotations

import argparse
import functools
import mmap
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from timing import bare_read, drop, interleaved, same_rows, table
from works import THREADS, works


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--stations", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    made = works(options.folder, options.scale, options.rows, options.stations)
    for name in options.works or made:
        work = made[name]()
        # As a file that was read: pages of one that was just written are small, and mapped half as fast.
        drop(work.path)
        bare_read(work.path)
        scan = functools.partial(newline_scan, work.path)
        limit = interleaved({"limit": scan}, repeats=3, same=lambda a, b: a == b)
        print(name, end=" ", flush=True, file=sys.stderr)
        seconds = interleaved(work.ways, repeats=options.repeats, same=same_rows)
        best = min((s, n) for n, s in seconds.items() if n != "mmflow")
        row = {"work": name, "GB": f"{os.path.getsize(work.path) / 1e9:.2f}"}
        row |= {n: f"{s:.3f} s" for n, s in seconds.items()}
        row |= {
            "best peer": best[1],
            "ratio": f"{best[0] / seconds['mmflow']:.2f}",
            "limit": f"{limit['limit']:.3f} s",
        }
        rows.append(row)
        print(*(f"{n} {s:.3f}" for n, s in seconds.items()), sep=", ", file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
