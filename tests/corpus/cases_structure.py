"""Files whose records are not simply lines: headers elsewhere, footers, comments, ragged rows, other delimiters."""

from tests.corpus.case import Case, Repeated

_ONE = [{"a": 1, "b": "x"}]

CASES = [
    Case("lines before the header", Repeated(b'made by "x\n\n\na,b\n', b"1,x\n"), {"skip_rows": 3}, _ONE),
    Case("lines before the header, of Windows", Repeated(b"made by\r\n\r\na,b\r\n", b"1,x\r\n"), {"skip_rows": 2}, _ONE),
    Case("more lines to skip than there are", b"a,b\n", {"skip_rows": 5}, error="is empty"),
    Case("a header that is the second row", Repeated(b"total\n\na,b\n", b"1,x\n"), {"header": 2}, _ONE),
    Case("a header that is the second row, as text", b"total\na,b\n1,x\n", {"header": "2"}, _ONE),
    Case("a header of two rows", Repeated(b"a,b\nm,s\n", b"1,x\n"), {"header": [1, 2]}, [{"a_m": 1, "b_s": "x"}]),
    Case(
        "a header of two rows, of which one is short",
        b"year,\n,b,c\n1,2,3\n", {"header": "[1, 2]"}, [{"year": 1, "b": 2, "c": 3}],
    ),
    Case("a header of rows 1 and 3", b"a,b\n---,---\nm,s\n1,x\n", {"header": [1, 3]}, [{"a_m": 1, "b_s": "x"}]),
    Case("a header behind the end", b"a,b\n1,2\n", {"header": 5}, error="it has 2 rows, and the header is its row 5"),
    Case("no header, with names", Repeated(b"", b"1,x\n"), {"header": False, "names": ["a", "b"]}, _ONE),
    Case("no header by the number 0", b"1,x\n", {"header": 0, "names": "a,b"}, _ONE),
    Case("other names than the header's", Repeated(b"u,v\n", b"1,x\n"), {"names": ["a", "b"]}, _ONE),
    Case("fewer names than the header's", b"u,v\n1,x\n", {"names": ["a"]}, error="names= has 1 names, and its header has 2"),
    Case("lines at the end", Repeated(b"a,b\n", b"1,x\n", b'sum,"1\n--- end ---\n'), {"skip_footer": 2}, _ONE),
    Case("a line at the end without a line break", Repeated(b"a,b\n", b"1,x\n", b"sum,1"), {"skip_footer": 1}, _ONE),
    Case("a longer footer than the file", b"a,b\n1,2\n", {"skip_footer": 9, "schema": "a:int64,b:int64"}, []),
    Case("lines of only delimiters", b"a,b\n1,x\n,\n", rows=[*_ONE, {"a": None, "b": None}]),
    Case(
        "preamble, header of two rows and footer",
        Repeated(b"\xef\xbb\xbfReport\n\nu;v\nkm;s\n", b"1;2\n", b"sum;;\n"),
        {"skip_rows": 2, "header": [1, 2], "skip_footer": 1, "delimiter": ";"}, [{"u_km": 1, "v_s": 2}],
    ),
    Case("a number of lines that is none", b"a\n1\n", {"skip_rows": -1}, error="must be a number of lines, 0 or more"),
    Case("a header that is no row", b"a\n1\n", {"header": "first"}, error="the number of a row (the first is 1)"),
    Case("names that stand twice", b"1,2\n", {"names": "a,a", "header": False}, error="'a' stands twice"),
]  # fmt: skip
