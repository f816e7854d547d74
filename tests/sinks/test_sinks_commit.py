"""All or nothing: whatever happens, a destination holds the old state or the new one, never a mix."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.errors import SinkError
from mmflow.sinks import StagedFile, open_commit, sink_spec, staged_files
from tests.sinks.sink_rows import MANIFEST, names, rows, state, write, write_all


def test_a_file_of_a_corrected_job_is_not_taken_for_one_of_the_job_before(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")

    def fail_to_commit(value: str) -> StagedFile:
        with open_commit(spec, "r1", resumable=True) as commit:
            commit.prepare()
            first, lost = (write(spec, [rows(value)], rows(value).schema, number=n)[0] for n in range(2))
            Path(lost.staged).unlink()
            with pytest.raises(SinkError, match=r"the staged file .* is missing"):
                commit.commit([first, lost], rows(value).schema)
        return first

    before, corrected = fail_to_commit("new"), fail_to_commit("odd")
    assert before.nbytes == corrected.nbytes
    is_there = staged_files(spec, "r1")
    assert is_there(corrected)
    assert not is_there(before)
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        with pytest.raises(SinkError, match=r"the staged file .* is missing"):
            commit.commit([before], rows("new").schema)
    assert not (tmp_path / "out").exists()


def test_two_runs_exclude_each_other(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    with open_commit(spec, "first") as first:
        first.prepare()
        with pytest.raises(SinkError, match=rf"is being written by run first \(process {os.getpid()} on "):
            open_commit(spec, "second").prepare()
        assert (tmp_path / ".out.mmflow-first" / "attempts").is_dir()
    assert not list(tmp_path.iterdir())


def test_only_attempts_that_count_are_committed(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out", "csv")
    schema = rows("a").schema
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        write(spec, [rows("lost")], schema, attempt=0)
        good = write(spec, [rows("good")], schema, attempt=1)
        write(spec, [rows("late")], schema, attempt=2)
        done = commit.commit(good, schema)
    assert state(tmp_path / "out") == ["good"]
    assert done.rows == 1
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_append_keeps_names_apart_and_lists_all(tmp_path: Path) -> None:
    for run in ("r1", "r2", "r3"):
        write_all(tmp_path / "out", [[rows(run)], [rows(run)]], format="csv", if_exists="append", run=run)
    assert state(tmp_path / "out") == ["r1", "r1", "r2", "r2", "r3", "r3"]
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert [f["run"] for f in manifest["files"]] == ["r1", "r1", "r2", "r2", "r3", "r3"]
    assert manifest["schema"] == [{"name": "v", "type": "string"}]
    assert manifest["run"] == "r3"


def test_append_to_files_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "k=1"
    folder.mkdir(parents=True)
    (folder / "theirs.csv").write_text("v\nx\n")
    (tmp_path / "out" / "link.csv").symlink_to("k=1/theirs.csv")
    write_all(tmp_path / "out", [[rows("y")]], format="csv", if_exists="append")
    assert names(tmp_path / "out") == {"k=1/theirs.csv", "link.csv", "part-r1-00000.csv", MANIFEST}
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["rows"] is None
    assert os.readlink(tmp_path / "out" / "link.csv") == "k=1/theirs.csv"


@pytest.mark.parametrize("mode", ["error", "replace", "append"])
def test_an_empty_folder_is_taken_as_new(tmp_path: Path, mode: str) -> None:
    (tmp_path / "out").mkdir()
    write_all(tmp_path / "out", [[rows("a")]], format="csv", if_exists=mode)
    assert state(tmp_path / "out") == ["a"]


def test_abort_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    write_all(tmp_path / "out", [[rows("old")]], format="csv")
    spec = sink_spec(tmp_path / "out", "csv", if_exists="replace")
    commit = open_commit(spec, "r2")
    commit.prepare()
    write(spec, [rows("new")], rows("new").schema, run="r2")
    commit.abort()
    commit.abort()
    assert state(tmp_path / "out") == ["old"]
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    with pytest.raises(SinkError, match=r"staging folder .* is not there"):
        write(spec, [rows("late")], rows("late").schema, run="r2", number=1)
    deep = open_commit(sink_spec(tmp_path / "a" / "b" / "c.csv"), "r1")
    deep.prepare()
    assert (tmp_path / "a" / "b").is_dir()
    deep.abort()
    assert not (tmp_path / "a").exists()


def test_destinations_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("v\n")
    (tmp_path / "dir.csv").mkdir()
    (tmp_path / "home" / ".git").mkdir(parents=True)
    (tmp_path / "home" / ".git" / "x.csv").write_text("")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.doc").write_text("years of work")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for path, keys, message in (
        ("f.csv", {}, "exists; .*--if-exists replace "),
        ("notes", {}, "exists; .*--if-exists replace or append"),
        ("f.csv", {"if_exists": "append"}, "can't append to"),
        ("dir.csv", {"if_exists": "replace"}, "is a folder, and the output is one file"),
        ("file/", {"if_exists": "replace", "format": "csv"}, "is a file, and the output is a folder"),
        ("file/x.csv", {}, "a part of the path is a file"),
        ("notes", {"if_exists": "replace"}, r"won't replace .*thesis\.doc"),
        ("home", {"if_exists": "replace"}, r"won't replace .*\.git"),
        ("n" * 300, {}, "name is too long"),
    ):
        with pytest.raises(SinkError, match=message):
            open_commit(sink_spec(f"{tmp_path}/{path}", **keys), "r1").prepare()  # type: ignore[arg-type]  # keyword arguments of any name
    assert sorted(tmp_path.rglob("*")) == before


def test_a_source_is_never_a_destination(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text("v\n")
    os.link(data / "a.csv", tmp_path / "hard.csv")
    (tmp_path / "soft").symlink_to(data)
    source = str(data / "a.csv")
    for path, sources in (
        (data / "a.csv", [source]),
        (tmp_path / "hard.csv", [source]),
        (tmp_path / "soft" / "a.csv", [source]),
        (data, [source]),
        (tmp_path / "soft", [source]),
        (data, [str(tmp_path / "soft" / "a.csv")]),
        (data / "out.csv", [str(data)]),
        (data / "out", [str(tmp_path / "soft")]),
    ):
        with pytest.raises(SinkError, match=r"is an input"):
            open_commit(sink_spec(path, "csv", if_exists="replace"), "r1").prepare(sources)
    with open_commit(sink_spec(data / "b.csv"), "r1") as commit:
        commit.prepare([source])  # a file beside its source is fine
    assert names(tmp_path) == {"data/a.csv", "hard.csv"}


def test_a_destination_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    for name in ("out", "out.csv"):
        spec = sink_spec(tmp_path / name, "csv")
        with open_commit(spec, "r1") as commit:
            commit.prepare()
            files = write(spec, [rows("ours")], rows("").schema)
            theirs = tmp_path / name if name.endswith("csv") else tmp_path / name / "theirs.csv"
            theirs.parent.mkdir(exist_ok=True)
            theirs.write_text("theirs")
            with pytest.raises(SinkError, match="created by another process"):
                commit.commit(files, rows("").schema)
        assert theirs.read_text() == "theirs"
    assert {p.name for p in tmp_path.iterdir()} == {"out", "out.csv"}


def test_a_failing_input_leaves_no_attempt(tmp_path: Path) -> None:
    spec = sink_spec(tmp_path / "out.csv")

    def failing() -> Iterator[pa.RecordBatch]:
        yield rows("a")
        raise OSError(5, "the input broke")

    with open_commit(spec, "r1") as commit:
        commit.prepare()
        with pytest.raises(OSError, match="the input broke"):  # not taken for an error of the output
            write(spec, failing(), rows("a").schema)
        assert not names(tmp_path / ".out.csv.mmflow-r1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"can't mount a small tmpfs here: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("name", ["parquet", "arrow", "csv", "ndjson", "npy"])
@pytest.mark.parametrize("one_file", [True, False])
def test_a_full_disk_is_one_clear_error(small_disk: Path, name: str, one_file: bool) -> None:
    os_random = int.from_bytes(os.urandom(8), "little")
    values = pa.array([(os_random * n) % (2**63) for n in range(65536)], pa.int64())
    batch = pa.RecordBatch.from_arrays([values], names=["v"])
    with pytest.raises(
        SinkError, match=r"no space left on the file system of .*needs more than the [\d,]+ bytes.*free"
    ):
        write_all(small_disk / (f"o.{name}" if one_file else "o"), [[batch] * 20], format=name)
    assert not list(small_disk.iterdir())


@pytest.mark.root
def test_a_mount_point_is_refused(small_disk: Path) -> None:
    with pytest.raises(SinkError, match=r"is a mount point.*/out"):
        open_commit(sink_spec(small_disk, "csv", if_exists="append"), "r1").prepare()
