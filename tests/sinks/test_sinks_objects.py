"""Destinations in object stores: a real S3 server's, and fsspec's in memory."""

from __future__ import annotations

import contextlib
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset as pds
import pytest

import mmflow as mf
from mmflow.cli.main import main as cli
from mmflow.errors import ConfigError, SinkError
from mmflow.sinks import (
    CommitResult,
    SinkAttempt,
    StagedFile,
    open_commit,
    open_sink,
    sink_spec,
    staged_files,
)
from mmflow.sinks.commit import destination_store
from mmflow.storage.object_store import FsspecStore
from tests.sinks.object_rows import MANIFEST, manifest, objects, rows, state, text, tidy
from tests.sinks.sink_rows import sample, write, write_all


@pytest.fixture(params=["s3", "memory"])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty bucket."""
    if request.param == "s3":
        yield request.getfixturevalue("s3")()
        return
    memory = fsspec.filesystem("memory")
    yield "memory://bucket"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def put(url: str, data: str) -> None:
    with fsspec.open(url, "w") as file:
        file.write(data)


@pytest.mark.parametrize("name", ["parquet", "arrow", "csv", "ndjson", "npy"])
def test_a_folder_of_files_of_every_format(bucket: str, name: str) -> None:
    batch = rows(1, 2, 3) if name == "npy" else sample()
    done = write_all(f"{bucket}/out", [[batch], [batch, batch]], format=name)
    found = manifest(f"{bucket}/out")
    assert found is not None
    assert (done.path, done.files, done.rows) == (f"{bucket}/out", 2, 3 * batch.num_rows)
    assert found["rows"] == done.rows
    assert [f["path"].startswith("part-r1-0000") for f in found["files"]] == [True, True]
    assert tidy(f"{bucket}/out")
    fs, root = fsspec.core.url_to_fs(f"{bucket}/out", use_listings_cache=False)
    for file in found["files"]:
        assert fs.size(f"{root}/{file['path']}") == file["bytes"]
    if name == "parquet":
        table = pds.dataset(root, filesystem=fs, format=name).to_table()
        expected = pa.Table.from_batches([batch] * 3)
        assert table.to_pylist() == expected.to_pylist()


def test_hive_partitions_with_odd_values(bucket: str) -> None:
    keys = ["a", "b c", "x/y", "50%?*[1]", "", None]
    batch = pa.RecordBatch.from_pydict({"k": keys, "v": list(range(6))})
    write_all(f"{bucket}/out", [[batch], [batch]], format="parquet", partition_by="k")
    assert tidy(f"{bucket}/out")
    fs, root = fsspec.core.url_to_fs(f"{bucket}/out", use_listings_cache=False)
    flavor = pds.HivePartitioning(pa.schema([("k", pa.string())]), segment_encoding="uri")
    table = pds.dataset(root, filesystem=fs, format="parquet", partitioning=flavor).to_table()
    assert sorted(table["v"].to_pylist()) == sorted([*range(6), *range(6)])
    assert {v: k for k, v in zip(table["k"].to_pylist(), table["v"].to_pylist(), strict=True)} == dict(
        enumerate(keys)
    )


def test_replace_and_append(bucket: str) -> None:
    out = f"{bucket}/a b/out"
    for run, mode in (("r1", "error"), ("r2", "append"), ("r3", "append")):
        write_all(out, [[rows(run)], [rows(run)]], format="csv", if_exists=mode, run=run)
    assert state(out) == ["r1", "r1", "r2", "r2", "r3", "r3"]
    assert tidy(out)
    put(f"{out}/_SUCCESS", "")
    put(f"{out}/k=1/theirs[1].csv", "v\nx\n")
    write_all(out, [[rows("r4")]], format="csv", if_exists="replace", run="r4")
    assert state(out) == ["r4"]
    assert tidy(out)


def test_append_to_files_of_others(bucket: str) -> None:
    put(f"{bucket}/out/k=1/theirs.csv", "v\nx\n")
    put(f"{bucket}/out/_logs/old.csv", "v\nno data\n")
    write_all(f"{bucket}/out", [[rows("y")]], format="csv", if_exists="append")
    assert state(f"{bucket}/out") == ["x", "y"]
    known = {"k=1/theirs.csv", "_logs/old.csv", MANIFEST}
    (new,) = objects(f"{bucket}/out") - known
    assert re.fullmatch(r"part-r1-00000-[0-9a-f]{8}\.csv", new)


def test_one_file(bucket: str) -> None:
    for url in (f"{bucket}/out.csv", f"{bucket}/deep/er/out.csv"):
        write_all(url, [[rows("a")]])
        with pytest.raises(SinkError, match=r"exists; .*--if-exists replace "):
            open_commit(sink_spec(url), "r2").prepare()
        with pytest.raises(SinkError, match="can't append to"):
            open_commit(sink_spec(url, if_exists="append"), "r2").prepare()
        assert state(url) == ["a"]
        write_all(url, [[rows("b")]], if_exists="replace", run="r3")
        assert state(url) == ["b"]
    assert objects(bucket) == {"out.csv", "deep/er/out.csv"}


def test_destinations_that_are_refused(bucket: str) -> None:
    put(f"{bucket}/notes/thesis.doc", "years of work")
    put(f"{bucket}/home/.git/x.csv", "")
    put(f"{bucket}/dir.csv/a.csv", "")
    put(f"{bucket}/object", "")
    before = objects(bucket)
    for path, keys, message in (
        ("notes", {}, "exists; .*--if-exists replace or append"),
        ("notes", {"if_exists": "replace"}, r"won't replace .*thesis\.doc"),
        ("home", {"if_exists": "replace"}, r"won't replace .*\.git"),
        ("dir.csv", {"if_exists": "replace"}, "is a folder, and the output is one file"),
        ("object", {"if_exists": "replace", "format": "csv"}, "is an object, and the output is a folder"),
    ):
        with pytest.raises(SinkError, match=message):
            open_commit(sink_spec(f"{bucket}/{path}", **keys), "r1").prepare()  # type: ignore[arg-type]  # keyword arguments of any name
    assert objects(bucket) == before


def test_a_source_is_never_a_destination(bucket: str) -> None:
    for path, source in (
        ("data", f"{bucket}/data/a.csv"),
        ("data/", f"{bucket}/data"),
        ("data/a.csv", f"{bucket}/data/a.csv"),
        ("data/out.csv", f"{bucket}/data"),
        ("data/out.csv", f"{bucket}/data/"),
        ("data/deep/out", f"{bucket}/data"),
    ):
        with pytest.raises(SinkError, match="is an input"):
            open_commit(sink_spec(f"{bucket}/{path}", "csv"), "r1").prepare([source])
    spec = sink_spec(f"{bucket}/data/b.csv")
    with open_commit(spec, "r1") as commit:
        commit.prepare([f"{bucket}/data/a.csv", "/local/b.csv", "gs://bucket/data/b.csv"])
    assert not objects(bucket)


def test_only_attempts_that_count_are_committed_and_nobody_sees_the_others(bucket: str) -> None:
    spec = sink_spec(f"{bucket}/out", "csv")
    schema = rows("a").schema
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        write(spec, [rows("lost")], schema, attempt=0)
        write(spec, [rows("twice")], schema, attempt=1)
        good = write(spec, [rows("good")], schema, attempt=1)
        write(spec, [rows("late")], schema, attempt=2)
        # What DuckDB's globs, and everyone who leaves out `_`, would read.
        assert not [name for name in objects(f"{bucket}/out") if name.endswith(".csv")]
        assert all(name.startswith("_") for name in objects(f"{bucket}/out"))
        done = commit.commit(good, schema)
    assert state(f"{bucket}/out") == ["good"]
    assert done.rows == 1
    assert tidy(f"{bucket}/out")


def test_abort_leaves_nothing_and_keeps_the_old(bucket: str) -> None:
    out = f"{bucket}/out"
    write_all(out, [[rows("old")]], format="csv")
    spec = sink_spec(out, "csv", if_exists="replace")
    commit = open_commit(spec, "r2")
    commit.prepare()
    write(spec, [rows("new")], rows("new").schema, run="r2")
    commit.abort()
    commit.abort()
    assert state(out) == ["old"]
    assert tidy(out)
    with pytest.raises(SinkError, match=r"open\.json is not there; either the run was stopped"):
        write(spec, [rows("late")], rows("late").schema, run="r2", number=1)
    assert tidy(out)


@pytest.mark.parametrize("name", ["out", "out.csv"])
def test_a_run_that_failed_goes_on_with_what_it_staged(bucket: str, name: str) -> None:
    url = f"{bucket}/{name}"
    write_all(url, [[rows("old")]], format="csv", run="r-old")
    spec = sink_spec(url, "csv", if_exists="replace")
    with pytest.raises(ZeroDivisionError), open_commit(spec, "r2", resumable=True) as commit:  # noqa: PT012  (the steps before the error belong to the commit)
        commit.prepare()
        files = write(spec, [rows("new")], rows("").schema, run="r2")
        raise ZeroDivisionError
    assert state(url) == ["old"]
    with pytest.raises(SinkError, match="the run was stopped"):
        write(spec, [rows("late")], rows("").schema, run="r2")
    there = staged_files(spec, "r2")
    assert [there(f) for f in files] == [True]
    assert not there(StagedFile(files[0].staged, files[0].path, 1, files[0].nbytes + 1))
    noted: list[CommitResult] = []
    with open_commit(spec, "r2", resumable=True) as commit:
        commit.prepare()
        assert not commit.done
        done = commit.commit(files, rows("").schema, noted.append)
    assert noted == [done]
    assert state(url) == ["new"]
    assert tidy(url)
    commit = open_commit(spec, "r2", resumable=True)
    commit.sweep()
    assert tidy(url)


def test_a_run_that_could_not_note_its_commit_knows_it_when_it_goes_on(bucket: str) -> None:
    url = f"{bucket}/out"
    write_all(url, [[rows("old")]], format="csv", run="r-old")
    spec = sink_spec(url, "csv", if_exists="replace")

    def fail(done: CommitResult) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_commit(spec, "r2", resumable=True) as commit:  # noqa: PT012  (the steps before the error belong to the commit)
        commit.prepare()
        commit.commit(write(spec, [rows("a", "b")], rows("").schema, run="r2"), rows("").schema, fail)
    assert state(url) == ["a", "b"]
    with open_commit(spec, "r2", resumable=True) as commit:
        commit.prepare()
        assert commit.done
        done = commit.commit((), rows("").schema)
    assert (done.files, done.rows) == (1, 2)
    assert tidy(url)


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_the_next_run_sweeps_what_a_failed_one_kept(bucket: str, mode: str) -> None:
    url = f"{bucket}/out"
    spec = sink_spec(url, "csv")
    with pytest.raises(ZeroDivisionError), open_commit(spec, "r1", resumable=True) as commit:  # noqa: PT012  (the steps before the error belong to the commit)
        commit.prepare()
        write(spec, [rows("a")], rows("").schema)
        raise ZeroDivisionError
    assert objects(url)
    write_all(url, [[rows("b")]], format="csv", if_exists=mode, run="r2")
    assert state(url) == ["b"]
    assert tidy(url)


def test_a_task_that_ends_after_its_run_was_stopped_leaves_nothing(bucket: str) -> None:
    spec = sink_spec(f"{bucket}/out", "csv")
    commit = open_commit(spec, "r1")
    commit.prepare()

    def slow() -> Iterator[pa.RecordBatch]:
        yield rows("a")
        commit.abort()

    with pytest.raises(SinkError, match="the run was stopped"):
        write(spec, slow(), rows("a").schema)
    assert not objects(bucket)


def test_a_failing_input_leaves_no_attempt_and_no_scratch(bucket: str, tmp_path: Path) -> None:
    spec = sink_spec(f"{bucket}/out", "csv", partition_by="k")

    def failing() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"k": ["a", "b"], "v": [1, 2]})
        raise OSError(5, "the input broke")

    schema = pa.schema([("k", pa.string()), ("v", pa.int64())])
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        with pytest.raises(OSError, match="the input broke"):  # not taken for an error of the output
            open_sink(spec, tmp_path).write(failing(), schema, SinkAttempt("r1", 0, 0, 0))
        assert not list(tmp_path.iterdir())
        assert objects(f"{bucket}/out") == {"_mmflow_lock.json", "_mmflow/r1/open.json"}


def test_an_upload_that_fails_is_one_clear_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = sink_spec(f"{bucket}/out", "csv")
    with open_commit(spec, "r1") as commit:
        commit.prepare()

        def refuse(*arguments: Any, **keys: Any) -> None:
            raise PermissionError("Access Denied")

        with monkeypatch.context() as patch:
            patch.setattr(FsspecStore, "upload", refuse)
            with pytest.raises(SinkError, match=r"can't write .*bucket.*: access denied; .*credentials"):
                write(spec, [rows("a")], rows("a").schema)
    assert not objects(bucket)


def test_a_copy_that_fails_in_the_middle_keeps_the_old(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"{bucket}/out"
    write_all(out, [[rows("old")]], format="csv")
    spec = sink_spec(out, "csv", if_exists="replace")
    monkeypatch.setattr("mmflow.sinks.commit.object_commit._COPIES", 1)
    for trouble, message in (
        ("gone", "staged object .* is missing"),
        ("changed", "should have 6 bytes, and has 3"),
    ):
        with open_commit(spec, "r2") as commit:
            commit.prepare()
            files = [write(spec, [rows("new")], rows("").schema, run="r2", number=n)[0] for n in range(3)]
            if trouble == "gone":
                fs, root = fsspec.core.url_to_fs(out, use_listings_cache=False)
                fs.rm_file(f"{root}/{files[1].staged}")
            else:
                put(f"{out}/{files[1].staged}", "v\n1")
            with pytest.raises(SinkError, match=message):
                commit.commit(files, rows("").schema)
        assert state(out) == ["old"]
        assert tidy(out)


def test_a_destination_that_appears_meanwhile_is_kept(bucket: str) -> None:
    for name in ("out", "out.csv"):
        spec = sink_spec(f"{bucket}/{name}", "csv")
        theirs = f"{bucket}/{name}" if name.endswith("csv") else f"{bucket}/{name}/theirs.csv"
        with open_commit(spec, "r1") as commit:
            commit.prepare()
            files = write(spec, [rows("ours")], rows("").schema)
            put(theirs, "theirs")
            with pytest.raises(SinkError, match="created by another process"):
                commit.commit(files, rows("").schema)
        assert text(theirs) == "theirs"
    assert objects(bucket) == {"out.csv", "out/theirs.csv"}


def test_who_reads_while_it_is_replaced_sees_no_mix(bucket: str) -> None:
    out = f"{bucket}/out"
    write_all(out, [[rows("0")]] * 3, format="csv", run="r0")
    seen: list[list[str]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):  # read the old manifest, and was slow
                seen.append(state(out) or [])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 6):
        write_all(out, [[rows(str(number))]] * 3, format="csv", if_exists="replace", run=f"r{number}")
    stop.set()
    reader.join()
    assert seen
    assert all(values == [values[0]] * 3 for values in seen)


def test_a_manifest_whose_answer_is_lost_counts(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"{bucket}/out"
    spec = sink_spec(out, "csv")
    real = destination_store.DestinationStore.put

    def put_and_lose(store: destination_store.DestinationStore, name: str, data: bytes) -> None:
        real(store, name, data)
        if name == MANIFEST:
            raise SinkError("the connection was closed")

    monkeypatch.setattr(destination_store.DestinationStore, "put", put_and_lose)
    write_all(out, [[rows("a")]], format="csv")
    assert state(out) == ["a"]
    assert tidy(out)
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        assert commit.done


def test_an_error_while_cleaning_up_does_not_undo_the_commit(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{bucket}/out"
    write_all(out, [[rows("old")]], format="csv")
    spec = sink_spec(out, "csv", if_exists="replace")
    with open_commit(spec, "r2") as commit:
        commit.prepare()
        files = write(spec, [rows("new")], rows("").schema, run="r2")
        with monkeypatch.context() as patch:
            patch.setattr(destination_store.DestinationStore, "delete", _refuse)
            with pytest.warns(UserWarning, match=r"run r2 leaves objects below .*/out/_mmflow: no deleting"):
                commit.commit(files, rows("").schema)
    assert state(out) == ["new"]


def _refuse(store: destination_store.DestinationStore, names: object) -> None:
    raise SinkError("no deleting")


def test_datasets_are_written_to_urls(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("k,v\n" + "".join(f"{n % 3},{n}\n" for n in range(10_000)))
    with mf.Session(shard_size="16KiB", spill_dir=tmp_path / "spill") as session:
        data = session.read_csv(str(tmp_path / "in.csv"))
        done = data.write_parquet(f"{bucket}/out", partition_by="k")
        assert done.rows == 10_000
        data.write(f"{bucket}/one.parquet")
        with pytest.raises(SinkError, match="exists"):
            data.write(f"{bucket}/out")
    fs, root = fsspec.core.url_to_fs(f"{bucket}/out", use_listings_cache=False)
    assert pds.dataset(root, filesystem=fs, partitioning="hive").to_table().num_rows == 10_000
    assert fs.isfile(root.replace("/out", "/one.parquet"))
    assert tidy(f"{bucket}/out")
    assert not list((tmp_path / "spill").glob("*"))


def test_the_command_line_writes_to_urls(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("v\na\nb\n")
    query = f"SELECT v FROM '{tmp_path}/in.csv' ORDER BY v"
    assert cli(["sql", query, "--output", f"{bucket}/out.csv"]) == 0
    assert state(f"{bucket}/out.csv") == ["a", "b"]
    assert cli(["sql", query, "--output", f"{bucket}/out.csv"]) == 1
    assert "--if-exists replace" in capsys.readouterr().err
    assert cli(["sql", query, "--output", "s3://key:hush@bucket/out.csv"]) == 2
    assert "hush" not in capsys.readouterr().err


# ---- which URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket/out", "credentials in it"),
        ("s3://key:sec/ret@bucket/out", "credentials in it"),
        ("abfs://c@account.dfs.core.windows.net/out?sv=1&sig=secret", "credentials in it"),
        ("https://example.org/out", "can only be read"),
        ("sftp://host/out", "not an object store"),
        ("simplecache::s3://bucket/out", "without `::`"),
        ("s3://bucket", "whole bucket"),
        ("s3://bucket/", "whole bucket"),
        ("s3://bucket/o*t", r"can't have '\*'"),
        ("s3://bucket/a//b", "empty, `.` or `..`"),
        ("s3://bucket/../b", "empty, `.` or `..`"),
        ("file://host/out", "three slashes"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        sink_spec(url, "csv")
    assert "secret" not in str(caught.value)
    assert "sec/ret" not in str(caught.value)


def test_the_root_of_a_store_without_buckets() -> None:
    for url in ("memory://out.csv", "memory://out"):
        for run in ("r1", "r2"):
            write_all(url, [[rows("a")]], format="csv", if_exists="replace", run=run)
            assert state(url) == ["a"]
    memory = fsspec.filesystem("memory")
    (new,) = objects("memory://") - {"out.csv", f"out/{MANIFEST}"}
    assert new.startswith("out/part-r2-00000-")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def test_urls_that_are_taken() -> None:
    for url in (
        "s3://bucket/out",
        "gs://bucket/out/",
        "abfs://container@account.dfs.core.windows.net/out.csv",
        "s3://arn:aws:s3:us-west-2:1:accesspoint/mine/out",
    ):
        spec = sink_spec(url, "csv")
        assert spec.path == url
        assert pickle.loads(pickle.dumps(spec)) == spec
        assert spec.is_folder is not url.endswith(".csv")
    assert sink_spec("file:///tmp/a%20b", "csv").path == "/tmp/a b"


def test_stores_that_are_not_there(s3: Callable[[], str]) -> None:
    for url, kind, message in (
        ("oss://bucket/out", ConfigError, "pip install ossfs"),
        ("nosuch://bucket/out", ConfigError, "nosuch"),
        ("s3://no-such-bucket/out", SinkError, "no such bucket"),
    ):
        with pytest.raises(kind, match=message):
            open_commit(sink_spec(url, "csv"), "r1").prepare()


def test_only_urls_import_fsspec(tmp_path: Path) -> None:
    code = f"""
import sys, pyarrow as pa, mmflow as mf
mf.from_arrow(pa.table({{"v": [1]}})).write("{tmp_path}/out")
assert "fsspec" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
