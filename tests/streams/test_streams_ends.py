"""Ends of streams: early ones, second readers, what can't be read so, and how much is kept meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from tests.streams.pipes import Producer, produced

_LINE = b"1,some text that makes a line of forty-odd bytes\n"
_BLOCK = _LINE * 1000


def _endless() -> itertools.chain[bytes]:
    return itertools.chain([b"n,text\n"], itertools.repeat(_BLOCK))


def _mmflow(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mmflow", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def test_a_limit_ends_the_producer() -> None:
    with produced(_endless()) as pipe:
        rows = mf.read_csv(pipe.path).limit(5).to_arrow()
        pipe.thread.join(5)
        assert isinstance(pipe.ended, BrokenPipeError)
    assert rows.num_rows == 5


def test_rows_that_nobody_reads_hold_up_the_producer() -> None:
    with mf.Session(memory="64MiB", workers=2) as session, produced(_endless()) as pipe:
        batches = session.read_csv(pipe.path).iter_batches()
        next(batches)
        before = -1
        while before != pipe.written:
            before = pipe.written
            time.sleep(0.3)
        assert pipe.written < 64 << 20
        del batches
        pipe.thread.join(5)
        assert isinstance(pipe.ended, BrokenPipeError)


def test_rows_come_before_the_end_of_a_slow_stream() -> None:
    done = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"one\ntwo\n"
        done.wait(60)
        yield b"the end\n"

    with produced(slowly()) as pipe:
        lines = (
            line for b in mf.read_text(pipe.path).iter_batches() for line in b.column("line").to_pylist()
        )
        assert [next(lines), next(lines)] == ["one", "two"]  # a batch a line, where the pipe gives them apart
        assert not done.is_set()
        done.set()
        assert list(lines) == ["the end"]


def test_a_stream_is_read_once() -> None:
    with produced(b"a,b\n1,2\n") as pipe:
        read = mf.read(pipe.path)
        assert mf.read(pipe.path).count() == 1  # the head does not count
        for again in (read.count, lambda: mf.read(pipe.path).count()):
            with pytest.raises(mf.SourceError, match="a stream is read once: save it to a file first"):
                again()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            "SELECT * FROM read_csv('{0}') a JOIN read_csv('{0}') b ON a.a = b.a",
            "reads .* 2 times .a join with itself",
        ),
        ("SELECT * FROM '{0}' UNION ALL SELECT * FROM '{0}'", "reads .* 2 times"),
        ("SELECT * FROM '{0}' WHERE a > (SELECT avg(a) FROM '{0}')", "reads .* 2 times"),
    ],
)
def test_two_scans_are_refused(query: str, words: str) -> None:
    with produced(b"a,b\n1,2\n") as pipe, pytest.raises(mf.PlanError, match=words):
        mf.sql(query.format(pipe.path)).to_arrow()


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_workers_elsewhere_can_t_read_it(engine: Any) -> None:
    words = f"workers of engine {engine} can't read it: use the local engine"
    with produced(b"a,b\n1,2\n") as pipe, mf.Session(engine=engine) as session:
        read = session.read(pipe.path)
        with pytest.raises(mf.ConfigError, match=words):
            read.count()


@pytest.mark.parametrize(
    ("format", "options"),
    [("parquet", {}), ("npy", {}), ("records", {"layout": [{"name": "a", "type": "int8", "offset": 0}]})],
)
def test_formats_without_an_order_are_refused(format: str, options: Any) -> None:
    with (
        produced(b"PAR1 and so on") as pipe,
        pytest.raises(mf.SourceError, match=r"it is a stream, and .* is not read"),
    ):
        mf.read(pipe.path, format, **options)


def test_a_zip_archive_is_refused() -> None:
    with (
        produced(b"PK\3\4 and so on") as pipe,
        pytest.raises(mf.SourceError, match="list of files is at its end"),
    ):
        mf.read(pipe.path)


def test_what_needs_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with produced(b"a,b\n1,2\n") as pipe:
        read = mf.read(pipe.path)
        with pytest.raises(mf.PlanError, match="is a stream, which is read once"):
            read.take([0])
        with pytest.raises(mf.ConfigError, match="is read alone"):
            mf.read([pipe.path, str(tmp_path / "a.csv")])
        assert "Dataset(" in repr(read)
        info = read.source_info()
        assert info.reason.startswith("a stream")
        assert read.to_arrow().to_pylist() == [{"a": 1, "b": 2}]


def test_a_recorded_run_of_a_stream_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        "sql = 'SELECT sum(n) AS s FROM t'\n[sources.t]\npath = '-'\nformat = 'csv'\n"
    )

    def run(*more: str, data: bytes) -> str:
        with _mmflow("run", *more, "--runs-dir", "runs", cwd=tmp_path, stdin=subprocess.PIPE) as started:
            return started.communicate(data, timeout=60)[1].decode()

    assert "expected 2 fields" in run("job.toml", "--output", "a/", data=b"n,text\n" + _BLOCK + b"bad\n")
    (name,) = (path.name for path in (tmp_path / "runs").iterdir() if path.is_dir())
    found = run("--resume", name, data=b"n,text\n" + _BLOCK)
    assert "- is a stream, and what the run read of it does not come again" in found
    assert "start a new run" in found


def test_a_named_pipe_is_opened_by_each_reader(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for number in (1, 2):
        writing = threading.Thread(target=path.write_text, args=(f"a,b\n{number},2\n",))
        writing.start()
        rows = mf.read_csv(path).select("a", "_file").to_arrow().to_pylist()
        writing.join()
        assert rows == [{"a": number, "_file": str(path)}]


def test_the_head_waits_for_nobody_when_it_is_interrupted() -> None:
    read, write = os.pipe()
    with _mmflow("sql", "SELECT count(*) FROM '-'", stdin=read) as run:
        time.sleep(1.5)
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, message = run.communicate(timeout=20)
    assert time.monotonic() - began < 3
    assert b"interrupted" in message
    for end in (read, write):
        os.close(end)


def test_a_file_that_is_a_descriptor_is_read_as_that_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"n,text\n" + _BLOCK)
    with file.open("rb") as opened:
        rows = mf.read(f"/dev/fd/{opened.fileno()}").select("_file").limit(1).to_arrow()
        assert rows["_file"].to_pylist() == [str(file)]
        os.lseek(opened.fileno(), len(b"n,text\n"), os.SEEK_SET)  # unless a part of it was read before
        rest = mf.read_csv(f"/dev/fd/{opened.fileno()}", header=False)
        assert rest.count() == 1000


def test_head_ends_the_command_and_its_producer() -> None:
    made = Producer(_endless())
    with _mmflow("sql", "SELECT n FROM '-'", stdin=int(made.path.rpartition("/")[2])) as run:
        made.thread.start()
        assert run.stdout is not None
        assert run.stdout.readline() == b"n\n"
        run.stdout.close()
        assert run.wait(20) in (0, 141, -signal.SIGPIPE)
    made.close()
    assert isinstance(made.ended, BrokenPipeError)


def test_a_long_stream_takes_no_more_memory_than_it_may() -> None:
    code = """
import mmflow as mf
rows = mf.Session(memory="64MiB", workers=2).read_csv("-", schema="n:int64,text:string")
print(rows.filter(mf.col("n") == 1).count(), open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
    pieces = itertools.chain([b"n,text\n"], itertools.repeat(_BLOCK, 4000))
    with produced(pieces) as pipe:
        descriptor = int(pipe.path.rpartition("/")[2])
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=descriptor, stdout=subprocess.PIPE, check=True
        )
    rows, peak = map(int, done.stdout.split())
    assert rows == 4_000_000
    assert peak >> 10 < 64 + 190  # with the interpreter and its libraries
