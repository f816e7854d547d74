"""Types inferred from CSV: no value says something else than its text, sampled or late."""

from __future__ import annotations

import datetime as dt
import io
import math
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, ConfigError
from mmflow.formats import open_format
from mmflow.formats.csv.decoder import CsvDecoder, CsvTypes
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.schemas.inference import infer_type

from .record_files import read

few = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
UTC = pa.timestamp("us", "UTC")

# Texts of a column, and the type that holds them all.
COLUMNS: list[tuple[list[str], pa.DataType]] = [
    (["1", "-20", "0"], pa.int64()),
    (["9223372036854775807", "-9223372036854775808"], pa.int64()),
    (["9223372036854775808", "0"], pa.uint64()),
    (["18446744073709551615"], pa.uint64()),
    (["18446744073709551616"], pa.decimal128(38, 0)),
    (["9223372036854775808", "-1"], pa.decimal128(38, 0)),
    (["123456789012345678901234567890"], pa.decimal128(38, 0)),
    (["9" * 38, "-" + "9" * 38], pa.decimal128(38, 0)),
    (["1" + "0" * 38], pa.string()),
    (["1" * 6000], pa.string()),
    (["02134", "10001"], pa.string()),
    (["-01"], pa.string()),
    (["00"], pa.string()),
    (["0x10"], pa.string()),
    (["0X1F", "1"], pa.string()),
    (["+5"], pa.string()),
    ([" 5"], pa.string()),
    (["5 "], pa.string()),
    (["\t5"], pa.string()),
    (["1_000"], pa.string()),
    (["1,000"], pa.string()),
    (["1e5"], pa.float64()),
    (["1E-05", "-2.5e+10"], pa.float64()),
    ([".5", "5.", "-.5"], pa.float64()),
    (["."], pa.string()),
    (["-"], pa.string()),
    (["1e"], pa.string()),
    (["1e999"], pa.string()),
    (["0" * 1 + "." + "1" * 400], pa.float64()),
    (["007.5"], pa.string()),
    (["+1.5"], pa.string()),
    (["0.1234567890123456789012"], pa.float64()),
    (["0x1p3"], pa.string()),
    (["1.5", "nan", "-inf", "Infinity", "NaN"], pa.float64()),
    (["nan"], pa.string()),
    (["inf", "nan"], pa.string()),
    (["1.5", "9007199254740992"], pa.float64()),
    (["1.5", "9007199254740993"], pa.string()),
    (["1.5", "10000000000000000000000"], pa.float64()),
    (["true", "False", "TRUE"], pa.bool_()),
    (["true", "1"], pa.string()),
    (["tRUE"], pa.string()),
    (["yes"], pa.string()),
    (["2020-02-29", "0001-01-01", "9999-12-31"], pa.date32()),
    (["2021-02-29"], pa.string()),
    (["0000-01-01"], pa.string()),
    (["2020-1-1"], pa.string()),
    (["20200101"], pa.int64()),
    ([" 2020-01-01"], pa.string()),
    (["2020-01-01 12:30:15", "2020-01-01T12:30:15.123456"], pa.timestamp("us")),
    (["2020-01-01", "2020-01-01 12:30"], pa.timestamp("us")),
    (["2020-01-01 12:30:15.1234567"], pa.string()),
    (["2020-01-01 24:00:00"], pa.string()),
    (["2020-01-01 12:30:60"], pa.string()),
    (["2020-01-01T12:30:15Z", "2020-01-01 12:30:15.5+02:00"], UTC),
    (["2020-01-01T12:30:15Z", "2020-01-01T12:30:15"], pa.string()),
    (["12:30:15"], pa.string()),
    (["a\nb"], pa.string()),
    (["1\n2"], pa.string()),
    ([], pa.string()),
]


def says(value: Any, text: str) -> bool:
    """Return whether a value is that of the text, by Python's own parsers."""
    match value:
        case None:
            return text == ""
        case bool():
            return str(value).lower() == text.lower()
        case int():
            return str(value) == text or text == "-0"
        case float():
            whole = text.removeprefix("-").isdigit()
            zero_led = (
                len(text.lstrip("-")) > 1 and text.lstrip("-")[:2].isdigit() and text.lstrip("-")[0] == "0"
            )
            if math.isnan(value):
                return "nan" in text.lower()
            if math.isinf(value) and "inf" not in text.lower():
                return False
            return not zero_led and float(text) == value and (not whole or int(text) == int(value))
        case Decimal():
            return str(value) == text or text == "-0"
        case dt.datetime():
            moment = dt.datetime.fromisoformat(text)
            return moment.replace(tzinfo=moment.tzinfo or value.tzinfo) == value
        case dt.date():
            return value.isoformat() == text
    return bool(value == text)


def lines(texts: list[str]) -> bytes:
    """A CSV file of a column of texts and one of numbers."""
    fields = ["" if t == "" else '"' + t.replace('"', '""') + '"' for t in texts]
    return ("v,n\n" + "".join(f"{f},1\n" for f in fields)).encode()


@pytest.mark.parametrize(("texts", "kind"), COLUMNS, ids=[str(t)[:40] for t, _ in COLUMNS])
def test_the_type_of_some_texts(tmp_path: Path, texts: list[str], kind: pa.DataType) -> None:
    assert infer_type(texts) == kind
    path = tmp_path / "t.csv"
    path.write_bytes(lines([*texts, ""]))
    form = open_format("csv", [str(path)])
    rows, _ = read(path, form, ("v",))
    assert [row["v"] for row in rows][-1] is None
    for row, text in zip(rows, texts, strict=False):
        assert says(row["v"], text)


_number = st.one_of(
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.integers(-1000, 1000).map(str),
    st.sampled_from(
        [(1 << 63) - 1, 1 << 63, -(1 << 63), (1 << 64) - 1, 1 << 64, (1 << 53) + 1, -(1 << 53) - 1]
    ).map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.from_regex(r"\A[-+ ]?0{0,2}[0-9]{0,4}\.?[0-9]{0,3}([eE][-+]?[0-9]{1,3})?\Z"),
    st.from_regex(r"\A0[xX][0-9a-f]{1,16}\Z"),
    st.sampled_from(["nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-0", "-0.0", "1_0", "", "1 ", "٣"]),
)
_moment = st.one_of(
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes(timezones=st.just(dt.UTC)).map(str),
    st.from_regex(r"\A20[0-9]{2}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9](:[0-5][0-9](:[0-6][0-9](\.[0-9]{1,7})?)?)?(Z|\+0[0-9]:?30)?)?\Z"),
    st.just(""),
)  # fmt: skip
_word = st.sampled_from(["true", "false", "True", "FALSE", "0", "1", "t", "yes", "x", "", "é", 'a"b'])
_column = st.one_of(
    st.lists(st.integers().map(str), min_size=1, max_size=6),
    st.lists(_number, min_size=1, max_size=6),
    st.lists(_moment, min_size=1, max_size=6),
    st.lists(_word, min_size=1, max_size=6),
    st.lists(_number | _moment | _word, min_size=1, max_size=6),
)


@given(texts=_column)
@few
def test_whatever_type_is_inferred_gives_every_text_again(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(lines(texts))
    form = open_format("csv", [str(path)])
    rows, _ = read(path, form, ("v",))
    for row, text in zip(rows, texts, strict=True):
        assert says(row["v"], text), (form.schema.field("v").type, row, text)


@given(sampled=_column, late=_column)
@few
def test_late_texts_are_values_or_bad_records_but_never_bent(
    tmp_path: Path, sampled: list[str], late: list[str]
) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_bytes(lines(sampled))
    second.write_bytes(lines(late))
    form = open_format("csv", [str(first), str(second)])
    kept, _ = read(second, form, ("v",)) if form.schema.field("v").type == pa.string_view() else ([], [])
    assert all(says(row["v"], text) for row, text in zip(kept, late, strict=False))
    for text in late:
        second.write_bytes(lines([text, text]))
        try:
            rows, _ = read(second, form, ("v",))
        except BadRecordError as error:
            assert "not exactly a value of type" in str(error)
        else:
            assert all(says(row["v"], text) for row in rows), (form.schema.field("v").type, text, rows)


@given(texts=_column)
@few
def test_values_equal_those_of_polars_where_it_infers_the_same_type(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(lines(texts))
    form = open_format("csv", [str(path)])
    rows, _ = read(path, form, ("v",))
    try:
        theirs = pl.read_csv(io.BytesIO(lines(texts)), infer_schema_length=None)["v"]
    except pl.exceptions.ComputeError:
        return  # it takes digits of other scripts for numbers, which it then can't read
    ours = form.schema.field("v").type
    if {pl.Int64: pa.int64(), pl.Float64: pa.float64(), pl.String: pa.string_view()}.get(
        type(theirs.dtype)
    ) == ours:
        for row, value in zip(rows, theirs.to_list(), strict=True):
            assert (
                row["v"] == value
                or (value != value and row["v"] != row["v"])
                or (row["v"], value) == (None, None)
            )


@pytest.mark.parametrize(("kind", "text"), [
    ("int64", "007"), ("int64", "0x10"), ("int64", "1.5"), ("uint64", "01"), ("float64", "01.5"), ("float64", "9007199254740993"),
    ("float64", " 1.5"), ("bool", "1"), ("date32", " 2020-01-01"), ("float32", "16777217"),
])  # fmt: skip
@pytest.mark.parametrize("prune", [False, True])
def test_a_late_text_after_the_sample_is_a_bad_record(
    tmp_path: Path, kind: str, text: str, prune: bool
) -> None:
    path = tmp_path / "t.csv"
    plain = {
        "int64": "7",
        "uint64": "7",
        "float64": "1.5",
        "bool": "true",
        "date32": "2020-01-01",
        "float32": "1.5",
    }[kind]
    path.write_bytes(lines([plain] * 3000 + [text]))
    data = mf.read_csv(str(path), schema={"v": kind}, exact=True)
    with pytest.raises(BadRecordError, match=r"line 3,002.*not exactly a value"):
        (data.filter(mf.col("v").is_not_null()) if prune else data).to_arrow()


@pytest.mark.parametrize(("kind", "text", "value"), [
    ("int64", "007", 7), ("int64", " 7", 7), ("float64", "01.5", 1.5), ("bool", "1", True), ("uint64", "18446744073709551615", 2**64 - 1),
    ("int64", "1234567890123456789", 1234567890123456789), ("float64", "9007199254740993", 2.0**53),
])  # fmt: skip
def test_a_declared_type_reads_other_spellings(tmp_path: Path, kind: str, text: str, value: Any) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(lines([text]))
    assert mf.read_csv(str(path), schema={"v": kind}).to_arrow()["v"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int64", "0x10"), ("int64", "0xffffffffffffffff"), ("int8", "0xff"), ("uint8", "0x1"), ("float64", "1e999"),
     ("float32", "1e39"), ("decimal128(20,2)", "1e-999"), ("int64", "+5"), ("int64", "1e3")],
)  # fmt: skip
@pytest.mark.parametrize("escape", ["", "\\"])
def test_a_declared_type_never_bends_a_text(tmp_path: Path, kind: str, text: str, escape: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(lines(["1", text]))
    with pytest.raises(BadRecordError, match="line 3"):
        mf.read_csv(str(path), schema={"v": kind}, escape=escape).to_arrow()


def test_filters_on_unsigned_numbers_beyond_int64(tmp_path: Path) -> None:
    values = [0, 5, 2**63 - 1, 2**63, 2**64 - 1]
    path = tmp_path / "t.csv"
    path.write_bytes(lines([str(v) for v in values]))
    for low, high in pairwise(values):
        rows = mf.sql(f"SELECT v FROM '{path}' WHERE v > {low} AND v <= {high}").to_arrow()["v"].to_pylist()
        assert rows == [high]


@given(
    texts=st.lists(_number | _moment | _word, min_size=1, max_size=8),
    policy=st.sampled_from(["null", "skip"]),
)
@few
def test_several_bad_columns_are_found_alike_one_by_one_and_together(texts: list[str], policy: Any) -> None:
    kinds = {"a": pa.int64(), "b": pa.float64(), "c": pa.date32(), "d": pa.bool_()}
    data = "".join(",".join([f'"{t.replace(chr(34), chr(34) * 2)}"'] * 4) + "\n" for t in texts).encode()
    together = CsvDecoder(tuple(kinds), CsvTypes(tuple(kinds), kinds, ("",)), Dialect(), policy)
    found = together.decode(pa.py_buffer(data), len(data), final=True, located=False)
    bad = set()
    for name in kinds:
        alone = CsvDecoder((name,), CsvTypes(tuple(kinds), kinds, ("",)), Dialect(), policy)
        bad |= {b.record for b in alone.decode(pa.py_buffer(data), len(data), final=True, located=False).bad}
    assert {b.record for b in found.bad} == bad


@pytest.mark.parametrize("null", ["NA,NULL", "NA, NULL"])
def test_a_list_of_nulls_in_one_text_is_an_error_that_says_what_to_write(tmp_path: Path, null: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a\nNA\nNULL\n1\n")
    with pytest.raises(ConfigError, match=r"null=\['NA', 'NULL'\]"):
        mf.read_csv(str(path), null=null)
    assert mf.read_csv(str(path), null=["NA", "NULL"]).to_arrow()["a"].to_pylist() == [None, None, 1]
