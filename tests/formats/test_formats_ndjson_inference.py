"""Types inferred from NDJSON: no value is bent or dropped, sampled or late; what can't be carried is refused by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, ConfigError, MmflowError, PlanError, SourceError
from mmflow.formats import detect, open_format
from mmflow.formats.schemas.schema import DEEPEST

from .record_files import read

few = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
D38 = pa.decimal128(38, 0)


def written(path: Path, records: list[str]) -> str:
    path.write_text("".join(r + "\n" for r in records))
    return str(path)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (["1", "-2"], pa.int64()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.uint64()),
        (["18446744073709551615", "0"], pa.uint64()),
        (["18446744073709551616"], D38),
        (["9223372036854775808", "-1"], D38),
        (["1.5", "9007199254740992"], pa.float64()),
        (["9007199254740993", "1.5"], pa.decimal128(38, 1)),
        (["9007199254740993", "1.5e-3"], pa.decimal128(38, 4)),
        (["1e5", "1"], pa.float64()),
        (["0.1234567890123456789012"], pa.float64()),
    ],
)
def test_the_type_of_some_numbers(tmp_path: Path, numbers: list[str], kind: pa.DataType) -> None:
    path = written(tmp_path / "t.ndjson", [f'{{"v":{n},"w":{{"x":[{n}]}}}}' for n in numbers])
    form = open_format("ndjson", [path])
    assert form.schema.field("v").type == kind
    assert form.schema.field("w").type == pa.struct({"x": pa.list_(kind)})
    rows, _ = read(Path(path), form, ("v", "w"))
    for row, number in zip(rows, numbers, strict=True):
        assert row["v"] == row["w"]["x"][0] == (float(number) if kind == pa.float64() else Decimal(number))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1" * 39], "no type holds all of them exactly"),
        (["9007199254740993", "1e-30"], "no type holds all of them exactly"),
    ],
)
def test_values_that_no_type_holds_are_an_error(tmp_path: Path, values: list[str], words: str) -> None:
    path = written(tmp_path / "t.ndjson", [f'{{"v":{v}}}' for v in values])
    with pytest.raises(SourceError, match=f"(?s)field 'v' .*{words}.*schema="):
        mf.read(path)


@pytest.mark.parametrize(
    "values", [["1", '"x"'], ["[1]", '{"a":1}', "null"], ["true", "2.50"], ['"a\\u00e9"', "[ ]"]]
)
def test_values_of_several_kinds_are_text_of_json(tmp_path: Path, values: list[str]) -> None:
    path = written(tmp_path / "t.ndjson", [f'{{"v":{v},"w":[{{"x": {v} }}]}}' for v in values])
    wanted = [None if v == "null" else v.replace(" ", "") for v in values]
    rows = mf.read(path).to_arrow().to_pylist()
    assert rows == [{"v": v, "w": [{"x": v}]} for v in wanted]


_numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.integers(-99, 99).map(str),
    st.sampled_from([(1 << 53) + 1, 1 << 63, (1 << 64) - 1]).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9).map(
        "{:f}".format
    ),
)
_values = st.recursive(
    _numbers | st.sampled_from(["null", "true", '"é"', '"2"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(st.sampled_from(["a", "b", "", "a,b", 'q"']), inner, max_size=3).map(
            lambda d: "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=5,
)


def exact(text: str) -> Any:
    """The value that JSON text says, whole numbers as fractions, others as decimals."""
    return json.loads(text, parse_int=Fraction, parse_float=Decimal)


def says(value: Any, wanted: Any) -> bool:
    """Return whether a value that was read is the expected one. Floats may be rounded, whole numbers not."""
    if isinstance(value, str) and value != wanted:  # text of JSON
        return bool(exact(value) == wanted)
    if isinstance(wanted, dict):
        return isinstance(value, dict) and wanted.keys() <= value.keys() and all(
            says(v, wanted.get(k)) for k, v in value.items()
        )  # fmt: skip
    if isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(says, value, wanted))
    if isinstance(wanted, Decimal):
        return bool(value == (float(wanted) if isinstance(value, float) else wanted))
    if isinstance(wanted, Fraction):
        return not isinstance(value, bool) and Fraction(value) == wanted
    return bool(value == wanted)


@given(sampled=st.lists(_values, min_size=1, max_size=4), late=st.lists(_values, max_size=3))
@few
def test_no_value_is_bent_or_dropped_whether_sampled_or_late(
    tmp_path: Path, sampled: list[str], late: list[str]
) -> None:
    first = written(tmp_path / "a.ndjson", [f'{{"v":{v}}}' for v in sampled])
    try:
        form = open_format("ndjson", [first])
    except SourceError as error:
        assert "schema=" in str(error)
        return
    rows, _ = read(Path(first), form, ("v",))
    for row, text in zip(rows, sampled, strict=True):
        assert says(row["v"], exact(text))
    for text in late:
        second = written(tmp_path / "b.ndjson", [f'{{"v":{text}}}'] * 2)
        try:
            rows, _ = read(Path(second), form, ("v",))
        except BadRecordError:
            continue
        assert all(says(row["v"], exact(text)) for row in rows)


def test_a_late_whole_number_that_a_float_rounds_is_a_bad_record(tmp_path: Path) -> None:
    records = ['{"v":1.5,"w":[2.5]}'] * 2000 + ['{"v":9007199254740993,"w":null}']
    path = written(tmp_path / "t.ndjson", records)
    with pytest.raises(BadRecordError, match=r"line 2,001.*float64 would round it"):
        mf.read_ndjson(path, exact=True, schema="v:float64").to_arrow()
    assert mf.read_ndjson(path, schema="v:float64").to_arrow()["v"][-1].as_py() == 2.0**53
    path = written(tmp_path / "t.ndjson", ['{"w":[2.5]}'] * 2000 + ['{"w":[9007199254740993]}'])
    with pytest.raises(BadRecordError, match=r"column 'w\[0\]'.*float64 would round it"):
        mf.read_ndjson(path, exact=True, schema="w:list<float64>").to_arrow()


def test_a_late_field_of_an_inner_object_is_not_dropped(tmp_path: Path) -> None:
    first = written(tmp_path / "a.ndjson", ['{"s":{"x":1},"l":[{"x":1}]}'])
    for record, place in (('{"s":{"x":1,"y":2}}', r"s\.y"), ('{"l":[{"x":1},{"z":2}]}', r"l\[1\]\.z")):
        second = written(tmp_path / "b.ndjson", ['{"s":{"x":1}}'] * 100 + [record])
        with pytest.raises(BadRecordError, match=f"column '{place}': a field that the inferred schema"):
            mf.read_ndjson([first, second]).to_arrow()
        assert len(mf.read_ndjson([first, second], on_new_field="ignore").to_arrow()) == 102


def test_a_first_record_longer_than_the_sample_is_read(tmp_path: Path) -> None:
    long = "x" * 400_000
    for name in ("t.ndjson", "t"):
        path = written(tmp_path / name, [json.dumps({"a": long, "b": 1}), '{"a":"y","b":2}'])
        assert detect(path) == ("ndjson", {})
        assert mf.read(path).to_arrow().to_pylist() == [{"a": long, "b": 1}, {"a": "y", "b": 2}]
    (tmp_path / "t.ndjson.gz").write_bytes(gzip.compress(json.dumps({"a": long}).encode()))
    assert mf.read(str(tmp_path / "t.ndjson.gz")).to_arrow()["a"].to_pylist() == [long]


def test_a_byte_order_mark_is_no_data_in_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "t.ndjson.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"a":1}\n'))
    assert mf.read(str(tmp_path / "t.ndjson.gz")).to_arrow().to_pylist() == [{"a": 1}]


# ---- names and depths that can't be carried ------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [r'{"a\u0000b":1}', r'{"a\u0000b":1,"a\u0000c":2}', r'{"s":{"a\u0000b":1}}', r'{"l":[{"a\u0000b":1}]}'],
)
def test_a_key_with_a_nul_is_refused_by_name(tmp_path: Path, record: str) -> None:
    path = written(tmp_path / "t.ndjson", [record])
    with pytest.raises(SourceError, match=r"a\\x00b.*NUL in its name"):
        mf.read(path)
    late = written(tmp_path / "u.ndjson", ['{"a":1}', record])
    assert mf.read(path, schema="a:int64").to_arrow().to_pylist() == [{"a": None}]
    first, late = (
        written(tmp_path / "a.ndjson", ['{"a":1}']),
        written(tmp_path / "b.ndjson", ['{"a":1}', record]),
    )
    with pytest.raises(BadRecordError, match="does not know"):
        mf.read([first, late]).to_arrow()


def test_a_key_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "t.ndjson", [r'{"\ud800":1}'])
    with pytest.raises(SourceError, match="lone surrogate"):
        mf.read(path)
    with pytest.raises(ConfigError, match="lone surrogate"):
        mf.read(path, schema={"\ud800": "int64"})


@pytest.mark.parametrize("kind", ["from_arrow", "parquet", "arrow", "npy", "records"])
def test_names_with_nuls_are_refused_in_every_format(tmp_path: Path, kind: str) -> None:
    table = pa.table({"a\0b": [1], "a\0c": [2]})
    path = str(tmp_path / f"t.{kind}")
    read: Callable[[], Any]
    match kind:
        case "from_arrow":
            read = partial(mf.from_arrow, table)
        case "parquet":
            pq.write_table(table, path)
            read = partial(mf.read, path)
        case "arrow":
            with pa.ipc.new_file(path, table.schema) as out:
                out.write_table(table)
            read = partial(mf.read, path)
        case "npy":
            np.save(path, np.zeros(1, [("a\0b", "i4"), ("a\0c", "i4")]))
            read = partial(mf.read, path)
        case _:
            Path(path).write_bytes(b"x")
            layout = [{"name": "a\0b", "type": "int8", "offset": 0}]
            read = partial(mf.read_records, path, layout=layout, record_size=1)
    with pytest.raises(PlanError, match=r"'a\\x00b' holds a NUL"):
        read()


@pytest.mark.parametrize("entrance", ["parquet", "memory"])
def test_types_too_deep_and_inner_names_with_nuls_hinder_only_who_asks_for_them(
    tmp_path: Path, entrance: str
) -> None:
    deep = pa.int64()
    for _ in range(45):
        deep = pa.list_(deep)
    table = pa.table({"x": pa.nulls(2, deep), "s": [{"a\0b": 1}] * 2, "y": [1, 2]})
    path = str(tmp_path / "t.parquet")
    pq.write_table(table, path)
    data = mf.read(path) if entrance == "parquet" else mf.from_arrow(table)
    assert data.select("y").to_arrow().to_pylist() == [{"y": 1}, {"y": 2}]
    for name, words in (("x", "nested 46 deep"), ("s", r"'a\\x00b' holds a NUL")):
        with pytest.raises(PlanError, match=f"column '{name}' has type .*{words}"):
            data.select(name).to_arrow()


def test_a_declared_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.ndjson", ['{"a":1}'])
    with pytest.raises(ConfigError, match=r"'a\\x00b' holds a NUL"):
        mf.read(path, schema={"a\0b": "int64"})


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST, 47, 60, 64, 300, 5000])
def test_nested_values_are_read_or_refused_by_name(
    tmp_path: Path, brackets: tuple[str, str], depth: int
) -> None:
    text = brackets[0] * depth + "1" + brackets[1] * depth
    path = written(tmp_path / "t.ndjson", [f'{{"x":{text},"y":7}}'])
    if depth < DEEPEST:
        assert mf.read(path).to_arrow().to_pylist() == [{"x": json.loads(text), "y": 7}]
        rows = mf.sql(
            f"SELECT max(y) y FROM (SELECT x, y FROM '{path}' UNION ALL SELECT x, y FROM '{path}') WHERE x IS NOT NULL"
        )
        assert rows.to_arrow().to_pylist() == [{"y": 7}]
        return
    if depth < 900:
        assert mf.read(path).to_arrow().to_pylist() == [{"x": text, "y": 7}]
        assert mf.read(path, schema="y:int64").to_arrow().to_pylist() == [{"y": 7}]
    else:
        with pytest.raises(MmflowError, match="nested too deep") as caught:
            mf.read(path)
        assert path in str(caught.value)
        with pytest.raises(BadRecordError, match="nested too deep, some 900"):
            mf.read(path, schema="y:int64").to_arrow()
