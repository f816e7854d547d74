"""Block files: which tier they go to, and what their errors say."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmflow.blocks.files import (
    BlockWriter,
    OtherVersionError,
    Tier,
    block_in,
    read_block_file,
    stream_of,
    write_block_file,
)
from mmflow.blocks.memfd import map_block, write_block
from mmflow.blocks.streams import DamagedError, mapped, read_range, write_stream
from mmflow.errors import BlockLostError, EngineError
from mmflow.mapping.system import system

_NUMBERS = pa.RecordBatch.from_pydict({"n": pa.array(range(700_000), pa.int64())})


class Full(Tier):
    """Tier of a device without room."""

    def create(self, name: str) -> int:
        return os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC)


class Broken(Tier):
    """Tier whose files fail as they are closed."""

    def seal(self, fd: int) -> None:
        os.close(fd)


def folders(parent: Path, *names: str) -> list[str]:
    for name in names:
        (parent / name).mkdir()
    return [str(parent / name) for name in names]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        assert error.errno == errno.EBADF
        return False
    return True


def test_a_file_goes_to_the_next_tier_with_what_was_written(tmp_path: Path) -> None:
    first, second, third = folders(tmp_path, "first", "second", "third")
    asked: list[int] = []

    def room(nbytes: int) -> bool:
        asked.append(nbytes)
        return nbytes <= 6 << 20

    tiers = [
        Tier(first, room, checked=True),
        Tier(second, lambda _: True, checked=True),
        Tier(third, None, checked=True),
    ]
    before = len(os.listdir("/proc/self/fd"))
    writer = BlockWriter("x.block", tiers)
    assert writer.path == f"{first}/x.block"
    rows, nbytes = write_block_file(writer, [_NUMBERS] * 2, _NUMBERS.schema)
    assert rows == 1_400_000
    assert writer.path == f"{second}/x.block"
    assert writer.moved == "memory is short, or its budget is used up"
    assert len(os.listdir("/proc/self/fd")) == before
    assert [os.listdir(folder) for folder in (first, second, third)] == [[], ["x.block"], []]
    found = os.stat(writer.path)
    assert (found.st_size, found.st_mode & 0o777) == (nbytes, 0o600)
    assert [n for n in asked if n > 6 << 20] == asked[-1:]
    assert asked[-1] == nbytes - 8 - 28, "the stream as a whole, without its end and the trailer"
    assert pa.Table.from_batches(read_block_file(writer.path, check=True)) == pa.Table.from_batches(
        [_NUMBERS] * 2
    )
    assert not os.path.exists(f"{first}/x.block")


def test_a_full_tier_is_left_or_the_error_says_what_to_do(tmp_path: Path) -> None:
    (disk,) = folders(tmp_path, "disk")
    for folder, name in (("", "memory"), ("/dev/device", "/dev/device")):
        writer = BlockWriter("x", [Full(folder, None), Tier(disk, None)])
        writer.write(b"block")
        writer.finish(3)
        assert (writer.moved, writer.path) == (f"{name} is full", f"{disk}/x")
        assert block_in(pa.py_buffer(Path(disk, "x").read_bytes()), check=False) == (
            pa.py_buffer(b"block"),
            3,
        )
        os.unlink(writer.path)
        writer = BlockWriter("x", [Full(folder, None)] * 3 + [Tier(disk, None)])
        writer.finish(3)
        assert writer.path == f"{disk}/x"
        os.unlink(writer.path)
        writer = BlockWriter("x", [Full(folder, None, "buy a larger one")])
        writer.write(b"block")
        with pytest.raises(EngineError) as caught:
            writer.finish(3)
        assert str(caught.value) == (
            f"no room left in {name} for a block of rows: 0 bytes of it were written, 5 more don't fit; buy a larger one"
        )
        assert caught.value.context["path"] == os.path.join(folder, "x")
        assert is_open(writer.fd)
        writer.discard()
        assert not is_open(writer.fd)


def test_no_folder_for_a_file_that_moves_on(tmp_path: Path) -> None:
    (first,) = folders(tmp_path, "first")
    missing = str(tmp_path / "missing")
    before = len(os.listdir("/proc/self/fd"))
    writer = BlockWriter("x", [Tier(first, lambda n: n < 1000), Tier(missing, None)])
    with pytest.raises(
        EngineError, match=f"^no folder {re.escape(missing)}: the run has ended or was swept, or "
    ):
        write_block_file(writer, [_NUMBERS], _NUMBERS.schema)
    assert os.listdir(first) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_fails_as_it_is_closed(tmp_path: Path) -> None:
    writer = BlockWriter("x", [Broken(str(tmp_path), None)])
    with pytest.raises(EngineError) as caught:
        write_block_file(writer, [_NUMBERS], _NUMBERS.schema)
    assert str(caught.value) == f"can't write {tmp_path}/x: Bad file descriptor"
    assert caught.value.context["path"] == f"{tmp_path}/x"
    assert os.listdir(tmp_path) == []


def test_what_an_abandoned_file_says_as_it_is_closed_counts_no_more(tmp_path: Path) -> None:
    first, second = folders(tmp_path, "first", "second")
    writer = BlockWriter("x", [Tier(first, lambda _: False), Tier(second, None)])
    os.close(writer.fd)
    writer.fd = 1 << 20  # a number that no other file gets
    writer.finish(0)
    assert writer.path == f"{second}/x"
    writer = BlockWriter("x", [Tier(first, None)])
    os.close(writer.fd)
    writer.discard()
    assert os.listdir(first) == []


def test_discard_closes_what_is_not_finished_once(tmp_path: Path) -> None:
    writer = BlockWriter("x", [Tier(str(tmp_path), None)])
    writer.discard()
    assert not is_open(writer.fd)
    assert writer.closed
    again = os.open(tmp_path, os.O_RDONLY)
    assert again == writer.fd, "numbers of descriptors are given again"
    writer.discard()
    assert is_open(again)
    os.close(again)
    writer = BlockWriter("x", [Tier(str(tmp_path), None)])
    assert writer.finish(0, close=False) == os.fstat(writer.fd).st_size
    writer.discard()
    assert is_open(writer.fd), "it is its caller's"
    os.close(writer.fd)
    assert os.listdir(tmp_path) == []


def block(folder: Path, data: bytes, *, checked: bool = True) -> Path:
    """Write a block of 7 rows, whatever its bytes are."""
    (folder / "x").unlink(missing_ok=True)
    writer = BlockWriter("x", [Tier(str(folder), None, checked=checked)])
    writer.write(data)
    writer.finish(7)
    return folder / "x"


def test_bytes_that_are_no_block(tmp_path: Path) -> None:
    empty = block(tmp_path, b"").read_bytes()
    assert block_in(pa.py_buffer(empty), check=True) == (pa.py_buffer(b""), 7)
    with pytest.raises(DamagedError, match=r"^it has 27 bytes$"):
        block_in(pa.py_buffer(empty[1:]), check=True)
    whole = block(tmp_path, b"stream").read_bytes()
    assert block_in(pa.py_buffer(whole), check=True) == (pa.py_buffer(b"stream"), 7)
    for where, new, kind, message in (
        (0, b"S", DamagedError, "its checksum differs"),
        (6, b"M", DamagedError, "it is cut short"),
        (13, b"0", OtherVersionError, "0"),
        (22, b"\1", DamagedError, "it is cut short"),
    ):
        damaged = pa.py_buffer(whole[:where] + new + whole[where + 1 :])
        with pytest.raises(kind) as caught:
            block_in(damaged, check=True)
        assert (type(caught.value), str(caught.value)) == (kind, message)
    unchecked = block(tmp_path, b"stream", checked=False).read_bytes()
    assert block_in(pa.py_buffer(b"S" + unchecked[1:]), check=False)[0].to_pybytes() == b"Stream"


@pytest.mark.parametrize("read", [lambda path: read_block_file(path, check=True), stream_of])
def test_a_block_that_is_lost_is_named(tmp_path: Path, read: Callable[[str], Any]) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(EngineError) as caught:
        read(gone)
    assert str(caught.value) == f"a block of intermediate rows is gone: {gone}"
    assert caught.value.context == {"path": gone}
    with pytest.raises(EngineError) as caught:
        read(str(tmp_path))
    assert str(caught.value) == f"can't read {tmp_path}: Is a directory"
    assert caught.value.context == {"path": str(tmp_path)}
    path = str(block(tmp_path, b"stream"))
    whole = Path(path).read_bytes()
    for data, why in ((b"S" + whole[1:], "its checksum differs"), (whole[:20], "it has 20 bytes")):
        Path(path).write_bytes(data)
        with pytest.raises(BlockLostError) as caught:
            read(path)
        assert str(caught.value) == (
            f"a block of intermediate rows was damaged on disk: {path}: {why}; check the disk, and run again"
        )
        assert caught.value.context == {"lost_file": path}


def test_a_block_whose_stream_is_not_what_its_trailer_says(tmp_path: Path) -> None:
    path = str(block(tmp_path, b"stream"))
    assert stream_of(path).to_pybytes() == b"stream"
    with pytest.raises(
        BlockLostError, match=f"damaged on disk: {re.escape(path)}: .* metadata bytes.*; check"
    ):
        read_block_file(path, check=True)
    stream = pa.BufferOutputStream()
    write_stream(stream, _NUMBERS.schema, [_NUMBERS])
    path = str(block(tmp_path, stream.getvalue().to_pybytes()))
    with pytest.raises(
        BlockLostError, match=f"{path}: it doesn't hold the 7 rows that were put there; "
    ) as caught:
        read_block_file(path, check=True)
    assert caught.value.context == {"lost_file": path}


def test_a_range_of_a_file_that_ends_before_it_does(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "x").write_bytes(data)
    path = str(tmp_path / "x")
    for offset, length in (
        (0, 10), (100, 1 << 16), (100, (1 << 16) + 1), (150_000, 60_000), (150_000, 1 << 20), (1 << 20, 10), (1 << 20, 1 << 20),
    ):  # fmt: skip
        assert read_range(path, offset, length).to_pybytes() == data[offset : offset + length]
    assert mapped(path).to_pybytes() == data


def test_short_reads_give_the_whole_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(60_000)
    (tmp_path / "x").write_bytes(data)
    read_at = system.read_at
    monkeypatch.setattr(
        system, "read_at", lambda fd, into, offset: read_at(fd, into[: 1000 + offset % 7], offset)
    )
    assert read_range(str(tmp_path / "x"), 500, 50_000).to_pybytes() == data[500:50_500]


def test_a_file_that_has_fewer_bytes_than_it_says_and_cant_be_mapped() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists():
        pytest.skip("wants a file of sysfs")
    assert setting.stat().st_size > len(setting.read_bytes())
    assert mapped(str(setting)).to_pybytes() == setting.read_bytes()


def test_memory_that_is_passed_on_is_sealed() -> None:
    fd, nbytes = write_block([_NUMBERS], _NUMBERS.schema)
    assert os.fstat(fd).st_size == nbytes
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    assert map_block(fd) == [_NUMBERS]


def test_only_a_full_tier_is_left_for_the_next(tmp_path: Path) -> None:
    tiers = [Tier(str(tmp_path / name), None) for name in ("a", "b")]
    for tier in tiers:
        os.mkdir(tier.folder)
    writer = BlockWriter("x.block", tiers)
    writer.write(bytes(2000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(EngineError, match=r"can't write .*a/x\.block: File too large"):
            writer.finish(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.discard()
    assert writer.moved == ""
    assert [list(Path(tier.folder).iterdir()) for tier in tiers] == [[], []]


def test_errors_of_files_say_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, message in (
        ("missing", r"no folder .*missing: .* names a folder that is not there$"),
        ("file", r"can't make .*file/x\.block: Not a directory$"),
    ):
        with pytest.raises(EngineError, match=message) as caught:
            BlockWriter("x.block", [Tier(str(tmp_path / folder), None)])
    assert caught.value.context == {"path": str(tmp_path / "file" / "x.block")}
