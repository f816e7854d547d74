"""Files that are odd without any option."""

from tests.corpus.case import Case, Repeated

CASES = [
    Case(
        "line breaks, delimiters and quotes within quotes",
        Repeated(b"a,b\n", b'1,"x,\n""y"""\n2,z\n'),
        rows=[{"a": 1, "b": 'x,\n"y"'}, {"a": 2, "b": "z"}],
    ),
    Case("no line break at the end", b"a,b\n1,x\n2,y", rows=[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    Case("line ends of Windows", Repeated(b"a,b\r\n", b"1,x\r\n"), rows=[{"a": 1, "b": "x"}]),
    Case("a mark of UTF-8", b"\xef\xbb\xbfa,b\n1,x\n", rows=[{"a": 1, "b": "x"}]),
    Case("empty lines", Repeated(b"a,b\n\n", b"1,x\n\n\n"), rows=[{"a": 1, "b": "x"}]),
    Case("empty text and null", b'a,b\n1,""\n2,\n', rows=[{"a": 1, "b": ""}, {"a": 2, "b": None}]),
    Case("names twice, and none", b"a,a,\n1,2,3\n", rows=[{"a": 1, "a_2": 2, "column_3": 3}]),
    Case("leading zeros are text", b"a\n007\n08\n", rows=[{"a": "007"}, {"a": "08"}], types={"a": "string"}),
    Case("integers beyond int64", b"a\n18446744073709551615\n1\n", rows=[{"a": 2**64 - 1}, {"a": 1}], types={"a": "uint64"}),
    Case("no bytes", b"", error="is empty"),
]  # fmt: skip
