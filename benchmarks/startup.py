"""Whole processes, from the start of the interpreter to its end: mmflow, DuckDB, Polars and DataFusion.

    python benchmarks/startup.py [--folder .cache/bench] [--scale 1] [--stations 20000000] [--repeats 11]

`SELECT count(*)` of two lines, Q6 of lineitem and a group by of `station;temp`, on two threads; interleaved medians of
wall-clock and of processor time, which a busy machine changes less. Results are checked equal first. mmflow must be
installed as users have it, from a wheel: an editable installation looks for its modules in another, slower way.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from timing import same_rows, table
from works import works

WORKS = ("process-count", "process-q6", "process-stations")


def _measured(run: Callable[[], pa.Table]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a run and its processes."""
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*", default=WORKS)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--stations", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    made = works(options.folder, options.scale, 0, options.stations)
    rows = []
    for name in options.works:
        ways = made[name]().ways
        results = {system: run() for system, run in ways.items()}  # writes .pyc files, too
        for system, result in results.items():
            if not same_rows(results["mmflow"], result):
                sys.exit(f"{name}: {system} and mmflow differ:\n{result}\n{results['mmflow']}")
        times: dict[str, list[tuple[float, float]]] = {system: [] for system in ways}
        for _ in range(options.repeats):
            for system, run in ways.items():
                times[system].append(_measured(run))
        for number, what in enumerate(("wall-clock", "processor")):
            median = {s: statistics.median(t[number] for t in each) for s, each in times.items()}
            row = {"work": name, "time": what} | {s: f"{m:.3f} s" for s, m in median.items()}
            rows.append(row | {f"mmflow / {s}": f"{median['mmflow'] / m:.2f}" for s, m in median.items()})
            del rows[-1]["mmflow / mmflow"]
    print(table(rows))


if __name__ == "__main__":
    main()
