"""Files on a disk that fails while they are read: right rows, or an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.blocks import LocalStore, RunFolder, SharedStore, read_span
from mmflow.blocks.memfd import map_block, write_block
from mmflow.errors import EngineError, MmflowError, SourceChangedError
from mmflow.shm import tables as sharing
from tests.disk.disk import Disk, forgetful_disk

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


@pytest.fixture
def unmappable(tmp_path: Path) -> Iterator[Disk]:
    """A disk whose files can't be mapped, as on some file servers."""
    with forgetful_disk(tmp_path / "unmappable", maps_direct=False) as disk:
        disk.direct()
        yield disk


def test_blocks_on_a_disk_that_maps_no_files_are_read_and_tables_say_why_not(
    unmappable: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = unmappable
    for size in (0, 1000):  # at a time; 0: as much as is asked for
        if size:
            disk.shorten("read", size)
        local = LocalStore(0, RunFolder(disk.path, "local"))
        block = local.put(_TABLE.to_batches(3000), _TABLE.schema)
        assert local.on_disk(block)
        assert pa.Table.from_batches(local.get(block)) == _TABLE
        assert pa.ipc.open_stream(local.exported(block)).read_all() == _TABLE
        local.close()
        shared = SharedStore("shared", 0, disk.path, None)
        blocks = [pa.py_buffer(bytes([n]) * length) for n, length in ((1, 100), (2, 200_000), (3, 100))]
        path, spans = shared.put(blocks)
        assert [read_span(path, span) for span in spans] == blocks
        shared.close()
        fd, _ = write_block(
            _TABLE.to_batches(), _TABLE.schema, room=lambda _: False, spill_dir=str(disk.path)
        )
        assert pa.Table.from_batches(map_block(fd)) == _TABLE
    monkeypatch.setattr(sharing, "available_memory", lambda: 1 << 20)
    big = pa.table({"n": np.arange(1 << 20)})
    with sharing.share(big, spill_dir=disk.path) as handle:
        assert handle.on_disk
        with pytest.raises(
            EngineError, match=r"can't map .*\.table: its file system maps no files; set spill_dir"
        ):
            sharing.attach(handle)


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
