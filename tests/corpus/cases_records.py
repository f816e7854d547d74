"""Binary records of odd layouts."""

from typing import Any

from tests.corpus.case import Case, Repeated


def _binary(name: str, data: Any, options: dict[str, Any], **given: Any) -> Case:
    return Case(name, data, {"format": "records"} | options, file="odd.bin", **given)


_TEXT = [{"name": "s", "type": "char[3]", "length": "uint8"}]
_LINES = [{"name": "k", "type": "char[2]"}, {"name": "v", "type": "char[]"}]
CASES = [
    _binary("lists and structures", Repeated(b"", bytes(range(1, 8))),
            {"layout": [{"name": "a", "type": "uint8", "count": [2, 2]},
                        {"name": "b", "fields": [{"name": "x", "type": "uint8"}, {"name": "y", "type": "uint16", "order": "big"}]}]},
            rows=[{"a": [[1, 2], [3, 4]], "b": {"x": 5, "y": 6 * 256 + 7}}]),
    _binary("bits of one number", Repeated(b"", b"\xa5"),
            {"layout": [{"name": "low", "type": "uint8", "offset": 0, "bits": [0, 4]},
                        {"name": "high", "type": "int8", "offset": 0, "bits": [4, 4]}]}, rows=[{"low": 5, "high": -6}]),
    _binary("text behind its length", Repeated(b"", b"\x02ab \x00???\x03\xc3\xa9x"), {"layout": _TEXT},
            rows=[{"s": "ab"}, {"s": ""}, {"s": "éx"}]),
    _binary("a length beyond its field", b"\x02ab \x04abc", {"layout": _TEXT}, error="a length beyond its field"),
    _binary("a length beyond its field, dropped", Repeated(b"", b"\x02ab \x04abc\x01a  "), {"layout": _TEXT, "on_bad_record": "skip"},
            rows=[{"s": "ab"}, {"s": "a"}]),
    _binary("a length beyond its field, as null", b"\x02ab \x04abc", {"layout": _TEXT, "on_bad_record": "null"},
            rows=[{"s": "ab"}, {"s": None}]),
    _binary("a header and a footer", Repeated(b"HEAD", b"\x01\x02", b"FOOTER!"), {"dtype": "u1", "header_bytes": 4, "footer_bytes": 7},
            rows=[{"value": 1}, {"value": 2}]),
    _binary("a record that the footer cuts off", b"\x01\x00\x02F", {"dtype": "<u2", "footer_bytes": 1},
            error="expected 2 bytes, the file ends after 1"),
    _binary("less than header and footer", b"abc", {"dtype": "u1", "header_bytes": 2, "footer_bytes": 2},
            error="less than header_bytes (2) and footer_bytes (2) together"),
    _binary("a header longer than the file", b"abc", {"dtype": "u1", "header_bytes": 4}, error="header_bytes is 4"),
    _binary("records behind their length", Repeated(b"", b"\x00\x04abcd\x00\x02xy"),
            {"layout": _LINES, "record_length": {"type": "uint16", "order": "big"}}, rows=[{"k": "ab", "v": "cd"}, {"k": "xy", "v": ""}]),
    _binary("a length that the file does not have", b"\x02ab\x05xy", {"layout": _LINES, "record_length": "uint8"},
            error="its length says more than the 3 bytes that the file has left"),
    _binary("a record shorter than its fields", b"\x02ab\x01x\x02cd", {"layout": _LINES, "record_length": "uint8"},
            error="the record ends before its field 'k' does"),
    _binary("a record shorter than its fields, as nulls", b"\x02ab\x01x\x02cd",
            {"layout": _LINES, "record_length": "uint8", "on_bad_record": "null"},
            rows=[{"k": "ab", "v": ""}, {"k": None, "v": None}, {"k": "cd", "v": ""}]),
    _binary("records up to a delimiter", Repeated(b"", b"ab12\r\ncd\r\n"), {"layout": _LINES, "delimiter": "\r\n"},
            rows=[{"k": "ab", "v": "12"}, {"k": "cd", "v": ""}]),
    _binary("no delimiter at the end", b"ab12;;cd;", {"layout": _LINES, "delimiter": ";;"}, rows=[{"k": "ab", "v": "12"}, {"k": "cd", "v": ";"}]),
    _binary("text that is not UTF-8 in a record of any length", b"\x03ab\xff\x02cd",
            {"layout": _LINES, "record_length": "uint8", "on_bad_record": "skip"}, rows=[{"k": "cd", "v": ""}]),
    _binary("fields behind counted text", b"\x06\x02ab\x01\x02\x03", {"record_length": "uint8", "layout": [
        {"name": "s", "type": "char[]", "length": "uint8"}, {"name": "x", "type": "uint8", "count": 2}, {"name": "r", "type": "binary[]"}]},
            rows=[{"s": "ab", "x": [1, 2], "r": b"\x03"}]),
    _binary("places of records", b"H\x02ab\x02cd", {"layout": _LINES, "record_length": "uint8", "header_bytes": 1},
            columns=("k", "_offset"), rows=[{"k": "ab", "_offset": 1}, {"k": "cd", "_offset": 4}]),
    _binary("no records", b"", {"layout": _LINES, "record_length": "uint8"}, rows=[]),
]  # fmt: skip
