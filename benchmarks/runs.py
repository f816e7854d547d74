"""Costs of recording a run.

    python benchmarks/runs.py [--folder .cache/bench] [--scale 2] [--rows 10000000] [--repeats 5]

Each work runs unrecorded, recorded without the outputs of its tasks (`resumable = false`), and recorded with them,
interleaved.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from data import KEYED, LINEITEM, keyed_csv, lineitem_csv
from timing import interleaved, table

import mmflow as mf
from mmflow.api.results import WriteResult
from mmflow.config import Settings
from mmflow.runs.recorded_run import RecordedRun

Q1 = """SELECT l_returnflag, l_linestatus, sum(l_quantity) AS quantity, sum(l_extendedprice) AS price,
avg(l_discount) AS discount, count(*) AS n FROM t WHERE l_shipdate <= DATE '1998-09-02' GROUP BY 1, 2 ORDER BY 1, 2"""
Work = Callable[[mf.Session, str], WriteResult]


def ways(work: Work, temp: Path) -> dict[str, Callable[[], int]]:
    """A work unrecorded, and recorded in two ways; rows written."""
    out = temp / "out"

    def unrecorded() -> int:
        shutil.rmtree(out, ignore_errors=True)
        with mf.Session() as session:
            return work(session, str(out)).rows

    def recorded(resumable: bool) -> int:
        shutil.rmtree(out, ignore_errors=True)
        settings = Settings.load({"runs_dir": str(temp / "runs"), "resumable": resumable})
        with RecordedRun.begin(uuid.uuid4().hex[:12], settings, {"job": "benchmark"}) as run:
            done = work(mf.Session.recorded(settings, run.recorder), str(out))
            run.done(done.run.as_dict())
        return done.rows

    return {
        "unrecorded": unrecorded,
        "recorded": lambda: recorded(False),
        "recorded, resumable": lambda: recorded(True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = lineitem_csv(options.folder, options.scale)
    keyed = keyed_csv(options.folder, options.rows, 1)
    works: dict[str, Work] = {
        "Q1": lambda s, out: s.sql(Q1, t=s.read_csv(str(lines), schema=LINEITEM)).write_parquet(out),
        "CSV to Parquet": lambda s, out: s.read_csv(str(lines), schema=LINEITEM).write_parquet(out),
        f"sort of {options.rows:,} rows": lambda s, out: (
            s.read_csv(str(keyed), schema=KEYED).sort("k").write_parquet(out)
        ),
    }
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temp:
        for name, work in works.items():
            took = interleaved(
                ways(work, Path(temp)), repeats=options.repeats, same=lambda a, b: bool(a == b)
            )
            base = took["unrecorded"]
            row = {"work": name} | {way: f"{seconds:.2f} s" for way, seconds in took.items()}
            row |= {f"{way} / unrecorded": f"{took[way] / base:.2f}" for way in list(took)[1:]}
            rows.append(row)
            print(row, flush=True)
    print(f"\nmedians of {options.repeats}; scale {options.scale:g}, {options.rows:,} rows\n")
    print(table(rows))


if __name__ == "__main__":
    main()
