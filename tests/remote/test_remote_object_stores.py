"""S3, Google Cloud Storage and Azure: read, listed, written to, locked and changed alike, each on a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.errors import SinkError, SourceChangedError, SourceError
from mmflow.remote.opening import open_file, read_identities
from mmflow.remote.options import RemoteOptions
from mmflow.storage.object_store import open_store
from tests.runs.faulted_servers import Trouble, s3_server

ROWS = 20_000
_CSV = b"k,text\n" + b"".join(b"%d,%s\n" % (n, b"text " * (n % 13)) for n in range(ROWS))


@pytest.fixture(scope="module", params=["s3", "gcs", "azure"])
def folder(request: pytest.FixtureRequest) -> str:
    """URL of a bucket or container of its own."""
    make: Callable[[], str] = request.getfixturevalue(request.param)
    return make()


def _put(url: str, data: bytes) -> None:
    open_store(url).write(url, data)


def test_the_rows_of_files_globs_and_folders(folder: str, tmp_path: Path) -> None:
    _put(f"{folder}/logs/a.csv", _CSV)
    _put(f"{folder}/logs/b c=1%.csv", _CSV)
    with mf.Session(cache_dir=tmp_path, workers=2, shard_size="64KiB") as session:
        one = session.read(f"{folder}/logs/a.csv").to_arrow()
        assert one["k"].to_pylist() == list(range(ROWS))
        assert set(one["text"].to_pylist()) == {"text " * n for n in range(1, 13)} | {None}
        query = f"SELECT count(*) AS n, sum(k) AS s FROM '{folder}/logs/*.csv'"
        expected = [{"n": 2 * ROWS, "s": ROWS * (ROWS - 1)}]
        assert session.sql(query).to_dicts() == expected
        assert session.read(f"{folder}/logs").to_arrow().num_rows == 2 * ROWS
        assert session.read(f"{folder}/logs/a.csv").limit(3).to_arrow().num_rows == 3
        with pytest.raises(SourceError, match=r"no such file or folder: \w+://.*/logs/z\.csv"):
            session.read(f"{folder}/logs/z.csv")
        with pytest.raises(SourceError, match=r"no files at \w+://.*/logs/\*\.ndjson"):
            session.read(f"{folder}/logs/*.ndjson")


def test_outputs_are_committed_appended_and_replaced(folder: str) -> None:
    out = f"{folder}/out"
    dataset = mf.from_arrow(pa.table({"year": [2023, 2024, 2024], "v": [1, 2, 3]}))
    assert dataset.write_parquet(out, partition_by="year").files == 2
    assert mf.read(out).filter(mf.col("year") == 2024).sort("v").to_dicts() == [
        {"v": 2, "year": 2024},
        {"v": 3, "year": 2024},
    ]
    with pytest.raises(SinkError, match="exists"):
        dataset.write_parquet(out, partition_by="year")
    dataset.write_parquet(out, partition_by="year", if_exists="append")
    assert mf.read(out).to_arrow().num_rows == 6
    dataset.limit(1).write_parquet(out, partition_by="year", if_exists="replace")
    assert mf.read(out).to_dicts() == [{"v": 1, "year": 2023}]
    dataset.write_csv(f"{folder}/one.csv")
    dataset.write_csv(f"{folder}/one.csv", if_exists="replace")
    assert mf.read(f"{folder}/one.csv").to_arrow().num_rows == 3
    left = {
        url[len(folder) :] for url in open_store(folder).find(folder) if "_mmflow/" in url or "lock" in url
    }
    assert left == set()


def test_a_lock_is_created_once(folder: str) -> None:
    store = open_store(folder)
    assert store.exclusive
    store.create(f"{folder}/lock.json", b"first")
    with pytest.raises(OSError) as caught:
        store.create(f"{folder}/lock.json", b"second")
    assert isinstance(caught.value, FileExistsError) or "PreconditionFailed" in repr(caught.value.__cause__)
    assert store.read(f"{folder}/lock.json") == b"first"


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(folder: str, tmp_path: Path) -> None:
    url = f"{folder}/changing.csv"
    _put(url, _CSV)
    (identity,) = read_identities([url])
    with open_file(url, expected=identity, remote_options=RemoteOptions(cache_dir=str(tmp_path))) as file:
        assert file.window(0, 6).buffer.to_pybytes() == b"k,text"
        _put(url, _CSV.replace(b"text \n", b"TEXT \n"))
        with pytest.raises(SourceChangedError):
            file.window(200_000, 6)
    (other,) = read_identities([url])
    assert other != identity


@pytest.mark.parametrize("trouble", [Trouble("slow down", 2, 3), Trouble("cut", 0, 3), Trouble("drop", 3, 3)])
def test_an_object_store_in_trouble_gives_the_same_rows(tmp_path: Path, trouble: Trouble) -> None:
    # botocore repeats five times what mmflow would repeat: here nothing, so that the test sees mmflow's own.
    once = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
    with s3_server() as server, mf.Session(cache_dir=tmp_path, workers=2, shard_size="64KiB") as session:
        fsspec.filesystem("s3").makedirs("soak", exist_ok=True)
        _put("s3://soak/a.csv", _CSV)
        dataset = session.read_csv("s3://soak/a.csv", storage_options=once)
        server.begin(trouble)
        assert dataset.to_arrow()["k"].to_pylist() == list(range(ROWS))
        assert server.suffered == trouble.count
