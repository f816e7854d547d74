"""Rows by number: whatever is asked for, what `to_arrow()` has there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.api.options import OnBadRecord
from mmflow.config import IoName

from .tiny import forget_all, tiny

few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

_good = {
    "csv": [b"a,1\n", b'"x\ny",2\r\n', b'"""q""",3\n', b"\n", b"\r\n", b",\n", b'"\n\n\n",4\n', b"y" * 300 + b",5\n"],
    "ndjson": [b'{"h": "a", "i": "b"}\n', b'{"h": "\\n", "i": null}\r\n', b"\n", b" \n", b"{}\n",
               b'{"h": "' + b"y" * 300 + b'"}\n'],
    "text": [b"a\n", b"\n", b"\r\n", b"b" * 300 + b"\n", b"c\r\n", b"\0\0d\n", b"e"],
}  # fmt: skip
_bad = {
    "csv": [b"z,z,z\n", b'"a"b,6\n', b"q\n", b"\0\0", b"7,\xff\n"],
    "ndjson": [b'{"h": 5}\n', b"{\n", b"[]\n", b"\0"],
    "text": [b"\xff\n"],
}


def _contents(form: str) -> st.SearchStrategy[bytes]:
    pieces = st.sampled_from(_good[form]) | st.sampled_from(_good[form] + _bad[form])
    return (st.lists(st.sampled_from(_good[form]), max_size=40) | st.lists(pieces, max_size=40)).map(b"".join)


_ends = st.sampled_from([b"", b"last,8", b'"last\n",9', b"\n\n", b'"open'])
_files = st.sampled_from(["csv", "ndjson", "text"]).flatmap(
    lambda form: st.tuples(
        st.just(form),
        st.lists(st.tuples(_contents(form), _ends), min_size=1, max_size=3),
    )
)
_policies = st.sampled_from(["error", "null", "skip", "quarantine"])
_asked = st.lists(st.integers(0, 10**6), max_size=20)


def _open(
    session: mf.Session, paths: list[str], form: str, policy: OnBadRecord, quote: bool = True
) -> mf.Dataset:
    if form == "text":
        return session.read_text(paths, on_bad_record=policy)
    if form == "ndjson":
        return session.read_ndjson(paths, schema="h:string,i:string", on_bad_record=policy)
    return session.read_csv(
        paths, schema="h:string,i:string", on_bad_record=policy, quote='"' if quote else "", header=quote
    )


def _same(got: pa.Table, wanted: pa.Table, rows: list[int]) -> None:
    assert got.schema == wanted.schema
    assert got.to_pylist() == wanted.take(pa.array(rows, pa.int64())).to_pylist()


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
@given(
    files=_files,
    policy=_policies,
    quote=st.booleans(),
    asked=_asked,
    spacing=st.sampled_from([1, 40, 500]),
    ways=st.tuples(
        st.sampled_from([4096, 1 << 20]), st.sampled_from(["mmap", "pread"]), st.sampled_from([1, 90])
    ),
    ends=st.tuples(st.integers(-60, 60), st.integers(-60, 60), st.sampled_from([None, 1, 3, -1, -2])),
    long=st.booleans(),
)
@few
def test_rows_are_those_of_to_arrow(
    tmp_path: Path, files: Any, policy: OnBadRecord, quote: bool, asked: list[int], spacing: int, ways: Any, ends: Any,
    long: bool,
) -> None:  # fmt: skip
    """Quoted line breaks, blank lines, bad records, several files; through an index, a sidecar, and from the end."""
    form, contents = files
    size, io, suffix = ways
    paths = []
    for number, (content, end) in enumerate(contents):
        path = tmp_path / f"f{number}"
        head = b"h,i\n" if form == "csv" else b""
        path.write_bytes(head + (content * 8 if long else content) + end)
        paths.append(str(path))
    session = mf.Session(workers=2, shard_size=size, io=io)
    with tiny(spacing, copy=spacing * 4, suffix=suffix):
        ds = _open(session, paths, form, policy, quote)
        try:
            wanted = ds.to_arrow()
        except mf.BadRecordError:
            assume(False)
        count = len(wanted)
        if count:
            rows = [n % count - (count if n % 2 else 0) for n in asked]
            for again in range(2):
                _same(ds.take(rows), wanted, [r % count for r in rows])
                _same(ds.take(range(count)), wanted, list(range(count)))
                assert (
                    ds[rows[0] if rows else -1]
                    == wanted.take([rows[0] % count if rows else count - 1]).to_pylist()[0]
                )
                if not again:
                    forget_all()  # but for the sidecars
        _same(ds[ends[0] : ends[1] : ends[2]], wanted, list(range(count))[ends[0] : ends[1] : ends[2]])
        _same(ds[ends[0] :], wanted, list(range(count))[ends[0] :])
        for number in (count, -count - 1):
            with pytest.raises(IndexError, match=f"{count:,} rows"):
                ds[number]


@given(
    files=_files,
    asked=_asked,
    spacing=st.sampled_from([1, 40, 500]),
    policy=st.sampled_from(["null", "skip"]),
)
@settings(few, max_examples=20)
@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
def test_virtual_columns_and_columns_that_are_left_out(
    tmp_path: Path, files: Any, asked: list[int], spacing: int, policy: OnBadRecord
) -> None:
    form, contents = files
    head = b"h,i\n" if form == "csv" else b""
    path = tmp_path / "f"
    path.write_bytes(head + b"".join(c + (e if form != "csv" else b"") for c, e in contents))
    with tiny(spacing, copy=spacing * 3):
        ds = _open(mf.Session(workers=2, shard_size=4096), [str(path)], form, policy)
        first = ds.columns[-1]
        some = ds.select("_line", first, "_file", "_offset").rename({first: "x"})
        wanted = some.to_arrow()
        rows = [n % len(wanted) for n in asked] if len(wanted) else []
        _same(some.take(rows), wanted, rows)
        few_columns = some.drop("_line", "_file")
        _same(few_columns[-5:], few_columns.to_arrow(), list(range(len(wanted)))[-5:])
        if len(ds.columns) == 2:
            one = ds.select(mf.col("h"))  # other columns may make other records bad
            kept = one.to_arrow()
            _same(one[2:9], kept, list(range(len(kept)))[2:9])


# ---- formats with computable places ------------------------------------------------------------------


def _table(count: int) -> pa.Table:
    rng = np.random.default_rng(3)
    numbers = pa.array(rng.integers(0, 9, count), mask=rng.random(count) < 0.2)
    texts = pa.array([None if i % 5 == 0 else "t" * (i % 40) + str(i) for i in range(count)])
    return pa.table(
        {
            "n": numbers,
            "s": texts,
            "v": texts.cast(pa.string_view()),
            "l": texts.cast(pa.large_string()),
            "d": texts.dictionary_encode(),
            "b": pa.array([i % 3 == 0 for i in range(count)]),
            "x": pa.array([[j * 0.5 for j in range(i % 4)] for i in range(count)]),
            "st": pa.array([{"a": i, "b": f"é{i}"} for i in range(count)]),
            "t": pa.array(range(count), pa.timestamp("us", "UTC")),
            "f": pa.array([bytes([i % 250] * 4) for i in range(count)], pa.binary(4)),
        }
    )


def _write_ipc(path: Path, table: pa.Table, rows: int, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
    with pa.ipc.new_file(path, table.schema, options=options) as sink:
        sink.write_table(table, rows)
        sink.write_table(table.slice(0, 0))


_RECORD = np.dtype([("id", "<i8"), ("k", ">i4"), ("t", "S9"), ("o", "?")])
_LAYOUT = [
    {"name": "id", "type": "int64", "offset": 0},
    {"name": "k", "type": "int32", "offset": 8, "order": "big"},
    {"name": "t", "type": "char[9]", "offset": 12},
    {"name": "o", "type": "bool", "offset": 21},
]


def _write_records(path: Path, count: int) -> None:
    rows = np.zeros(count, _RECORD)
    rows["id"], rows["k"], rows["o"] = range(count), range(count), np.arange(count) % 2
    rows["t"] = [f"r{i}".encode() for i in range(count)]
    path.write_bytes(b"HEAD" + rows.tobytes() + b"cut")


def _datasets(folder: Path, session: mf.Session, count: int) -> dict[str, mf.Dataset]:
    table = _table(count)
    _write_ipc(folder / "a.arrow", table, 70)
    _write_ipc(folder / "z.arrow", table, 70, "zstd")
    _write_ipc(folder / "one.arrow", table.slice(0, 1), 70)
    pq.write_table(table.drop(["v"]), folder / "a.parquet", row_group_size=90)
    for year in (2024, 2025):
        (folder / "hive" / f"year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"i": range(year)}), folder / "hive" / f"year={year}" / "x.parquet")
    rng = np.random.default_rng(5)
    np.save(folder / "c.npy", rng.random((count, 3)))
    np.save(folder / "f.npy", np.asfortranarray(rng.integers(0, 9, (count, 3)).astype(">i2")))
    dtype = [("a", "<f4"), ("s", "S20"), ("u", "U3"), ("d", "M8[D]"), ("t", "m8[s]")]
    named = np.zeros(count, dtype)
    named["s"], named["d"] = [b"x" * (i % 20) for i in range(count)], np.arange(count)
    np.save(folder / "s.npy", named)
    for name in ("r1.bin", "r2.bin"):
        _write_records(folder / name, count)
    records = session.read_records(
        [str(folder / "r1.bin"), str(folder / "r2.bin")], layout=_LAYOUT, header_bytes=4, on_bad_record="null"
    )
    return {
        "ipc": session.read([str(folder / f"{n}.arrow") for n in ("a", "one", "z")]),
        "ipc columns": session.read(str(folder / "z.arrow")).select("d", "n"),
        "parquet": session.read(str(folder / "a.parquet")),
        "parquet columns": session.read(str(folder / "a.parquet")).select("st", "b"),
        "hive": session.read(str(folder / "hive")),
        "folders only": session.read(str(folder / "hive")).select("year"),
        "npy": session.read(str(folder / "c.npy")),
        "npy columns": session.read(str(folder / "c.npy")).select("c2"),
        "fortran": session.read(str(folder / "f.npy")),
        "structured": session.read(str(folder / "s.npy")),
        "records": records,
        "records, virtual": records.select("_offset", "t", "_file", "_line"),
    }


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_formats_with_computable_places(tmp_path: Path, io: IoName) -> None:
    session = mf.Session(workers=2, io=io)
    for name, ds in _datasets(tmp_path, session, 500).items():
        wanted = ds.to_arrow()
        count = len(wanted)
        rng = np.random.default_rng(1)
        for rows in ([0], [count - 1, 0, 0, 7], rng.integers(-count, count, 300).tolist(), range(count)):
            got = ds.take(rows)
            assert got.schema == wanted.schema, name
            assert got.equals(wanted.take(pa.array([r % count for r in rows]))), name
        assert ds[3:8].equals(wanted.slice(3, 5)), name
        assert ds[-8:-3].equals(wanted.slice(count - 8, 5)), name
        assert ds[::-1].equals(wanted.take(pa.array(range(count)[::-1]))), name
        assert ds[5:7].equals(wanted.slice(5, 2)), name
        assert ds[-5:].equals(wanted.slice(count - 5)), name
        assert ds.take([]).equals(wanted.slice(0, 0)), name
        with pytest.raises(mf.OutOfRangeError):
            ds.take([count])
    assert not [n for _, _, names in os.walk(tmp_path) for n in names if "mmflow-index" in n]


def test_big_endian_ipc_and_one_whose_batches_lie_in_another_order(tmp_path: Path) -> None:
    big = pa.table({"a": range(10)})
    _write_ipc(tmp_path / "x.arrow", big, 3)
    assert mf.read(str(tmp_path / "x.arrow")).take([9, 0])["a"].to_pylist() == [9, 0]
    _write_ipc(tmp_path / "none.arrow", big.slice(0, 0), 3)
    assert len(mf.read(str(tmp_path / "none.arrow"))[:5]) == 0


def test_damaged_ipc_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    _write_ipc(path, pa.table({"a": range(1000)}), 100)
    sound = path.read_bytes()
    rng = np.random.default_rng(2)
    for place in rng.integers(max(0, len(sound) - 600), len(sound), 150).tolist():
        data = bytearray(sound)
        data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            assert mf.read(str(path)).take([999, 0]).num_rows == 2
        except mf.SourceError as error:
            assert str(path) in str(error)
        except mf.OutOfRangeError:
            pass


# ---- what is refused ----------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("k,v\n" + "".join(f"k{i},{i}\n" for i in range(100)))
    return path


def test_a_dataset_that_was_computed_has_no_row_numbers(csv: Path) -> None:
    ds = mf.read_csv(str(csv))
    computed = [
        ds.filter(mf.col("v") > 3), ds.limit(5), ds.sort("v"), ds.distinct(), ds.with_columns(w=1), ds.union(ds),
        ds.select("v", (mf.col("v") + mf.lit(1)).alias("w")), mf.sql("SELECT * FROM t", t=ds), mf.from_arrow({"a": [1]}),
    ]  # fmt: skip
    uses: list[Callable[[mf.Dataset], Any]] = [
        lambda d: d.take([1]), lambda d: d[1], lambda d: d[1:2]
    ]  # fmt: skip
    for made in computed:
        for use in uses:
            with pytest.raises(mf.PlanError, match=r"as it was read.*limit\(count, offset\)"):
                use(made)


def test_numbers_that_are_none(csv: Path) -> None:
    ds = mf.read_csv(str(csv))
    for wrong in ([1.5], [True], ["1"], "12", 5, [None], pa.array([1, None]), np.zeros((2, 2), int), {1: 2}):
        with pytest.raises(mf.ConfigError, match="row"):
            ds.take(wrong)
    for wrong in (1.5, True, "a", None):
        with pytest.raises(mf.ConfigError, match="integers"):
            ds[wrong]  # type: ignore[index]  # wrong on purpose
    with pytest.raises(mf.ConfigError, match="0"):
        ds[::0]
    with pytest.raises(mf.PlanError, match="negative"):
        ds.slice(0, -1)
    with pytest.raises(mf.OutOfRangeError, match=r"has 100 rows, so there is no row 1,000"):
        ds.take([1, 1000])
    for huge in ([10**30], np.array([2**63], np.uint64)):
        with pytest.raises(IndexError, match="no file has so many"):
            ds.take(huge)
    with pytest.raises(TypeError, match="not iterable"):
        list(ds)  # type: ignore[call-overload]  # wrong on purpose
    with pytest.raises(TypeError):
        1 in ds  # type: ignore[misc]  # noqa: B015
    assert ds.take(np.array([3, 1], np.uint8))["v"].to_pylist() == [3, 1]
    assert ds.take(pa.chunked_array([[3], [1]]))["v"].to_pylist() == [3, 1]
    assert ds[np.int64(4)] == {"k": "k4", "v": 4}


def test_what_can_only_be_read_from_its_start(tmp_path: Path) -> None:
    import gzip

    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"a\n1\n2\n"))
    with pytest.raises(mf.PlanError, match=r"compressed.*decompress it"):
        mf.read(str(packed)).take([1])
    stream = tmp_path / "a.arrows"
    table = pa.table({"a": [1, 2]})
    with pa.ipc.new_stream(stream, table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(mf.PlanError, match="streams can only be read from their start"):
        mf.read(str(stream))[0]
    records = tmp_path / "r.bin"
    _write_records(records, 5)
    ds = mf.read_records(str(records), layout=_LAYOUT, header_bytes=4, on_bad_record="skip")
    for columns in (ds.columns, ["k"]):  # its text decides which records are rows, also where it is not read
        with pytest.raises(mf.PlanError, match="can't be computed"):
            ds.select(*columns)[0]


# ---- bad records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [False, True], ids=["few", "many"])
def test_a_bad_value_is_met_only_where_it_is_asked_for(tmp_path: Path, every: bool) -> None:
    path = tmp_path / "a.csv"
    rows = [f"k{i},{i}" for i in range(1000)]
    rows[700] = '"two\nlines",seven'
    path.write_text("k,v\n" + "\n".join(rows))
    ds = mf.read_csv(str(path), schema="k:string,v:int64")
    others = [n for n in (range(1000) if every else (3, 699, 701)) if n != 700]
    with tiny(200, kept=False):
        assert ds.take(others)["v"].to_pylist() == others
        with pytest.raises(mf.BadRecordError) as caught:
            ds.take([*others, 700])
        with pytest.raises(mf.BadRecordError) as plain:
            ds.to_arrow()
        assert caught.value.context == plain.value.context
        assert ds[-2:]["v"].to_pylist() == [998, 999]
        assert ds.select("k")[700] == {"k": "two\nlines"}
        strict = mf.read_csv(str(path), schema="k:string,v:int64", validate="all").select("k")
        with pytest.raises(mf.BadRecordError, match="record 700"):
            strict.take([*others, 701])


def test_a_broken_record_is_met_by_whoever_looks_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("k,v\n" + "".join(f"k{i},{i}\n" for i in range(1000)) + "a,b,c\n" + "z,1\n" * 50)
    ds = mf.read_csv(str(path), schema="k:string,v:int64")
    with tiny(200, kept=False):
        assert ds[5] == {"k": "k5", "v": 5}
        with pytest.raises(mf.BadRecordError, match="line 1,002, record 1,000"):
            ds[1010]
        plain = mf.read_csv(str(path), schema="k:string,v:int64", quote="")
        with pytest.raises(mf.BadRecordError, match="line 1,002, record 1,000"):
            plain[-51:]


def test_records_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "r.bin"
    _write_records(path, 50)
    data = bytearray(path.read_bytes())
    data[4 + 20 * 22 + 12] = 0xFF
    path.write_bytes(data)
    ds = mf.read_records(str(path), layout=_LAYOUT, header_bytes=4)
    assert ds.take([19, 21])["t"].to_pylist() == ["r19", "r21"]
    with pytest.raises(mf.BadRecordError, match="record 20, byte offset 444"):
        ds.take([21, 20])
    nulled = mf.read_records(str(path), layout=_LAYOUT, header_bytes=4, on_bad_record="null")
    assert nulled.take([20, 21])["t"].to_pylist() == [None, "r21"]


def test_json_that_is_closed_to_other_fields_finds_them_behind_an_open_ones_index(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text("".join(json.dumps({"a": i, **({"b": 1} if i == 50 else {})}) + "\n" for i in range(100)))
    with tiny(100):
        opened = mf.read_ndjson(str(path), schema="a:int64")
        assert opened.take([99, 0])["a"].to_pylist() == [99, 0]
        closed = mf.read_ndjson(str(path), schema="a:int64", on_new_field="error")
        with pytest.raises(mf.BadRecordError, match="record 50"):
            closed.take([50])
