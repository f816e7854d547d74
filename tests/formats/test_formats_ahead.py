"""Compressed files are decompressed by a thread of its own: the same rows, errors and places, and no thread stays."""

from __future__ import annotations

import gzip
import random
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import SourceError
from mmflow.formats.decoding import ahead
from mmflow.formats.decoding.ahead import read_ahead
from tests.formats.test_formats_compression import CODECS, packed


@pytest.fixture
def small_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of a few records, so that every file has many of them."""
    monkeypatch.setattr(ahead, "_FIRST", 200)
    monkeypatch.setattr(ahead, "_TEXT", 300)
    monkeypatch.setattr(ahead, "_LEAST", 100)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "mmflow-decompress"]


class _Source:
    """Contents that are texts of one byte each, the last of which may be an error."""

    def __init__(self, count: int, error: Exception | None = None, seconds: float = 0.0) -> None:
        self.count, self.error, self.seconds, self.read_count = count, error, seconds, 0

    def read(self, nbytes: int) -> bytes:
        raise NotImplementedError

    def readinto(self, b: memoryview) -> int:
        self.read_count += 1
        time.sleep(self.seconds)
        if self.read_count > self.count:
            if self.error is not None:
                raise self.error
            return 0
        b[:] = bytes([self.read_count % 256]) * len(b)
        return len(b)


def test_texts_come_in_order_and_the_thread_is_a_few_ahead() -> None:
    source = _Source(40)
    found = []
    for number, text in enumerate(read_ahead(source, 1 << 20)):
        found.append(text.buffer[0])
        time.sleep(0.002)
        assert source.read_count <= number + 1 + ahead._COUNT + 1
    assert found == list(range(1, 41))
    assert not threads()


def test_an_error_comes_behind_the_texts_before_it() -> None:
    texts = read_ahead(_Source(9, ZeroDivisionError()), 1 << 20)
    found = [next(texts).buffer[0] for _ in range(9)]
    with pytest.raises(ZeroDivisionError):
        next(texts)
    assert found == list(range(1, 10))
    assert not threads()


def test_a_reader_that_leaves_ends_the_thread() -> None:
    texts = read_ahead(_Source(10_000, seconds=0.001), 1 << 20)
    next(texts)
    next(texts)
    assert threads()
    texts.close()
    assert not threads()


RECORDS = st.lists(st.tuples(st.integers(-9, 10**9), st.text('ab,"\n é', max_size=30)), max_size=200)


def csv_of(rows: list[tuple[int, str]]) -> bytes:
    quoted = (b'%d,"%s"\n' % (n, s.replace('"', '""').encode()) for n, s in rows)
    return b"n,s\n" + b"".join(quoted)


def read(path: Path, **options: str) -> list[dict[str, object]]:
    ds = mf.read_csv(str(path), schema="n:int64,s:string", **options)  # type: ignore[arg-type]
    rows: list[dict[str, object]] = ds.select("n", "s", "_line", "_offset").to_arrow().to_pylist()
    return rows


@given(RECORDS, st.integers(0, 9), st.sampled_from(["skip", "null", "error"]), st.data())
@settings(deadline=None)
def test_rows_are_those_of_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, str]],
    level: int,
    policy: str,
    data: st.DataObject,
) -> None:
    text = csv_of(rows)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(4, len(text)))
        text = text[:at] + data.draw(st.sampled_from([b"x", b'"', b"\n", b"\xff", b",,"])) + text[at:]
    cut = data.draw(st.integers(0, len(text)))
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.csv").write_bytes(text)
    (folder / "a.csv.gz").write_bytes(gzip.compress(text[:cut], level) + gzip.compress(text[cut:], level))
    found = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.BadRecordsWarning)
        patch.setattr(ahead, "_FIRST", data.draw(st.sampled_from([50, 200, 256 << 10])))
        patch.setattr(ahead, "_TEXT", data.draw(st.sampled_from([30, 300, 1 << 20])))
        patch.setattr(ahead, "_LEAST", 10)
        for name in ("a.csv", "a.csv.gz"):
            try:
                found.append((read(folder / name, on_bad_record=policy), ""))
            except mf.MmflowError as error:
                found.append(([], str(error).replace(name, "")))
    assert found[0] == found[1]
    assert not threads()


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.usefixtures("small_texts")
def test_long_records_and_footers(tmp_path: Path, codec: str) -> None:
    rows = [(i, "long " * (20_000 if i % 50 == 7 else i % 9)) for i in range(200)]
    text = csv_of(rows)
    (tmp_path / "a.csv").write_bytes(packed(text + b"total\nof all\n", codec))
    assert [(r["n"], r["s"]) for r in read(tmp_path / "a.csv", skip_footer=2)] == rows  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_texts")
def test_a_record_that_is_too_long(tmp_path: Path) -> None:
    text = csv_of([(1, "a"), (2, "b" * (9 << 20)), (3, "c")])
    (tmp_path / "a.csv").write_bytes(packed(text, "gzip"))
    with pytest.raises(mf.BadRecordError, match=r"longer than 65,536 bytes \(max_record\)"):
        read(tmp_path / "a.csv", max_record=64 << 10)  # type: ignore[arg-type]
    assert not threads()


def test_rows_before_damage_are_given_first(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [(i, str(rng.random())) for i in range(200_000)]
    whole = packed(csv_of(rows), "gzip")
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) * 9 // 10])
    ds = mf.read_csv(str(tmp_path / "a.csv.gz"), schema="n:int64,s:string")
    with pytest.raises(SourceError, match="truncated compressed stream at byte"):
        ds.to_arrow()
    assert not threads()
    assert ds.limit(1000).to_arrow()["n"].to_pylist() == list(
        range(1000)
    )  # which needs nothing of what is damaged
    assert not threads()


def test_a_query_that_needs_no_more_rows_ends_the_thread(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(packed(csv_of([(i, "x" * 90) for i in range(100_000)]), "gzip"))
    assert mf.read_csv(str(tmp_path / "a.csv.gz")).limit(3).count() == 3
    deadline = time.monotonic() + 20
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


def test_aggregates_run_natively_over_compressed_text(tmp_path: Path) -> None:
    """The loop that parses, filters and sums in one pass takes compressed files, too."""
    rows = [(i, f"k{i % 7}") for i in range(50_000)]
    (tmp_path / "a.csv").write_bytes(csv_of(rows))
    (tmp_path / "a.csv.gz").write_bytes(packed(csv_of(rows), "gzip"))
    for query in ("SELECT s, sum(n) AS t, count(*) AS c FROM '{}' WHERE n > 90 GROUP BY s ORDER BY s", "SELECT count(*) AS c FROM '{}'"):  # fmt: skip
        plain, compressed = (mf.sql(query.format(tmp_path / n)).to_arrow() for n in ("a.csv", "a.csv.gz"))
        assert plain.equals(compressed)
