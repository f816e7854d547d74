"""ORC, Avro and spreadsheets give what was written, for every shard size; damaged ones are errors."""

from __future__ import annotations

import datetime as dt
import functools
import io
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import orc

import mmflow as mf
from mmflow.formats import open_format
from tests.formats.group_rows import read

_UTC = dt.UTC
_RECORD = {
    "type": "record",
    "name": "Event",
    "namespace": "a.b",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": [{"type": "int", "logicalType": "date"}, "null"]},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "tags", "type": {"type": "map", "values": "int"}},
        {"name": "path", "type": {"type": "array", "items": ["null", "Kind"]}},
        {"name": "sum", "type": {"type": "fixed", "name": "MD5", "size": 16}},
        {
            "name": "inner",
            "type": {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "float"}]},
        },
    ],
}


def _event(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "note": None if number % 3 else f"note {number}",
        "at": dt.datetime(1970, 1, 1, tzinfo=_UTC) + dt.timedelta(days=number, microseconds=1),
        "day": dt.date(2024, 1, 1) + dt.timedelta(days=number % 300) if number % 2 else None,
        "price": Decimal(number).scaleb(-2),
        "key": uuid.UUID(int=number),
        "kind": "AB"[number % 2],
        "tags": {"a": number % 7},
        "path": ["A", None, "B"][: number % 4],
        "sum": bytes([number % 256]) * 16,
        "inner": {"x": 0.5},
    }


def _as_read(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "key": str(event["key"]), "tags": list(event["tags"].items())}


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_avro_of_all_types(codec: str, tmp_path: Path) -> None:
    events = [_event(n) for n in range(700)]
    path = tmp_path / "events.avro"
    with path.open("wb") as file:
        fastavro.writer(file, _RECORD, events, codec=codec, sync_interval=1000)
    form = open_format("avro", [str(path)])
    for cuts in ((), range(1, 40), (2, 3, 7)):
        rows, reports = read(form, path, cuts=cuts)
        assert rows == [_as_read(e) for e in events]
        assert sum(r.records for r in reports) == 700
    assert len(read(form, path, cuts=(1, 2), columns=())[0]) == 700


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.one_of(st.none(), st.text())), max_size=300),
    cuts=st.sets(st.integers(1, 12)),
    interval=st.integers(10, 3000),
)
def test_avro_and_orc_for_every_shard_size(
    rows: list[tuple[int, str | None]],
    cuts: set[int],
    interval: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("made")
    records = [{"a.b": number, "text": text} for number, text in rows]
    fields = [{"name": "a_b", "type": "long"}, {"name": "text", "type": ["null", "string"]}]
    with (folder / "t.avro").open("wb") as file:
        schema = {"type": "record", "name": "r", "fields": fields}
        fastavro.writer(
            file, schema, [{"a_b": n, "text": t} for n, t in rows], sync_interval=interval, validator=False
        )
    found, _ = read(open_format("avro", [str(folder / "t.avro")]), folder / "t.avro", cuts=sorted(cuts))
    assert [tuple(row.values()) for row in found] == rows
    table = pa.Table.from_pylist(records, pa.schema([("a.b", pa.int64()), ("text", pa.string())]))
    orc.write_table(table, str(folder / "t.orc"), stripe_size=interval, batch_size=64)
    form = open_format("orc", [str(folder / "t.orc")])
    assert read(form, folder / "t.orc", cuts=sorted(cuts))[0] == records
    assert len(read(form, folder / "t.orc", cuts=sorted(cuts), columns=())[0]) == len(records)


def test_avro_unions_of_several_types_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.avro"
    fields = [{"name": "x", "type": ["int", "string"]}]
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "r", "fields": fields}, [{"x": 1}])
    with pytest.raises(mf.SourceError, match="column 'x' is a union of 2 types"):
        mf.read(str(path))


def _book(path: Path) -> None:
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as book:
        book.add_worksheet("notes").write("A1", "nothing here")
        sheet = book.add_worksheet("2024")
        times, clock = (book.add_format({"num_format": f}) for f in ("yyyy-mm-dd hh:mm:ss", "hh:mm:ss"))
        sheet.write_row(2, 0, ["n", "x", "ok", "day", "at", "time", "mixed", "n", ""])
        for i in range(3):
            row = 3 + 2 * i  # rows between are empty
            sheet.write_row(row, 0, [i, i + 0.5, i > 1])
            sheet.write_datetime(row, 3, dt.datetime(2024, 2, 28 + i % 2))
            sheet.write_datetime(row, 4, dt.datetime(2024, 2, 29, 1, 2, 3), times)
            sheet.write_datetime(row, 5, dt.time(4, 5, 6), clock)
            sheet.write(row, 6, "text" if i else 7)
        sheet.write_formula(3, 8, "=1/0", None, "#DIV/0!")


def test_a_sheet_has_the_types_of_its_cells(tmp_path: Path) -> None:
    _book(tmp_path / "t.xlsx")
    read = mf.read(str(tmp_path / "t.xlsx"), sheet="2024")
    assert read.to_arrow().to_pylist() == [
        {
            "n": i, "x": i + 0.5, "ok": i > 1, "day": dt.date(2024, 2, 28 + i % 2),
            "at": dt.datetime(2024, 2, 29, 1, 2, 3), "time": dt.time(4, 5, 6), "mixed": "text" if i else "7",
            "n_2": None, "column_9": None,
        }
        for i in range(3)
    ]  # fmt: skip
    assert mf.read_excel(str(tmp_path / "t.xlsx"), sheet=2).count() == 3
    plain = mf.read_excel(str(tmp_path / "t.xlsx"), sheet=1, header=False)
    assert plain.to_arrow().to_pylist() == [{"f0": "nothing here"}]


def test_sheets_of_whole_numbers_and_others_are_read_together(tmp_path: Path) -> None:
    for name, values in (("a", [1.5, 2.5]), ("b", [1, 2])):
        with xlsxwriter.Workbook(str(tmp_path / f"{name}.xlsx")) as book:
            book.add_worksheet().write_column("A1", ["x", *values])
    assert mf.read(str(tmp_path / "*.xlsx")).to_arrow()["x"].to_pylist() == [1.5, 2.5, 1.0, 2.0]


@pytest.mark.parametrize("sheet", ["costs", 3, 0])
def test_a_sheet_that_is_not_there(sheet: str | int, tmp_path: Path) -> None:
    _book(tmp_path / "t.xlsx")
    with pytest.raises(mf.SourceError, match=r"has no sheet .*its sheets are 'notes', '2024'"):
        mf.read_excel(str(tmp_path / "t.xlsx"), sheet=sheet)


@functools.cache  # a book says when it was made
def _written(kind: str) -> bytes:
    made = io.BytesIO()
    if kind == "orc":
        orc.write_table(pa.table({"x": list(range(500))}), made)
    elif kind == "avro":
        schema = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "long"}]}
        fastavro.writer(made, schema, [{"x": n} for n in range(500)], codec="deflate", sync_interval=200)
    else:
        with xlsxwriter.Workbook(made) as book:
            book.add_worksheet().write_column("A1", ["x", *range(50)])
    return made.getvalue()


@pytest.mark.parametrize("kind", ["orc", "avro", "xlsx"])
@settings(max_examples=15)
@given(data=st.data())
def test_damaged_files_are_errors(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut files always; files with a changed byte give rows, or an error that names them."""
    whole = _written(kind)
    path = tmp_path_factory.mktemp("damaged") / f"t.{kind}"
    path.write_bytes(whole[: data.draw(st.integers(8, len(whole) - 60))])
    # A cut between two blocks of Avro leaves a whole file.
    if kind == "avro":
        assert _count(path) in {None, *range(500)}
    else:
        assert _count(path) is None
    at, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    _count(path)


def _count(path: Path) -> int | None:
    """Return the number of rows that are read, or None for an error."""
    kind = {"xlsx": "excel"}.get(path.suffix[1:], path.suffix[1:])
    try:
        return int(mf.read(str(path), format=kind).to_arrow().num_rows)
    except mf.MmflowError as error:
        assert str(path) in str(error)
        return None
