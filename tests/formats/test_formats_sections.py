"""Compressed files that are read from any place: rows, order, lines, offsets and errors of the plain file."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.cli.main import main
from mmflow.errors import BadRecordError, SourceChangedError, SourceError
from mmflow.mapping import FileIdentity
from mmflow.mapping.sections import find_sections
from mmflow.remote.opening import open_file
from tests.formats.packing import bgzf, bgzf_block, seekable_zstd, xz_blocks, zstd_frames

ROWS = 25_000
_TEXTS = ["plain", '"quoted, with a comma"', '"two\nlines"', '"a ""quote"""', "", '"\n\n"', "ä€𝄞"]
CSV = "".join(["id,text,n\n", *(f"{i},{_TEXTS[i % 7]},{i * 7 % 13}\n" for i in range(ROWS))]).encode()
COLUMNS = ("id", "text", "n", "_line", "_offset")
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "bgzf": bgzf,
    "bgzf of short blocks": lambda data: bgzf(data, 1000),
    "bgzf without an end": lambda data: bgzf(data, end=False),
    "zstd frames": lambda data: zstd_frames(data, 10_007),
    "xz blocks": lambda data: xz_blocks(data, 50_000),
    "seekable zstd": lambda data: seekable_zstd(data, 100_003),
}


def has_sections(path: Path) -> bool:
    return find_sections(str(path), FileIdentity.of(str(path))) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sections")
    (made / "plain.csv").write_bytes(CSV)
    for name, pack in PACKED.items():
        (made / f"{name}.csv").write_bytes(pack(CSV))
    return made


@pytest.mark.parametrize("name", PACKED)
@settings(max_examples=2)
@given(shard=st.integers(1 << 15, 1 << 20), workers=st.integers(1, 3))
def test_any_shards_have_the_rows_of_the_plain_file(
    folder: Path, name: str, shard: int, workers: int
) -> None:
    with mf.Session(shard_size=shard, workers=workers) as session:
        plain, packed = (session.read_csv(folder / f"{n}.csv").select(*COLUMNS) for n in ("plain", name))
        assert packed.source_info().shards > (shard < 1 << 18)
        assert packed.to_arrow() == plain.to_arrow()


@pytest.mark.parametrize("name", PACKED)
def test_rows_by_number(folder: Path, name: str) -> None:
    plain, packed = (mf.read_csv(folder / f"{n}.csv").select(*COLUMNS) for n in ("plain", name))
    numbers = [ROWS - 1, 0, 17, 20_000, 17]
    assert packed.take(numbers) == plain.take(numbers)
    assert packed[1000:1010] == plain[1000:1010]
    assert packed.head(5).to_arrow() == plain.head(5).to_arrow()
    assert packed.tail(5).to_arrow() == plain.tail(5).to_arrow()


@pytest.mark.parametrize("policy", ["error", "skip", "null", "quarantine"])
def test_bad_records_are_those_of_the_plain_file(tmp_path: Path, policy: Any) -> None:
    data = bytearray(CSV)
    for at in (9_000, 150_000, 350_000):
        begin = data.index(b"\n1", at) + 1
        data[begin : begin + 1] = b"x"
    plain, packed = tmp_path / "x.csv", tmp_path / "y.csv"
    plain.write_bytes(data)
    packed.write_bytes(bgzf(bytes(data)))
    found = []
    for path in (plain, packed):
        with (
            mf.Session(shard_size=1 << 16, workers=2) as session,
            warnings.catch_warnings(record=True) as said,
        ):
            warnings.simplefilter("always")
            dataset = session.read_csv(path, schema="id:int64,text:string,n:int64", on_bad_record=policy)
            try:
                rows: object = dataset.select(*COLUMNS).to_arrow()
            except BadRecordError as error:
                rows = error.context["byte_offset"], str(error).replace(str(path), "")
            messages = [re.sub(r"\b[0-9a-f]{12}\b", "", str(w.message)).replace(str(path), "") for w in said]
            found.append((rows, messages))
    assert found[0] == found[1]
    assert (policy == "error") == isinstance(found[0][0], tuple)


@pytest.mark.parametrize("name", ["bgzf", "bgzf of short blocks", "xz blocks"])  # others have no checksums
def test_a_flipped_byte_is_an_error_that_names_the_place(tmp_path: Path, folder: Path, name: str) -> None:
    data = (folder / f"{name}.csv").read_bytes()
    chance = random.Random(7)
    path = tmp_path / "x.csv"
    for _ in range(6):
        damaged = bytearray(data)
        at = chance.randrange(len(data) // 3, len(data) - 100)
        damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with mf.Session(shard_size=1 << 16, workers=2) as session:
            try:
                rows = (
                    session.read_csv(path, schema="id:int64,text:string,n:int64").select(*COLUMNS).to_arrow()
                )
            except SourceError as error:
                assert str(path) in str(error)
            else:  # a time or a system, which nobody checks
                assert rows == session.read_csv(folder / "plain.csv").select(*COLUMNS).to_arrow()


def test_damage_has_member_and_both_offsets(tmp_path: Path) -> None:
    blocks = [bgzf_block(CSV[i : i + 50_000]) for i in range(0, len(CSV), 50_000)]
    damaged = bytearray(blocks[7])
    damaged[-6] ^= 1  # of the checksum
    path = tmp_path / "x.csv.gz"
    path.write_bytes(b"".join([*blocks[:7], damaged, *blocks[8:]]))
    with mf.Session(shard_size=1 << 16, workers=2) as session, pytest.raises(SourceError) as caught:
        session.read_csv(path).to_arrow()
    found = re.search(
        r"x\.csv\.gz: incorrect data check at byte ([\d,]+), where the text is at 400,000 \(member 8\)",
        str(caught.value),
    )
    assert found is not None, caught.value
    begin = sum(map(len, blocks[:7]))
    assert (
        begin
        < int(found[1].replace(",", ""))
        == caught.value.context["byte_offset"]
        <= begin + len(blocks[7])
    )


@pytest.mark.parametrize("name", PACKED)
def test_files_cut_short_are_as_without_sections(tmp_path: Path, folder: Path, name: str) -> None:
    data = (folder / f"{name}.csv").read_bytes()
    path = tmp_path / "x.csv"
    chance = random.Random(3)
    for _ in range(5):
        path.write_bytes(data[: chance.randrange(len(data) // 2, len(data) - 200)])
        if has_sections(path):  # cut between two members
            continue
        with (
            mf.Session(shard_size=1 << 16, workers=2) as session,
            pytest.raises(SourceError, match="cut short"),
        ):
            session.read_csv(path, schema="id:int64,text:string,n:int64").to_arrow()


def test_headers_that_lie_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(bgzf(CSV) + b"more")
    assert not has_sections(path)
    path.write_bytes(gzip.compress(CSV) * 3)  # where members end, only decompressing tells
    assert not has_sections(path)
    # The second block is within the bytes of the first one, and a mark of a block among the text of another.
    inner = b"text\n" + bgzf_block(CSV[:1000])
    path.write_bytes(bgzf(inner * 40, 900))
    plain = _written(tmp_path / "y", inner * 40)
    with mf.Session(shard_size=1 << 12) as session:
        assert (
            session.read_text(path, encoding="latin-1").to_arrow()
            == mf.read_text(plain, encoding="latin-1").to_arrow()
        )
    # The length of the text that a block states is wrong.
    lying = bytearray(bgzf(CSV))
    lying[len(bgzf_block(CSV[:0xFF00])) - 4] ^= 1
    path.write_bytes(lying)
    with mf.Session(shard_size=1 << 16) as session, pytest.raises(SourceError, match="length"):
        session.read_csv(path, schema="id:int64,text:string,n:int64").to_arrow()


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_block_with_another_field_first(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(
        b"".join(bgzf_block(CSV[i : i + 60_000], b"ab\x03\0xyz") for i in range(0, len(CSV), 60_000))
    )
    assert has_sections(path)
    assert mf.read_csv(path).take([ROWS - 1]) == mf.read_csv(_written(tmp_path / "y", CSV)).take([ROWS - 1])


def test_a_bomb_is_not_taken_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(zstd_frames(b"a,b\n" + b"\0" * (40 << 20), 36 << 20))
    assert not has_sections(path)  # its text is read as a stream


def test_a_file_that_changes_while_it_is_open_is_noticed(tmp_path: Path) -> None:
    path = _written(tmp_path / "x.gz", bgzf(CSV))
    identity = FileIdentity.of(str(path)).of_contents(len(CSV))
    with open_file(path, expected=identity) as file:
        assert file.window(5000, 1000).buffer.to_pybytes() == CSV[5000:6000]
        file.check_unchanged()
        path.write_bytes(bgzf(CSV.replace(b"plain", b"other"), 5000))
        with pytest.raises(SourceChangedError):
            file.check_unchanged()
        with pytest.raises(SourceChangedError):  # its blocks are elsewhere
            file.window(400_000, 1000)
    with pytest.raises(SourceChangedError):
        open_file(path, expected=identity)


def test_inspect_names_the_sections(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "bgzf.csv"
    assert main(["inspect", str(path)]) == 0
    count = -(-len(CSV) // 0xFF00) + 1
    assert f"sections    {count} BGZF blocks, {len(CSV):,} bytes of text" in capsys.readouterr().out
    assert main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == path.stat().st_size
    assert facts["sections"].startswith(f"{count} BGZF blocks")


def test_the_blocks_of_xz_are_those_of_its_own_reader() -> None:
    assert lzma.decompress(xz_blocks(CSV, 50_000)) == CSV
