"""Recorded runs whose jobs use threads."""

from __future__ import annotations

import signal
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col
from mmflow.config import Settings
from mmflow.runs.recorded_run import RecordedRun
from tests.mixed_work import together
from tests.runs.conftest import HERE, Workplace


def test_an_output_is_not_taken_for_another_when_threads_start_in_another_order(workplace: Workplace) -> None:
    out = workplace.folder / "out"
    out.mkdir()
    given = ["--orders", str(workplace.orders), "--folder", str(out)]
    job = str(HERE / "threads_job.py")
    killed = workplace.mmflow("run", job, *given, "--kill", "true", "--name", "r1", *workplace.flags())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in out.iterdir()] == ["even.csv"]
    before = (out / "even.csv").read_bytes()
    went_on = workplace.mmflow("run", job, "--resume", "r1", "--kill", "false")
    assert went_on.returncode == 0, went_on.stderr
    assert sorted(p.name for p in out.iterdir()) == ["even.csv", "odd.csv"]
    assert (out / "even.csv").read_bytes() == before
    rows = [[int(v) for v in line.split(",")] for line in workplace.orders.read_text().splitlines()[1:]]
    expected = sorted([amount, person] for person, amount in rows if amount % 2)
    lines = (out / "odd.csv").read_text().splitlines()[1:]
    assert [[int(v) for v in line.split(",")][::-1] for line in lines] == expected


@pytest.mark.parametrize("resumable", [True, False])
def test_plans_of_one_run_in_threads(workplace: Workplace, tmp_path: Path, resumable: bool) -> None:
    settings = Settings.load(
        {"workers": 2, "shard_size": 8192, "runs_dir": tmp_path / "runs", "resumable": resumable, "memory": 64 << 20,
         "partitions": 2, "spill_dir": tmp_path}
    )  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    with (
        RecordedRun.begin("r1", settings, {"job": "j"}) as recorded,
        mf.Session.recorded(settings, recorded.recorder) as session,
    ):
        rows = session.read_csv(workplace.orders, schema={"person": "int64", "amount": "int64"})

        def write(n: int) -> int:
            # Equal plans: tasks have equal keys, and keep their outputs under them.
            return rows.sort("amount", "person").write_parquet(str(out / f"{n}.parquet")).rows

        def read(_: int) -> int:
            return int(rows.filter(col("amount") >= 0).group_by("person").agg().to_arrow().num_rows)

        calls = [lambda n=n: (read if n % 4 == 0 else write)(n) for n in range(12)]
        found = together(calls)
        recorded.done({})
    assert found == [60 if n % 4 == 0 else 4000 for n in range(12)]
    tables = [pa.parquet.read_table(path) for path in sorted(out.iterdir())]
    assert len(tables) == 9
    assert all(table.equals(tables[0]) for table in tables)
    assert not (workplace.runs / "r1" / "blocks").exists()
