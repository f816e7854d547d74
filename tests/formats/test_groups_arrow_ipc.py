"""Arrow IPC: views of the mapping, equal rows for every tiling, nothing invalid handed on."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmflow.errors import SourceError
from mmflow.formats import ScanRequest, from_spec, open_format
from mmflow.mapping import Io, MappedFile
from mmflow.shards import Shard
from tests.formats.group_rows import read

ROWS = 2000


def sample(rows: int) -> pa.Table:
    numbers = np.arange(rows)
    text = [None if n % 7 == 0 else f"text number {n} é" * (n % 3) for n in range(rows)]
    return pa.table(
        {
            "n": pa.array(numbers, pa.int64()),
            "s": pa.array(text),
            "sv": pa.array(text, pa.string_view()),
            "dict": pa.array([None if t is None else t[-3:] for t in text]).dictionary_encode(),
            "ll": pa.array([[t] if t else None for t in text], pa.large_list(pa.large_string())),
            "st": pa.array([{"a": n, "b": t} for n, t in enumerate(text)]),
            "h": pa.array(numbers % 100, pa.float32()).cast(pa.float16()),
            "d": pa.array(numbers).cast(pa.decimal128(20, 0)),
            "b": pa.array(numbers % 2 == 0),
            "none": pa.nulls(rows),
        }
    )


def write(
    path: Path, table: pa.Table, *, rows: int = 100, stream: bool = False, compression: str | None = None
) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=stream)
    opening = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opening(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.fixture(scope="module", params=[None, "lz4", "zstd"])
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ipc") / "big.arrow"
    return write(path, sample(ROWS), compression=request.param)


@given(
    cuts=st.lists(st.integers(1, 80), max_size=12),
    batch_rows=st.sampled_from([1000, 64, 7]),
    io=st.sampled_from(["mmap", "pread"]),
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_the_same_for_every_tiling(big: Path, cuts: list[int], batch_rows: int, io: Io) -> None:
    form = open_format("arrow_ipc", [str(big)])
    rows, reports = read(form, big, cuts=cuts, io=io, batch_rows=batch_rows)
    assert rows == sample(ROWS).to_pylist()
    assert reports[-1].next == ROWS // 100
    assert sum(r.records for r in reports) == ROWS


def test_every_page_a_shard(big: Path) -> None:
    form = open_format("arrow", [str(big)])
    rows, reports = read(form, big, cuts=range(1000), columns=["n"])
    assert [r["n"] for r in rows] == list(range(ROWS))
    assert sum(r.first < r.next for r in reports) > 10


@pytest.mark.parametrize("columns", [["b"], ["st", "n"], [], ["dict"]])
def test_only_wanted_columns_are_decoded(big: Path, columns: Sequence[str]) -> None:
    form = open_format("arrow", [str(big)])
    rows, reports = read(form, big, columns=columns, cuts=[3, 9])
    assert rows == (sample(ROWS).select(columns).to_pylist() if columns else [{}] * ROWS)
    _, every = read(form, big)
    assert sum(r.bytes_read for r in reports) < every[0].bytes_read / 2


def test_an_uncompressed_file_is_not_copied(tmp_path: Path) -> None:
    path = write(tmp_path / "f.arrow", sample(ROWS).select(["n", "s", "sv", "d"]), rows=ROWS)
    form = open_format("arrow", [str(path)])
    request = ScanRequest(("n", "s", "sv", "d"))
    before = pa.total_allocated_bytes()
    with MappedFile.open(str(path), io="mmap") as file:
        (batch,) = form.scan(file, Shard(0, 0, file.size, fresh=True), request)
    # What is new are the 16 bytes for each text: the numbers and the text itself stay in the mapping.
    gc.collect()
    assert pa.total_allocated_bytes() - before < 20 * ROWS + 4096
    text = sum(len(t.encode()) for name in ("s", "sv") for t in sample(ROWS)[name].to_pylist() if t)
    assert text > 20 * ROWS + 4096
    assert batch.column("n").to_pylist() == list(range(ROWS))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_streams_are_one_shard(tmp_path: Path, compression: str | None) -> None:
    path = write(tmp_path / "s.arrows", sample(ROWS), stream=True, compression=compression)
    form = open_format("arrow", [str(path)])
    assert not form.splittable
    rows, reports = read(form, path)
    assert rows == sample(ROWS).to_pylist()
    assert (reports[0].first, reports[0].next) == (0, ROWS // 100)
    assert read(form, path, columns=[])[0] == [{}] * ROWS
    assert from_spec(form.spec()) == form
    # Its end marker may be missing: a stream that is still written has none.
    path.write_bytes(path.read_bytes()[:-8])
    assert len(read(form, path)[0]) == ROWS


def test_streams_with_dictionaries_that_change(tmp_path: Path) -> None:
    path = tmp_path / "s.arrows"
    batches = [
        pa.record_batch({"k": pa.array(t).dictionary_encode()}) for t in (["a", "b"], ["c"], ["b", None])
    ]
    with pa.ipc.new_stream(str(path), batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    assert [r["k"] for r in read(open_format("arrow", [str(path)]), path)[0]] == ["a", "b", "c", "b", None]


def test_files_and_streams_together(tmp_path: Path) -> None:
    a = write(tmp_path / "a.arrow", sample(10))
    b = write(tmp_path / "b.arrow", sample(10), stream=True)
    form = open_format("arrow", [str(a), str(b)])
    assert not form.splittable
    assert read(form, a)[0] == read(form, b)[0] == sample(10).to_pylist()


def test_big_endian_files_are_converted(tmp_path: Path) -> None:
    # pyarrow can't write them: this stream's schema message says big-endian, as its numbers are.
    path = write(tmp_path / "s.arrows", pa.table({"n": pa.array([1, 256, -2], pa.int32())}), stream=True)
    data = bytearray(path.read_bytes())
    little = np.array([1, 256, -2], "<i4").tobytes()
    at = data.index(little)
    data[at : at + 12] = np.array([1, 256, -2], ">i4").tobytes()
    with pa.ipc.open_stream(path) as reader:
        metadata = reader.schema.serialize().to_pybytes()
    assert metadata in data
    data[: len(metadata)] = _big_endian(metadata)
    path.write_bytes(data)
    assert read(open_format("arrow", [str(path)]), path)[0] == [{"n": 1}, {"n": 256}, {"n": -2}]


def _big_endian(message: bytes) -> bytes:
    """The schema message with its flatbuffers field `endianness` (default: absent) set to Big.

    The field is absent in what pyarrow writes; the schema table's vtable has a slot of 0 for it. It is pointed
    at two bytes that hold 1: those of the table's own padding, or of the message's version, are searched for.
    """
    body = bytearray(message)
    root = 8 + int.from_bytes(body[8:12], "little")  # Message
    vtable = root - int.from_bytes(body[root : root + 4], "little", signed=True)
    header = int.from_bytes(body[vtable + 8 : vtable + 10], "little")  # Message.header: slot 2
    place = root + header
    schema = place + int.from_bytes(body[place : place + 4], "little")
    vtable = schema - int.from_bytes(body[schema : schema + 4], "little", signed=True)
    assert int.from_bytes(body[vtable + 4 : vtable + 6], "little") == 0, "endianness is absent"
    ones = [p for p in range(schema, len(body) - 1) if body[p : p + 2] == b"\1\0" and p < schema + 2**15]
    body[vtable + 4 : vtable + 6] = (ones[0] - schema).to_bytes(2, "little")
    return bytes(body)


# ---- what can't be read ------------------------------------------------------------------------


def test_damage_is_an_error_or_harmless(tmp_path: Path) -> None:
    for stream in (False, True):
        good = write(tmp_path / "good.arrow", sample(200).drop_columns("h"), rows=50, stream=stream)
        data = good.read_bytes()
        bad = tmp_path / "bad.arrow"
        caught = 0
        for place in range(0, len(data), max(1, len(data) // 150)):
            bad.write_bytes(data[:place] + bytes([data[place] ^ 0xA5]) + data[place + 1 :])
            try:
                # `read` validates every batch in full again: what is not caught must be valid.
                read(open_format("arrow", [str(bad)]), bad)
            except SourceError as error:
                assert str(bad) in str(error)
                caught += 1
        assert caught > 5


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize(
    ("offsets", "text"),
    [
        ([0, 3, 2, 9], "abcdefghi"),
        ([0, 3, 900, 9], "abcdefghi"),
        ([0, 3, -1, 9], "abcdefghi"),
        ([0, 3, 6, 10_000], "abcdefghi"),
        ([-1, 3, 6, 9], "abcdefghi"),
        ([0, 3, 6, 9], "abcdef\udcffhi"),
        ([0, 3, 6, 9], "abcdefgh\udcc3"),
        ([0, 4, 6, 9], "abcéfghi"),
    ],
)
def test_damaged_text_is_the_error_that_pyarrow_gives(
    tmp_path: Path, kind: pa.DataType, offsets: list[int], text: str
) -> None:
    table = pa.table({"n": [1, 2, 3], "s": pa.array(["abc", "def", "ghi"], kind), "t": ["x", "y", "z"]})
    path = write(tmp_path / "f.arrow", table)
    width = "<i4" if kind == pa.string() else "<i8"
    data = path.read_bytes()
    for good, bad in (
        (np.array([0, 3, 6, 9], width).tobytes(), np.array(offsets, width).tobytes()),
        (b"abcdefghi", text.encode(errors="surrogateescape")),
    ):
        assert data.count(good) == 1
        data = data.replace(good, bad)
    path.write_bytes(data)
    form = open_format("arrow", [str(path)])
    with pa.OSFile(str(path)) as source, pytest.raises(pa.ArrowInvalid) as judged:
        pa.ipc.open_file(source).get_batch(0).validate(full=True)
    assert "In column 1: " in str(judged.value)
    with pytest.raises(SourceError) as error:
        read(form, path)
    assert f"f.arrow: it is damaged, or no Arrow IPC file: {judged.value}" in str(error.value)
    # What is not read is not judged.
    assert read(form, path, columns=["t"])[0] == [{"t": "x"}, {"t": "y"}, {"t": "z"}]


def test_text_of_nulls_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "f.arrow", pa.table({"s": pa.array(["é", "abc", None, "twelve and more"])}))
    data = path.read_bytes()
    before = np.array([0, 2, 5, 5, 20], "<i4").tobytes()
    assert data.count(before) == 1
    # The null takes the last byte of a text that is then cut within a character.
    data = data.replace(before, np.array([0, 2, 4, 5, 20], "<i4").tobytes()).replace(
        b"abctwelve", b"ab\xfftwelve"
    )
    path.write_bytes(data)
    rows, _ = read(open_format("arrow", [str(path)]), path)
    assert [r["s"] for r in rows] == ["é", "ab", None, "twelve and more"]


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1, -5, -100])
def test_files_cut_short(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "f.arrow", sample(50))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match=r"f\.arrow"):
        read(open_format("arrow", [str(path)]), path)


def test_streams_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "s.arrow", sample(500), stream=True)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"s\.arrow.*damaged"):
        read(open_format("arrow", [str(path)]), path)


def test_duplicate_columns_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.arrow", pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(SourceError, match="two of its columns are named 'a'"):
        open_format("arrow", [str(path)])


def test_feather(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2]})
    pyarrow.feather.write_feather(table, str(tmp_path / "v2.feather"))
    assert (
        read(open_format("feather", [str(tmp_path / "v2.feather")]), tmp_path / "v2.feather")[0]
        == table.to_pylist()
    )
    (tmp_path / "v1.feather").write_bytes(b"FEA1" + bytes(100) + b"FEA1")
    with pytest.raises(SourceError, match="Feather of version 1"):
        open_format("feather", [str(tmp_path / "v1.feather")])


def test_run_ends_and_extensions_become_plain(tmp_path: Path) -> None:
    table = pa.table({
        "r": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["x", None])),
        "u": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 3, pa.binary(16))),
    })  # fmt: skip
    path = write(tmp_path / "f.arrow", table, rows=2)
    rows, _ = read(open_format("arrow", [str(path)]), path)
    assert rows == [{"r": "x", "u": b"0" * 16}, {"r": "x", "u": b"0" * 16}, {"r": None, "u": b"0" * 16}]


def test_columns_of_other_files_are_matched_by_name(tmp_path: Path) -> None:
    a = write(tmp_path / "a.arrow", pa.table({"x": pa.array([1], pa.int64()), "y": ["s"]}))
    b = write(tmp_path / "b.arrow", pa.table({"y": ["t"], "x": pa.array([2], pa.int8())}))
    c = write(tmp_path / "c.arrow", pa.table({"y": ["t"]}))
    form = open_format("arrow", [str(a), str(b), str(c)])
    assert read(form, b)[0] == [{"x": 2, "y": "t"}]
    with pytest.raises(SourceError, match=r"a\.arrow has a column 'x', which .*c\.arrow lacks"):
        read(form, c)


def test_batches_without_rows_and_files_without_batches(tmp_path: Path) -> None:
    empty: dict[str, Any] = {"x": pa.array([], pa.int64())}
    path = tmp_path / "f.arrow"
    with pa.ipc.new_file(str(path), pa.table(empty).schema) as writer:
        for values in ([], [1], [], [2]):
            writer.write_batch(pa.record_batch({"x": pa.array(values, pa.int64())}))
    form = open_format("arrow", [str(path)])
    rows, reports = read(form, path)
    assert [r["x"] for r in rows] == [1, 2]
    assert reports[0].next == 4
    with pa.ipc.new_file(str(path), pa.table(empty).schema):
        pass
    assert read(form, path)[0] == []
