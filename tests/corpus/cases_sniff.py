"""Files whose dialect is found: one table written in many ways, and odd ones by themselves."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Mapping
from typing import Any, Literal

from tests.corpus.case import Case, Repeated

__all__ = ["CASES", "SNIFFED"]

_DAYS = [
    dt.date(2024, 1, 31),
    dt.date(2023, 12, 24),
    dt.date(2024, 2, 29),
    dt.date(2022, 7, 5),
    dt.date(2024, 11, 13),
]
_NAMES = ["Käse, alt", "Brot", "Öl; kalt", "Apfel", "Wein 0|7"]
_PRICES = [1234.5, -12.25, 3.75, 0.5, 99.99]
_ROWS: list[dict[str, Any]] = [
    {"id": i + 1, "name": name, "day": day, "price": price}
    for i, (name, day, price) in enumerate(zip(_NAMES, _DAYS, _PRICES, strict=True))
]


def _written(
    delimiter: str = ",",
    quote: str = '"',
    *,
    day: str = "%Y-%m-%d",
    decimal: str = ".",
    thousands: str = "",
    header: bool = True,
    end: str = "\n",
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL,
    escape: bool = False,
    pad: bool = False,
) -> str:
    """Return the table as text."""
    out = io.StringIO()
    single = len(delimiter) == 1
    writer = csv.writer(
        out, delimiter=delimiter if single else "\x02", quotechar=quote or None, lineterminator=end,
        quoting=quoting if quote else csv.QUOTE_NONE, doublequote=not escape, escapechar="\\" if escape else None,
    )  # fmt: skip
    if header:
        writer.writerow(["id", "name", "day", "price"])
    for row in _ROWS:
        number = f"{row['price']:,.2f}".replace(",", "_").replace(".", decimal).replace("_", thousands)
        writer.writerow([str(row["id"]), row["name"], row["day"].strftime(day), number])
    text = out.getvalue()
    if not single:
        text = text.replace("\x02", delimiter)
    return text.replace(delimiter, f"{delimiter} ") if pad else text


_GERMAN: dict[str, Any] = {"day": "%d.%m.%Y", "decimal": ",", "thousands": "."}
_OF_GERMAN: dict[str, Any] = {"decimal": ",", "thousands": ".", "date_format": "%d.%m.%Y"}
_NO_HEADER = [dict(zip(("f0", "f1", "f2", "f3"), row.values(), strict=True)) for row in _ROWS]
_QUOTED: Literal[1] = csv.QUOTE_ALL


def _case(
    name: str, data: bytes, options: Mapping[str, Any], rows: list[Any] | None = None
) -> tuple[Case, Mapping[str, Any]]:
    return Case(name, data, {"dialect": "auto"}, rows=_ROWS if rows is None else rows), options


def _dialects() -> list[tuple[Case, Mapping[str, Any]]]:
    """Return the table in delimiters by quotes by spellings."""
    made = []
    for delimiter, name in ((",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "bars"), ("\x01", "Ctrl-A"),
                            ("^", "carets"), ("~", "tildes"), ("§", "section signs")):  # fmt: skip
        found = {} if delimiter == "," else {"delimiter": delimiter}
        made += [
            _case(f"table of {name}", _written(delimiter).encode(), found),
            _case(f"table of {name}, all quoted, CRLF", _written(delimiter, quoting=_QUOTED, end="\r\n").encode(), found),
            _case(f"table of {name}, in single quotes", _written(delimiter, "'", quoting=_QUOTED).encode(), {**found, "quote": "'"}),
            _case(f"table of {name}, without a header", _written(delimiter, header=False).encode(), {**found, "header": False}, _NO_HEADER),
            _case(f"table of {name}, in German", _written(delimiter, **_GERMAN).encode(), {**found, **_OF_GERMAN}),
        ]  # fmt: skip
    return made


def _preambles() -> list[tuple[Case, Mapping[str, Any]]]:
    text, german = _written(), _written(";", **_GERMAN)
    found = {"delimiter": ";", **_OF_GERMAN}
    return [
        _case("a title", b"Prices of 2024\n" + text.encode(), {"skip_rows": 1}),
        _case("a title and a blank line", b"Prices\n\n" + text.encode(), {"skip_rows": 2}),
        _case("three lines of a preamble", f"Preise\nStand: 1.2.2024\n\n{german}".encode(), {**found, "skip_rows": 3}),
        _case("a preamble of keys and values", b"Report: prices\nUser: ann\nDate: 2024-03-01\n" + text.encode(), {"skip_rows": 3}),
        _case("a title that a spreadsheet padded", b"Prices,,,\n,,,\n" + text.encode(), {"skip_rows": 2}),
        _case("comments at the top", b"# made by x\n# version 2, final\n" + text.encode(), {"comment": "#"}),
        _case("comments in the middle", text.replace("3,", "# of these: a, b\n3,", 1).encode(), {"comment": "#"}),
        _case("comments of two slashes", b"// made by x\n" + text.encode(), {"comment": "//"}),
        _case("comments of percent signs", b"% made by x, y\n" + text.encode(), {"comment": "%"}),
        _case("a line with a sum", text.encode() + b"Total,,,1326.49\n", {}, []),
        _case("a line with a count", text.encode() + b"(5 rows)\n", {"skip_footer": 1}),
        _case("a title and a source below", b"Prices\n" + text.encode() + b"\nSource: the shop\n", {"skip_rows": 1, "skip_footer": 1}),
        _case("the line sep= of Excel", b"sep=;\n" + german.encode(), {**found, "skip_rows": 1}),
    ]  # fmt: skip


def _encodings() -> list[tuple[Case, Mapping[str, Any]]]:
    made = []
    for encoding, name in (("latin-1", "latin-1"), ("utf-16", "utf-16"), ("utf-8-sig", "utf-8")):
        found = {} if name == "utf-8" else {"encoding": name}
        titled = "Übersicht\n\n" + _written(";", **_GERMAN)
        made += [
            _case(f"{name} with commas", _written().encode(encoding), found),
            _case(f"{name} with semicolons, in German", _written(";", **_GERMAN).encode(encoding), {**found, "delimiter": ";", **_OF_GERMAN}),
            _case(f"{name} with tabs and CRLF", _written("\t", end="\r\n").encode(encoding), {**found, "delimiter": "\t"}),
            _case(f"{name} with a title", titled.encode(encoding), {**found, "delimiter": ";", "skip_rows": 2, **_OF_GERMAN}),
        ]  # fmt: skip
    return made


def _spellings() -> list[tuple[Case, Mapping[str, Any]]]:
    rows: list[Any] = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}]
    return [
        _case("dates with the month first", _written(day="%m/%d/%Y").encode(), {"date_format": "%m/%d/%Y"}),
        _case("dates with the day first", _written(day="%d/%m/%Y").encode(), {"date_format": "%d/%m/%Y"}),
        _case("dates of slashes, year first", _written(day="%Y/%m/%d").encode(), {"date_format": "%Y/%m/%d"}),
        _case("dates with names of months", _written(day="%d-%b-%Y").encode(), {"date_format": "%d-%b-%Y"}),
        _case("thousands by commas", _written(";", thousands=",").encode(), {"delimiter": ";", "thousands": ","}),
        _case("thousands by apostrophes", _written(thousands="'").encode(), {"thousands": "'"}),
        _case("decimals behind quoted commas", _written(decimal=",", quoting=_QUOTED).encode(), {"decimal": ","}),
        _case("a text for null", b"a,b\n1,x\nNA,y\n3,z\n4,k\n", {"null": {"a": ["", "NA"]}},
              [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"a": 3, "b": "z"}, {"a": 4, "b": "k"}]),
        _case("blanks behind commas", b"a, b\n1, x\n2, y\n3, z\n", {"trim": True}, rows),
        _case("blanks before quotes", b'a, "b"\n1, "x"\n2, "y"\n3, "z"\n', {"trim": True}, rows),
        _case("any blanks", b"a   b\n1  x\n2    y\n3   z\n", {"delimiter": r"\s+"}, rows),
        _case("a delimiter of two characters", b"a||b\n1||x\n2||y\n3||z\n", {"delimiter": "||"}, rows),
        _case("a delimiter of three characters", b"a~|~b\n1~|~x\n2~|~y\n3~|~z\n", {"delimiter": "~|~"}, rows),
        _case("backslashes before quotes", b'a,b\n1,"say \\"hi\\", ok"\n2,"y"\n3,"z"\n', {"escape": "\\"},
              [{"a": 1, "b": 'say "hi", ok'}, *rows[1:]]),
        _case("quotes that are inches", b'a,b\n1,"5 inch\n2,"7 inch\n3,z\n', {"quote": ""},
              [{"a": 1, "b": '"5 inch'}, {"a": 2, "b": '"7 inch'}, {"a": 3, "b": "z"}]),
        _case("one column of numbers", b"count\n10\n20\n35\n47\n50\n", {}, [{"count": n} for n in (10, 20, 35, 47, 50)]),
        _case("numbers alone", b"1,2\n3,4\n5,6\n7,8\n9,10\n", {"header": False}, [{"f0": n, "f1": n + 1} for n in range(1, 10, 2)]),
        _case("a header of two rows", b"length,mass,place\n(m),(kg),(text)\n1,2,x\n3,4,y\n5,6,z\n7,8,x\n9,10,y\n", {"header": [1, 2]},
              [{"length_(m)": n, "mass_(kg)": n + 1, "place_(text)": p} for n, p in zip((1, 3, 5, 7, 9), "xyzxy", strict=True)]),
        _case("times with colons", b"at,b\n12:30:00,1\n13:45:10,2\n14:00:59,3\n", {}, []),
    ]  # fmt: skip


def _large() -> Case:
    head = "Umsätze\nStand: 1.2.2024\n\nTag;Betrag\n".encode("latin-1")
    body = "31.01.2024;1.234,50\n01.02.2024;-0,25\n".encode("latin-1")
    rows = [{"Tag": dt.date(2024, 1, 31), "Betrag": 1234.5}, {"Tag": dt.date(2024, 2, 1), "Betrag": -0.25}]
    return Case("many rows behind a preamble", Repeated(head, body), {"dialect": "auto"}, rows=rows)


def _doubts() -> list[Case]:
    auto = {"dialect": "auto"}
    return [
        Case("lines of prose", b"Some words, that go on.\nAnd others; too\nNothing\nto, see, here\n", auto, error="can't tell"),
        Case("a comma that may be decimal or delimit", b"1,5;2\n1\n2;3,4,5\n", auto, error="can't tell"),
        Case("what is given wins", b"a;b\n1;x\n", {**auto, "delimiter": ","}, rows=[{"a;b": "1;x"}]),
        Case("a header that is given wins", b"a;b\n1;2\n3;4\n5;6\n", {**auto, "header": False},
             rows=[{"f0": a, "f1": b} for a, b in ("ab", "12", "34", "56")]),
        Case("dates that may have either first are text", b"a;d\n1;01/02/2024\n2;03/04/2024\n3;05/06/2024\n", auto,
             rows=[{"a": n, "d": d} for n, d in ((1, "01/02/2024"), (2, "03/04/2024"), (3, "05/06/2024"))]),
        Case("nothing", b"", auto, error="is empty"),
    ]  # fmt: skip


#: Cases, and the options that are to be found; rows of [] are left to other tests.
SNIFFED = [*_dialects(), *_preambles(), *_encodings(), *_spellings()]
CASES = [*(case for case, _ in SNIFFED if case.rows), *_doubts(), _large()]
