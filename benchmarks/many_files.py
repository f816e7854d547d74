"""Many small files, read and written: mmflow beside Polars and DuckDB, on this machine.

    python benchmarks/many_files.py FOLDER [--files 100000] [--partitions 2000] [--runs 3]

Three measurements, each the median of runs in processes of their own, one after the other:

- planning: `mf.read` of a glob of CSV files of 100 bytes, up to the schema (no row is read);
- reading: the sum of a column of all of these files;
- writing: 2,000,000 rows into one Parquet file for each value of a column.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_HEAD = "import os, sys, time; begin = time.perf_counter()\n"
_TAIL = "\nprint(time.perf_counter() - begin)"
_PLAN = "import mmflow as mf\nbegin = time.perf_counter()\nmf.read(f'{folder}/*/*.csv').schema"
_READ = {
    "mmflow": "import mmflow as mf\nbegin = time.perf_counter()\n"
    "print(mf.sql(f\"SELECT sum(v) AS s FROM '{folder}/*/*.csv'\").to_arrow().to_pydict(), file=sys.stderr)",
    "polars": "import polars as pl\nbegin = time.perf_counter()\n"
    "print(pl.scan_csv(f'{folder}/*/*.csv').select(pl.col('v').sum()).collect(), file=sys.stderr)",
    "duckdb": "import duckdb\nbegin = time.perf_counter()\n"
    "print(duckdb.sql(f\"SELECT sum(v) FROM '{folder}/*/*.csv'\").fetchall(), file=sys.stderr)",
}
_WRITE = {
    "mmflow": "import mmflow as mf\nbegin = time.perf_counter()\n"
    "mf.read_parquet(source).write_parquet(out, partition_by=['k'])",
    "polars": "import polars as pl\nbegin = time.perf_counter()\n"
    "pl.scan_parquet(source).sink_parquet(pl.PartitionBy(out, key='k'), mkdir=True)",
    "duckdb": "import duckdb\nbegin = time.perf_counter()\nduckdb.sql('SET partitioned_write_max_open_files = 4000')\n"
    "duckdb.sql(f\"COPY (FROM '{source}') TO '{out}' (FORMAT parquet, PARTITION_BY (k))\")",
}


def make_files(folder: Path, count: int) -> None:
    """Write `count` CSV files of 100 bytes, a thousand in each folder."""
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:04}").mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{number},{row},{'x' * 10}\n" for row in range(4))
        (folder / f"{number // 1000:04}" / f"{number:07}.csv").write_text("k,v,text\n" + rows)


def make_table(path: Path, partitions: int) -> None:
    """Write a Parquet file of 2,000,000 rows, each value of `k` as often as another, in random order."""
    random = np.random.default_rng(1)
    rows = 2_000_000
    table = pa.table({
        "k": pa.array(random.integers(0, partitions, rows)),
        "v": pa.array(random.random(rows)),
        "n": pa.array(np.arange(rows)),
    })  # fmt: skip
    pq.write_table(table, path, row_group_size=rows // 8)


def measure(code: str, runs: int, **names: str) -> float:
    """Return the median seconds of some code, which begins to count where it sets `begin`, in processes of its own."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    taken = []
    for _ in range(runs):
        if "out" in names:
            shutil.rmtree(names["out"], ignore_errors=True)
            os.sync()
        done = subprocess.run(
            [sys.executable, "-c", _HEAD + given + code + _TAIL], capture_output=True, check=False
        )
        if done.returncode:
            print(done.stderr.decode()[-500:], file=sys.stderr)
            return float("nan")
        taken.append(float(done.stdout.splitlines()[-1]))
    return statistics.median(taken)


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    small, source, out = (
        given.folder / f"small{given.files}",
        given.folder / "rows.parquet",
        given.folder / "out",
    )
    if not small.exists():
        make_files(small, given.files)
    make_table(source, given.partitions)
    begin = time.perf_counter()
    print(
        json.dumps(
            {"what": "plan", "files": given.files, "mmflow": measure(_PLAN, given.runs, folder=str(small))}
        )
    )
    read = {name: measure(code, given.runs, folder=str(small)) for name, code in _READ.items()}
    print(json.dumps({"what": "read", "files": given.files, **read}))
    write = {n: measure(code, given.runs, source=str(source), out=str(out)) for n, code in _WRITE.items()}
    print(json.dumps({"what": "write", "partitions": given.partitions, **write}))
    print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
