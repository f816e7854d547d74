"""Tables for people: what is cut where the width does not suffice, and what the data may not do to the screen."""

from __future__ import annotations

import datetime as dt
import html.parser
import io
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mmflow.sinks.stdout import write_table
from mmflow.sinks.text_table import ShownRows, html_table, text_table


def shown(
    table: pa.Table, width: int | None = None, most: int | None = None, *, colors: bool = False
) -> list[str]:
    """Return the lines of a table."""
    return text_table(rows_of(table, most), width, colors=colors).splitlines()


def rows_of(table: pa.Table, most: int | None = None, size: int = 7) -> ShownRows:
    rows = ShownRows(table.schema, most)
    for batch in table.to_batches(max_chunksize=size):
        rows.add(batch)
    return rows


WIDE = pa.table(
    {
        "id": [123_456_789_012, None],
        "when": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 600)] * 2, pa.timestamp("us")),
        "price": pa.array([Decimal("-1234567.89"), None], pa.decimal128(15, 2)),
        **{f"c{i}": [i, i + 1000] for i in range(12)},
        "comment": ["a long comment " * 10, "short"],
    }
)


def test_a_table_that_fits_is_whole() -> None:
    table = pa.table({"n": [1, 22, None], "name": ["x", "NULL", None], "ok": [True, False, None]})
    assert shown(table, 80) == [
        "    n  name    ok",
        "int64  string  bool",
        "─────  ──────  ─────",
        "    1  x       true",
        '   22  "NULL"  false',  # the text, not a null
        " NULL  NULL    NULL",
        "(3 rows)",
    ]


def test_columns_are_left_out_in_the_middle_and_counted() -> None:
    lines = shown(WIDE, 80)
    assert max(map(len, lines)) <= 80
    first, kinds, row = lines[0].split(), lines[1].split(), lines[3]
    assert first[:2] == ["id", "when"]
    assert first[-1] == "comment"
    assert kinds[:1] == ["int64"]
    assert f"… {16 - (len(first) - 3)} …" in lines[0]
    assert row.startswith("123456789012  2024-01-02 03:04:05.000600  ")
    assert row.endswith("…")
    assert lines[-1] == f"(2 rows; 16 columns, {len(first) - 3} shown)"
    assert len(shown(WIDE)[0].split()) == 16  # no limit, nothing is cut
    assert "a long comment " * 9 in shown(WIDE)[3]


@pytest.mark.parametrize("width", range(20, 130, 7))
def test_lines_fit_any_width_and_numbers_are_never_cut(width: int) -> None:
    lines = shown(WIDE.append_column("漢字", [["漢字" * 40, "é\u0301x"]]), width)
    assert max(map(cell_len, lines)) <= width
    assert "123456789012" in lines[3]
    values = {
        *["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"],
        "123456789012",
        "-1234567.89",
        "…",
    }
    parts = {p for p in lines[3].split() if p[0] in "-0123456789" and "-01-02" not in p and ":" not in p}
    assert parts <= values


def test_every_column_is_shown_in_blocks() -> None:
    table = pa.table({"name": ["x", "y"]} | {f"column {n}": [n, None] for n in range(5)})
    text = text_table(rows_of(table), 30, every_column=True)
    heads = [re.split("  +", line) for line in text.splitlines() if line.startswith("name")]
    assert heads == [["name", "column 0", "column 1"], ["name", "column 2", "column 3"], ["name", "column 4"]]
    assert max(map(len, text.splitlines())) <= 30
    assert "…" not in text


def test_rows_are_left_out_in_the_middle_and_counted() -> None:
    table = pa.table({"n": range(10_000)})
    for most, expected in ((5, [0, 1, 2, None, 9998, 9999]), (1, [0, None]), (10_000, list(range(10_000)))):
        lines = shown(table, 30, most)
        assert [None if "…" in c else int(c) for c in lines[3:-1]] == expected
    assert shown(table, 30, 5)[-1] == "(10,000 rows, 5 shown)"
    assert shown(table.slice(0, 6), 30, 5)[3:] == [
        "    0",
        "    1",
        "    2",
        "    …",
        "    4",
        "    5",
        "(6 rows, 5 shown)",
    ]


def test_data_can_not_drive_the_screen() -> None:
    hostile = [
        "a\nb\tc",
        "\x1b[31mred",
        "\u202eevil",
        "\u2028",
        "\x9b2J",
        "[bold]x[/]",
        "a\u00a0b\u3000c",
        "👨\u200d👩",
    ]
    table = pa.table({"x\n\x1b[2J": hostile})
    lines = shown(table, 60)
    assert lines[0] == "x\\n\\x1b[2J"
    assert lines[3:-1] == [
        "a\\nb\\tc", "\\x1b[31mred", "\\u202eevil", "\\u2028", "\\x9b2J", "[bold]x[/]", "a\u00a0b\u3000c", "👨\u200d👩"
    ]  # fmt: skip
    colored = shown(pa.table({"a": ["null", None]}), 60, colors=True)
    assert colored[3:5] == ["null", "\x1b[2mNULL  \x1b[0m"]


def test_wide_characters_stay_in_their_columns() -> None:
    table = pa.table({"t": ["漢字テキスト", "e\u0301", "שלום", "x" * 50], "n": [1, 2, 3, 4]})
    lines = shown(table, 30)
    assert {cell_len(line) for line in lines[3:-1]} == {30}
    assert lines[3] == "漢字テキスト" + " " * 17 + "1"


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (pa.table({}), ["(0 rows)"]),
        (pa.table({"a": pa.array([], pa.int8())}), ["   a", "int8", "────", "(0 rows)"]),
        (pa.table({"": ["x"]}), ['""', "string", "──────", "x", "(1 row)"]),
    ],
)
def test_tables_of_nothing(table: pa.Table, lines: list[str]) -> None:
    assert shown(table, 80) == lines
    assert shown(table) == lines


def test_thousands_of_columns() -> None:
    table = pa.table({f"c{i}": [i] for i in range(5000)})
    lines = shown(table, 80)
    assert lines[0].split()[-1] == "c4999"
    assert lines[-1] == "(1 row; 5,000 columns, 10 shown)"
    assert len(html_table(rows_of(table))) < 20_000


def test_types_that_text_has_no_form_for() -> None:
    far = pa.table({"t": pa.array([2**62, None], pa.timestamp("us"))})
    assert "148108-07-06T" in shown(far)[3]
    nested = pa.table(
        {
            "s": [{"a": 0.1, "b": [1, None]}, None],
            "m": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
        }
    )
    assert shown(nested)[3:5] == [f'{{"a":0.1,"b":[1,null]}}{" " * 14}{{"k":"v"}}', f"NULL{' ' * 32}NULL"]


_VALUES = st.lists(st.one_of(st.none(), st.text(max_size=60)), min_size=1, max_size=5)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=30), _VALUES), min_size=1, max_size=12), st.integers(20, 100))
def test_every_text_gives_lines_that_fit(columns: list[tuple[str, list[str | None]]], width: int) -> None:
    rows = min(len(values) for _, values in columns)
    encodable = [
        [None if v is None else v.encode(errors="replace").decode() for v in vs[:rows]] for _, vs in columns
    ]
    names = [name.encode(errors="replace").decode() for name, _ in columns]
    table = pa.Table.from_arrays([pa.array(v, pa.string()) for v in encodable], names=names)
    lines = shown(table, width)
    assert len(lines) >= rows + 4
    assert max(map(cell_len, lines)) <= width


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_is_escaped() -> None:
    found = _Tags()
    found.feed(
        html_table(rows_of(pa.table({"<script>": ["<img onerror=x>", None, "&amp;"], "n": [1, 2, 3]})))
    )
    assert set(found.tags) == {"table", "thead", "tbody", "tr", "th", "td", "br", "small", "i"}
    assert {"<script>", "<img onerror=x>", "NULL", "&amp;", "string"} <= set(found.texts)


def test_the_width_is_that_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines() -> list[str]:
        stream = io.BytesIO()
        write_table(WIDE.to_batches(), WIDE.schema, "table", stream)
        return stream.getvalue().decode().splitlines()

    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, lines())) <= 60
    monkeypatch.delenv("COLUMNS")
    assert len(lines()[0]) > 150
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1m" in lines()[0]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(lines())
