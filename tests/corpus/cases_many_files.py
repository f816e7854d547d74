"""Sets of files that differ: columns, types, folders, empty ones."""

import datetime as dt
from decimal import Decimal
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.case import Case


def _parquet(**columns: pa.Array) -> bytes:
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _arrow(**columns: pa.Array) -> bytes:
    out = BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def _ints(*values: int, bits: int = 64) -> pa.Array:
    return pa.array(values, getattr(pa, f"int{bits}")())


_DRIFT = {"1.csv": b"a,b\n1,x\n", "2.csv": b"b,c\ny,2.5\n", "3.csv": b"c\n7\n"}
_PARQUET = {"1.parquet": _parquet(a=_ints(1, bits=8)), "2.parquet": _parquet(a=_ints(300), b=pa.array(["x"]))}
_ARROW = {"1.arrow": _arrow(a=_ints(1, bits=8)), "2.arrow": _arrow(a=_ints(300), b=pa.array(["x"]))}
_UNION_ROWS: list[dict[str, object]] = [{"a": 1, "b": None}, {"a": 300, "b": "x"}]
_JSON = {"1.ndjson": b'{"a":1}\n', "2.ndjson": b'{"b":{"x":1}}\n', "3.ndjson": b'{"a":2.5,"b":{"y":"z"}}\n'}
_FOLDERS = {"year=2024/month=03/a.csv": b"v\n1\n", "year=2025/month=11/b.csv": b"v\n2\n"}

_STRUCTS: list[dict[str, object]] = [{"s": {"x": 1, "y": None}}, {"s": None}, {"s": {"x": None, "y": "t"}}]
_LISTS: list[dict[str, object]] = [
    {"s": [{"x": 1, "y": None}]}, {"s": None}, {"s": []}, {"s": [{"x": None, "y": 2}]}
]  # fmt: skip
_DECIMALS: list[dict[str, object]] = [{"v": 2, "p": Decimal("-12.25")}, {"v": 1, "p": Decimal("1.50")}]
_VERSIONS: list[dict[str, object]] = [{"v": 2, "p": "1.10"}, {"v": 1, "p": "1.9"}]

CASES = [
    Case("a column more, without an option", _DRIFT, file="*.csv", error="set schema='union' to read the columns of all files"),
    Case("a column less, without an option", {"1.csv": b"a,b\n1,2\n", "2.csv": b"a\n3\n"}, file="*.csv", error="set missing_columns='null'"),
    Case("union of CSV columns", _DRIFT, {"schema": "union"}, file="*.csv",
         rows=[{"a": 1, "b": "x", "c": None}, {"a": None, "b": "y", "c": 2.5}, {"a": None, "b": None, "c": 7.0}]),
    Case("union, one column read", _DRIFT, {"schema": "union"}, file="*.csv", columns=("c",), rows=[{"c": None}, {"c": 2.5}, {"c": 7.0}]),
    Case("union, a column that no row of the first file has, beside its offset", _DRIFT, {"schema": "union"}, file="*.csv",
         columns=("_offset", "c"), rows=[{"_offset": 4, "c": None}, {"_offset": 4, "c": 2.5}, {"_offset": 2, "c": 7.0}]),
    Case("union of integers and text in CSV", {"1.csv": b"a\n1\n", "2.csv": b"a\nx\n"}, {"schema": "union"}, file="*.csv",
         error="schema_overrides={'a': 'string'}"),
    Case("union of integers and decimals beyond float64 in CSV", {"1.csv": b"a\n9007199254740993\n", "2.csv": b"a\n0.5\n"},
         {"schema": "union"}, file="*.csv", error="9007199254740993"),
    Case("union of dates and moments", {"1.csv": b"a\n2024-02-29\n", "2.csv": b"a\n2024-03-01 12:30:00\n"}, {"schema": "union"}, file="*.csv",
         rows=[{"a": dt.datetime(2024, 2, 29)}, {"a": dt.datetime(2024, 3, 1, 12, 30)}]),
    Case("union with a file that has a header only", {"1.csv": b"a,b\n", "2.csv": b"a\n5\n"}, {"schema": "union"}, file="*.csv",
         rows=[{"a": 5, "b": None}], types={"a": "int64", "b": "string"}),
    Case("union with files without bytes or with blank lines", {"1.csv": b"", "2.csv": b"\n\n", "3.csv": b"a\n5\n"}, {"schema": "union"},
         file="*.csv", rows=[{"a": 5}]),
    Case("union of empty files only", {"1.csv": b"", "2.csv": b""}, {"schema": "union"}, file="*.csv", error="is empty"),
    Case("an empty file first", {"1.csv": b"", "2.csv": b"a\n5\n"}, file="*.csv", rows=[{"a": 5}]),
    Case("a file with a header only first", {"1.csv": b"a\n", "2.csv": b"a\n5\n"}, file="*.csv", rows=[{"a": 5}], types={"a": "int64"}),
    Case("a file of blank lines among others", {"1.csv": b"a\n1\n", "2.csv": b"\n\n", "3.csv": b"a\n5\n"}, file="*.csv", rows=[{"a": 1}, {"a": 5}]),
    Case("missing columns are null", _DRIFT, {"missing_columns": "null", "extra_columns": "ignore"}, file="*.csv",
         rows=[{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"a": None, "b": None}]),
    Case("a declared column that files lack is null", _DRIFT, {"schema": "c:float64", "missing_columns": "null"}, file="*.csv",
         rows=[{"c": None}, {"c": 2.5}, {"c": 7.0}]),
    Case("a declared column and those of all files", _DRIFT, {"schema": "c:string", "extra_columns": "keep"}, file="*.csv",
         rows=[{"c": None, "a": 1, "b": "x"}, {"c": "2.5", "a": None, "b": "y"}, {"c": "7", "a": None, "b": None}]),
    Case("a column that the declared schema lacks", _DRIFT, {"schema": "b:string", "extra_columns": "error", "missing_columns": "null"},
         file="*.csv", error="which schema= lacks"),
    Case("union of Parquet columns and widths", _PARQUET, {"schema": "union"}, file="*.parquet", rows=_UNION_ROWS, types={"a": "int64"}),
    Case("union of Arrow columns and widths", _ARROW, {"schema": "union"}, file="*.arrow", rows=_UNION_ROWS, types={"a": "int64"}),
    Case("missing columns of Arrow files are null", _ARROW, {"schema": "b:string,a:int64", "missing_columns": "null"}, file="*.arrow",
         rows=[{"b": None, "a": 1}, {"b": "x", "a": 300}]),
    Case("union of unsigned and signed integers of 64 bits", {"1.parquet": _parquet(a=pa.array([2**64 - 1], pa.uint64())),
         "2.parquet": _parquet(a=_ints(-1))}, {"schema": "union"}, file="*.parquet", rows=[{"a": Decimal(2**64 - 1)}, {"a": Decimal(-1)}]),
    Case("union of decimals", {"1.parquet": _parquet(a=pa.array([Decimal("1.5")])), "2.parquet": _parquet(a=pa.array([Decimal("123.25")]))},
         {"schema": "union"}, file="*.parquet", rows=[{"a": Decimal("1.50")}, {"a": Decimal("123.25")}], types={"a": "decimal128(5, 2)"}),
    Case("union of structs", {"1.parquet": _parquet(s=pa.array([{"x": 1}, None])), "2.parquet": _parquet(s=pa.array([{"y": "t"}]))},
         {"schema": "union"}, file="*.parquet", rows=_STRUCTS),
    Case("union of lists of structs", {"1.parquet": _parquet(s=pa.array([[{"x": 1}], None, []])), "2.parquet": _parquet(s=pa.array([[{"y": 2}]]))},
         {"schema": "union"}, file="*.parquet",
         rows=_LISTS),
    Case("union of whole numbers and floats", {"1.parquet": _parquet(a=_ints(5)), "2.parquet": _parquet(a=pa.array([0.5]))}, {"schema": "union"},
         file="*.parquet", rows=[{"a": 5.0}, {"a": 0.5}]),
    Case("union of whole numbers that a float rounds", {"1.parquet": _parquet(a=_ints(2**53 + 1)), "2.parquet": _parquet(a=pa.array([0.5]))},
         {"schema": "union"}, file="*.parquet", error="schema_overrides={'a': 'string'}"),
    Case("union of numbers and text in Parquet", {"1.parquet": _parquet(a=_ints(5)), "2.parquet": _parquet(a=pa.array(["x"]))},
         {"schema": "union"}, file="*.parquet", error="int64 in"),
    Case("numbers declared as text in Parquet", {"1.parquet": _parquet(a=_ints(5)), "2.parquet": _parquet(a=pa.array(["x"]))},
         {"schema": "a:string"}, file="*.parquet", rows=[{"a": "5"}, {"a": "x"}]),
    Case("union of numbers and text, one column read as text", {"1.parquet": _parquet(a=_ints(5), b=_ints(1)), "2.parquet": _parquet(a=pa.array(["x"]))},
         {"schema": "union", "schema_overrides": {"a": "string"}}, file="*.parquet", rows=[{"a": "5", "b": 1}, {"a": "x", "b": None}]),
    Case("union of CSV columns, one column read as text", {"1.csv": b"a,b\n5,1\n", "2.csv": b"a\nx\n"},
         {"schema": "union", "schema_overrides": {"a": "string"}}, file="*.csv", rows=[{"a": "5", "b": 1}, {"a": "x", "b": None}]),
    Case("a value that a float rounds, read as text", {"1.parquet": _parquet(a=_ints(2**53 + 1)), "2.parquet": _parquet(a=pa.array([0.5]))},
         {"schema": "union", "schema_overrides": "a:string"}, file="*.parquet", rows=[{"a": "9007199254740993"}, {"a": "0.5"}]),
    Case("union with a column without values", {"1.parquet": _parquet(a=pa.nulls(1)), "2.parquet": _parquet(a=pa.array([dt.date(2024, 1, 1)]))},
         {"schema": "union"}, file="*.parquet", rows=[{"a": None}, {"a": dt.date(2024, 1, 1)}]),
    Case("union of NDJSON fields", _JSON, {"schema": "union"}, file="*.ndjson",
         rows=[{"a": 1.0, "b": None}, {"a": None, "b": {"x": 1, "y": None}}, {"a": 2.5, "b": {"x": None, "y": "z"}}]),
    Case("union of numbers and text in NDJSON", {"1.ndjson": b'{"a":1}\n', "2.ndjson": b'{"a":"x"}\n'}, {"schema": "union"}, file="*.ndjson",
         rows=[{"a": "1"}, {"a": '"x"'}]),
    Case("fields of later NDJSON files are ignored", {"1.ndjson": b'{"a":1}\n', "2.ndjson": b'{"a":2,"b":3}\n'}, {"extra_columns": "ignore"},
         file="*.ndjson", rows=[{"a": 1}, {"a": 2}]),
    Case("missing fields can't be errors", {"1.ndjson": b'{"a":1}\n'}, {"missing_columns": "error"}, file="*.ndjson", error="may leave fields out"),
    Case("folders with leading zeros are text", _FOLDERS, file="year=*/month=*/*.csv",
         rows=[{"v": 1, "year": 2024, "month": "03"}, {"v": 2, "year": 2025, "month": "11"}]),
    Case("folders of declared types", _FOLDERS, {"hive_types": {"month": "int8"}}, file="year=*/month=*/*.csv",
         rows=[{"v": 1, "year": 2024, "month": 3}, {"v": 2, "year": 2025, "month": 11}], types={"month": "int8"}),
    Case("folders of declared types beside a declared schema", _FOLDERS, {"schema": "v:int64", "hive_types": "month:int8"},
         file="year=*/month=*/*.csv", rows=[{"v": 1, "month": 3}, {"v": 2, "month": 11}]),
    Case("a declared type of a folder that is not there", _FOLDERS, {"hive_types": "day:int8"}, file="year=*/month=*/*.csv",
         error="no folder of the paths is day=…"),
    Case("a folder that is not of its declared type", _FOLDERS, {"hive_types": "month:date32"}, file="year=*/month=*/*.csv",
         error="month = '03' is no date32"),
    Case("folders of decimals", {"p=1.50/a.csv": b"v\n1\n", "p=-12.25/b.csv": b"v\n2\n"}, file="p=*/*.csv", types={"p": "decimal128(4, 2)"},
         rows=_DECIMALS),
    Case("folders of numbers with different decimals are text", {"p=1.9/a.csv": b"v\n1\n", "p=1.10/b.csv": b"v\n2\n"}, file="p=*/*.csv",
         rows=_VERSIONS),
    Case("union below folders", {"k=1/a.csv": b"v\n1\n", "k=2/b.csv": b"w\n2\n"}, {"schema": "union"}, file="k=*/*.csv",
         rows=[{"v": 1, "w": None, "k": 1}, {"v": None, "w": 2, "k": 2}]),
]  # fmt: skip
