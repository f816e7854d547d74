"""Options that the other tables of the corpus leave out."""

from tests.corpus.case import Case, Repeated

CASES = [
    Case("quotes that are apostrophes", Repeated(b"a,b\n", b"1,'x,\ny'\n2,z\n"), {"quote": "'"},
         rows=[{"a": 1, "b": "x,\ny"}, {"a": 2, "b": "z"}]),
    Case("quotes that are data", b'a,b\n1,"x\n2,y"\n', {"quote": ""}, rows=[{"a": 1, "b": '"x'}, {"a": 2, "b": 'y"'}]),
    Case("quotes behind backslashes", b'a,b\n1,"x\\"y"\n', {"escape": "\\"}, rows=[{"a": 1, "b": 'x"y'}]),
    Case("leading zeros of a number", b"a\n007\n", {"schema": "a:int64", "exact": False}, rows=[{"a": 7}]),
    Case("leading zeros that are no number", b"a\n007\n", {"schema": "a:int64", "exact": True}, error="not exactly a value"),
    Case("a bad value in a column that is not read", b"a,b\n1,x\n", {"schema": "a:int64,b:int64"}, rows=[{"a": 1}], columns=("a",)),
    Case("a bad value that is looked for", b"a,b\n1,x\n", {"schema": "a:int64,b:int64", "validate": "all"}, columns=("a",),
         error="not a value of type int64"),
    Case("one column of another type", b"a,b\n1,2\n3,4\n", {"schema_overrides": "b:string"}, rows=[{"a": 1, "b": "2"}, {"a": 3, "b": "4"}]),
    Case("records with bytes behind them", b"\x01\x00\xff\x02\x00\xff",
         {"format": "records", "layout": [{"name": "a", "type": "int16", "offset": 0}], "record_size": 3},
         rows=[{"a": 1}, {"a": 2}], file="odd.bin"),
    Case("text between columns of fixed width", b"1  x  2\n3     4\n", {"format": "fwf", "widths": [3, 1, 3], "header": False, "gaps": True},
         rows=[{"f0": 1, "f1": "x", "f2": 2}, {"f0": 3, "f1": None, "f2": 4}], file="odd.txt"),
]  # fmt: skip
