"""Files on a disk that fails while they are read: right rows, or an error that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.errors import MmflowError, SourceChangedError
from tests.disk.disk import Disk

ROWS = 20_000
_TABLE = pa.table({"n": list(range(ROWS)), "t": [f"text {n}" for n in range(ROWS)]})


def _write(folder: Path, form: str) -> Path:
    path = folder / f"data.{form}"
    match form:
        case "csv":
            path.write_text("n,t\n" + "".join(f"{n},text {n}\n" for n in range(ROWS)))
        case "ndjson":
            path.write_text("".join(f'{{"n": {n}, "t": "text {n}"}}\n' for n in range(ROWS)))
        case "npy":
            np.save(path, np.arange(ROWS * 2))
        case "parquet":
            pq.write_table(_TABLE, path, row_group_size=2000)
        case "arrow":
            with pa.ipc.new_file(path, _TABLE.schema) as file:
                for batch in _TABLE.to_batches(2000):
                    file.write_batch(batch)
    return path


def _rows(session: mf.Session, path: Path) -> list[Any]:
    readers: dict[str, Any] = {
        "csv": session.read_csv, "ndjson": session.read_ndjson, "npy": session.read_npy,
        "parquet": session.read_parquet, "arrow": session.read_arrow,
    }  # fmt: skip
    rows: list[Any] = readers[path.suffix[1:]](str(path)).to_arrow().column(0).to_pylist()
    return rows


FORMS = ["csv", "ndjson", "npy", "parquet", "arrow"]


@pytest.mark.parametrize("io", ["mmap", "pread"])
@pytest.mark.parametrize("form", FORMS)
def test_a_byte_that_cant_be_read_is_an_error(disk: Disk, form: str, io: Any) -> None:
    path = _write(disk.path, form)
    session = mf.Session(io=io, workers=1, shard_size="64KiB")
    expected = _rows(session, path)
    for at in (path.stat().st_size // 2, path.stat().st_size - 1):
        rule = disk.fail("read", at=at)
        with pytest.raises(MmflowError) as caught:
            _rows(session, path)
        assert str(path) in str(caught.value)
        assert disk.hits(rule)
        disk.release(rule)
    assert _rows(session, path) == expected


@pytest.mark.parametrize("form", FORMS)
def test_short_reads_give_all_rows(disk: Disk, form: str) -> None:
    path = _write(disk.path, form)
    session = mf.Session(workers=1)
    expected = _rows(session, path)
    disk.direct()
    disk.shorten("read", 10_000)
    assert _rows(session, path) == expected


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_a_file_that_is_cut_short_or_grows_while_it_is_read_is_an_error(disk: Disk, io: Any) -> None:
    path = _write(disk.path, "csv")
    session = mf.Session(io=io, workers=1, shard_size="64KiB")
    for size in (path.stat().st_size // 2, path.stat().st_size + 4096):
        data = session.read_csv(str(path))
        batches = iter(data.iter_batches())
        next(batches)
        disk.resize(path, size)
        with pytest.raises(SourceChangedError, match=r"data\.csv"):
            for _ in batches:
                pass
        _write(disk.path, "csv")
