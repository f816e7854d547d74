"""Rows of streams: those of the file with the same bytes, however the pipe cuts them."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.streams import stream
from tests.streams.pipes import produced

_NAMES = ("id", "text", "n")


@pytest.fixture(scope="module")
def session() -> mf.Session:
    """A session whose blocks are of a page."""
    return mf.Session(shard_size=4096, workers=2)


def _csv(rows: int) -> bytes:
    texts = ["plain", '"quoted, with a comma"', '"two\nlines"', '"a ""quote"""', "", '"\n\n"', "ä€𝄞"]
    made = [",".join(_NAMES)]
    made += [f"{i},{texts[i % len(texts)]},{i * 7 % 13}" for i in range(rows)]
    return ("\n".join(made) + "\n").encode()


_CSV = _csv(3000)
_NDJSON = b"".join(b'{"a": %d, "b": ["x\\n", "%d"]}\n' % (i, i * i) for i in range(3000))


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    begin = 0
    for size in itertools.cycle(sizes):
        if begin >= len(data):
            return
        yield data[begin : begin + size]
        begin += size


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
@settings(max_examples=12)
@given(
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=6).filter(lambda s: sum(s) > 400),
    block=st.sampled_from([512, 4096, 10_000, 1 << 20]),
    end=st.integers(0, 12),
)
def test_any_cuts_of_a_pipe_give_the_rows_of_the_file(sizes: list[int], block: int, end: int) -> None:
    data = _CSV[: len(_CSV) - end]
    columns = (*_NAMES, "_line", "_offset")
    types = "id:string,text:string,n:string"
    options: Any = {"schema": types, "on_bad_record": "null"}
    path = Path("whole.csv")
    path.write_bytes(data)
    expected = mf.read_csv(path, **options).select(*columns).to_arrow()
    with mf.Session(shard_size=block, workers=2) as session, produced(_pieces(data, sizes)) as pipe:
        assert session.read_csv(pipe.path, **options).select(*columns).to_arrow() == expected


@pytest.fixture(autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


def _zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("plain", bytes),
        ("gzip", gzip.compress),
        ("gzip of two members", lambda d: gzip.compress(d[:5000]) + gzip.compress(d[5000:])),
        ("zstd", _zstd),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
    ],
)
@pytest.mark.parametrize("data", [_CSV, _NDJSON], ids=["csv", "ndjson"])
def test_a_compressed_stream_is_found_by_its_first_bytes(
    session: mf.Session, name: str, pack: Callable[[bytes], bytes], data: bytes
) -> None:
    suffix = "csv" if data is _CSV else "ndjson"
    Path(f"x.{suffix}").write_bytes(data)
    expected = mf.read(f"x.{suffix}").to_arrow()
    with produced(pack(data)) as pipe:
        assert session.read(pipe.path).to_arrow() == expected


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (b"a,b\n1,2\n", ["a", "b"]),
        (b"a|b\n1|2\n3|4", ["a", "b"]),
        (b"a\tb\n1\t2\n", ["a", "b"]),
        (b'{"a": 1, "b": 2}\n', ["a", "b"]),
        (b"one line\nanother, with a comma\n", ["line"]),
        (b"", ["line"]),
    ],
)
def test_the_format_is_found_in_the_head(data: bytes, columns: list[str]) -> None:
    with produced(data) as pipe:
        read = mf.read(pipe.path)
        assert read.columns == columns
        read.to_arrow()


@pytest.mark.parametrize("kind", ["stream", "file"])
@pytest.mark.parametrize("columns", [["a", "s"], ["s"], []])
def test_arrow_is_read_batch_by_batch(kind: str, columns: list[str]) -> None:
    table = pa.table({"a": range(60_000), "s": [f"x{i}" for i in range(60_000)]})
    sink = io.BytesIO()
    opening = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with opening(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    with produced(_pieces(sink.getvalue(), [70_000, 33])) as pipe:
        read = mf.read(pipe.path)
        if columns:
            assert read.select(*columns).to_arrow().equals(table.select(columns))
        else:
            assert read.count() == 60_000


def test_two_arrow_streams_in_one_are_an_error() -> None:
    sink = io.BytesIO()
    table = pa.table({"a": [1]})
    for _ in range(2):
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    with (
        produced(sink.getvalue()) as pipe,
        pytest.raises(mf.SourceError, match="follow the end of its stream"),
    ):
        mf.read(pipe.path).to_arrow()


def test_errors_are_those_of_the_file(session: mf.Session) -> None:
    data = _CSV + b"17,unclosed\n" + _csv(500)
    Path("bad.csv").write_bytes(data)
    with pytest.raises(mf.BadRecordError) as of_file:
        mf.read_csv("bad.csv").to_arrow()
    with produced(data) as pipe, pytest.raises(mf.BadRecordError) as of_stream:
        session.read_csv(pipe.path).to_arrow()
    assert str(of_stream.value).replace(pipe.path, "bad.csv") == str(of_file.value)


def _quarantine(session: mf.Session) -> str:
    assert session.last_run is not None
    assert session.last_run.quarantine is not None
    return session.last_run.quarantine


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
def test_quarantined_records_have_their_places(session: mf.Session, tmp_path: Path) -> None:
    data = _CSV.replace(b"\n70,", b"\nx,").replace(b"\n2100,", b"\ny,")
    options: Any = {"schema": "id:int64,text:string,n:int64", "on_bad_record": "quarantine"}
    Path("q.csv").write_bytes(data)
    with mf.Session(runs_dir=tmp_path) as other:
        rows = other.read_csv("q.csv", **options).count()
        expected = mf.read(_quarantine(other)).select("byte_offset", "line", "reason").to_arrow()
    with mf.Session(shard_size=4096, workers=2, runs_dir=tmp_path / "s") as other, produced(data) as pipe:
        assert other.read_csv(pipe.path, **options).count() == rows
        found = mf.read(_quarantine(other)).select("byte_offset", "line", "reason").to_arrow()
    assert found.equals(expected)
    assert found.num_rows == 2


def test_a_record_longer_than_many_blocks() -> None:
    data = b'id,text\n1,"' + b"long\n" * 60_000 + b'"\n2,b\n'
    with mf.Session(shard_size=4096, workers=2, memory="64MiB") as session, produced(data) as pipe:
        rows = session.read_csv(pipe.path, schema="id:int64,text:string").to_arrow()
    assert rows["id"].to_pylist() == [1, 2]
    assert len(rows["text"][0].as_py()) == 300_000


def test_a_damaged_stream_fails_behind_the_rows_before(session: mf.Session) -> None:
    packed, schema = gzip.compress(_csv(60_000), 1), "id:int64,text:string,n:int64"
    with produced(packed[: len(packed) // 2]) as pipe:
        first = session.read_csv(pipe.path, schema=schema).select("id").limit(3).to_arrow()
        assert first["id"].to_pylist() == [0, 1, 2]
    with produced(packed[: len(packed) // 2]) as pipe:
        batches = session.read_csv(pipe.path, schema=schema).iter_batches()
        assert sum(next(batches).num_rows for _ in range(3)) > 100
        with pytest.raises(mf.SourceError, match=r"can't decompress .*gzip.* cut short"):
            list(batches)


def test_queries_over_a_stream(session: mf.Session) -> None:
    Path("o.csv").write_bytes(_CSV)
    query = "SELECT n, count(*) AS c, min(id) AS m FROM '{}' WHERE text <> 'plain' GROUP BY n ORDER BY n"
    expected = session.sql(query.format("o.csv")).to_arrow()
    with produced(_CSV) as pipe:
        assert session.sql(query.format(pipe.path)).to_arrow() == expected
    joined = "SELECT count(*) AS c FROM read_csv('{}') a JOIN 'o.csv' b ON a.id = b.id"
    with produced(_CSV) as pipe:
        assert session.sql(joined.format(pipe.path)).to_arrow()["c"].to_pylist() == [3000]


def test_text_of_another_encoding_is_noticed(session: mf.Session) -> None:
    for data, encoding in (
        ("Łódź\nx\n".encode("utf-16"), "utf-16"),
        ("only Latin letters\nx\n".encode("utf-16-be"), "utf-16-be"),
        ("łóß\n".encode("utf-32"), "utf-32"),
    ):
        with produced([data]) as pipe, pytest.raises(mf.SourceError, match=f"set encoding='{encoding}'"):
            session.read_text(pipe.path).to_arrow()
        with produced([data]) as pipe:
            assert session.read_text(pipe.path, encoding=encoding).count() == data.decode(encoding).count(
                "\n"
            )


def test_each_block_has_the_start_of_the_stream(session: mf.Session) -> None:
    """With the format and the schema stated, planning looks at nothing, and tasks at the first bytes."""
    lines = b'{"a":1,"b":2}\n' * 20_000
    with produced(_pieces(lines, [50_000])) as pipe:
        read = session.read_ndjson(pipe.path, schema="a:int64", on_new_field="json")
        assert read.count() == 20_000


def test_a_record_longer_than_blocks_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of blank lines within one record hold no record: they were verified twice, and the run failed."""
    monkeypatch.setattr(stream, "_FIRST_BLOCK", 64)
    session = mf.Session(shard_size=64, workers=2)
    text = b"id,text,n\n" + b"".join(
        b'%d,"%s",0\n' % (i, b"\n" * (300 if i % 5 == 2 else 1)) for i in range(20)
    )
    with produced([text]) as pipe:
        found = (
            session.read_csv(pipe.path, schema="id:int64,text:string,n:int64")
            .select("id", "_line")
            .to_dicts()
        )
    line, expected = 2, []
    for i in range(20):
        expected.append({"id": i, "_line": line})
        line += 301 if i % 5 == 2 else 2
    assert found == expected
