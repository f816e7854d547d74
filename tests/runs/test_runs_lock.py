"""Locks of runs, and runs by name: on local folders and on object stores."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmflow.config import Settings
from mmflow.errors import ConfigError, EngineError, SourceChangedError
from mmflow.mapping.system.owner_lock import HeldError
from mmflow.runs import lock as lock_module
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import Watch, is_driver_alive, remove_locked, take_lock
from mmflow.runs.named_run import NamedRun, check_same_run, check_unchanged_since, open_named
from mmflow.runs.names import expand_name
from mmflow.runs.recorded_run import RecordedRun

FACTS = {
    "v": 1,
    "job": "/jobs/sums.py",
    "folder": "/jobs",
    "parameters": {"top": "3", "password": "***"},
    "code": "1",
}


@pytest.fixture(params=["folder", "store"])
def runs_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "runs")
        return
    import fsspec

    yield "memory://test-locks"
    fsspec.filesystem("memory").rm("/test-locks", recursive=True)


def _end(run: NamedRun, state: str, opening: int = 0) -> None:
    run.directory.write("run.json", json.dumps(FACTS))
    run.directory.write("summary.json", json.dumps({"state": state, "opening": opening, "rows": 7}))
    assert run.lock is not None
    run.lock.release()


def test_who_comes_second_waits_and_takes_over_the_result(runs_dir: str) -> None:
    first = open_named(runs_dir, "r", join=True)
    assert (first.facts, first.summary) == (None, None)
    assert is_driver_alive(first.directory)
    with pytest.raises(EngineError, match="run r is running: its driver"):
        open_named(runs_dir, "r", join=False)
    waits = threading.Barrier(3)
    found: list[NamedRun] = []

    def wait(holder: str) -> None:
        assert holder.startswith("its driver")
        waits.wait(10)

    def join() -> None:
        found.append(open_named(runs_dir, "r", join=True, on_wait=wait))

    threads = [threading.Thread(target=join) for _ in range(2)]
    for thread in threads:
        thread.start()
    waits.wait(10)
    _end(first, "failed")  # whoever waited for it does not try again
    for thread in threads:
        thread.join(20)
    assert [(r.lock, (r.summary or {})["state"]) for r in found] == [(None, "failed")] * 2
    assert not is_driver_alive(first.directory)
    again = open_named(runs_dir, "r", join=True)  # but a new command does
    assert again.facts == FACTS
    assert again.lock is not None
    _end(again, "done", 1)
    done = open_named(runs_dir, "r", join=False)
    assert (done.lock, (done.summary or {})["rows"]) == (None, 7)


def test_a_run_that_is_removed_is_removed_whole_and_its_name_is_free(runs_dir: str) -> None:
    first = open_named(runs_dir, "r", join=True)
    first.directory.folder("journal")
    _end(first, "done")
    lock = take_lock(first.directory, "mmflow clean")
    with pytest.raises(HeldError, match="mmflow clean"):
        take_lock(first.directory, watch=Watch())
    remove_locked(first.directory, lock)
    assert RunDirectory(runs_dir, "").names("") == []
    new = open_named(runs_dir, "r", join=False)
    assert new.facts is None
    _end(new, "done")


def test_a_holder_on_another_host_is_dead_once_it_is_silent_while_it_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fsspec

    directory = RunDirectory("memory://test-signs", "r")
    monkeypatch.setattr(lock_module, "_SIGN_SECONDS", 0.05)
    with monkeypatch.context() as there:
        there.setattr(lock_module, "machine_id", lambda: "another machine")
        held = take_lock(directory)
    monkeypatch.setattr(lock_module, "_SILENT_SECONDS", 0.5)
    try:
        watch, watched = Watch(), threading.Event()
        seen: set[object] = set()
        while len(seen) < 4:  # it lives: it is never taken for dead, however long that lasts
            with pytest.raises(HeldError):
                take_lock(directory, watch=watch)
            seen.add(watch.sign)
            watched.wait(0.02)
        held.silence()  # type: ignore[attr-defined]  # as if its host had died
        while True:
            try:
                taken = take_lock(directory, watch=watch)
                break
            except HeldError:
                watched.wait(0.02)
        taken.release()
    finally:
        fsspec.filesystem("memory").rm("/test-signs", recursive=True)


@pytest.mark.parametrize("end", ["done", "failed", "removed"])
def test_who_lost_the_lock_says_nothing_of_the_end(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that was silent for long is resumed by another one, or removed: its own end comes too late."""
    import fsspec

    settings = Settings.load({"runs_dir": "memory://test-lost", "workers": 1})
    try:
        with monkeypatch.context() as there:
            there.setattr(lock_module, "machine_id", lambda: "another machine")
            silent = RecordedRun.begin("r", settings, {"job": "/j.py", "parameters": {}})
        directory = silent.directory
        with monkeypatch.context() as here:
            here.setattr(lock_module, "_SILENT_SECONDS", 0.0)
            if end == "removed":
                remove_locked(directory, take_lock(directory))
            else:
                next_one = RecordedRun.resume("r", settings)
        if end == "done":
            with next_one:
                next_one.done({"rows": 7})
        with contextlib.suppress(ValueError), silent:
            if end == "failed":
                silent.done({"rows": 1})
            raise ValueError("late")
        if end == "removed":
            assert directory.names("") == ["events"]
            return
        if end == "failed":
            assert not directory.exists("summary.json")
            with contextlib.suppress(ValueError), next_one:
                raise ValueError("the real end")
        summary = json.loads(directory.read("summary.json") or "")
        assert (summary["state"], summary["opening"]) == (end, 1)
    finally:
        fsspec.filesystem("memory").rm("/test-lost", recursive=True)


def test_a_name_stands_for_one_job_with_its_parameters(tmp_path: Path) -> None:
    now: dict[str, Any] = {**FACTS, "parameters": {"top": "3", "password": "secret!"}}
    check_same_run("r", FACTS, now, code=True)
    for change, said in (
        ({"parameters": {"top": "4", "password": "secret!"}}, "--top was 3 and is 4;"),
        ({"parameters": {"password": "secret!"}}, "--top was 3 and is not given"),
        ({"output": {"if_exists": "replace"}}, "--if-exists was not given and is replace"),
        ({"job": "/jobs/other.py"}, "its job is /jobs/sums.py"),
        ({"folder": "/tmp"}, "it was started in /jobs"),
        ({"code": "2"}, "the code of the job has changed"),
    ):
        with pytest.raises(ConfigError, match="name r belongs to a run that differs") as raised:
            check_same_run("r", FACTS, {**now, **change}, code=True)
        assert said in str(raised.value)
        assert "mmflow clean r" in str(raised.value)
        assert "secret!" not in str(raised.value)
    check_same_run("r", FACTS, {**now, "code": "2"}, code=False)

    directory = RunDirectory(tmp_path / "runs", "r")
    directory.make()
    used, source = tmp_path / "used.csv", tmp_path / "in.csv"
    source.write_text("a\n1\n")
    status = source.stat()
    facts = {"plan": 0, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
    lines = [{"path": str(p), **facts} for p in (used, source)]
    directory.write("sources.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    check_unchanged_since(directory)
    os.utime(source, ns=(0, 0))
    with pytest.raises(SourceChangedError, match=r"in\.csv changed since run r was done"):
        check_unchanged_since(directory)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "x" * 101, "{day}", "{date", "v1.2", "é"])
def test_names_that_can_not_be_folders_objects_and_parts_of_file_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        expand_name(name, job="j", now=dt.datetime(2026, 11, 30))
