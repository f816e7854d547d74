"""Errors of users through the real command: one message, exit code 1 or 2, no traceback, no partial output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fork_server import run_mmflow

MMFLOW = str(Path(sys.executable).with_name("mmflow"))


def mmflow(*arguments: str | Path, code: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; `code` is the exit code it must give."""
    done = run_mmflow(*map(str, arguments))
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("name,age\nAda,36\nGrace,85\n")
    return path


def rows(done: subprocess.CompletedProcess[str]) -> object:
    return json.loads(done.stdout)


def sql(query: str, *more: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    return mmflow("sql", query, "--format", "json", *more, code=code)


# ---- small and odd files ---------------------------------------------------------------------


def test_one_line(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("a,b\n1,2")
    assert rows(sql(f"SELECT * FROM '{path}'")) == [{"a": 1, "b": 2}]


def test_header_only(tmp_path: Path) -> None:
    path = tmp_path / "header.csv"
    path.write_text("a,b\n")
    assert rows(sql(f"SELECT a FROM '{path}'")) == []
    assert rows(sql(f"SELECT count(*) AS n FROM '{path}'")) == [{"n": 0}]


def test_empty_file_without_a_schema_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()
    done = sql(f"SELECT * FROM '{path}'", code=1)
    assert "empty" in done.stderr
    assert "schema" in done.stderr


def test_empty_file_with_a_schema_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()
    done = sql("SELECT count(*) AS n FROM t", "--table", f"t={path}", "--opt", "t.schema=a:int64")
    assert rows(done) == [{"n": 0}]


# ---- wrong names -----------------------------------------------------------------------------


def test_missing_file_suggests_a_near_one(people: Path) -> None:
    done = mmflow("sql", f"SELECT * FROM '{people.with_name('peple.csv')}'")
    assert done.returncode in (1, 2)
    assert "people.csv" in done.stderr


def test_wrong_column_suggests_a_near_one(people: Path) -> None:
    done = mmflow("sql", f"SELECT nmae FROM '{people}'")
    assert done.returncode in (1, 2)
    assert "name" in done.stderr


def test_wrong_sql_says_where(people: Path) -> None:
    done = mmflow("sql", f"SELECT name FRM '{people}'")
    assert done.returncode in (1, 2)
    assert "Line: 1" in done.stderr or "line 1" in done.stderr


def test_wrong_option_suggests_a_near_one(people: Path) -> None:
    done = mmflow("sql", "SELECT * FROM t", "--table", f"t={people}", "--opt", "t.delimitr=;", code=2)
    assert "delimiter" in done.stderr


def test_wrong_delimiter_is_noticed(people: Path) -> None:
    done = mmflow(
        "sql", "SELECT name FROM t", "--table", f"t={people}",
        "--opt", "t.delimiter=;", "--opt", "t.schema=name:string,age:int64",
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "delimiter" in done.stderr


# ---- wrong data ------------------------------------------------------------------------------


def test_a_type_that_stops_fitting_at_the_last_row_is_located(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    lines = ["id,v"] + [f"{i},{i}" for i in range(50_000)] + ["50000,x7"]
    path.write_text("\n".join(lines) + "\n")
    done = sql(
        "SELECT sum(v) AS s FROM t", "--table", f"t={path}",
        "--opt", "t.schema=id:int64,v:int64", "--shard-size", "4096", code=1,
    )  # fmt: skip
    assert "x7" in done.stderr
    assert "late.csv" in done.stderr
    assert "50,002" in done.stderr  # the line
    offset = path.read_bytes().index(b"50000,x7")
    assert f"{offset:,}" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("policy", ["null", "skip", "quarantine"])
def test_bad_records_by_policy(tmp_path: Path, policy: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("id,v\n1,10\n2,oops\n3,30\n4\n5,50\n")
    done = sql(
        "SELECT count(*) AS n, sum(v) AS s FROM t", "--table", f"t={path}",
        "--opt", "t.schema=id:int64,v:int64", "--opt", f"t.on_bad_record={policy}",
    )  # fmt: skip
    assert rows(done) == [{"n": 5 if policy == "null" else 3, "s": 90}]
    assert "2" in done.stderr  # number of quarantined records
    assert "bad" in done.stderr.lower() or "dropped" in done.stderr.lower()


# ---- files that change -----------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.csv"
    block = "".join(f"{i},{i % 97},some text to make the line longer {i}\n" for i in range(100_000))
    with path.open("w") as file:
        file.write("id,v,s\n")
        for _ in range(12):
            file.write(block)
    return path


GATED = '''
"""Says when its first rows are in hand, and then waits before it takes more."""

import time
from pathlib import Path

import mmflow as mf


@mf.job
def gated(session: mf.Session, *, source: str, started: str, go: str) -> mf.Dataset:
    """Rows by text."""

    def wait(batch):
        Path(started).touch()
        while not Path(go).exists():
            time.sleep(0.01)
        return batch

    read = session.read_csv(source, schema="id:int64,v:int64,s:string")
    return read.map_batches(wait, schema=read.schema).group_by("s").agg(mf.functions.count().alias("n")).sort("n", "s").limit(3)
'''


def _start_gated(path: Path, *arguments: str, **more: object) -> tuple[subprocess.Popen[str], Path]:
    """A run whose first tasks hold their rows and wait for a file; that file's path."""
    folder = path.parent / "gate"
    folder.mkdir()
    (folder / "gated.py").write_text(GATED)
    started, go = folder / "started", folder / "go"
    process = subprocess.Popen(
        [MMFLOW, "run", str(folder / "gated.py"), "--source", str(path), "--started", str(started), "--go", str(go),
         "--shard-size", "1MiB", "--workers", "2", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,  # type: ignore[call-overload]  # keyword arguments of any name
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not started.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process, go


def _while_running(path: Path, change: Callable[[], None], *arguments: str) -> tuple[int, str, str]:
    process, go = _start_gated(path, *arguments)
    change()
    go.touch()
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.parametrize("io", ["mmap", "pread"])
@pytest.mark.parametrize("change", ["shrink", "grow", "vanish", "rewrite"])
def test_a_file_that_changes_while_it_is_read(big: Path, change: str, io: str) -> None:
    def act() -> None:
        if change == "shrink":
            os.truncate(big, 5_000)
        elif change == "grow":
            with big.open("a") as file:
                file.write("1,2,3\n")
        elif change == "vanish":
            big.unlink()
        else:
            other = big.with_suffix(".new")
            other.write_text("id,v,s\n1,1,x\n")
            other.rename(big)

    code, out, err = _while_running(big, act, "--io", io)
    assert "Traceback" not in err
    assert code == 1, (code, out, err)
    assert out == ""
    assert "big.csv" in err
    assert "changed" in err or "vanished" in err or "no such" in err.lower() or "gone" in err


# ---- permissions, space, destinations ----------------------------------------------------------


@pytest.mark.root
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to give up root's rights"
)
def test_files_and_folders_without_permission(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "x.csv").write_text("a\n1\n")
    for path in (secret, closed):
        os.chown(path, 65534, 65534)
        path.chmod(0o600)
    for target in (secret, closed):
        done = subprocess.run(
            ["setpriv", "--bounding-set=-all", MMFLOW, "sql", f"SELECT * FROM '{target}'"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == 1, done.stderr
        assert "ermission" in done.stderr
        assert target.name in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("form", ["csv", "parquet", "arrow", "ndjson"])
def test_disk_full_at_the_sink(big: Path, small_disk: Path, form: str) -> None:
    done = mmflow(
        "sql", "SELECT * FROM t", "--table", f"t={big}", "--opt", "t.schema=id:int64,v:int64,s:string",
        "--output", small_disk / f"out.{form}", code=1,
    )  # fmt: skip
    assert "space" in done.stderr
    assert [p for p in small_disk.rglob("*") if p.is_file()] == []


def test_output_that_exists_is_refused(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("precious")
    done = mmflow("sql", f"SELECT * FROM '{people}'", "--output", out)
    assert done.returncode in (1, 2)
    assert "--if-exists" in done.stderr
    assert out.read_text() == "precious"
    mmflow("sql", f"SELECT * FROM '{people}'", "--output", out, "--if-exists", "replace", code=0)
    assert out.read_text().startswith("name,age\n") or out.read_text().startswith('"name","age"')


def test_a_source_is_never_a_destination(people: Path) -> None:
    before = people.read_bytes()
    done = mmflow("sql", f"SELECT * FROM '{people}'", "--output", people, "--if-exists", "replace")
    assert done.returncode in (1, 2)
    assert people.read_bytes() == before


# ---- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("resumable", ["true", "false"])
def test_ctrl_c_stops_within_a_second_and_leaves_nothing(big: Path, tmp_path: Path, resumable: str) -> None:
    out = tmp_path / "result"
    spill = tmp_path / "spill"
    spill.mkdir()
    process, go = _start_gated(
        big, "--output", str(out), "--resumable", resumable,
        env={**os.environ, "MMFLOW_SPILL_DIR": str(spill)},
    )  # fmt: skip
    go.touch()
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - start < 5  # a second on a free machine; tests share two cores
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not out.exists()
    assert list(spill.iterdir()) == []
    left = [p.name for p in tmp_path.iterdir() if p.name not in ("big.csv", "spill", "gate")]
    if resumable == "true":  # what it staged, to go on with
        assert all(name.startswith(".result.mmflow-") for name in left)
        assert "resume it: mmflow run --resume" in err
    else:
        assert left == []


def test_a_closed_pipe_is_no_error(big: Path) -> None:
    process = subprocess.Popen(
        [MMFLOW, "sql", "SELECT id FROM t", "--table", f"t={big}", "--opt", "t.schema=id:int64,v:int64,s:string",
         "--format", "csv"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    killer = threading.Timer(60, process.kill)
    killer.start()
    err = process.stderr.read()
    process.stderr.close()
    code = process.wait()
    killer.cancel()
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert code in (0, 141)
