"""Memory is bounded by the budget and planning by the number of shards, whatever the size of the file."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import mmflow as mf
from mmflow.formats import open_format
from mmflow.shards import identify_files, plan_shards

SCRIPT = """
import json, sys, threading, time
import mmflow as mf

peak = 0
def watch():
    global peak
    while True:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) << 10)
        time.sleep(0.005)

threading.Thread(target=watch, daemon=True).start()
query, path, schema = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
settings = json.loads(sys.argv[4])
with mf.Session(**settings) as session:
    table = session.read_csv(path, schema=schema)
    made = session.sql(query, t=table, u=table)
    if len(sys.argv) > 5:
        made.write_parquet(sys.argv[5], partition_by="p")
        rows = made.count()
    else:
        rows = sum(batch.num_rows for batch in made.iter_batches())
print(json.dumps({"rows": rows, "peak": peak}))
"""


#: What docs/architecture.md states of a process beside its budget: the interpreter, libraries, DataFusion's threads, and
#: the kernels' blocks.
BASE = 160 << 20


def run(
    query: str, path: Path, schema: dict[str, str], *, write: Path | None = None, **settings: object
) -> dict[str, int]:
    given = [query, str(path), json.dumps(schema), json.dumps(settings), *([str(write)] if write else [])]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *given],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]  # the shape of our own JSON


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of about 400 MB with 4 million distinct keys."""
    path = tmp_path_factory.mktemp("memory") / "wide.csv"
    with path.open("w") as file:
        file.write("k,g,v,s\n")
        for start in range(0, 4_000_000, 100_000):
            rows = range(start, start + 100_000)
            file.write("".join(f"{(i * 7919) % 4_000_003},{i % 11},{i * 0.25},text {i:060d}\n" for i in rows))
    return path


SCHEMA = {"k": "int64", "g": "int32", "v": "float64", "s": "string"}


def test_an_aggregation_stays_far_below_its_file(wide: Path) -> None:
    found = run(
        "SELECT g, sum(v), avg(v), count(*), max(s) FROM t GROUP BY g", wide, SCHEMA,
        workers=2, memory="512MiB", shard_size="16MiB",
    )  # fmt: skip
    assert found["rows"] == 11
    assert found["peak"] < (256 << 20) + BASE


def test_a_sort_larger_than_the_budget_spills(wide: Path) -> None:
    found = run(
        "SELECT k, count(*) AS n, max(s) AS s FROM t GROUP BY k ORDER BY k LIMIT 5", wide, SCHEMA,
        workers=2, memory="256MiB", shard_size="8MiB", partitions=16,
    )  # fmt: skip
    assert found["rows"] == 5
    assert found["peak"] < (256 << 20) + BASE


WORKS = {
    "sort": "SELECT * FROM t ORDER BY v DESC",
    "group": "SELECT k, sum(v) AS v, max(s) AS s FROM t GROUP BY k",
    "distinct": "SELECT DISTINCT k, s FROM t",
    "join": "SELECT t.k, t.v, t.s, u.v AS w, u.s AS x FROM t JOIN u ON t.k = u.k",
    "window": "SELECT k, v, s, rank() OVER (PARTITION BY k % 2000 ORDER BY v) AS r FROM t",
    "write": "SELECT k, v, s, k % 200 AS p FROM t",
}


def bounded(work: str, path: Path, rows: int, tmp_path: Path, mebibytes: int) -> None:
    """One of WORKS gives its rows, in a process whose anonymous memory stays below its budget and the base."""
    out = tmp_path / "out" if work == "write" else None
    found = run(WORKS[work], path, SCHEMA, write=out, workers=2, memory=f"{mebibytes}MiB")
    assert found["rows"] == rows
    assert found["peak"] < (mebibytes << 20) + BASE, f"{found['peak'] >> 20} MiB"


@pytest.fixture(scope="module")
def small(wide: Path) -> Path:
    """The first million rows."""
    path = wide.with_name("small.csv")
    with wide.open() as file, path.open("w") as part:
        part.writelines(itertools.islice(file, 1_000_001))
    return path


def test_a_sort_of_twice_its_budget_is_bounded(small: Path, tmp_path: Path) -> None:
    bounded("sort", small, 1_000_000, tmp_path, 48)


@pytest.mark.nightly
@pytest.mark.parametrize("mebibytes", [128, 256, 512])
@pytest.mark.parametrize("work", WORKS)
def test_every_work_is_bounded_by_its_budget(work: str, mebibytes: int, wide: Path, tmp_path: Path) -> None:
    bounded(work, wide, 4_000_000, tmp_path, mebibytes)


def test_planning_a_tebibyte_costs_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    path.write_text("a,b\n1,2\n")
    with path.open("r+b") as file:
        file.truncate(1 << 40)
        file.seek((1 << 40) - 8)
        file.write(b"3,4\n5,6\n")
    form = open_format("csv", [str(path)], schema={"a": "int64", "b": "int64"})
    tracemalloc.start()
    (entry,) = identify_files([str(path)])
    shards = list(
        plan_shards(entry, 0, shard_size=64 << 20, splittable=form.splittable, skips_holes=form.skips_holes)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(shards) <= 4  # all else is a hole
    assert peak < 4 << 20
    with mf.Session() as session:
        table = session.read_csv(str(path), schema={"a": "int64", "b": "int64"}).to_arrow()
    assert table.to_pydict() == {"a": [1, 3, 5], "b": [2, 4, 6]}
