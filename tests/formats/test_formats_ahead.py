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
from mmflow.api.session import default_session
from mmflow.errors import SourceError
from mmflow.formats.decoding import ahead, scan
from mmflow.formats.decoding.ahead import read_ahead
from mmflow.streams import stream
from tests.formats.test_formats_compression import CODECS, packed


@pytest.fixture
def small_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of a few records, so that every file has many of them."""
    monkeypatch.setattr(ahead, "_FIRST", 200)
    monkeypatch.setattr(ahead, "_TEXT", 300)
    monkeypatch.setattr(ahead, "_LEAST", 100)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name in ("mmflow-decompress", "mmflow-stream")]


def wait_for_threads() -> None:
    """Wait until no thread decompresses any more."""
    deadline = time.monotonic() + 20
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


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


def read(path: Path, session: mf.Session | None = None, **options: str) -> list[dict[str, object]]:
    ds = (session or default_session()).read_csv(str(path), schema="n:int64,s:string", **options)  # type: ignore[arg-type]
    rows: list[dict[str, object]] = ds.select("n", "s", "_line", "_offset").to_arrow().to_pylist()
    return rows


@pytest.mark.parametrize("workers", [1, 2])
@given(
    rows=RECORDS, level=st.integers(0, 9), policy=st.sampled_from(["skip", "null", "error"]), data=st.data()
)
@settings(deadline=None)
def test_rows_are_those_of_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory,
    workers: int,
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
        patch.setattr(scan, "_SMALL", 0)  # two workers decode blocks
        patch.setattr(stream, "_FIRST_BLOCK", data.draw(st.sampled_from([1, 40, 1000])))
        session = mf.Session(workers=workers, shard_size=data.draw(st.sampled_from([1, 50, 700])))
        for name in ("a.csv", "a.csv.gz"):
            try:
                found.append((read(folder / name, session, on_bad_record=policy), ""))
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
    wait_for_threads()


def test_aggregates_run_natively_over_compressed_text(tmp_path: Path) -> None:
    """The loop that parses, filters and sums in one pass takes compressed files, too."""
    rows = [(i, f"k{i % 7}") for i in range(50_000)]
    (tmp_path / "a.csv").write_bytes(csv_of(rows))
    (tmp_path / "a.csv.gz").write_bytes(packed(csv_of(rows), "gzip"))
    for query in ("SELECT s, sum(n) AS t, count(*) AS c FROM '{}' WHERE n > 90 GROUP BY s ORDER BY s", "SELECT count(*) AS c FROM '{}'"):  # fmt: skip
        plain, compressed = (mf.sql(query.format(tmp_path / n)).to_arrow() for n in ("a.csv", "a.csv.gz"))
        assert plain.equals(compressed)


LONG = b"n,s,v\n" + b"".join(
    b'%d,"%s",%d\n' % (i, b"two\nlines" if i % 3000 == 7 else b"text %d" % (i * i), i % 97)
    for i in range(60_000)
)


@pytest.fixture(autouse=True)
def _worth_several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_SMALL", 20_000)


@pytest.fixture(scope="module")
def long_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain file and its compressed copies, of so many bytes that all workers decode them."""
    folder = tmp_path_factory.mktemp("long")
    for codec in CODECS:
        (folder / codec).mkdir()
        (folder / codec / "a.csv").write_bytes(packed(LONG, codec))
    return folder


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("workers", [1, 3])
def test_all_workers_decode_one_compressed_file(long_files: Path, codec: str, workers: int) -> None:
    session = mf.Session(workers=workers)
    found = {}
    for kind in ("plain", codec):
        ds = session.read_csv(f"{long_files}/{kind}/a.csv")
        rows = ds.select("n", "s", "_line", "_offset").to_arrow()
        groups = ds.group_by("v").agg(t=mf.col("n").sum(), m=mf.col("s").max()).sort("v").to_arrow()
        found[kind] = rows, groups, ds.filter(mf.col("n") == 59_999).to_dicts(), ds.limit(5).to_dicts()
    assert found["plain"][0].equals(found[codec][0])
    assert found["plain"][1].equals(found[codec][1])
    assert found["plain"][2:] == found[codec][2:]
    assert session.read_csv(f"{long_files}/{codec}/a.csv").select("_file").limit(1).to_dicts() == [
        {"_file": f"{long_files}/{codec}/a.csv"}
    ]


def test_workers_take_blocks_of_one_file(long_files: Path) -> None:
    for workers, streamed in ((1, False), (2, True)):
        session = mf.Session(workers=workers)
        assert session.read_csv(f"{long_files}/gzip/a.csv").count() == 60_000
        assert session.last_run is not None
        assert any("all workers decode" in reason for reason in session.last_run.reasons) == streamed


@pytest.mark.parametrize("workers", [1, 2])
def test_damage_is_the_same_error_whoever_decodes(long_files: Path, tmp_path: Path, workers: int) -> None:
    whole = (long_files / "gzip/a.csv").read_bytes()
    session = mf.Session(workers=workers)
    for number, damaged in enumerate((whole[:-100], whole[:-8] + bytes(8), whole + b"garbage")):
        path = tmp_path / f"{number}.csv.gz"
        path.write_bytes(damaged)
        ds = session.read_csv(str(path), schema="n:int64,s:string,v:int64")
        words = ("truncated compressed stream", "incorrect data check", "incorrect header check")[number]
        with pytest.raises(
            SourceError, match=rf"can't decompress {path}: {words} at byte [0-9,]+, where the text"
        ):
            ds.to_arrow()
        assert ds.limit(10).to_arrow()["n"].to_pylist() == list(range(10))
    wait_for_threads()


def test_a_file_that_changes_while_it_is_read_is_named(long_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    whole = (long_files / "gzip/a.csv").read_bytes()
    path.write_bytes(whole)
    ds = mf.Session(workers=2, memory="256MiB", shard_size=70_000).read_csv(
        str(path), schema="n:int64,s:string,v:int64"
    )
    batches = ds.iter_batches()
    next(batches)
    with path.open("r+b") as file:
        file.seek(len(whole) - 9)
        file.write(b"\0")
    with pytest.raises(SourceError, match=r"changed while it was being read|can't decompress"):
        list(batches)
    wait_for_threads()


def test_two_queries_of_one_file_at_once(long_files: Path) -> None:
    """Contents are a stream of one run: another one, or a join of a file with itself, has its own."""
    session = mf.Session(workers=2)
    path = f"{long_files}/gzip/a.csv"
    first, second = (session.read_csv(path).select("n").iter_batches() for _ in range(2))
    numbers: list[list[int]] = [[], []]
    for pair in zip(first, second, strict=False):
        for found, batch in zip(numbers, pair, strict=True):
            found.extend(batch.column(0).to_pylist())
    for found, rest in zip(numbers, (first, second), strict=True):
        for batch in rest:
            found.extend(batch.column(0).to_pylist())
    assert len(numbers[0]) >= 50_000  # `zip` drops what the longer one gave last
    both = session.sql(f"SELECT count(*) AS c FROM '{path}' a JOIN '{path}' b ON a.n = b.n")
    assert both.to_dicts() == [{"c": 60_000}]
    wait_for_threads()


def test_a_run_that_is_left_ends_the_thread(long_files: Path) -> None:
    ds = mf.Session(workers=2, shard_size=70_000).read_csv(f"{long_files}/gzip/a.csv")
    batches = ds.iter_batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    wait_for_threads()


def test_a_header_that_does_not_fit_ends_the_thread(long_files: Path) -> None:
    ds = mf.Session(workers=2).read_csv(f"{long_files}/gzip/a.csv", schema="n:int64,s:string,v:int64,w:int64")
    with pytest.raises(SourceError, match=r"w.*"):
        ds.to_arrow()
    wait_for_threads()


def test_rows_that_are_written_are_in_few_files(long_files: Path, tmp_path: Path) -> None:
    """A task writes a file of its own: where blocks are small, there would be many."""
    session = mf.Session(workers=2)
    session.read_csv(f"{long_files}/gzip/a.csv").write_parquet(str(tmp_path / "out"))
    assert len(list((tmp_path / "out").glob("*.parquet"))) <= 2
    assert session.read_parquet(f"{tmp_path}/out").select("n").to_arrow()["n"].to_pylist() == list(
        range(60_000)
    )
