"""Run the installed mmflow on a small file: the command and Python, which must give the same rows.

`python release/smoke_queries.py`, in any folder and in any environment with mmflow. The engines need Linux; elsewhere,
arrays in files are tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import version

import mmflow as mf

ROWS = 10_000
QUERY = "SELECT city, count(*) AS n, sum(amount) AS amount FROM 'sales.csv' GROUP BY city ORDER BY city"
EXPECTED = [{"city": c, "n": ROWS // 4, "amount": sum(range(i, ROWS, 4)) / 4} for i, c in enumerate("ABCD")]


def main() -> None:
    """Run all checks, and print what was found.

    Raises:
        AssertionError: A result is wrong.
    """
    _same(mf.__version__, version("mmflow-engine"))
    if sys.platform != "linux":
        array = mf.create_array("a.npy", shape=(1000,), dtype="int64")
        array[:] = range(1000)
        array.flush()
        _same(int(mf.open_array("a.npy")[:].sum()), sum(range(1000)))
        print(f"mmflow {mf.__version__}: arrays are right")
        return
    with open("sales.csv", "w", encoding="utf-8") as file:
        file.write("city,amount\n")
        file.writelines(f"{'ABCD'[i % 4]},{i / 4}\n" for i in range(ROWS))
    _same(mf.sql(QUERY).to_arrow().to_pylist(), EXPECTED)
    mf.read_csv("sales.csv").filter(mf.col("city") == "B").write_parquet("out/")
    _same(len(mf.read_parquet("out/")), ROWS // 4)

    command = os.path.join(sysconfig.get_path("scripts"), "mmflow")
    _same(_printed(command, "--version"), f"mmflow {mf.__version__}\n")
    started = time.perf_counter()
    printed = _printed(command, "sql", QUERY, "--format", "csv")
    seconds = time.perf_counter() - started
    _same(
        [line.split(",")[:2] for line in printed.splitlines()[1:]],
        [[e["city"], str(e["n"])] for e in EXPECTED],
    )
    _printed(command, "doctor")
    print(f"mmflow {mf.__version__}: a query takes {seconds:.2f} s as a process, and its rows are right")


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _same(got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"{got!r} is not {expected!r}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
