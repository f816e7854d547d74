"""Text of fixed width."""

import datetime as dt
from typing import Any

from tests.corpus.case import Case, Repeated


def _fixed(name: str, data: Any, options: dict[str, Any] | None = None, **given: Any) -> Case:
    return Case(name, data, {"format": "fwf"} | (options or {}), file="odd.txt", **given)


_ROWS = [
    {"id": 1, "name": "Ada L", "on": dt.date(2024, 2, 29)},
    {"id": 20, "name": "Bo", "on": dt.date(2024, 3, 1)},
]
CASES = [
    _fixed("positions inferred, numbers on the right",
           Repeated(b"id  name  on\n", b" 1  Ada L 2024-02-29\n20  Bo    2024-03-01\n"), rows=_ROWS),
    _fixed("no header", b" 1  x\n20  y\n", {"header": False}, rows=[{"f0": 1, "f1": "x"}, {"f0": 20, "f1": "y"}]),
    _fixed("widths without blanks between", Repeated(b"", b"001Ada  5\n002Bo  10\n"),
           {"widths": [3, 3, 3], "names": "k,name,n", "schema": "k:string,name:string,n:int64"},
           rows=[{"k": "001", "name": "Ada", "n": 5}, {"k": "002", "name": "Bo", "n": 10}]),
    _fixed("columns that overlap, out of order, to the end of the line", b"abcdef\nghi\n",
           {"colspecs": [[2, None], [0, 3]], "names": ["x", "y"]}, rows=[{"x": "cdef", "y": "abc"}, {"x": "i", "y": "ghi"}]),
    _fixed("characters of several bytes", Repeated(b"", "né 12\nüüü34\n".encode()), {"widths": [3, 2], "names": "a,b"},
           rows=[{"a": "né", "b": 12}, {"a": "üüü", "b": 34}]),
    _fixed("line ends of Windows, blank lines, a mark of UTF-8",
           Repeated(b"\xef\xbb\xbf\r\nid x\r\n", b" 1 a\r\n\r\n   \r\n 2  \r\n"), rows=[{"id": 1, "x": "a"}, {"id": 2, "x": None}],
           options={"ragged": "null"}),
    _fixed("a line that is too short", b" 1 a\n 2\n", {"widths": [3, 1], "names": "id,x"},
           error="the line has 2 characters, and its last column begins behind 3; ragged=null gives nulls there"),
    _fixed("a line that is too short, as null", b" 1 a\n 2\n", {"widths": [3, 1], "names": "id,x", "ragged": "null"},
           rows=[{"id": 1, "x": "a"}, {"id": 2, "x": None}]),
    _fixed("a line that is too short, dropped", b" 1 a\n 2\n", {"widths": [3, 1], "names": "id,x", "on_bad_record": "skip"},
           rows=[{"id": 1, "x": "a"}]),
    _fixed("lines before the header", b"Report of today\n\nid x\n 1 a\n", {"skip_rows": 2}, rows=[{"id": 1, "x": "a"}]),
    _fixed("names twice, and none", b"x  x\n1  2  3\n", {"widths": [3, 3, 3], "ragged": "null"},
           rows=[{"x": 1, "x_2": 2, "column_3": 3}]),
    _fixed("names in place of a header", b"id x\n 1 a\n", {"names": "n,s", "header": True}, rows=[{"n": 1, "s": "a"}]),
    _fixed("late text between inferred columns",
           b"id x\n" + b" 1 a\n" * 200000 + b" 1ba\n" + b" 1 a\n" * 200000, error="text stands between the columns"),
    _fixed("tabs around values", b"\t1\t a\t\n", {"widths": [3, 3], "names": "n,s"}, rows=[{"n": 1, "s": "a"}]),
    _fixed("null texts", b"NA  .\n 1  2\n", {"header": False, "null": ["NA", "."]},
           rows=[{"f0": None, "f1": None}, {"f0": 1, "f1": 2}]),
    _fixed("a declared type that does not fit", b"id\n xx\n", {"widths": [3], "schema": "id:int64"},
           error="not a value of type int64"),
    _fixed("no bytes", b"", error="is empty"),
    _fixed("widths that are none", b"a\n", {"widths": "3,0"}, error="widths = '3,0': must be a list of numbers of characters"),
    _fixed("widths and colspecs", b"a\n", {"widths": "3", "colspecs": "[[0, 3]]"}, error="leave one of them out"),
    _fixed("names of another number", b"a b\n", {"widths": "2,1", "names": "a"}, error="names has 1 names, and there are 2"),
]  # fmt: skip
