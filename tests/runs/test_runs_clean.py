"""`mmflow list` and `mmflow clean`: what is over may go, what lives may not, what is no run is not touched."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.cli.listing import _table
from mmflow.cli.main import main
from mmflow.config import Settings
from mmflow.errors import ConfigError
from mmflow.formats.rejects import SCHEMA
from mmflow.runs.directory import RunDirectory
from mmflow.runs.named_run import open_named
from mmflow.runs.quarantine import pack_quarantine, write_quarantine
from mmflow.runs.recorded_run import RecordedRun
from mmflow.submit.cleaning import choose_runs, parse_age, remove_run
from mmflow.submit.status import RunState, all_runs

FACTS = {"job": "/jobs/sums.py", "name": "sums", "parameters": {}}


@pytest.fixture(params=["folder", "store"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    if request.param == "folder":
        yield Settings.load({"runs_dir": str(tmp_path / "runs")}, env={})
        return
    import fsspec

    yield Settings.load({"runs_dir": "memory://test-clean"}, env={})
    with contextlib.suppress(FileNotFoundError):  # all of it was cleaned
        fsspec.filesystem("memory").rm("/test-clean", recursive=True)


def _run(settings: Settings, name: str, error: BaseException | None = None) -> None:
    with contextlib.suppress(ValueError, KeyboardInterrupt), RecordedRun.begin(name, settings, FACTS) as run:
        if error is not None:
            raise error
        run.done({"rows": 1})


def test_ended_runs_go_and_nothing_else(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    runs_dir = settings.runs_dir
    _run(settings, "old")
    _run(settings, "broken", ValueError("x"))
    _run(settings, "stopped", KeyboardInterrupt())
    _run(settings, "new")
    query = RunDirectory(runs_dir, "query1")
    query.make()
    write_quarantine(query, "", pack_quarantine([pa.RecordBatch.from_pylist([], SCHEMA)]))
    other = RunDirectory(runs_dir, "not-a-run")
    other.make()
    other.write("precious", "x")

    def cleaned(*flags: str) -> set[str]:
        capsys.readouterr()
        assert main(["clean", *flags, "--json", "--runs-dir", runs_dir]) == 0
        made: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert made["bytes"] == sum(r["bytes"] for r in made["removed"])
        return {r["run"] for r in made["removed"]}

    with RecordedRun.begin("living", settings, FACTS) as living:
        assert cleaned("--keep", "3", "--dry-run") == {"broken", "old"}
        assert cleaned("--older-than", "1d") == set()
        assert cleaned("--state", "failed", "--state", "query") == {"broken", "query1"}
        assert main(["clean", "living", "--runs-dir", runs_dir]) == 1
        assert "run living is running; stop it first: mmflow cancel living" in capsys.readouterr().err
        assert main(["clean", "--runs-dir", runs_dir]) == 2
        assert "clean needs to know which runs to remove" in capsys.readouterr().err
        assert cleaned("old") == {"old"}
        assert cleaned("--older-than", "0m") == {"stopped", "new"}
        living.done({})
    assert {s.run for s in all_runs(runs_dir)} == {"living"}
    assert other.read("precious") == "x"
    assert main(["list", "--json", "--runs-dir", runs_dir]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["run"], listed["state"]) == ("living", "done")
    assert listed["bytes"] > 0


def test_a_run_that_was_chosen_and_goes_on_is_kept(settings: Settings) -> None:
    _run(settings, "r", ValueError("x"))
    (chosen,) = all_runs(settings.runs_dir)
    with RecordedRun.resume("r", settings) as run:
        assert remove_run(settings.runs_dir, chosen) is None  # it is in use
        run.done({})
    assert remove_run(settings.runs_dir, chosen) is None  # it has another end than when it was chosen
    (chosen,) = all_runs(settings.runs_dir)
    assert (remove_run(settings.runs_dir, chosen) or 0) > 0
    assert remove_run(settings.runs_dir, chosen) is None
    assert RunDirectory(settings.runs_dir, "").names("") == []


def test_cleaning_and_starting_at_once_never_takes_a_folder_away(settings: Settings) -> None:
    stop, lost, rounds = threading.Event(), [], [0]

    def work() -> None:
        while not stop.is_set():
            named = open_named(settings.runs_dir, "r", join=True)
            if named.lock is None:
                time.sleep(0.001)
                continue
            opened = (
                RecordedRun.begin("r", settings, FACTS, named.lock)
                if named.facts is None
                else RecordedRun.resume("r", settings, None, named.lock)
            )
            with opened as run:
                time.sleep(0.001)
                if not run.directory.exists("run.json"):
                    lost.append(rounds[0])
                run.done({})
            rounds[0] += 1

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    removed = 0
    deadline = time.monotonic() + 20
    while removed < 5 and time.monotonic() < deadline and any(w.is_alive() for w in workers):
        for run in choose_runs(all_runs(settings.runs_dir)):
            removed += remove_run(settings.runs_dir, run) is not None
    stop.set()
    for worker in workers:
        worker.join(20)
    assert (lost, removed) == ([], 5)
    assert rounds[0] >= 5


def test_what_a_killed_cleaner_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / ".removed-r-1"
    left.mkdir()
    (left / "run.json").write_text("{}")
    assert all_runs(str(tmp_path)) == []
    assert main(["clean", "--keep", "0", "--runs-dir", str(tmp_path)]) == 0
    assert os.listdir(tmp_path) == []


def test_which_runs_are_chosen() -> None:
    runs = [
        RunState(f"r{n}", s, ended=1000.0 - n) for n, s in enumerate(("running", "done", "failed", "done"))
    ]

    def chosen(**conditions: Any) -> list[str]:
        return [r.run for r in choose_runs(runs, now=1000.0, **conditions)]

    assert chosen() == ["r1", "r2", "r3"]
    assert chosen(keep=1) == ["r2", "r3"]
    assert chosen(keep=1, states=["done"]) == ["r3"]
    assert chosen(older_than=2.0) == ["r2", "r3"]
    assert chosen(older_than=2.0, keep=2) == ["r3"]
    for bad in ("7", "d", "-1d", "7 years", ""):
        with pytest.raises(ConfigError, match="is no age"):
            parse_age(bad)


def test_the_list_fits_the_terminal_and_never_cuts_a_name() -> None:
    row = {"RUN": "nightly-2026-11-30", "STATE": "cancelled", "JOB": "pricing_summary_of_all_orders"}
    row |= {"STARTED": "11-30 21:50", "TOOK": "2 h 14 min", "ROWS": "123,456", "SIZE": "1,023 bytes"}
    for width in (80, 60, 50, 10, None):
        lines = _table([row, {**row, "STATE": "done"}], width)
        assert width is None or width < 60 or max(map(len, lines)) <= width
        assert all("nightly-2026-11-30" in line for line in lines[1:])
    assert "pricing_summary_of_all_orders" in _table([row], None)[1]


def test_queries_with_the_same_bad_records_leave_one_folder(tmp_path: Path) -> None:
    path = tmp_path / "dirty.csv"
    path.write_text("n\n1\nx\n2\n")
    session = mf.Session(runs_dir=str(tmp_path / "runs"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.BadRecordsWarning)
        read = session.read_csv(str(path), schema="n:int64", on_bad_record="quarantine")
        found = set()
        for _ in range(3):
            read.to_arrow()
            assert session.last_run is not None
            found.add(session.last_run.quarantine)
        assert len(found) == len(os.listdir(tmp_path / "runs")) == 1
        session.read_csv(str(path), schema="n:date", on_bad_record="quarantine").to_arrow()
    assert len(os.listdir(tmp_path / "runs")) == 2
    assert session.read_csv(str(path)).to_arrow().num_rows == 3
    assert len(os.listdir(tmp_path / "runs")) == 2


def test_what_a_removed_run_had_staged_goes_with_it(tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out"
    source.write_text("n\n" + "".join(f"{n}\n" for n in range(3000)))
    settings = Settings.load({"runs_dir": str(tmp_path / "runs"), "shard_size": "4KiB", "workers": 1}, env={})

    def stop(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 2000 in batch.column("n").to_pylist():
            raise ValueError("stop")
        return batch

    def fail(name: str) -> None:
        with RecordedRun.begin(name, settings, {**FACTS, "staged_as": f"{name}+1"}) as run:
            session = mf.Session.recorded(settings, run.recorder)
            read = session.read_csv(str(source))
            read.map_batches(stop, schema=read.schema).write_csv(str(out / name))

    for name in ("kept", "r"):
        with pytest.raises(mf.UserFunctionError):
            fail(name)
    assert sorted(os.listdir(out)) == [".kept.mmflow-kept+1", ".r.mmflow-r+1"]
    chosen = next(run for run in all_runs(settings.runs_dir) if run.run == "r")
    assert (remove_run(settings.runs_dir, chosen) or 0) > 0
    assert os.listdir(out) == [".kept.mmflow-kept+1"]
