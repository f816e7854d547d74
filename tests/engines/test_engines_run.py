"""Plans run for real: files, threads, DataFusion, spilling; whatever goes wrong leaves nothing behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow.engines
from mmflow.config import EngineName, Settings
from mmflow.engines import Progress
from mmflow.engines.local import LocalEngine, _Results
from mmflow.engines.loop import Run, execute
from mmflow.engines.opening import open_engine
from mmflow.errors import (
    BadRecordError,
    ConfigError,
    EngineError,
    MmflowError,
    SourceChangedError,
    SourceError,
    UserFunctionError,
)
from mmflow.formats.text.format import open_text
from mmflow.mapping import sigbus_guard
from mmflow.plan.stages import (
    Broadcast,
    ExchangeInput,
    Forward,
    Functions,
    Hash,
    MapStep,
    Plan,
    Range,
    Result,
    ScanInput,
    SortKey,
    Source,
    SqlStep,
    Stage,
    Step,
    TableInput,
)
from mmflow.plan.tasks import Done, Failed, Task, TaskId, TaskResult
from mmflow.worker.context import WorkerContext
from mmflow.worker.task_runner import run_task

LINE = pa.schema([("line", pa.string_view())])
NUMBER = pa.schema([("n", pa.int64())])
PARSED = SqlStep('SELECT CAST(line AS BIGINT) AS n FROM "t"', (("t", LINE),), NUMBER, streaming=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    flags = {"shard_size": 4096, "workers": 2, "memory": "64MiB", "spill_dir": tmp_path / "spill"}
    return Settings.load(flags, env={})


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{i}\n" for i in range(20_000)))
    return path


def source(*paths: Path, **options: Any) -> Source:
    made: Any = open_text([str(p) for p in paths], options, None)
    return Source(tuple(str(p) for p in paths), made, "numbers")


def scan(*paths: Path, columns: tuple[str, ...] = ("line",), **options: Any) -> ScanInput:
    return ScanInput("t", source(*paths, **options), columns)


def parse(
    number: int, output: Any, *paths: Path, steps: tuple[Step, ...] = (), limit: int | None = None
) -> Stage:
    return Stage(number, (scan(*paths),), (PARSED, *steps), output, NUMBER, limit)


def exchange(mode: Any, *stages: int) -> ExchangeInput:
    return ExchangeInput("t", stages, mode)


def rows(run: Run) -> list[Any]:
    return [row for batch in run for row in batch.column(0).to_pylist()]


def assert_clean(settings: Settings) -> None:
    assert not settings.spill_dir.exists() or list(settings.spill_dir.iterdir()) == []
    # The thread that starts Ray, in the tests of another file, lasts as long as the process (engines/ray/connection.py).
    left = [
        t.name
        for t in threading.enumerate()
        if t.name.startswith("mmflow") and t.name not in ("mmflow-ray", "mmflow-sweep")
    ]
    assert left == []


@pytest.fixture
def clean(settings: Settings) -> Any:
    yield
    assert_clean(settings)


pytestmark = pytest.mark.usefixtures("clean")


# ---- rows ---------------------------------------------------------------------------------------


def test_scan_in_order(settings: Settings, numbers: Path) -> None:
    run = execute(Plan((parse(0, Result(), numbers),)), settings, LocalEngine)
    assert rows(run) == list(range(20_000))
    progress = run.outcome.progress
    assert progress.records == progress.rows == 20_000
    assert progress.bytes_done == progress.bytes_total == numbers.stat().st_size
    assert progress.stages[0].total == progress.stages[0].done > 20
    assert [f.path for f in run.inputs] == [str(numbers)]
    assert run.outcome.reasons


def test_aggregate_over_an_exchange(settings: Settings, numbers: Path) -> None:
    grouped = pa.schema([("k", pa.int64()), ("c", pa.int64())])
    partial = SqlStep('SELECT n % 7 AS k, count(*) AS c FROM "t" GROUP BY 1', (("t", NUMBER),), grouped, True)
    final = SqlStep('SELECT k, sum(c) AS c FROM "t" GROUP BY 1', (("t", grouped),), grouped, False)
    plan = Plan(
        (
            Stage(0, (scan(numbers),), (PARSED, partial), Hash((0,), 3), grouped),
            Stage(1, (exchange("partition", 0),), (final,), Result(), grouped),
        )
    )
    with execute(plan, settings, LocalEngine) as run:
        got = dict(zip(*pa.Table.from_batches(list(run)).to_pydict().values(), strict=True))
    assert got == {k: len(range(k, 20_000, 7)) for k in range(7)}


@pytest.mark.parametrize("memory", ["64MiB", "4MiB"])
def test_sort_by_ranges(settings: Settings, numbers: Path, memory: str) -> None:
    settings = replace(settings, memory=64 << 20 if memory == "64MiB" else 4 << 20)
    keys = (SortKey(0, descending=True),)
    sort = SqlStep('SELECT n FROM "t" ORDER BY n DESC', (("t", NUMBER),), NUMBER, False)
    plan = Plan(
        (
            parse(0, Forward(keys), numbers),
            Stage(1, (exchange("forward", 0),), (), Range(keys, 5, 1), NUMBER),
            Stage(2, (exchange("partition", 1),), (sort,), Result(), NUMBER),
        )
    )
    run = execute(plan, settings, LocalEngine)
    assert rows(run) == list(range(19_999, -1, -1))
    assert run.outcome.progress.stages[2].total == 5


def test_limit_stops_early(settings: Settings, numbers: Path) -> None:
    plan = Plan(
        (
            parse(0, Broadcast(), numbers, limit=10),
            Stage(1, (exchange("all", 0),), (), Result(), NUMBER, limit=10),
        )
    )
    run = execute(plan, settings, LocalEngine)
    assert rows(run) == list(range(10))
    assert run.outcome.progress.stages[0].done < 5


def test_limit_of_the_result_itself(settings: Settings, numbers: Path) -> None:
    plan = Plan((parse(0, Result(), numbers, limit=1500),))
    assert rows(execute(plan, settings, LocalEngine)) == list(range(1500))
    assert rows(execute(Plan((parse(0, Result(), numbers, limit=0),)), settings, LocalEngine)) == []


def test_lines_offsets_and_files(settings: Settings, tmp_path: Path, numbers: Path) -> None:
    small = tmp_path / "small.txt"
    small.write_text("a\nb")
    columns = ("_file", "_line", "_offset", "line")
    schema = pa.schema(
        [("f", pa.string_view()), ("l", pa.int64()), ("o", pa.int64()), ("line", pa.string_view())]
    )
    plan = Plan((Stage(0, (scan(numbers, small, columns=columns),), (), Result(), schema),))
    table = pa.Table.from_batches(list(execute(plan, settings, LocalEngine)))
    assert table["l"].to_pylist() == [*range(1, 20_001), 1, 2]
    assert set(table["f"].to_pylist()) == {str(numbers), str(small)}
    data = numbers.read_bytes()
    for row in table.slice(0, 20_000).to_pylist()[::997]:
        assert data[row["o"] :].startswith(row["line"].encode() + b"\n")


def test_empty_files_give_the_row_of_count(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    count = SqlStep('SELECT count(*) AS n FROM "t"', (("t", LINE),), NUMBER, True)
    plan = Plan((Stage(0, (scan(tmp_path / "empty"),), (count,), Result(), NUMBER),))
    assert rows(execute(plan, settings, LocalEngine)) == [0]


def test_table_and_no_input(settings: Settings) -> None:
    table = pa.table({"n": [3, 1]})
    assert rows(
        execute(Plan((Stage(0, (TableInput("t", table),), (), Result(), NUMBER),)), settings, LocalEngine)
    ) == [
        3,
        1,
    ]
    one = SqlStep("SELECT 1 AS n", (), NUMBER, False)
    assert rows(execute(Plan((Stage(0, (), (one,), Result(), NUMBER),)), settings, LocalEngine)) == [1]


def test_blocks_beyond_memory_are_spilled(settings: Settings, numbers: Path, tmp_path: Path) -> None:
    """A store without memory: everything goes by disk, and comes out the same."""
    seen: list[int] = []

    def work(task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
        done = run_task(task, functions, context)
        seen.append(len(list(settings.spill_dir.glob("mmflow-*/*.block"))))
        return done

    settings = replace(settings, memory=1)
    plan = Plan(
        (
            parse(0, Hash((0,), 2), numbers),
            Stage(1, (exchange("partition", 0),), (), Result(), NUMBER),
        )
    )
    run = execute(plan, settings, partial(LocalEngine, work=work))
    assert sorted(rows(run)) == list(range(20_000))
    assert max(seen) > 10


def test_batches_outlive_the_run(settings: Settings, numbers: Path) -> None:
    batches = list(execute(Plan((parse(0, Result(), numbers),)), replace(settings, memory=1), LocalEngine))
    assert [n for b in batches for n in b.column(0).to_pylist()] == list(range(20_000))


def test_progress_is_told(settings: Settings, numbers: Path) -> None:
    reports: list[Progress] = []
    run = execute(Plan((parse(0, Result(), numbers),)), settings, LocalEngine, on_progress=reports.append)
    assert rows(run)
    assert reports[-1].bytes_done == reports[-1].bytes_total
    assert [p.bytes_done for p in reports] == sorted(p.bytes_done for p in reports)


def test_a_run_is_done_only_when_its_last_stage_is(settings: Settings, numbers: Path) -> None:
    reports: list[Progress] = []
    plan = Plan(
        (parse(0, Hash((0,), 8), numbers), Stage(1, (exchange("partition", 0),), (), Result(), NUMBER))
    )
    seconds = itertools.count()  # progress is reported at every step
    run = execute(plan, settings, LocalEngine, on_progress=reports.append, clock=lambda: next(seconds))
    assert len(rows(run)) == 20_000
    assert reports[-1].fraction == 1.0
    assert {p.fraction == 1.0 for p in reports if not all(s.complete for s in p.stages)} == {False}
    scanned = [p for p in reports if p.stages[0].complete and p.stages[1].done == 0]
    assert scanned  # all bytes were read, and none of the second stage's work is done
    assert all(p.bytes_done == p.bytes_total for p in scanned)
    assert max(p.fraction for p in scanned) < 0.95


def test_the_time_of_a_run_is_that_of_its_clock(settings: Settings, numbers: Path) -> None:
    hours = itertools.count(0, 3600)
    run = execute(Plan((parse(0, Result(), numbers),)), settings, LocalEngine, clock=lambda: next(hours))
    assert rows(run) == list(range(20_000))
    assert run.outcome.progress.elapsed >= 3600
    assert run.outcome.progress.elapsed % 3600 == 0


# ---- bad records --------------------------------------------------------------------------------


def spoiled(path: Path) -> Path:
    lines = [f"{i}".encode() for i in range(20_000)]
    lines[15_000] = b"\xff\xfe"
    lines[18_000] = b"\xff"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_bad_record_has_its_global_place(settings: Settings, tmp_path: Path) -> None:
    path = spoiled(tmp_path / "spoiled.txt")
    with pytest.raises(BadRecordError, match=r"line 15,001, record 15,000") as caught:
        list(execute(Plan((Stage(0, (scan(path),), (), Result(), LINE),)), settings, LocalEngine))
    offset = caught.value.context["byte_offset"]
    assert path.read_bytes()[offset : offset + 2] == b"\xff\xfe"


def test_quarantine_has_global_places(settings: Settings, tmp_path: Path) -> None:
    path = spoiled(tmp_path / "spoiled.txt")
    plan = Plan((Stage(0, (scan(path, on_bad_record="quarantine"),), (), Result(), LINE),))
    run = execute(plan, settings, LocalEngine)
    assert len(rows(run)) == 19_998
    rejects = pa.Table.from_batches(run.outcome.rejects).to_pylist()
    assert [(r["record"], r["line"], r["raw"]) for r in rejects] == [
        (15_000, 15_001, b"\xff\xfe"),
        (18_000, 18_001, b"\xff"),
    ]
    assert (run.outcome.progress.bad, run.outcome.progress.quarantined) == (2, 2)


# ---- failures -------------------------------------------------------------------------------------


def boom(batch: pa.RecordBatch) -> pa.RecordBatch:
    if 12_345 in batch.column(0).to_pylist():
        raise ValueError("boom")
    return batch


def test_error_of_a_function(settings: Settings, numbers: Path) -> None:
    plan = Plan((parse(0, Result(), numbers, steps=(MapStep(boom, NUMBER, NUMBER),)),))
    with pytest.raises(UserFunctionError, match="'boom' raised ValueError: boom"):
        list(execute(plan, settings, LocalEngine))


def test_missing_file_is_said_before_anything_runs(settings: Settings, numbers: Path) -> None:
    plan = Plan((parse(0, Result(), numbers),))
    numbers.unlink()
    with pytest.raises(SourceError, match=r"numbers\.txt"):
        execute(plan, settings, LocalEngine)


@pytest.mark.parametrize("change", ["grows", "shrinks", "vanishes", "is replaced"])
def test_file_that_changes_while_it_is_read(settings: Settings, numbers: Path, change: str) -> None:
    # Without the kernels' guard, a mapped file that shrinks kills the process.
    settings = replace(settings, io="auto" if sigbus_guard.available() else "pread")
    run = execute(Plan((parse(0, Result(), numbers),)), settings, LocalEngine)
    next(run)
    match change:
        case "grows":
            with numbers.open("a") as file:
                file.write("1\n")
        case "shrinks":
            os.truncate(numbers, 5000)
        case "vanishes":
            numbers.unlink()
        case _:
            (numbers.parent / "new").write_text("1\n" * 50_000)
            os.replace(numbers.parent / "new", numbers)
    with pytest.raises(SourceError) as caught:
        list(run)
    assert isinstance(caught.value, SourceChangedError) or change == "vanishes"


def failing(error: Callable[[], BaseException], times: int) -> Callable[..., TaskResult]:
    left = times
    lock = threading.Lock()

    def work(task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
        nonlocal left
        with lock:
            left -= 1
            fails = left >= 0
        if fails:
            raise error()
        return run_task(task, functions, context)

    return work


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError, "out of memory"),
        (lambda: ZeroDivisionError("oops"), r"bug in task 0 of stage 0 .*ZeroDivisionError: oops"),
        (lambda: SystemExit(3), "bug in task"),
    ],
)
def test_any_exception_of_a_task_is_an_error(
    settings: Settings, numbers: Path, error: Callable[[], BaseException], message: str
) -> None:
    settings = replace(settings, workers=1)  # or another one than the first task may fail, and be run again
    engine = partial(LocalEngine, work=failing(error, 1))
    with pytest.raises(EngineError, match=message):
        list(execute(Plan((parse(0, Result(), numbers),)), settings, engine))


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_engine_that_is_not_installed(
    engine: EngineName, package: str, settings: Settings, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it could not be found
    for module in [m for m in sys.modules if m.startswith(f"mmflow.engines.{engine}")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(
        mmflow.engines, engine, raising=False
    )  # to be put back afterwards, as the modules are
    with pytest.raises(ConfigError, match=rf"pip install 'mmflow-engine\[{engine}\]'"):
        execute(Plan((parse(0, Result(), numbers),)), replace(settings, engine=engine), open_engine)


def test_spill_folder_that_cannot_be_made(settings: Settings, numbers: Path) -> None:
    settings = replace(settings, spill_dir=numbers / "below")
    with pytest.raises(EngineError, match="spill_dir"):
        execute(Plan((parse(0, Result(), numbers),)), settings, LocalEngine)


def test_function_in_processes(settings: Settings, numbers: Path) -> None:
    parent = os.getpid()

    def tag(batch: pa.RecordBatch) -> pa.RecordBatch:
        assert os.getpid() != parent
        return pa.RecordBatch.from_pydict({"n": [-v for v in batch.column(0).to_pylist()]})

    plan = Plan((parse(0, Result(), numbers, steps=(MapStep(tag, NUMBER, NUMBER, processes=True),)),))
    assert rows(execute(plan, settings, LocalEngine)) == [-i for i in range(20_000)]


def test_worker_that_dies_once_costs_a_retry(settings: Settings, numbers: Path, tmp_path: Path) -> None:
    marker = tmp_path / "died"

    def dies_once(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 7000 in batch.column(0).to_pylist() and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    plan = Plan((parse(0, Result(), numbers, steps=(MapStep(dies_once, NUMBER, NUMBER, processes=True),)),))
    run = execute(plan, settings, LocalEngine)
    assert rows(run) == list(range(20_000))
    assert run.outcome.progress.retries == 1


def test_worker_that_always_dies_is_given_up(settings: Settings, numbers: Path) -> None:
    def dies(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 7000 in batch.column(0).to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    plan = Plan((parse(0, Result(), numbers, steps=(MapStep(dies, NUMBER, NUMBER, processes=True),)),))
    with pytest.raises(EngineError, match=r"failed 3 times.*killed by SIGKILL.*more memory"):
        list(execute(plan, replace(settings, retries=2), LocalEngine))


# ---- stopping --------------------------------------------------------------------------------------


def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
    time.sleep(0.02)
    return batch


def slow_plan(numbers: Path) -> Plan:
    return Plan((parse(0, Result(), numbers, steps=(MapStep(slow, NUMBER, NUMBER, batch_rows=100),)),))


@pytest.mark.alone
def test_closing_early_stops_within_a_second(settings: Settings, numbers: Path) -> None:
    run = execute(slow_plan(numbers), settings, LocalEngine)
    next(run)
    clock = time.monotonic()
    run.close()
    assert time.monotonic() - clock < 1.0
    assert_clean(settings)
    with pytest.raises(StopIteration):
        next(run)
    with pytest.raises(EngineError, match="not reached its end"):
        _ = run.outcome


def test_a_run_that_never_began_leaves_nothing(settings: Settings, numbers: Path) -> None:
    opened: list[LocalEngine] = []

    def open_local(settings: Settings, run: str) -> LocalEngine:
        opened.append(LocalEngine(settings, run))
        return opened[-1]

    before = os.listdir("/proc/self/fd")
    run = execute(slow_plan(numbers), settings, open_local)
    assert list(settings.spill_dir.iterdir()) == [], "the folder is made once it is needed"
    opened.pop()._folder.make()
    assert list(settings.spill_dir.iterdir())
    del run
    assert_clean(settings)
    assert os.listdir("/proc/self/fd") == before


def test_a_run_is_woken_once_for_several_results() -> None:
    """And at once for one that failed."""
    results = _Results()
    done = [Done(TaskId(0, number), 0) for number in range(3)]
    failed = Failed(TaskId(0, 3), 0, EngineError("no"))
    assert results.take(0.0, 2) == []
    results.put(done[0])
    assert results.take(0.001, 2) == done[:1], "the time was over"
    putting = threading.Thread(target=lambda: list(map(results.put, done)))
    putting.start()
    assert results.take(60.0, 3) == done
    putting.join()
    began = time.monotonic()
    putting = threading.Thread(target=results.put, args=(failed,))
    putting.start()
    taken = results.take(60.0, 9)
    taken += results.take(60.0, 9) if not taken else []  # one of the three may have woken it twice
    assert taken == [failed]
    assert time.monotonic() - began < 60
    putting.join()


@pytest.mark.alone
def test_task_that_does_not_listen_is_left_behind(settings: Settings, numbers: Path) -> None:
    release = threading.Event()
    before = set(threading.enumerate())

    def work(task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
        release.wait(20)
        context.store.put([pa.RecordBatch.from_pydict({"n": [1]})], NUMBER)
        raise AssertionError("a closed store takes nothing")

    run = execute(Plan((parse(0, Result(), numbers),)), settings, partial(LocalEngine, work=work))
    threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
    clock = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert time.monotonic() - clock < 1.3
    assert list(settings.spill_dir.iterdir()) == []
    release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_engines_run import LocalEngine, Settings, execute, slow_plan
flags = {{"workers": 2, "spill_dir": {spill!r}, "memory": "64MiB", "shard_size": 4096}}
settings = Settings.load(flags, env={{}})
run = execute(slow_plan(Path({numbers!r})), settings, LocalEngine)
next(run)
print("running", flush=True)
list(run)
"""


@pytest.mark.alone
def test_ctrl_c_stops_the_process_within_a_second(settings: Settings, numbers: Path) -> None:
    script = SCRIPT.format(
        tests=str(Path(__file__).parent), spill=str(settings.spill_dir), numbers=str(numbers)
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"
    clock = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - clock < 1.5
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert MmflowError.__name__.encode() not in errors
