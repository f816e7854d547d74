"""Files that a thread keeps open from one task of a stage to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmflow.config import Settings
from mmflow.engines.local import LocalEngine
from mmflow.engines.loop import execute
from mmflow.errors import SourceChangedError
from mmflow.formats.text.format import open_text
from mmflow.mapping import MappedFile
from mmflow.plan.stages import Functions, Plan, Result, ScanInput, Source, Stage
from mmflow.plan.tasks import Done, Task, TaskResult
from mmflow.worker.context import WorkerContext
from mmflow.worker.kept import Kept
from mmflow.worker.task_runner import run_task

SCHEMA = pa.schema([("n", pa.int64())])


def opened(path: Path) -> MappedFile:
    file = MappedFile.open(path)
    assert not file.whole
    return file


def test_a_file_stays_open_for_its_stage_alone(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(8 << 20))
    kept, stage = Kept(), Stage(0, (), (), Result(), SCHEMA)
    before = os.listdir("/proc/self/fd")

    file = opened(path)
    kept.of(stage).keep_file(file)
    assert kept.of(stage).take_file() is file
    assert kept.of(stage).take_file() is None, "it is the caller's"
    kept.of(stage).keep_file(file)
    kept.of(Stage(1, (), (), Result(), SCHEMA))
    assert os.listdir("/proc/self/fd") == before, "another stage closes it"
    kept.of(stage).keep_file(opened(path))
    kept.clear()
    assert os.listdir("/proc/self/fd") == before
    kept.of(stage).keep_file(opened(path))
    del kept
    assert os.listdir("/proc/self/fd") == before


LINE = pa.schema([("line", pa.string_view())])
TEXT = b"0123456\n" * (1 << 16)


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(TEXT.lower().replace(b"0", b"x"))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)


def _written_to(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(len(TEXT) // 2)
        file.write(b"x")
    os.utime(path)


def _cut_short(path: Path) -> None:
    os.truncate(path, len(TEXT) // 2)


@pytest.mark.parametrize("change", [_replaced, _written_to, _cut_short, Path.unlink])
def test_a_file_that_changes_between_two_tasks_of_a_thread_is_found(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Also where the descriptor that the thread kept still shows what stood there before."""
    path = tmp_path / "large.txt"
    path.write_bytes(TEXT)
    os.utime(path, ns=(10**18, 10**18))
    flags = {"shard_size": len(TEXT) // 8, "workers": 1, "memory": "64MiB", "spill_dir": tmp_path / "spill"}
    settings = Settings.load(flags, env={})
    kept: list[MappedFile | None] = []

    def work(task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
        result = run_task(task, functions, context)
        if isinstance(result, Done):
            kept.append(context.kept.of(task.stage).file)
            if len(kept) == 2:
                change(path)
        return result

    made: Any = open_text([str(path)], {}, None)
    scan = ScanInput("t", Source((str(path),), made, "large"), ("line",))
    plan = Plan((Stage(0, (scan,), (), Result(), LINE),))
    with (
        execute(plan, settings, lambda settings, run: LocalEngine(settings, run, work=work)) as run,
        pytest.raises(SourceChangedError),
    ):
        list(run)
    assert len(kept) == 2
    assert kept[0] is kept[1] is not None, "the second task had the file of the first one"
