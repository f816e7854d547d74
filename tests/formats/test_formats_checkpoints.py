"""Checkpoints of gzip files: what a pass leaves lets others read the same rows from any place."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.cli.main import main
from mmflow.errors import MmflowError, SourceError
from mmflow.formats import checkpoints
from mmflow.mapping import FileIdentity
from mmflow.mapping.sections import Sections, forget_sections
from tests.formats.test_formats_sections import COLUMNS, CSV, ROWS

_SCHEMA = "id:int64,text:string,n:int64"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checkpoints of files that tests can make."""
    monkeypatch.setattr(checkpoints, "SPACING", 40_000)
    monkeypatch.setattr(checkpoints, "LEAST", 1)
    forget_sections()
    yield
    forget_sections()


def written(path: Path, data: bytes | bytearray) -> Path:
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    return path


def known(path: Path) -> Sections | None:
    return checkpoints.known_checkpoints(str(path), FileIdentity.of(str(path)))


def rows(path: Path, shard: int = 1 << 15, workers: int = 2) -> object:
    with mf.Session(shard_size=shard, workers=workers) as session:
        return session.read_csv(path, schema=_SCHEMA).select(*COLUMNS).to_arrow()


@settings(max_examples=3)
@given(
    cuts=st.lists(st.integers(0, len(CSV)), max_size=4),
    level=st.integers(0, 9),
    shard=st.integers(1 << 15, 1 << 20),
)
def test_rows_behind_checkpoints_are_those_of_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], level: int, shard: int
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    ends = [0, *sorted(cuts), len(CSV)]
    packed = b"".join(gzip.compress(CSV[a:b], level) for a, b in itertools.pairwise(ends))
    path, plain = written(folder / "x.csv.gz", packed), written(folder / "x.csv", CSV)
    wanted = rows(plain, shard)
    assert rows(path, shard) == wanted
    found = known(path)
    assert found is not None
    assert found.size == len(CSV)
    with mf.Session(shard_size=shard) as session:
        assert session.read_csv(path).source_info().shards > (shard < 1 << 18)
    assert rows(path, shard) == wanted
    numbers = [0, ROWS - 1, 11_000, 11_001, 17]
    assert mf.read_csv(path).take(numbers) == mf.read_csv(plain).take(numbers)
    assert mf.read_csv(path)[9_000:9_100] == mf.read_csv(plain)[9_000:9_100]
    assert mf.read_csv(path).tail(3).to_arrow() == mf.read_csv(plain).tail(3).to_arrow()


def test_checkpoints_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SPACING", 4 << 20)
    noise = random.Random(1)
    text = b"t\n" + b"".join(b"%x\n" % noise.getrandbits(400) for _ in range(90_000))
    path = written(tmp_path / "x.gz", gzip.compress(text, 1))
    with mf.Session(workers=2) as session:
        assert session.read_text(path).count() == 90_001
    found = known(path)
    assert found is not None
    assert found.count >= 2
    assert found.nbytes < len(text) / 100


def test_only_a_whole_pass_over_a_file_at_rest_leaves_checkpoints(tmp_path: Path) -> None:
    packed = gzip.compress(CSV)
    path = written(tmp_path / "x.csv.gz", packed)
    with mf.Session(shard_size=1 << 15, workers=2) as session:
        assert session.read_csv(path, schema=_SCHEMA).head(3).to_arrow().num_rows == 3
    assert known(path) is None
    written(path, packed[:-5000])
    with pytest.raises(SourceError, match="truncated"):
        rows(path)
    assert known(path) is None
    path.write_bytes(packed)
    os.utime(path, (time.time(), time.time()))  # it may be written to once more at this time
    rows(path)
    assert known(path) is None


def test_a_file_that_was_written_to_is_read_from_its_start(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv.gz", gzip.compress(CSV))
    rows(path)
    assert known(path) is not None
    path.write_bytes(gzip.compress(CSV.replace(b"plain", b"other")))
    os.utime(path, (1e9, 1e9 + 1))
    assert known(path) is None
    assert "other" in str(mf.read_csv(path).head(1).to_arrow()["text"])


def test_damage_behind_a_checkpoint_is_found_and_reported_from_the_start(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CSV))
    path = written(tmp_path / "x.csv.gz", packed)
    wanted = rows(path)
    chance = random.Random(5)
    for _ in range(4):
        damaged = bytearray(packed)
        damaged[chance.randrange(len(packed) // 10, len(packed) - 1)] ^= 1 << chance.randrange(4)
        with path.open("r+b") as file:  # the inode, the size and the time stay
            file.write(damaged)
        os.utime(path, (1e9, 1e9))
        assert known(path) is not None
        with pytest.raises(SourceError, match=r"x\.csv\.gz: .* at byte [\d,]+, where the text is at"):
            rows(path)
        assert known(path) is None  # they are not trusted any more
        with pytest.raises(
            MmflowError, match=r"x\.csv\.gz"
        ):  # perhaps of a record before the damage is noticed
            rows(path)
        with path.open("r+b") as file:
            file.write(packed)
        os.utime(path, (1e9, 1e9))
        assert rows(path) == wanted


def test_a_bomb_has_no_checkpoints(tmp_path: Path) -> None:
    """A block of deflate may have any length of text; one that is longer than a section may be is read as a stream."""
    noise = random.Random(2)
    begin = b"t\n" + b"".join(b"%x\n" % noise.getrandbits(400) for _ in range(3000))
    text = begin + b"x" * (40 << 20) + b"\n" + begin
    path = written(tmp_path / "x.gz", gzip.compress(begin) + gzip.compress(text[len(begin) :]))
    with mf.Session(workers=2) as session:
        for _ in range(2):
            assert session.read_text(path).count() == text.count(b"\n")
    found = known(path)
    assert found is None or max(b - a for a, b in itertools.pairwise(found.texts.tolist())) <= 32 << 20


def test_inspect_names_the_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "x.csv.gz", gzip.compress(CSV))
    assert main(["inspect", str(path)]) == 0
    assert "sections" not in capsys.readouterr().out
    rows(path)
    assert main(["inspect", str(path)]) == 0
    found = known(path)
    assert found is not None
    assert f"sections    {found.count} checkpoints, {len(CSV):,} bytes of text" in capsys.readouterr().out


def test_other_processes_find_the_checkpoints_in_the_cache(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv.gz", gzip.compress(CSV))
    with mf.Session(shard_size=1 << 15, workers=2, cache_dir=tmp_path / "cache") as session:
        dataset = session.read_csv(path, schema=_SCHEMA)
        wanted = dataset.select(*COLUMNS).to_arrow()
        (entry,) = (tmp_path / "cache").rglob("checkpoints/*")
        written_bytes = entry.read_bytes()
        chance = random.Random(11)
        for damage in range(20):
            forget_sections()  # as another process
            if damage:
                torn = bytearray(written_bytes)
                torn[chance.randrange(len(torn))] ^= 1 << chance.randrange(8)
                entry.write_bytes(torn[: chance.randrange(len(torn))] if damage % 3 == 0 else torn)
            sections = dataset.source_info().sections
            assert (sections is not None) or damage
            assert dataset.select(*COLUMNS).to_arrow() == wanted
            assert dataset.take([ROWS - 1]).column("id").to_pylist() == [ROWS - 1]
            assert entry.exists()  # written anew


@given(data=st.data())
def test_bytes_that_are_no_checkpoints_are_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("bytes") / "x.csv.gz", gzip.compress(CSV, 1))
    rows(path, 1 << 18)
    found = known(path)
    assert found is not None
    size = path.stat().st_size
    packed = checkpoints.encode_checkpoints(found)
    again = checkpoints.decode_checkpoints(packed, size)
    assert again is not None
    assert again.checkpoints == found.checkpoints
    assert again.texts.tolist() == found.texts.tolist()
    assert again.offsets.tolist() == found.offsets.tolist()
    assert checkpoints.decode_checkpoints(packed, size + 1) is None
    end = data.draw(st.integers(0, len(packed) - 1))
    assert checkpoints.decode_checkpoints(packed[:end], size) is None
    assert checkpoints.decode_checkpoints(data.draw(st.binary(max_size=200)), size) is None
