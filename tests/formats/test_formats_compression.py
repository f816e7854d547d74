"""First bytes say whether and how a file is compressed, whatever its name."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.cli.main import main
from mmflow.errors import SourceError
from mmflow.formats.compression import detect_compression

ROWS = 3_000
CSV = b"k,s\n" + b"".join(b'%d,"quoted\n%d"\n' % (i, i) for i in range(ROWS))
NDJSON = b"".join(b'{"k":%d}\n' % i for i in range(ROWS))
SUM = ROWS * (ROWS - 1) // 2


def packed(data: bytes, codec: str) -> bytes:
    if codec == "plain":
        return data
    if codec == "xz":
        return lzma.compress(data)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow has no types


def total(source: str) -> object:
    return mf.sql(f"SELECT sum(k) AS s FROM '{source}'").to_arrow()["s"][0].as_py()


@pytest.fixture
def session() -> mf.Session:
    return mf.Session(shard_size=1 << 13, workers=2)


CODECS = ("plain", "gzip", "zstd", "bz2", "lz4", "xz")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst", "a.CSV.XZ"])
def test_csv_of_any_compression_under_any_name(
    tmp_path: Path, session: mf.Session, name: str, codec: str
) -> None:
    path = tmp_path / name
    path.write_bytes(packed(CSV, codec))
    ds = session.read(str(path))
    assert ds.schema.names == ["k", "s"]
    rows = ds.select("k", "_line", "_offset").to_arrow()
    assert rows["k"].to_pylist() == list(range(ROWS))
    assert rows["_line"][-1].as_py() == 2 * ROWS  # lines and offsets are those of the text
    assert rows["_offset"][1].as_py() == CSV.index(b'1,"quoted')


@pytest.mark.parametrize("codec", CODECS)
def test_ndjson_and_text_of_any_compression(tmp_path: Path, session: mf.Session, codec: str) -> None:
    for name in ("a.ndjson", "a.txt", "a", "a.ndjson.bz2"):
        (tmp_path / name).write_bytes(packed(NDJSON, codec))
        assert session.read_text(str(tmp_path / name)).count() == ROWS
    for name in ("a.ndjson", "a", "a.ndjson.bz2"):
        read = session.read(str(tmp_path / name))
        assert session.sql("SELECT sum(k) AS s FROM t", t=read).to_arrow()["s"].to_pylist() == [SUM]


def test_a_folder_of_all_kinds(tmp_path: Path, session: mf.Session) -> None:
    for number, codec in enumerate(CODECS):
        (tmp_path / f"{number}.csv").write_bytes(packed(CSV, codec))
        (tmp_path / f"{number}.csv.gz").write_bytes(packed(CSV, codec))
    for pattern in ("", "/*.csv*"):
        rows = session.read_csv(f"{tmp_path}{pattern}").to_arrow()["k"]
        assert rows.to_pylist() == list(range(ROWS)) * 2 * len(CODECS)


def test_a_compressed_file_is_one_shard_and_a_plain_one_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packed.csv").write_bytes(packed(CSV, "gzip"))
    (tmp_path / "plain.csv.gz").write_bytes(CSV)
    found = {}
    for name in ("packed.csv", "plain.csv.gz"):
        assert main(["inspect", str(tmp_path / name), "--json", "--shard-size", "16KiB"]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    assert (found["packed.csv"]["shards"], found["packed.csv"]["compression"]) == (1, "gzip")
    assert found["plain.csv.gz"]["compression"] is None
    assert found["plain.csv.gz"]["shards"] == -(-len(CSV) // (16 << 10))
    assert main(["inspect", str(tmp_path / "packed.csv")]) == 0
    assert "compressed by gzip" in capsys.readouterr().out


def test_rows_by_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    (tmp_path / "b.csv.gz").write_bytes(CSV)
    (tmp_path / "c.csv").write_bytes(packed(CSV, "zstd"))
    assert mf.read(str(tmp_path / "b.csv.gz"))[7]["k"] == 7
    with pytest.raises(mf.PlanError, match=r"c\.csv is compressed.*decompress it"):
        mf.read(str(tmp_path)).take([1])


@pytest.mark.parametrize("codec", CODECS[1:])
def test_one_that_is_cut_short_is_damaged(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(packed(CSV, codec)[:-20])
    with pytest.raises(SourceError, match=f"can't decompress .*first bytes say {codec}"):
        mf.read_csv(str(path), schema="k:int64,s:string").to_arrow()


def test_a_name_that_promises_a_compression_of_bytes_that_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"\xde\xad\xbe\xef" + packed(CSV, "gzip"))
    with pytest.raises(SourceError, match=r"neither those of gzip.*nor text"):
        mf.read_csv(str(path))


def test_frames_to_be_skipped_are_of_what_the_name_says(tmp_path: Path) -> None:
    """Compressors of several threads (pzstd) write such a frame first."""
    frame = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    path = tmp_path / "a.csv.zst"
    path.write_bytes(frame + packed(CSV, "zstd"))
    assert total(str(path)) == SUM


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_formats_that_are_never_decompressed_say_what_they_met(tmp_path: Path, kind: str) -> None:
    plain = tmp_path / f"plain.{kind}"
    getattr(mf.from_arrow(pa.table({"a": [1, 2]})), f"write_{kind}")(str(plain))
    for name in (f"a.{kind}", f"a.{kind}.gz", "a.csv"):
        path = tmp_path / name
        path.write_bytes(packed(plain.read_bytes(), "gzip"))
        for read in (mf.read, mf.read_parquet, mf.read_arrow, mf.read_npy):
            with pytest.raises(SourceError, match=r"gzip.*decompress it"):
                read(str(path))


def test_compressed_records_are_refused_whatever_their_name(tmp_path: Path) -> None:
    layout = [{"name": "v", "type": "int64", "offset": 0}]
    path = tmp_path / "a.bin"
    path.write_bytes(packed(np.arange(8 * 1024).tobytes(), "gzip") + bytes(7))
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 8 * 8])
    ds = mf.read_records(str(path), layout=layout)
    for ask in (ds.to_arrow, lambda: ds.take([0])):
        with pytest.raises(SourceError, match="compressed, and binary records are not decompressed"):
            ask()
    numbers = [0x88B1F, 5, 6]  # begins as gzip does
    path.write_bytes(np.array(numbers, "<i8").tobytes())
    assert mf.read_records(str(path), layout=layout).to_arrow()["v"].to_pylist() == numbers


@given(st.text(max_size=600))
def test_no_text_is_taken_for_compressed(text: str) -> None:
    data = text.encode("utf-8", "ignore").replace(b"\0", b"")
    magic = data[:4] == b"\x04\x22\x4d\x18" or data[4:10] == b"1AY&SY"
    assert magic or detect_compression(data[:512], "a.csv.gz") is None


def test_what_the_kernel_leaves_to_the_reference_is_not_the_end(tmp_path: Path, session: mf.Session) -> None:
    """A quote within a value ended a compressed file 4 KiB behind it: all other records were lost, silently."""
    for rows in (1_000, 150_000):  # of one piece, and of several
        text = b"k,s\n" + b"".join(
            b'%d,"%d"\n' % (i, i) if i % 40_000 != 7 else b'%d,a"b\n' % i for i in range(rows)
        )
        (tmp_path / "a.csv.gz").write_bytes(packed(text, "gzip"))
        found = session.read(str(tmp_path / "a.csv.gz")).select("k", "_line").to_arrow()
        assert found["k"].to_pylist() == list(range(rows))
        assert found["_line"][-1].as_py() == rows + 1


def test_damage_says_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    whole = packed(CSV, "gzip")
    path.write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(SourceError, match=f"incorrect length check at byte {len(whole) - 8:,}, where the text is at {len(CSV):,};") as found:  # fmt: skip
        mf.read_csv(str(path), schema="k:int64,s:string").to_arrow()
    assert found.value.context["byte_offset"] == len(whole) - 8
    path.write_bytes(whole + whole[:-30])
    with pytest.raises(
        SourceError,
        match=r"truncated compressed stream at byte [0-9,]+, where the text is at [0-9,]+ \(member 2\)",
    ):
        mf.read_csv(str(path), schema="k:int64,s:string").to_arrow()
