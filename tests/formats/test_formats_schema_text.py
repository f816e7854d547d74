"""Text of schemas: what is printed can be pasted."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.cli.main import main
from mmflow.errors import ConfigError
from mmflow.formats.schemas.schema import name_text, parse_schema, parse_type, schema_text, type_text

UNITS = ["s", "ms", "us", "ns"]
SIMPLE = [
    pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
    pa.binary_view(), pa.binary(16), pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"),
    pa.month_day_nano_interval(), pa.decimal32(9, 2), pa.decimal64(18, 2), pa.decimal128(38, 0), pa.decimal128(5, -2),
    pa.decimal256(76, 10), *map(pa.duration, UNITS), *map(pa.timestamp, UNITS),
    *(pa.timestamp("us", zone) for zone in ("UTC", "+05:30", "America/New_York")),
]  # fmt: skip
_names = st.text(st.sampled_from("ab ,:<>()[]\"'\n\té=;"), max_size=5) | st.sampled_from(
    ["item", "int64", "", " a ", "a not null"]
)


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(pa.list_view),
        inner.map(pa.large_list_view),
        inner.map(lambda t: pa.list_(t, 3)),
        st.tuples(inner.filter(lambda t: not pa.types.is_null(t)), inner).map(lambda pair: pa.map_(*pair)),
        st.dictionaries(_names, inner, max_size=3).map(pa.struct),
    )


_types = st.recursive(
    st.sampled_from(
        [*SIMPLE, pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.int64(), ordered=True)]
    ),
    _nested,
    max_leaves=5,
)


@given(_types)
def test_types_are_read_as_they_are_written(kind: pa.DataType) -> None:
    assert parse_type(type_text(kind)) == kind


@given(st.dictionaries(_names, _types, max_size=5))
def test_schemas_are_read_as_they_are_written(fields: dict[str, pa.DataType]) -> None:
    schema = pa.schema(fields)
    assert parse_schema(schema_text(schema)) == schema
    assert parse_schema(", ".join(f" {name_text(n)} : {type_text(t)} " for n, t in fields.items())) == schema


@pytest.mark.parametrize("kind", SIMPLE, ids=str)
def test_types_are_read_as_pyarrow_prints_them(kind: pa.DataType) -> None:
    wanted = pa.float64() if kind == pa.float32() else kind  # whose name there is `float`
    assert parse_type(str(kind)) == wanted
    assert parse_type(str(pa.list_(kind))) == pa.list_(wanted)
    assert parse_type(str(pa.list_(pa.field("element", kind, nullable=kind == pa.null())))) == pa.list_(
        wanted
    )
    assert parse_type(str(pa.struct({"a b": kind, "c": pa.list_(kind)}))) == pa.struct(
        {"a b": wanted, "c": pa.list_(wanted)}
    )
    assert parse_type(str(pa.map_(pa.string(), kind))) == pa.map_(pa.string(), wanted)


@pytest.mark.parametrize(
    "text",
    [
        '"a:int64',
        "a:struct<x:int64,x:int8>",
        ":int64",
        "a:decimal128(99,2)",
        "a:fixed_size_list<int64>",
        "a:map<null,int8>",
    ],
)
def test_text_that_is_no_schema(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_schema(text)


def test_what_inspect_prints_can_be_given_as_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text('d,"a,b",x\n2020-01-01,2020-01-01 00:00:00Z,1.5\n')
    assert main(["inspect", str(path)]) == 0
    below = capsys.readouterr().out.partition("  columns ")[2]
    columns = [line.strip() for line in below.splitlines()[1:] if line.startswith("    ")]
    assert columns == ["d: date32", '"a,b": timestamp[us, tz=UTC]', "x: float64"]
    query = [
        "sql",
        "SELECT * FROM t",
        "--table",
        f"t={path}",
        "--opt",
        f"t.schema={','.join(columns)}",
        "--format",
        "csv",
    ]
    assert main(query) == 0
    assert capsys.readouterr().out.splitlines()[0] == 'd,"a,b",x'
