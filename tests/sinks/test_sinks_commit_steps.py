"""Steps of the local commit, one by one: what each of them syncs, says and leaves, in this process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmflow.errors import SinkError
from mmflow.mapping.system import system
from mmflow.sinks import CommitResult, SinkAttempt, StagedFile, open_commit, sink_spec
from mmflow.sinks.commit import atomic, local, manifest, protocol
from mmflow.sinks.commit.destination import check_destination, check_sources, remove_tree
from mmflow.sinks.commit.local import LocalCommit
from mmflow.sinks.commit.staging import (
    attempt_folder,
    is_staged,
    note_placed,
    old_destination,
    read_placed,
    staging_folder,
    stale_paths,
)
from mmflow.storage import disk
from tests.sinks.sink_rows import names, rows, state, write, write_all


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the folders that were synced, in order."""
    found: list[str] = []
    known = system.sync_folder

    def sync(path: str) -> None:
        known(path)
        found.append(path)

    monkeypatch.setattr(system, "sync_folder", sync)
    return found


def test_every_folder_is_synced_before_and_after_the_result_is_published(
    tmp_path: Path, synced: list[str]
) -> None:
    batch = pa.RecordBatch.from_pydict({"k": list(range(6)), "v": list(range(6))})
    write_all(tmp_path / "a" / "b" / "out", [[batch]], format="csv", partition_by="k")
    result = tmp_path / "a" / "b" / ".out.mmflow-r1" / "result"
    assert synced[:2] == [str(tmp_path), str(tmp_path / "a")]
    assert sorted(synced[2:8]) == [f"{result}/k={k}" for k in range(6)]
    assert synced[8:] == [str(result), str(result.parent), str(tmp_path / "a" / "b")]
    synced.clear()
    write_all(tmp_path / "out.csv", [[rows(1)]])
    assert synced == [str(tmp_path)]


def test_failpoints_have_the_names_that_crash_tests_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    for module in (local, protocol):
        monkeypatch.setattr(module, "failpoint", reached.append)
    ends = ["published", "noted", "cleaned"]
    write_all(tmp_path / "out", [[rows(1)]], format="csv")
    assert reached == ["placed", "manifest", "synced", *ends]
    reached.clear()
    write_all(tmp_path / "out", [[rows(2)]], format="csv", if_exists="append", run="r2")
    assert reached == ["linked", "placed", "manifest", "synced", *ends]
    reached.clear()
    write_all(tmp_path / "out.csv", [[rows(1)]])
    assert reached == ["marked", *ends]


def _refused(tmp_path: Path, name: str, sources: tuple[str, ...] = (), **keys: Any) -> SinkError:
    with pytest.raises(SinkError) as caught:
        open_commit(sink_spec(f"{tmp_path}/{name}", **keys), "r1").prepare(sources)
    return caught.value


def test_refusals_name_the_destination(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("v\n")
    (tmp_path / "dir.csv").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.doc").write_text("years of work")
    (tmp_path / "home" / "._x").mkdir(parents=True)
    (tmp_path / "home" / ".git").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, keys, message in (
        ("pipe.csv", {"if_exists": "replace"}, "pipe.csv is not a regular file; choose another output"),
        (
            "f.csv/",
            {"format": "csv"},
            "is a file, and the output is a folder of csv files; choose another output",
        ),
        ("dir.csv", {}, "is a folder, and the output is one file; write to "),
        ("f.csv", {}, "exists; choose another output, or say --if-exists replace (in Python: if_exists=…)"),
        ("f.csv", {"if_exists": "append"}, "can't append to"),
        ("notes", {}, "exists; choose another output, or say --if-exists replace or append (in Python"),
        ("notes", {"if_exists": "replace"}, f"it holds {tmp_path}/notes/thesis.doc, which is no output"),
        ("home", {"if_exists": "replace"}, f"it holds {tmp_path}/home/.git, which is no output"),
    ):
        error = _refused(tmp_path, name, **keys)  # type: ignore[arg-type]  # keyword arguments of any name
        assert message in str(error)
        assert error.context["path"] == f"{tmp_path}/{name}".rstrip("/")
    write_all(tmp_path / "notes", [[rows(1)]], format="csv", if_exists="append")  # it may stay beside
    assert (tmp_path / "notes" / "thesis.doc").exists()


def test_inputs_are_refused_as_outputs_wherever_they_stand_in_the_list(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.csv").write_text("v\n")
    url = "s3://bucket/a.csv"
    for sources, message in (
        ((url, str(tmp_path / "a.csv")), "would be written while it is read"),
        ((url, str(tmp_path)), "lies inside"),
    ):
        error = _refused(tmp_path, "a.csv", sources, if_exists="replace")
        assert message in str(error)
        assert error.context["path"] == f"{tmp_path}/a.csv"
    with open_commit(sink_spec(tmp_path / "b.csv"), "r1") as commit:
        commit.prepare([str(tmp_path / "elsewhere"), url])  # a folder, but not around it
        assert not commit.done
    with pytest.raises(SinkError, match="is not a folder") as caught:
        check_sources(sink_spec(tmp_path / "a.csv" / "x.csv"), [])
    assert caught.value.context["path"] == f"{tmp_path}/a.csv/x.csv"


def test_who_holds_the_lock_is_named_and_everybody_may_read_it(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    umask = os.umask(0)
    try:
        with open_commit(spec, "first+1") as first:
            first.prepare()
            assert stat.S_IMODE((tmp_path / ".out.mmflow-lock").stat().st_mode) == 0o644
            error = _refused(tmp_path, "out", format="csv")
            assert f"{tmp_path}/out is being written by run first (process" in str(error)
            assert error.context["path"] == str(tmp_path / "out")
    finally:
        os.umask(umask)


def test_a_result_that_another_process_made_is_named(tmp_path: Path) -> None:
    for name in ("out", "out.csv"):
        spec = sink_spec(tmp_path / name, "csv")
        with open_commit(spec, "r1") as commit:
            commit.prepare()
            files = write(spec, [rows("ours")], rows("").schema)
            (tmp_path / name).mkdir() if spec.is_folder else (tmp_path / name).touch()
            if spec.is_folder:
                (tmp_path / name / "theirs.csv").touch()
            with pytest.raises(SinkError) as caught:
                commit.commit(files, rows("").schema)
        assert str(caught.value).startswith(f"{tmp_path}/{name} was created by another process while")
        assert caught.value.context["path"] == str(tmp_path / name)


def test_a_staged_file_that_is_missing_is_named(tmp_path: Path) -> None:
    for name in ("out", "out.csv"):
        spec = sink_spec(tmp_path / name, "csv")
        with open_commit(spec, "r1") as commit:
            commit.prepare()
            (file,) = write(spec, [rows("ours")], rows("").schema)
            Path(file.staged).unlink()
            with pytest.raises(SinkError, match="something deleted it, run again") as caught:
                commit.commit([file], rows("").schema)
        assert file.staged in str(caught.value)
        assert caught.value.context["path"] == file.staged


def test_a_parent_that_another_run_makes_at_the_same_time_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = disk.mkdir

    def raced(path: Any, mode: int = 0o777) -> None:
        known(path, mode)
        if Path(path) == tmp_path / "a":
            raise FileExistsError(path)

    monkeypatch.setattr(disk, "mkdir", raced)
    write_all(tmp_path / "a" / "out.csv", [[rows(1)]])
    assert state(tmp_path / "a" / "out.csv") == ["1"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EPERM, r"has no hard links \(.*\); write to a new folder$"),
        (errno.EIO, "the device could not do it"),
    ],
)
def test_a_file_system_without_links_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    write_all(tmp_path / "out", [[rows(1)]], format="csv")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk, "link", refuse)
    with pytest.raises(SinkError, match=f"(?i){message}"):
        write_all(tmp_path / "out", [[rows(2)]], format="csv", if_exists="append", run="r2")
    assert state(tmp_path / "out") == ["1"]


def test_placed_files_are_noted_one_commit_after_the_other(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        files = [write(spec, [rows(n)], rows(n).schema, number=n)[0] for n in range(2)]
        for file in files:
            note_placed(spec, "r1", [file])
        assert read_placed(spec, "r1") == {file.path: file.staged for file in files}


def test_folders_of_a_job_before_it_was_corrected_are_dropped(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    with open_commit(spec, "r1", resumable=True) as commit:
        commit.prepare()
    stray = staging_folder(spec, "r1") / "result" / "k=1" / "deep"
    stray.mkdir(parents=True)
    (stray / "old.csv").touch()
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        commit.commit(write(spec, [rows("new")], rows("").schema), rows("").schema)
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_dir()] == []
    assert len(names(tmp_path / "out")) == 2


def test_a_folder_that_still_holds_a_file_of_the_result_stays(tmp_path: Path) -> None:
    (tmp_path / "k=1").mkdir()
    for name in ("new.csv", "stray.csv"):
        (tmp_path / "k=1" / name).touch()
    local._drop_strays(tmp_path, {"k=1/new.csv"}, None)
    assert names(tmp_path) == {"k=1/new.csv"}


def test_old_files_of_a_partition_that_is_replaced_go_but_for_new_ones_of_their_names(tmp_path: Path) -> None:
    for name in ("k=1/old.csv", "k=1/new.csv", "k=2/old.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    local._drop_old(tmp_path, ["k=1", "k=3"], {"k=1/new.csv"})
    assert names(tmp_path) == {"k=1/new.csv", "k=2/old.csv"}


def test_links_in_staging_are_refused_by_the_name_of_the_destination(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv", partition_by="k")
    (tmp_path / "elsewhere").mkdir()
    staging = staging_folder(spec, "r1")
    staging.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="it is a symbolic link") as raised:
        open_commit(spec, "r1").prepare()
    assert raised.value.context == {"path": str(tmp_path / "out"), "link": str(staging)}
    staging.unlink()
    batch = pa.RecordBatch.from_pydict({"k": ["1"], "v": [1]})
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        files = write(spec, [batch], batch.schema)
        (staging / "result").mkdir()
        (staging / "result" / "k=1").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SinkError, match="it is a symbolic link") as raised:
            commit.commit(files, batch.schema)
    assert raised.value.context["path"] == str(tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(tmp_path / "out", [[rows(1)]], format="csv")

    def access(path: Path, mode: int) -> bool:
        """Say what the system says to those who are not root."""
        return not (path == tmp_path / "out" and mode == os.W_OK | os.X_OK)

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(SinkError) as raised:
        check_destination(sink_spec(tmp_path / "out", "csv", if_exists="append"))
    assert str(raised.value) == f"can't write {tmp_path}/out: permission denied"
    assert raised.value.context == {"path": f"{tmp_path}/out"}


def test_a_mount_point_and_what_is_gone_already(tmp_path: Path) -> None:
    with pytest.raises(SinkError) as raised:
        check_destination(sink_spec("/proc", "csv"))
    assert str(raised.value) == (
        "/proc is a mount point, which can't be replaced in one step; write to a folder below it, such as /proc/out"
    )
    assert raised.value.context == {"path": "/proc"}
    remove_tree(tmp_path / "gone")


def test_staging_on_a_file_server_that_hangs_is_deleted_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sink_spec(tmp_path / "new" / "out", "csv")
    asked: list[str] = []

    def is_silent(path: str) -> bool:
        asked.append(path)
        return True

    for resumable in (True, False):
        commit = LocalCommit(spec, "r1", resumable=resumable)
        commit.prepare()
        before = set(threading.enumerate())
        with monkeypatch.context() as patch:
            patch.setattr(local, "is_silent", is_silent)
            commit.abort()
        for thread in set(threading.enumerate()) - before:
            assert thread.daemon
            thread.join()
        assert staging_folder(spec, "r1").exists() is resumable
        with open_commit(spec, "r2") as other:
            other.prepare()  # the lock is released
    assert asked == [str(tmp_path / "new" / "out")] * 2


def test_the_old_destination_of_this_run_comes_back(tmp_path: Path) -> None:
    write_all(tmp_path / "out", [[rows("old")]], format="csv")
    spec = sink_spec(tmp_path / "out", "csv", if_exists="replace")
    assert old_destination(spec, "r1").name == ".out.mmflow-old-r1"
    (tmp_path / "out").rename(
        tmp_path / ".out.mmflow-old-r1"
    )  # the moment in which a file system without swap dies
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        assert state(tmp_path / "out") == ["old"]


def test_a_link_that_leads_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "k=1").symlink_to(tmp_path)
    error = _refused(tmp_path, "out", format="csv", if_exists="append", partition_by="k")
    assert f"won't write into {tmp_path}/out/k=1: it is a symbolic link (to {tmp_path})" in str(error)
    assert error.context == {"path": str(tmp_path / "out"), "link": str(tmp_path / "out" / "k=1")}


# ---- other file systems, and runs that go on ---------------------------------------------------------------------------


def _refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let renames with a condition fail, as NFS refuses them."""

    def rename(source: str, target: str, how: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(system, "rename", rename)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_conditional_renames_has_other_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[str], number: int
) -> None:
    reached: list[str] = []
    _refusing(monkeypatch, number)
    monkeypatch.setattr(local, "failpoint", reached.append)
    write_all(tmp_path / "out.csv", [[rows(1)]])
    (tmp_path / "a").write_text("new")
    with pytest.raises(FileExistsError):
        atomic.rename_new(tmp_path / "a", tmp_path / "out.csv")
    assert (state(tmp_path / "out.csv"), (tmp_path / "a").read_text()) == (["1"], "new")
    atomic.rename_new(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "a").exists(), (tmp_path / "b").read_text()) == (False, "new")
    assert not atomic.swap(tmp_path / "b", tmp_path / "out.csv")
    write_all(tmp_path / "out", [[rows(1)]], format="csv")
    for folder in (reached, synced):
        folder.clear()
    write_all(tmp_path / "out", [[rows(2)]], format="csv", if_exists="replace", run="r2")
    assert state(tmp_path / "out") == ["2"]
    assert reached == ["placed", "manifest", "synced", "old_destination", "renamed", "published"]
    assert synced[-2:] == [str(tmp_path)] * 2, "before the old one is deleted, and at the end"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "out", "out.csv"]


def test_other_errors_of_conditional_renames_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path / "out", [[rows(1)]], format="csv")
    (tmp_path / "a").touch()
    _refusing(monkeypatch, errno.EIO)
    for rename in (atomic.rename_new, atomic.swap):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            rename(tmp_path / "a", tmp_path / "b")
    with pytest.raises(SinkError, match="the device could not do it"):
        write_all(tmp_path / "out", [[rows(2)]], format="csv", if_exists="replace", run="r2")
    assert state(tmp_path / "out") == ["1"]


@pytest.mark.parametrize("folders", [3, 4, 5])
def test_folders_are_synced_before_those_above_them_and_many_by_threads(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch, folders: int
) -> None:
    threads: set[str] = set()
    sync = system.sync_folder

    def syncing(path: str) -> None:
        threads.add(threading.current_thread().name.partition("_")[0])
        sync(path)

    monkeypatch.setattr(system, "sync_folder", syncing)
    for number in range(folders - 1):
        (tmp_path / f"k={number}").mkdir()
    (tmp_path / "k=0" / "j=0").mkdir()
    atomic.fsync_tree(tmp_path)
    assert sorted(synced) == sorted(str(here) for here, _, _ in os.walk(tmp_path))
    assert synced[-1] == str(tmp_path)
    assert threads == ({"MainThread"} if folders <= 3 else {"MainThread", "mmflow-sync"})
    if folders <= 3:
        assert synced.index(str(tmp_path / "k=0" / "j=0")) < synced.index(str(tmp_path / "k=0"))


@pytest.mark.parametrize("name", ["out", "out.csv"])
def test_a_run_that_published_before_it_died_returns_what_it_published(
    tmp_path: Path, synced: list[str], name: str
) -> None:
    if name == "out":
        write_all(tmp_path / name, [[rows("old"), rows("old")]], format="csv", run="r0")
    if_exists: Any = "append" if name == "out" else "error"
    spec = sink_spec(tmp_path / name, "csv", if_exists=if_exists)

    def fail(done: CommitResult) -> None:
        raise ZeroDivisionError

    numbers = range(2 if name == "out" else 1)
    with pytest.raises(ZeroDivisionError), open_commit(spec, "r1", resumable=True) as commit:  # noqa: PT012  (the steps before the error belong to the commit)
        commit.prepare()
        files = [write(spec, [rows("a"), rows("b")], rows("").schema, number=n)[0] for n in numbers]
        commit.commit(files, rows("").schema, fail)
    noted: list[CommitResult] = []
    synced.clear()
    with open_commit(spec, "r1", resumable=True) as commit:
        known = [commit.done]
        commit.prepare()
        known.append(commit.done)
        assert known == [False, True]
        done = commit.commit((), rows("").schema, noted.append)
    count = len(files)
    assert (
        noted
        == [done]
        == [CommitResult(f"{tmp_path}/{name}", count, 2 * count, sum(f.nbytes for f in files))]
    )
    assert synced == [str(tmp_path)]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_commit_that_may_not_be_resumed_keeps_nothing(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    for resumable, left in ((True, [".out.mmflow-r1"]), (None, [])):
        commit = (
            LocalCommit(spec, "r1") if resumable is None else LocalCommit(spec, "r1", resumable=resumable)
        )
        commit.prepare()
        commit.abort()
        assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith("-lock")) == left
    commit.prepare()
    files = write(spec, [rows("a")], rows("").schema)
    done = commit.commit(files, rows("").schema)  # nobody wants to know
    assert done == CommitResult(str(tmp_path / "out"), 1, 1, files[0].nbytes)
    assert commit.done
    (tmp_path / ".out.mmflow-r1" / "attempts").mkdir(parents=True)
    swept = LocalCommit(spec, "r1")
    swept.sweep()
    assert swept.done
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_staged_files_are_known_wherever_a_commit_moved_them(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    commit = open_commit(spec, "r1", resumable=True)
    commit.prepare()
    (file,) = write(spec, [rows("a")], rows("").schema)
    other = StagedFile(file.staged + "-2", file.path, 1, file.nbytes)
    assert is_staged(spec, "r1", file, {})
    assert not is_staged(spec, "r1", other, {})
    note_placed(spec, "r1", [file, other])
    note_placed(spec, "r1", [file])
    note_placed(spec, "r1", [])
    lines = (tmp_path / ".out.mmflow-r1" / "placed.jsonl").read_bytes()
    assert lines == b"".join(
        f'\n["{file.path}", "{staged}"]'.encode() for staged in (file.staged, other.staged, file.staged)
    )
    with open(tmp_path / ".out.mmflow-r1" / "placed.jsonl", "ab") as torn:
        torn.write(b'\n["x')
    placed = read_placed(spec, "r1")
    assert placed == {file.path: file.staged}
    result = tmp_path / ".out.mmflow-r1" / "result"
    result.mkdir()
    Path(file.staged).rename(result / file.path)
    assert is_staged(spec, "r1", file, placed)
    assert not is_staged(spec, "r1", other, placed)
    assert not is_staged(spec, "r1", file, {})
    os.truncate(result / file.path, 1)
    assert not is_staged(spec, "r1", file, placed)
    commit.abort()


def test_staging_of_other_runs_is_found_by_its_name(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    names = ["-r1", "-r2", "-a", "-lock", "-old-r2", "-old-r1"]
    for name in (*(f".out.mmflow{suffix}" for suffix in names), ".out2.mmflow-r2", "out", ".out.mmflowx"):
        (tmp_path / name).mkdir()
    stale = [tmp_path / f".out.mmflow{suffix}" for suffix in ("-a", "-r2")]
    old = [tmp_path / f".out.mmflow{suffix}" for suffix in ("-old-r1", "-old-r2")]
    assert stale_paths(spec, "r1") == (stale, old)
    assert stale_paths(sink_spec(tmp_path / "none" / "out", "csv"), "r1") == ([], [])
    attempt = SinkAttempt("r1", 0, 3, 1)
    made = attempt_folder(spec, attempt)
    assert made.parent == tmp_path / ".out.mmflow-r1" / "attempts"
    assert made.name.startswith(f"{attempt.name}-")
    assert made != attempt_folder(spec, attempt)
    for run in ("", "-r", "a/b"):
        with pytest.raises(AssertionError, match=f"^{run!r} can't be part of a file name$"):
            staging_folder(spec, run)


# ---- manifests ------------------------------------------------------------------------------------------------------


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    path = tmp_path / manifest.NAME
    for text, message in (("{", "is damaged"), ('{"mmflow_manifest": 99}', "version")):
        path.write_text(text)
        with pytest.raises(SinkError, match=message) as caught:
            manifest.read(tmp_path)
        assert str(path) in str(caught.value)


def test_a_manifest_names_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    made = {"mmflow_manifest": 1, "run": "r", "partition_by": [], "schema": []}
    for path in ("../x.csv", "a/../../x.csv", "/x.csv", "", "a\0"):
        files = [{"path": path, "rows": 1, "bytes": 1, "run": "r"}]
        with pytest.raises(SinkError, match="is damaged"):
            manifest.parse(json.dumps({**made, "files": files}).encode(), "m")


def test_a_manifest_is_not_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    (tmp_path / "out").mkdir()
    temporary = tmp_path / "out" / f"{manifest.NAME}.tmp"
    temporary.symlink_to(outside)
    manifest.write(tmp_path / "out", {"files": []})
    unlink = disk.unlink

    def raced(path: Path) -> None:
        """Unlink, and have somebody make the link anew at once."""
        with contextlib.suppress(FileNotFoundError):
            unlink(path)
        temporary.symlink_to(outside)

    monkeypatch.setattr(disk, "unlink", raced)
    with pytest.raises(FileExistsError):
        manifest.write(tmp_path / "out", {"files": []})
    assert outside.read_text() == ""


def test_names_that_no_writer_of_data_sets_makes() -> None:
    ours = ["part-0.csv", "k=1/PART.Parquet", "_SUCCESS", ".hidden", "._x/a.csv", "k=1/_x.doc"]
    assert manifest.foreign_name(ours) is None
    for name in ("thesis.doc", "k=1/thesis.doc", ".git/a.csv", "k=1/.x/a.csv", "a b/c d.doc"):
        assert manifest.foreign_name(["a.csv", name]) == name
    assert manifest.foreign_name(["b.doc", "a.doc"]) == "a.doc"


def test_a_manifest_knows_its_runs() -> None:
    made: dict[str, Any] = {"run": "last", "files": [{"run": "before"}]}
    assert manifest.holds_run(made, "last")
    assert manifest.holds_run(made, "before")
    assert not manifest.holds_run(made, "other")


def test_partition_types_are_those_that_every_file_agrees_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = pa.RecordBatch.from_pydict({"a b": pa.array([1], pa.int16()), "j": ["x"], "v": [1]})
    write_all(tmp_path / "out", [[batch]], format="csv", partition_by=["a b", "j"])
    (file,) = (p for p in (tmp_path / "out").rglob("*.csv"))
    types = manifest.partition_types([str(file)])
    assert types == {"a b": pa.int16(), "j": pa.string()}
    below = str(tmp_path / "else" / "a%20b=2" / "x.csv")  # no manifest names it
    assert manifest.partition_types([str(file), below]) == {}
    wide = pa.RecordBatch.from_pydict({"a b": pa.array([1], pa.int64()), "j": ["x"], "v": [1]})
    write_all(tmp_path / "wide", [[wide]], format="csv", partition_by=["a b", "j"])
    (other,) = (p for p in (tmp_path / "wide").rglob("*.csv"))
    assert manifest.partition_types([str(file), str(other)]) == {"j": pa.string()}
    inner = pa.RecordBatch.from_pydict({"i": pa.array([1], pa.int8()), "v": [1]})
    write_all(file.parents[1] / "inner", [[inner]], format="csv", partition_by="i")
    (deep,) = (p for p in (file.parents[1] / "inner").rglob("*.csv"))
    assert manifest.partition_types([str(deep)]) == {**types, "i": pa.int8()}  # of both manifests
    monkeypatch.chdir(tmp_path / "out")
    assert manifest.partition_types([str(file.relative_to(tmp_path / "out"))]) == types
    (tmp_path / "out" / manifest.NAME).write_text("{")
    with pytest.raises(SinkError, match=f"{tmp_path}/out/{manifest.NAME} is damaged"):
        manifest.partition_types([str(file)])


def test_files_without_a_manifest_are_listed(tmp_path: Path) -> None:
    (tmp_path / "k=1").mkdir()
    (tmp_path / "k=1" / "b.csv").write_text("v\n1\n")
    (tmp_path / "k=1" / "_hidden.csv").touch()
    entry = {"path": "k=1/b.csv", "rows": None, "bytes": 4, "run": None}
    assert manifest.data_files(tmp_path) == [entry]
    assert manifest.entries({"k=1/b.csv": 4, "_x/c.csv": 5}) == [entry]
    assert json.loads(manifest.encode({"files": [entry]})) == {"files": [entry]}
