"""Checkpoints: where each block lies in its file, what is noticed when it is read, and what errors say."""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from mmflow.blocks import LocalStore, RunFolder
from mmflow.blocks.checkpoints import read_checkpoint, write_checkpoint
from mmflow.blocks.references import Checkpoint, CheckpointBlock
from mmflow.errors import BlockLostError, ConfigError, EngineError
from mmflow.formats.rejects import REPORTED
from mmflow.storage import disk
from mmflow.storage.object_store import FsspecStore

SCHEMA = pa.schema([("n", pa.int64())])


def rows(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], schema=SCHEMA)


REJECTS = pa.RecordBatch.from_arrays([pa.nulls(3, field.type) for field in REPORTED], schema=REPORTED)
SAMPLE = pa.RecordBatch.from_pydict({"key": ["a", "b"]})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(1 << 30, RunFolder(tmp_path / "spill", "run"))
    yield store
    store.close()


@pytest.fixture(params=["local", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Path or URL of a folder of checkpoints."""
    (tmp_path / "scratch").mkdir()
    if request.param == "local":
        (tmp_path / "run").mkdir()
        yield f"{tmp_path}/run"
        return
    memory = fsspec.filesystem("memory")
    yield "memory://run"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def data(path: str) -> bytes:
    with fsspec.open(path, "rb") as file:
        return bytes(file.read())


def write(
    where: str, store: LocalStore, tmp_path: Path, *blocks: list[pa.RecordBatch] | None, **others: Any
) -> Checkpoint:
    refs = [None if block is None else store.put(block, SCHEMA) for block in blocks]
    keys = {"rejects": None, "sample": None, **others}
    return write_checkpoint(
        f"{where}/s1-t7", 3, refs, keys["rejects"], keys["sample"], SCHEMA, store, tmp_path / "scratch"
    )


def test_each_block_lies_at_a_multiple_of_64_bytes_with_its_own_checksum(
    where: str, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # all goes through the scratch folder
    blocks = [[rows(1, 2), rows(3)], None, [rows(*range(50_000))], [], [rows(5)]]
    rejects = store.put([REJECTS], REPORTED)
    made = write(where, store, tmp_path, *blocks, rejects=rejects, sample=SAMPLE)
    assert [block is None for block in made.outputs] == [False, True, False, False, False]
    assert made.rejects is not None
    assert made.sample is not None
    end = 0
    for block in made.outputs:
        if block is not None:
            assert block.path == f"{where}/s1-t7-a3.blocks"
            assert block.offset == -(-end // 64) * 64
            end = block.offset + block.length
    assert len(data(f"{where}/s1-t7-a3.blocks")) == end
    assert (made.rejects.offset, made.rejects.path) == (0, f"{where}/s1-t7-a3.retained")
    assert made.sample.offset == -(-made.rejects.length // 64) * 64
    expected = [*blocks, [REJECTS], [SAMPLE]]
    for block, batches in zip((*made.outputs, made.rejects, made.sample), expected, strict=True):
        if block is not None:
            assert batches is not None
            there = data(block.path)[block.offset : block.offset + block.length]
            assert zlib.crc32(there) == block.crc
            assert list(pa.ipc.open_stream(there)) == batches == list(read_checkpoint(block))
            assert block.rows == sum(batch.num_rows for batch in batches)
    refs = [store.put(block or [], SCHEMA) for block in blocks]
    assert [b and b.nbytes for b in made.outputs] == [
        None if block is None else ref.nbytes for block, ref in zip(blocks, refs, strict=True)
    ]
    assert (made.rejects.nbytes, made.sample.nbytes) == (rejects.nbytes, SAMPLE.nbytes)
    assert os.listdir(tmp_path / "scratch") == []


def test_a_task_without_rows_has_no_files(where: str, store: LocalStore, tmp_path: Path) -> None:
    assert write(where, store, tmp_path, None, None) == Checkpoint((None, None), None, None)
    made = write(where, store, tmp_path, None, sample=SAMPLE)
    assert (made.outputs, made.rejects) == ((None,), None)
    fs, root = fsspec.core.url_to_fs(where)
    assert [Path(path).name for path in fs.find(root)] == ["s1-t7-a3.retained"]


def test_a_block_that_is_lost_or_damaged_is_named(where: str, store: LocalStore, tmp_path: Path) -> None:
    made = write(where, store, tmp_path, [rows(1)], [rows(*range(50_000))])
    path = f"{where}/s1-t7-a3.blocks"
    whole = data(path)

    def lost(block: CheckpointBlock) -> str:
        with pytest.raises(BlockLostError) as raised:
            read_checkpoint(block)
        assert raised.value.context["lost_file"] == path
        before, _, after = str(raised.value).partition(f"a checkpoint of a finished task is lost: {path}: ")
        assert before == ""
        assert after.endswith("; --resume computes it again")
        return after.removesuffix("; --resume computes it again")

    for block in made.outputs:
        assert block is not None
        assert lost(block._replace(length=block.length - 8)) == "it was damaged"
        assert lost(block._replace(crc=block.crc ^ 1)) == "it was damaged"
        assert lost(block._replace(rows=7)) == "it doesn't hold the 7 rows that were put there"
        for end in (block.offset, block.offset + block.length - 1):
            with fsspec.open(path, "wb") as file:
                file.write(whole[:end])
            assert lost(block) == "it was damaged"
        with fsspec.open(path, "wb") as file:
            file.write(whole)
        assert read_checkpoint(block)
    fs, root = fsspec.core.url_to_fs(path)
    fs.rm_file(root)
    why = "No such file or directory" if where.startswith("/") else "/run/s1-t7-a3.blocks"
    assert {lost(block) for block in made.outputs if block is not None} == {why}


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, "no room left"),
        (errno.EDQUOT, "no room left"),
        (errno.EIO, "can't write (Input/output error)"),
        (None, "can't write (odd)"),
    ],
)
def test_a_checkpoint_that_can_not_be_written_leaves_no_file_and_says_what_to_do(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, what: str
) -> None:
    def refuse(fd: int, data: memoryview) -> None:
        raise OSError("odd") if number is None else OSError(number, os.strerror(number))

    (tmp_path / "run").mkdir()
    files = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_all", refuse)
        with pytest.raises(EngineError) as raised:
            write(f"{tmp_path}/run", store, tmp_path, [rows(1)])
    assert str(raised.value) == (
        f"{what} in {tmp_path}/run, where checkpoints are written; make room and resume with --resume, "
        "or set runs_dir (MMFLOW_RUNS_DIR) to a folder on a larger disk"
    )
    assert raised.value.context["path"] == f"{tmp_path}/run/s1-t7-a3"
    assert os.listdir(tmp_path / "run") == []
    assert os.listdir("/proc/self/fd") == files


def test_a_checkpoint_is_for_its_owner_alone_and_replaces_an_older_one(
    store: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    write(f"{tmp_path}/run", store, tmp_path, [rows(*range(10_000))])
    made = write(f"{tmp_path}/run", store, tmp_path, [rows(1)])
    (block,) = made.outputs
    assert block is not None
    status = os.stat(block.path)
    assert (status.st_mode & 0o777, status.st_size) == (0o600, block.length)


def test_a_url_that_can_not_be_opened_says_what_it_is_for(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with pytest.raises(ConfigError, match=r"can't keep runs in nowhere://b/s1-t7-a3\.blocks"):
        write("nowhere://b", store, tmp_path, [rows(1)])


def test_only_the_bytes_of_a_block_are_fetched(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    read = FsspecStore.read

    def reading(there: FsspecStore, url: str, *span: int) -> bytes:
        asked.append((url, *span))
        return read(there, url, *span)

    (tmp_path / "scratch").mkdir()
    made = write("memory://run", store, tmp_path, [rows(1)], [rows(2)])
    monkeypatch.setattr(FsspecStore, "read", reading)
    for block in made.outputs:
        assert block is not None
        read_checkpoint(block)
        assert asked.pop() == (block.path, block.offset, block.offset + block.length)
    fsspec.filesystem("memory").store.clear()
