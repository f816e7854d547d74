"""Queries over remote files: the rows of the local ones, and few bytes where few are needed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.errors import ConfigError, SourceChangedError, SourceError, SourceUnreachableError
from mmflow.remote.filesystem import open_store
from mmflow.remote.opening import open_file, read_identities
from tests.remote.web import Web, serving

ROWS = 6_000
LAYOUT = [{"name": "k", "type": "int64", "offset": 0}, {"name": "t", "type": "char[24]", "offset": 8}]
FILES: dict[str, dict[str, Any]] = {
    "a.csv": {},
    "a.csv.gz": {},
    "a.ndjson": {},
    "a.log": {},
    "a.dat": {"format": "records", "layout": LAYOUT},
    "a.arrow": {},
    "a.arrows": {},
    "a.npy": {},
    "f.npy": {},
    "a.parquet": {},
}


def _table(rows: int = ROWS) -> pa.Table:
    numbers = np.arange(rows)
    texts = [f'the row {i},\n "{"long " * (i % 17)}"' for i in range(rows)]
    return pa.table({"k": numbers, "v": np.sqrt(numbers), "t": texts})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One table in each format, of a few hundred KB."""
    folder = tmp_path_factory.mktemp("remote")
    table = _table()
    rows = table.to_pylist()
    csv = "k,v,t\n" + "".join(f'{r["k"]},{r["v"]},"{r["t"].replace(chr(34), chr(34) * 2)}"\n' for r in rows)
    (folder / "a.csv").write_text(csv)
    (folder / "a.csv.gz").write_bytes(gzip.compress(csv.encode()))
    (folder / "a.ndjson").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "a.log").write_text("".join(f"{r['k']} {'log ' * (r['k'] % 40)}\n" for r in rows))
    records = np.zeros(ROWS, [("k", "<i8"), ("t", "S24")])
    records["k"], records["t"] = np.arange(ROWS), [f"text {i}".encode() for i in range(ROWS)]
    (folder / "a.dat").write_bytes(records.tobytes())
    with pa.OSFile(str(folder / "a.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=500)
    with pa.OSFile(str(folder / "a.arrows"), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=500)
    np.save(folder / "a.npy", np.random.default_rng(1).random((ROWS, 6)))
    np.save(folder / "f.npy", np.asfortranarray(np.random.default_rng(2).random((ROWS, 6))))
    pq.write_table(table, folder / "a.parquet", row_group_size=700)
    return folder


@pytest.fixture(scope="module")
def web(files: Path) -> Iterator[Web]:
    with serving(files) as server:
        yield server


def session(folder: Path, **settings: Any) -> mf.Session:
    return mf.Session(cache_dir=folder / "cache", workers=2, memory="256MiB", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shard_size": 12288, "cache_size": "128KiB"},
        {"shard_size": "100KiB", "cache_size": "256KiB", "io": "pread"},
        {"shard_size": "64KiB", "cache_size": 0},
    ],
    ids=["default", "pages", "pread", "no-cache"],
)
@pytest.mark.parametrize("name", FILES)
def test_rows_are_those_of_the_local_file(
    web: Web, files: Path, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    local = mf.read(str(files / name), **FILES[name])
    with session(tmp_path, **settings) as here:
        remote = here.read(f"{web.url}/{name}", **FILES[name])
        assert remote.schema == local.schema
        assert remote.to_arrow().equals(local.to_arrow())
        column = local.schema.names[0]
        assert remote.select(column).to_arrow().equals(local.select(column).to_arrow())


def test_a_server_that_fails_gives_the_same_rows(web: Web, files: Path, tmp_path: Path) -> None:
    try:
        web.trouble = lambda _path, number: (None, None, 500, None, "cut")[number % 5]
        with session(tmp_path, shard_size="32KiB") as here:
            got = here.read(f"{web.url}/a.csv").to_arrow()
    finally:
        web.trouble = lambda _path, _number: None
    assert got.equals(mf.read(str(files / "a.csv")).to_arrow())


# ---- few bytes -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Files of about 20 MB."""
    folder = tmp_path_factory.mktemp("large")
    numbers = np.random.default_rng(1).random(320_000)
    table = pa.table({f"c{i}": numbers + i for i in range(8)})
    pq.write_table(
        table, folder / "a.parquet", row_group_size=80_000, compression="none", use_dictionary=False
    )
    with pa.OSFile(str(folder / "a.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=80_000)
    np.save(folder / "a.npy", numbers.repeat(8))
    line = b"".join(
        b"%06d,some text that fills the line up to its end,%d\n" % (i, i * i) for i in range(5000)
    )
    (folder / "a.csv").write_bytes(b"k,t,v\n" + line * 64)
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize(("name", "most"), [("a.csv", 0.5), ("a.npy", 0.5)])
def test_a_limit_fetches_little(large: Web, tmp_path: Path, name: str, most: float) -> None:
    large.forget()
    with session(tmp_path, shard_size="1GiB") as here:
        assert here.read(f"{large.url}/{name}").limit(10).to_arrow().num_rows == 10
    assert large.sent < most * (large.folder / name).stat().st_size


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_column_is_fetched_without_the_others(large: Web, tmp_path: Path, name: str) -> None:
    size = (large.folder / name).stat().st_size
    large.forget()
    with session(tmp_path) as here:
        source = here.read(f"{large.url}/{name}")
        got = source.select("c5").to_arrow()
        assert large.sent < 0.25 * size
        assert got.equals(mf.read(str(large.folder / name)).select("c5").to_arrow())
        large.forget()
        source.select("c5").to_arrow()
        assert large.sent == 0
        everything = source.to_arrow()
        assert large.sent < size
    assert everything.equals(mf.read(str(large.folder / name)).to_arrow())


def test_planning_reads_samples_only(large: Web, tmp_path: Path) -> None:
    large.forget()
    with session(tmp_path) as here:
        plan = here.read(f"{large.url}/a.csv").explain()
    assert large.sent < 1 << 20
    assert "remote, paged" in plan


def test_rows_by_number_fetch_their_blocks(large: Web, tmp_path: Path) -> None:
    rows = [5, 300_000, 17]
    with session(tmp_path) as here:
        for name, most in [("a.npy", 0.2), ("a.csv", 1.5), ("a.parquet", 1.1), ("a.arrow", 1.1)]:
            local = mf.read(str(large.folder / name))
            large.forget()
            remote = here.read(f"{large.url}/{name}")
            assert remote.take(rows).equals(local.take(rows))
            assert large.sent < most * (large.folder / name).stat().st_size
            assert remote[-3:].equals(local[-3:])
            large.forget()
            assert remote.take(rows).equals(local.take(rows))
            assert large.sent == 0


# ---- the whole surface ---------------------------------------------------------------------------------


def test_a_run_counts_what_it_fetched_and_says_how(large: Web, tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import mmflow as mf\n\n\n@mf.job\ndef count(session: mf.Session, *, source: str) -> mf.Dataset:\n"
        '    return session.read(source).group_by().agg(mf.functions.count(mf.lit(1)).alias("n"))\n'
    )
    tool = str(Path(sys.executable).with_name("mmflow"))
    url = f"{large.url}/a.csv?X-Amz-Signature=not-to-be-shown"
    command = [tool, "run", str(job), "--source", url, "--json", "--cache-dir", str(tmp_path / "c"), "--runs-dir", str(tmp_path / "runs"), "--output", str(tmp_path / "out.csv")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "remote, paged through" in done.stdout + done.stderr
    lines = [
        line for path in (tmp_path / "runs").glob("*/events/*") for line in path.read_text().splitlines()
    ]
    events = [json.loads(line) for line in lines]
    fetched = sum(e["fetched"] for e in events if e["event"] == "task_done" and "fetched" in e)
    assert fetched > 0.8 * (large.folder / "a.csv").stat().st_size
    leaks = [
        p for p in (tmp_path / "runs").rglob("*") if p.is_file() and b"not-to-be-shown" in p.read_bytes()
    ]
    assert not leaks
    shown = subprocess.run([tool, "inspect", url, "--cache-dir", str(tmp_path / "c"), "--json"],
                           capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    facts = json.loads(shown.stdout)
    assert facts["format"] == "csv"
    assert facts["in_cache"] >= facts["bytes"]
    assert facts["reason"].startswith("remote, paged through")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    path = tmp_path / "files" / "a.csv"
    path.write_text("k\n" + "1\n" * 400_000)
    with serving(tmp_path / "files") as web, session(tmp_path, shard_size="64KiB") as here:
        batches = here.read_csv(f"{web.url}/a.csv", schema={"k": "int64"}).iter_batches()
        next(batches)
        path.write_text("k\n" + "2\n" * 400_000)
        os.utime(path, (1_000_000_000, 1_000_000_000))  # whatever the clock's ticks are
        with pytest.raises(
            SourceChangedError, match=r"a\.csv changed while it was being read: it was replaced"
        ):
            list(batches)
        assert here.sql(f"SELECT sum(k) AS s FROM '{web.url}/a.csv'").to_arrow()["s"].to_pylist() == [800_000]


@pytest.mark.parametrize(
    ("url", "options", "error", "message"),
    [
        (
            "oss://bucket/a.csv",
            {},
            ConfigError,
            r"oss:// needs a package that can't be imported .*pip install ossfs",
        ),
        ("gopher://a/b.csv", {}, ConfigError, r"can't read gopher://a/b.csv"),
        ("s3://key:secret@bucket/a.csv", {}, ConfigError, r"credentials in it"),
        ("simplecache::s3://bucket/a.csv", {}, ConfigError, r"without `::`"),
        (
            "memory://no/such.csv",
            {},
            SourceError,
            r"no such file or folder: memory://no/such.csv; .*the process that",
        ),
        ("memory://no/such/*.csv", {}, SourceError, r"no files at memory://no/such/\*.csv"),
        (
            "s3://b/a.csv",
            {"storage_options": {"secret": "x"}},
            ConfigError,
            r"can't hold 'secret'.*FSSPEC_S3_KEY",
        ),
        (
            "s3://b/a.csv",
            {"storage_options": {"client_kwargs": {"aws_access_key_id": "x"}}},
            ConfigError,
            r"access_key",
        ),
        ("s3://b/a.csv", {"storage_options": "{"}, ConfigError, r"not JSON"),
    ],
)
def test_urls_that_nothing_can_read(
    tmp_path: Path, url: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with session(tmp_path) as here, pytest.raises(error, match=message):
        here.read_csv(url, **options)


# ---- folders and globs ---------------------------------------------------------------------------------


def test_folders_and_globs_in_memory(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name, value in {
        "day=1/a.csv": 1,
        "day=2/b.csv": 2,
        "day=2/_hidden.csv": 4,
        ".x/c.csv": 8,
        "d.txt": 16,
    }.items():
        store.pipe_file(f"memory://found/{name}", f"v\n{value}\n".encode())
    with session(tmp_path) as here:
        for url, total in {
            "memory://found/day=*/*.csv": 3,
            "memory://found/**/*.csv": 3,
            "memory://found/day=2": 2,
            "memory://found": 19,
            "memory://found/day=2/_*.csv": 4,
        }.items():
            (got,) = here.read_csv(url, hive=False).to_arrow().to_pydict().values()
            assert sum(got) == total, url
    store.rm("memory://found", recursive=True)


def test_an_object_store(s3: Callable[[], str], files: Path, tmp_path: Path) -> None:
    bucket = s3()
    store = fsspec.filesystem("s3")
    table = _table()
    for year in (2023, 2024):
        for part in range(10):  # so many that they are listed
            path = tmp_path / "part.parquet"
            pq.write_table(table.slice(part * 600, 600), path)
            store.put_file(str(path), f"{bucket}/sales/year={year}/part-{part}.parquet")
    store.put_file(str(files / "a.csv"), f"{bucket}/logs/a.csv")
    with session(tmp_path, shard_size="64KiB") as here:
        sales = here.read(f"{bucket}/sales")
        got = sales.filter(mf.col("year") == 2024).select("k", "t").sort("k").to_arrow()
        assert got["k"].to_pylist() == list(range(ROWS))
        query = f"SELECT count(*) AS n, max(k) AS k FROM '{bucket}/logs/*.csv'"
        assert here.sql(query).to_arrow().to_pylist() == [{"n": ROWS, "k": ROWS - 1}]
        # Written and read in one session, through one cache.
        here.read(f"{bucket}/logs/a.csv").write_parquet(f"{bucket}/out")
        assert here.read(f"{bucket}/out").to_arrow().num_rows == ROWS
        with pytest.raises(SourceError, match=r"no such file or folder: s3://.*/logs/b\.csv"):
            here.read(f"{bucket}/logs/b.csv")
        source = here.read(f"{bucket}/logs/a.csv", storage_options={"version_aware": False})
        store.pipe_file(f"{bucket}/logs/a.csv", b"k,v,t\n" + b"7,1.0,x\n" * 20_000)
        assert set(source.to_arrow()["k"].to_pylist()) == {7}
        (identity,) = read_identities([f"{bucket}/logs/a.csv"])
        store.pipe_file(f"{bucket}/logs/a.csv", b"k,v,t\n" + b"8,1.0,x\n" * 20_000)
        with (
            open_file(
                f"{bucket}/logs/a.csv", expected=identity, remote_options=here.settings.remote_options
            ) as file,
            pytest.raises(SourceChangedError, match="it was replaced"),
        ):
            file.window(100_000, 100)


def test_a_store_that_drops_every_connection_is_asked_for_seconds_not_minutes() -> None:
    """s3fs repeats five times what botocore repeats, and mmflow asks five times: 250 requests, for minutes."""
    server = socket.create_server(("127.0.0.1", 0))
    asked = 0

    def drop() -> None:
        nonlocal asked
        with contextlib.suppress(OSError):  # the test has ended
            while True:
                connection, _ = server.accept()
                asked += 1
                connection.close()

    with server:
        thread = threading.Thread(target=drop, daemon=True)
        thread.start()
        store = open_store(
            "s3://bucket/file.csv",
            json.dumps({
                "endpoint_url": f"http://127.0.0.1:{server.getsockname()[1]}", "key": "none", "secret": "none",
                "config_kwargs": {"retries": {"total_max_attempts": 2}},
            }),
        )  # fmt: skip
        with pytest.raises(SourceUnreachableError):
            store.look("s3://bucket/file.csv")
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert 2 <= asked <= 4, "twice each for the object and for a folder of its name"
