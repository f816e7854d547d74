"""Figures of status and report are right whatever way a run went: resumed, failed, cut short by a limit."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.api.options import OnBadRecord
from mmflow.cli.main import main
from mmflow.config import Settings
from mmflow.runs.directory import LogWriter, RunDirectory
from mmflow.runs.recorded_run import RecordedRun
from mmflow.runs.recorder import EVENTS, RunRecorder
from mmflow.runs.report.history import build_history
from mmflow.submit.status import run_state

ROWS = 20_000
Work = Callable[[mf.Session], mf.RunSummary | None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = {"shard_size": "8KiB", "workers": 2, "memory": "64MiB", "spill_dir": str(tmp_path)}
    return Settings.load({**given, "runs_dir": str(tmp_path / "runs")}, env={})


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    path.write_text("n,m\n" + "".join(f"{n},{n if n % 1000 else 'x'}\n" for n in range(ROWS)))
    return path


def _run(settings: Settings, work: Work, *, resume: bool = False) -> None:
    begun = (
        RecordedRun.resume("r", settings)
        if resume
        else RecordedRun.begin("r", settings, {"job": "j", "parameters": {}})
    )
    with warnings.catch_warnings(), begun as run:
        warnings.simplefilter("ignore", mf.BadRecordsWarning)
        made = work(mf.Session.recorded(settings, run.recorder))
        run.done({} if made is None else made.as_dict())


def _figures(settings: Settings) -> dict[str, Any]:
    """Return the figures of `mmflow status --json`, of summary.json and of the report's tiles."""
    directory = RunDirectory(settings.runs_dir, "r")
    state = run_state(directory).as_dict()
    summary = json.loads(directory.read("summary.json") or "{}")
    page = directory.read("report.html") or ""
    tiles = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)<", page))
    keys = ("rows", "bytes_done", "bytes_total", "bad")
    return {k: state[k] for k in keys} | {"records": summary.get("records"), "tiles": tiles}


def _writes(numbers: Path, tmp_path: Path) -> Work:
    def work(session: mf.Session) -> mf.RunSummary:
        read = session.read_csv(str(numbers), schema="n:int64,m:int64", on_bad_record="quarantine")
        return read.write_parquet(str(tmp_path / "out"), if_exists="replace").run

    return work


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "killed before it was noted"])
def test_a_finished_run_that_is_resumed_says_what_it_did(
    settings: Settings, numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    work = _writes(numbers, tmp_path)
    if noted:
        _run(settings, work)
        before = _figures(settings)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(RunRecorder, "record_commit", _killed)
            with pytest.raises(KeyboardInterrupt):
                _run(settings, work)
        before = {
            "rows": ROWS - 20, "bytes_done": numbers.stat().st_size, "bytes_total": numbers.stat().st_size,
            "bad": 20, "records": ROWS,
        }  # fmt: skip
    _run(settings, work, resume=True)
    after = _figures(settings)
    assert {k: after[k] for k in before if k != "tiles"} == {k: v for k, v in before.items() if k != "tiles"}
    assert after["rows"] == ROWS - 20 == pq.read_table(tmp_path / "out").num_rows
    assert after["bytes_done"] == after["bytes_total"] == numbers.stat().st_size
    assert (after["bad"], after["records"]) == (20, ROWS)
    assert after["tiles"]["Bad records"] == "20"
    assert after["tiles"]["Rows"].replace(",", "") in (f"{ROWS - 20}", "20.0K", "19.98K")
    summary = json.loads(RunDirectory(settings.runs_dir, "r").read("summary.json") or "{}")["summary"]
    assert (summary["rows"], summary["bytes_read"]) == (ROWS - 20, numbers.stat().st_size)
    assert summary["quarantine"].endswith("quarantine.arrow")


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def _shares(settings: Settings) -> list[float]:
    events = RunDirectory(settings.runs_dir, "r").read_facts(EVENTS)
    done = [e for e in events if e["event"] == "task_done" and e["bytes_read"]]
    return [e["cached"] / e["bytes_read"] for e in done]


@pytest.mark.parametrize(
    ("policy", "most", "bad"), [("error", None, 1), ("skip", "3", 4), ("quarantine", "3", 4)]
)
def test_a_failed_run_says_how_many_bad_records_it_met(
    settings: Settings,
    numbers: Path,
    policy: OnBadRecord,
    most: str | None,
    bad: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings.load({"max_bad_records": most}, base=settings.plain(), env={})

    def work(session: mf.Session) -> None:
        session.read_csv(str(numbers), schema="n:int64,m:int64", on_bad_record=policy).to_arrow()

    with pytest.raises(mf.MmflowError):
        _run(settings, work)
    found = _figures(settings)
    assert found["bad"] >= bad
    assert found["tiles"]["Bad records"] == f"{found['bad']}"
    assert int(found["tiles"].get("Page cache", "0%").rstrip("%")) <= 100
    assert all(share <= 1 for share in _shares(settings))
    assert main(["status", "r", "--runs-dir", settings.runs_dir]) == 1
    said = capsys.readouterr().out
    assert f"bad        {found['bad']} records" in said
    assert ("quarantine show" in said) is (policy != "error")


def test_what_is_cached_is_a_share_of_what_was_read(settings: Settings, tmp_path: Path) -> None:
    """A column of many, or a few rows, are read of a file that is in the page cache as a whole."""
    path = tmp_path / "wide.parquet"
    columns = {f"c{i}": pa.array(np.random.default_rng(i).random(30_000)) for i in range(8)}
    pq.write_table(pa.table(columns), path)
    text = tmp_path / "long.csv"
    text.write_text("n\n" + "7\n" * 400_000)

    def work(session: mf.Session) -> None:
        session.read_parquet(str(path)).select("c3").to_arrow()
        session.read_csv(str(text)).limit(3).to_arrow()

    _run(settings, work)
    assert _shares(settings)
    assert all(0 <= share <= 1 for share in _shares(settings))


def test_a_limit_does_not_count_what_it_left_unread(settings: Settings, numbers: Path) -> None:
    def work(session: mf.Session) -> mf.RunSummary | None:
        session.read_csv(str(numbers)).limit(3).to_arrow()
        return session.last_run

    _run(settings, work)
    found = _figures(settings)
    assert found["rows"] == 3
    assert found["bytes_done"] < found["bytes_total"] == numbers.stat().st_size


def test_an_array_that_was_written_has_its_rows(settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "a.npy"
    np.save(source, np.arange(5_000.0).reshape(1000, 5))
    out = str(tmp_path / "b.npy")
    _run(settings, lambda s: s.map_array(str(source), _doubled, out=out).run)
    assert _figures(settings)["rows"] == 1000
    _run(settings, lambda s: s.map_array(str(source), _doubled, out=out).run, resume=True)
    assert _figures(settings)["rows"] == 1000


def _doubled(rows: np.ndarray) -> np.ndarray:
    return rows * 2


def test_a_run_that_goes_on_counts_what_was_restored(settings: Settings, numbers: Path) -> None:
    def work(limit: int) -> Work:
        def stop(batch: pa.RecordBatch) -> pa.RecordBatch:
            if limit:
                raise ValueError("stop")
            return batch

        def counted(session: mf.Session) -> mf.RunSummary | None:
            read = session.read_csv(str(numbers), schema="n:int64,m:int64", on_bad_record="null")
            groups = read.group_by("n").agg()
            groups.map_batches(stop, schema=groups.schema).to_arrow()
            return session.last_run

        return counted

    with pytest.raises(mf.UserFunctionError):
        _run(settings, work(1))
    _run(settings, work(0), resume=True)
    found = _figures(settings)
    assert found["bytes_done"] == found["bytes_total"] == numbers.stat().st_size
    assert (found["records"], found["bad"], found["rows"]) == (ROWS, 20, ROWS)
    summary = json.loads(RunDirectory(settings.runs_dir, "r").read("summary.json") or "{}")["summary"]
    assert summary["restored"] > 0
    assert summary["bytes_read"] == numbers.stat().st_size


@dataclasses.dataclass
class _Story:
    """One run of several plans over files of known figures, killed at random places and resumed until it is done."""

    folder: Path
    seed: int
    rows: int = 0
    bad: int = 0
    nbytes: int = 0
    plans: list[Work] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        for number in range(int(random.integers(1, 4))):
            records, bad = int(random.integers(50, 3000)), int(random.integers(0, 40))
            broken = set(random.choice(records, min(bad, records), replace=False).tolist())
            path = self.folder / f"in{number}.csv"
            path.write_text("n\n" + "".join("x\n" if i in broken else f"{i}\n" for i in range(records)))
            kind = int(random.integers(3))
            self.plans.append(self._plan(number, str(path), kind))
            self.rows += records - len(broken)
            self.bad += len(broken)
            self.nbytes += path.stat().st_size * (1 + (kind == 2))

    def _plan(self, number: int, path: str, kind: int) -> Work:
        def plan(session: mf.Session) -> mf.RunSummary | None:
            read = session.read_csv(path, schema="n:int64", on_bad_record="quarantine")
            if kind == 0:
                assert read.sort("n").to_arrow().num_rows
            elif kind == 1:
                return read.write_parquet(str(self.folder / f"out{number}"), if_exists="replace").run
            else:  # the file is read twice; its bad records are none of the other side
                other = session.read_csv(path, schema="n:string", on_bad_record="error").select("n")
                joined = other.join(read.select(mf.col("n").cast("string").alias("n")), on="n", how="inner")
                return joined.write_csv(str(self.folder / f"out{number}"), if_exists="replace").run
            return session.last_run

        return plan

    def work(self, session: mf.Session) -> mf.RunSummary | None:
        made = None
        for plan in self.plans:
            made = plan(session)
        return made


@pytest.mark.parametrize("seed", range(6))
def test_figures_of_random_runs_that_are_killed_and_resumed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    story = _Story(tmp_path, seed)
    random = np.random.default_rng(seed)
    deaths = 0
    while True:
        lines = int(random.integers(1, 6)) if deaths < 3 else -1
        with monkeypatch.context() as patch:
            _kill_at(patch, lines, told=bool(random.integers(2)))
            try:
                _run(settings, story.work, resume=deaths > 0)
                break
            except KeyboardInterrupt:
                deaths += 1
                found = _figures(settings)
                assert found["bytes_done"] <= found["bytes_total"] <= story.nbytes
                assert found["bad"] <= story.bad
                assert found["rows"] <= story.rows
    for _ in range(2):  # and once more when it is done
        found = _figures(settings)
        assert (found["rows"], found["bad"]) == (story.rows, story.bad)
        assert found["bytes_done"] == found["bytes_total"] == story.nbytes
        assert found["tiles"]["Bad records"] == f"{story.bad}"
        assert found["tiles"]["Rows"].replace(",", "") in (f"{story.rows}", f"{story.rows / 1000:.2f}K")
        assert int(found["tiles"].get("Page cache", "0%").rstrip("%")) <= 100
        history = build_history(RunDirectory(settings.runs_dir, "r").read_facts(EVENTS))
        assert sum(s.bad for s in history.stages.values()) == story.bad
        assert sum(s.rows_out for s in history.stages.values() if s.title.startswith("write")) <= story.rows
        _run(settings, story.work, resume=True)


def _kill_at(patch: pytest.MonkeyPatch, lines: int, *, told: bool) -> None:
    """End a run at a line of its journal, as a signal does; or, not `told`, as a kill does, which nothing records."""
    written, ended, left = LogWriter.line, RecordedRun._end, [lines]

    def end(self: RecordedRun, state: str, *more: Any) -> None:
        if told or state == "done":
            ended(self, state, *more)

    patch.setattr(RecordedRun, "_end", end)

    def line(self: LogWriter, text: str) -> None:
        written(self, text)
        if self._log == "journal":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    patch.setattr(LogWriter, "line", line)
