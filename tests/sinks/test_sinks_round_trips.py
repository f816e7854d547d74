"""Rows read back equal, for every type and format, or the write is refused by name.

The table in docs/formats.md says the same in words.
"""

from __future__ import annotations

import datetime as dt
import math
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmflow.api.session import Session
from mmflow.errors import SinkError
from mmflow.formats.schemas.schema import public_schema

_FORMATS = ("csv", "ndjson", "parquet", "arrow", "npy")
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", "null", "NaN", "nan", "01", "true", '"', '""', "a,b", "a\nb", "\r\n", "\r", "\0", "\0a", "\ufeff", " x ", "\\", "\t",
     "2024-01-01", "-Infinity", "1e5", "{}", "[]"])  # fmt: skip
_BYTES = st.binary(max_size=5)


def _integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def _moments(unit: str) -> st.SearchStrategy[int]:
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    low, high = -62135596800 * per, 253402300800 * per - 1
    first = (
        -(2**63 // 10**9) * 10**9
    )  # CSV can't hold the part of a second before it, as docs/formats.md says
    return st.integers(max(low, first), min(high, 2**63 - 1))


def _decimals(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda n: Decimal((n < 0, _digits(n), -scale)))


def _digits(n: int) -> tuple[int, ...]:
    return tuple(map(int, str(abs(n))))


_SIMPLE: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    **{getattr(pa, f"{'' if s else 'u'}int{b}")(): _integers(b, s) for b in (8, 16, 32, 64) for s in (True, False)},
    pa.float16(): st.floats(width=16),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.decimal128(5, 2): _decimals(5, 2),
    pa.decimal128(38, 30): _decimals(38, 30),
    pa.decimal128(5, -3): _decimals(5, -3),
    pa.decimal256(70, 20): _decimals(70, 20),
    pa.date32(): st.integers(-719162, 2932896),
    pa.date64(): st.integers(-719162, 2932896).map(lambda d: d * 86_400_000),
    **{pa.time32(u): st.integers(0, 86400 * p - 1) for u, p in (("s", 1), ("ms", 1000))},
    **{pa.time64(u): st.integers(0, 86400 * p - 1) for u, p in (("us", 10**6), ("ns", 10**9))},
    **{pa.timestamp(u, z): _moments(u) for u in ("s", "ms", "us", "ns") for z in (None, "UTC", "America/New_York", "+05:30")},
    **{pa.duration(u): st.integers(-(2**63) + 1, 2**63 - 1) for u in ("s", "ms", "us", "ns")},
    pa.string(): _TEXT,
    pa.large_string(): _TEXT,
    pa.binary(): _BYTES,
    pa.large_binary(): _BYTES,
    pa.binary(2): st.binary(min_size=2, max_size=2),
}  # fmt: skip
_IN_NUMBERS = (pa.types.is_date, pa.types.is_time, pa.types.is_timestamp, pa.types.is_duration)


def _nested(kind: pa.DataType, values: st.SearchStrategy[Any]) -> dict[pa.DataType, st.SearchStrategy[Any]]:
    maybe = st.none() | values
    made = {
        pa.list_(kind): st.lists(maybe, max_size=3),
        pa.struct([("a", kind), ('b"', pa.string())]): st.fixed_dictionaries(
            {"a": maybe, 'b"': st.none() | _TEXT}
        ),
        pa.map_(pa.string(), kind): st.dictionaries(_TEXT, maybe, max_size=3).map(lambda d: list(d.items())),
    }
    if not pa.types.is_floating(kind) and not pa.types.is_nested(kind):
        made[pa.map_(kind, pa.int64())] = st.dictionaries(values, st.integers(0, 9), max_size=3).map(
            lambda d: list(d.items())
        )
    return made


def _array(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if any(test(kind) for test in _IN_NUMBERS):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    return pa.array(values, kind)


@st.composite
def _columns(draw: st.DrawFn, rows: int) -> pa.Array:
    kind = draw(st.sampled_from(list(_SIMPLE)))
    values = _SIMPLE[kind]
    # Python's dates, times and the like don't reach all that Arrow's do, so nested ones are of the others.
    if draw(st.integers(0, 3)) == 0 and not any(test(kind) for test in _IN_NUMBERS):
        for _ in range(draw(st.integers(1, 2))):
            kind, values = draw(st.sampled_from(list(_nested(kind, values).items())))
    return _array(kind, draw(st.lists(st.none() | values, min_size=rows, max_size=rows)))


@st.composite
def _tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 5))
    names = draw(
        st.lists(
            st.text(st.sampled_from("abAB_é漢\"'.,;= \\#`\t\n0"), min_size=1, max_size=4),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    return pa.table([draw(_columns(rows)) for _ in names], names)


def _refused(form: str, table: pa.Table) -> str | None:
    """Return why a format can't hold a table, as a pattern; None: it can."""
    types = table.schema.types
    if form == "csv" and any(
        pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_fixed_size_binary(t)
        for t in types
    ):
        return "no form for bytes"
    if form == "csv" and table.num_columns == 1 and table.column(0).null_count:
        return "holds a null"
    if form == "parquet" and any("decimal128(5, -3)" in str(t) for t in types):
        return "negative scale"
    if form == "npy":
        if any(not _in_npy(t) for t in types):
            return "npy (holds|has no time zones)"
        if any(c.null_count for c in table.columns):
            return "holds nulls"
    return None


def _in_npy(kind: pa.DataType) -> bool:
    types = pa.types
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    moments = types.is_date(kind) or types.is_duration(kind) or (types.is_timestamp(kind) and kind.tz is None)
    return bool(numbers or moments)


def _read_as(form: str, kind: pa.DataType) -> pa.DataType:
    """The type that a column comes back with, which holds every value exactly."""
    if form in ("csv", "ndjson"):
        return kind  # declared
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_nested(kind):
        return _nested_as(form, kind)
    if pa.types.is_date64(kind) and form != "arrow":
        return pa.date32()
    if form == "parquet" and pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if form == "parquet" and kind == pa.time32("s"):
        return pa.time32("ms")
    return kind


def _nested_as(form: str, kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([pa.field(f.name, _read_as(form, f.type)) for f in kind])
    if types.is_map(kind):
        return pa.map_(_read_as(form, kind.key_type), _read_as(form, kind.item_type))
    item = _read_as(form, kind.value_type)
    if types.is_fixed_size_list(kind):
        return pa.list_(item, kind.list_size)
    return pa.large_list(item) if types.is_large_list(kind) else pa.list_(item)


def _same(a: Any, b: Any) -> bool:
    """Equal values, NaN among them, and zeros of one sign."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(map(_same, a.values(), b.values()))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _values(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if any(test(kind) for test in _IN_NUMBERS):
        return [v.value for v in column]
    return column.to_pylist()  # type: ignore[no-any-return]  # nor its lists


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(workers=1)


def _halves() -> pa.Table:
    """Return half floats at every place of nested types."""
    half, values = pa.float16(), [0.5, None, -0.0]
    kinds = {
        "list": (pa.list_(half), [values, None, []]),
        "large": (pa.large_list(half), [values, None, []]),
        "fixed": (pa.list_(half, 3), [values, None, values]),
        "struct": (
            pa.struct([("h", half), ("l", pa.list_(half))]),
            [{"h": 0.5, "l": values}, None, {"h": None, "l": []}],
        ),
        "map": (pa.map_(pa.string(), half), [[("a", 0.5)], None, [("b", None)]]),
        "deep": (
            pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.list_(half)))])),
            [[{"m": [("a", values)]}], None, []],
        ),
    }
    return pa.table({name: pa.array(rows, kind) for name, (kind, rows) in kinds.items()})


@given(table=_tables(), form=st.sampled_from(_FORMATS))
@example(table=pa.table({"c": ["", None, "x"], "d": [1, 2, 3]}), form="csv")
@example(table=pa.table({"c": ["", "\0", "\ufeff"]}), form="csv")
@example(table=pa.table({"c": [math.nan, -math.inf, -0.0]}), form="ndjson")
@example(table=pa.table({"c": [b"\xff\0", None]}), form="ndjson")
@example(table=_halves(), form="parquet")
@example(table=_halves(), form="arrow")
def test_what_is_written_is_read_back_equal(session: Session, table: pa.Table, form: str) -> None:
    folder = tempfile.mkdtemp()
    path = f"{folder}/o.{form}"
    try:
        why = _refused(form, table)
        if why is not None:
            with pytest.raises(SinkError, match=why):
                session.from_arrow(table).write(path)
            return
        session.from_arrow(table).write(path)
        options: dict[str, Any] = {"schema": table.schema} if form in ("csv", "ndjson") else {}
        if form == "csv":
            options["delimiter"] = ","
        read = session.read(path, **options).to_arrow()
        if form == "npy" and table.num_columns == 1:
            read = read.rename_columns(table.column_names)
        assert read.column_names == table.column_names
        for name in table.column_names:
            kind = _read_as(form, table.schema.field(name).type)
            expected = table[name].cast(kind) if kind != table[name].type else table[name]
            assert read[name].type == public_schema(pa.schema([(name, kind)])).field(name).type
            assert _same(_values(read[name]), _values(expected)), name
    finally:
        shutil.rmtree(folder)


def test_types_are_found_again_where_the_docs_promise_it(session: Session, tmp_path: Path) -> None:
    table = pa.table({
        "b": [True, None, False],
        "i": pa.array([2**63 - 1, None, -(2**63)]),
        "f": [0.1, None, 3.0],
        "nan": [math.nan, math.inf, 1.0],
        "d": pa.array([dt.date(2024, 2, 29), None, dt.date(1, 1, 1)]),
        "t": pa.array([1, None, -1], pa.timestamp("us")),
        "s": ["x", None, ""],
    })  # fmt: skip
    session.from_arrow(table).write(str(tmp_path / "o.csv"))
    assert repr(session.read(str(tmp_path / "o.csv")).to_arrow().to_pydict()) == repr(table.to_pydict())
    known = table.drop_columns(["d", "t"])
    session.from_arrow(known).write(str(tmp_path / "o.ndjson"))
    assert repr(session.read(str(tmp_path / "o.ndjson")).to_arrow().to_pydict()) == repr(known.to_pydict())


@pytest.mark.parametrize("names", [["a;b"], ["a", "b;c;d"], ["a\tb|c", 'x"y,z'], [";", "|"], ["a,b"]])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_delimiters_in_names_are_not_taken_for_the_files(
    session: Session, tmp_path: Path, names: list[str], suffix: str
) -> None:
    table = pa.table([[1, 2]] * len(names), names)
    session.from_arrow(table).write(str(tmp_path / f"o.{suffix}"))
    assert session.read(str(tmp_path / f"o.{suffix}")).to_arrow().equals(table)


def test_values_that_a_format_has_no_form_for_are_refused_by_name(session: Session, tmp_path: Path) -> None:
    far = pa.table({"k": pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), "i": [1]})
    zoned = pa.table({"k": pa.array([2**62], pa.int64()).cast(pa.timestamp("us", "UTC")), "i": [1]})
    odd = pa.table({"k": pa.array([86_400_001], pa.int64()).view(pa.date64()), "i": [1]})
    for number, (table, forms, message) in enumerate([
        (far, ("csv", "ndjson"), "column 'k' holds a date32.*beyond the years 1 to 9999"),
        (zoned, ("csv", "ndjson"), "column 'k' holds a timestamp.*beyond the years 1 to 9999"),
        (odd, ("csv", "ndjson", "parquet", "arrow", "npy"), "column 'k' holds a date64 that is no whole day"),
    ]):  # fmt: skip
        for form in forms:
            path = tmp_path / f"{number}.{form}"
            with pytest.raises(SinkError, match=message):
                session.from_arrow(table).write(str(path))
            assert not path.exists()
        with pytest.raises(SinkError, match=message):
            session.from_arrow(table).write(str(tmp_path / f"{number}"), partition_by="k")
