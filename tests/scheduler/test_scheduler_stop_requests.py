"""Slow scans that stop early, for real: the remainders of their shards go to idle threads, and no byte is read twice."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.config import Settings
from mmflow.engines.local import LocalEngine
from mmflow.engines.loop import execute
from mmflow.formats import Format, ScanRequest, open_format
from mmflow.plan.stages import Functions, MapStep, Plan, Result, ScanInput, Source, Stage
from mmflow.plan.tasks import Done, Task, TaskResult
from mmflow.worker.context import WorkerContext
from mmflow.worker.task_runner import run_task

ROWS = 60_000
IDS = pa.schema([("id", pa.int64())])
LAYOUT = [{"name": "id", "type": "int64", "offset": 0, "order": "little"}]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of some thousand records, and little patience."""
    monkeypatch.setattr("mmflow.engines.loop.SLOW_SECONDS", 0.2)
    monkeypatch.setattr("mmflow.engines.loop.PART_BYTES", 8192)
    monkeypatch.setattr("mmflow.worker.scan.ScanRequest", partial(ScanRequest, piece_bytes=8192))
    monkeypatch.setattr("mmflow.formats.records.format._WINDOW_ROWS", 1024)


def crawl(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The first third of the rows takes long."""
    if batch.column(0)[0].as_py() < ROWS // 3:
        time.sleep(0.05)
    return batch


class Watched:
    """`run_task`, and what it was given and gave."""

    def __init__(self) -> None:
        self.done: list[tuple[Task, Done]] = []
        self._lock = threading.Lock()

    def __call__(self, task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
        result = run_task(task, functions, context)
        assert isinstance(result, Done)
        with self._lock:
            self.done.append((task, result))
        return result


@pytest.mark.alone
@pytest.mark.parametrize("form", ["csv", "records"])
def test_idle_workers_read_only_what_a_slow_task_has_not(form: str, tmp_path: Path) -> None:
    path = tmp_path / "ids"
    if form == "csv":
        path.write_text("".join(f"{i}\n" for i in range(ROWS)))
        made: Format = open_format("csv", [str(path)], header=False, schema=IDS)
    else:
        path.write_bytes(b"".join(i.to_bytes(8, "little") for i in range(ROWS)))
        made = open_format("records", [str(path)], layout=LAYOUT, record_size=8)
    size = path.stat().st_size
    scan = ScanInput("t", Source((str(path),), made, "ids"), ("id",))
    plan = Plan((Stage(0, (scan,), (MapStep(crawl, IDS, IDS),), Result(), IDS),))
    flags = {"shard_size": size // 2, "workers": 4, "memory": "64MiB", "spill_dir": tmp_path / "spill"}
    settings = Settings.load(flags, env={})
    watched = Watched()
    run = execute(plan, settings, partial(LocalEngine, work=watched), run="r")
    assert [i for batch in run for i in batch.column(0).to_pylist()] == list(range(ROWS))
    progress = run.outcome.progress
    assert (progress.records, progress.rows, progress.retries) == (ROWS, ROWS, 0)
    assert progress.bytes_done == size
    assert progress.stragglers >= 1
    split = [(task, done) for task, done in watched.done if done.resume_offset is not None]
    assert split
    assert sum(done.reports[0].bytes_read for _, done in watched.done) == size, "no byte is read twice"
    for task, done in split:
        begins = [
            t.shards.shards[0].begin for t, _ in watched.done if t.shards and t.id.part[:-1] == task.id.part
        ]
        assert done.resume_offset in begins


@pytest.mark.alone
def test_part_files_of_split_tasks_are_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("id\n" + "".join(f"{i}\n" for i in range(ROWS)))
    with mf.Session(
        shard_size=path.stat().st_size // 2, workers=4, spill_dir=str(tmp_path / "spill")
    ) as session:
        slow = session.read_csv(str(path)).map_batches(crawl, schema={"id": "int64"})
        slow.write_csv(str(tmp_path / "out"))
        assert session.last_run is not None
        assert session.last_run.stragglers >= 1
        names = sorted(p.name for p in (tmp_path / "out").glob("*.csv"))
        assert "part-00000_001.csv" in names
        assert session.read_csv(str(tmp_path / "out")).to_arrow().column("id").to_pylist() == list(
            range(ROWS)
        )
