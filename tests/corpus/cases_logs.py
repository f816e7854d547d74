"""Logs: lines that a pattern, or the name of a log, splits into fields."""

import datetime as dt
from typing import Any

from tests.corpus.case import Case, Repeated

_UTC = dt.UTC
_COMMON = b'::1 - - [29/Feb/2024:23:59:59 -0130] "GET /a b HTTP/1.0" 200 12\n'


def _web(**values: Any) -> dict[str, Any]:
    row = {
        "host": "::1",
        "ident": None,
        "user": None,
        "time": dt.datetime(2024, 3, 1, 1, 29, 59, tzinfo=_UTC),
    }
    return row | {"request": "GET /a b HTTP/1.0", "status": 200, "bytes": 12} | values


def _log(name: str, data: Any, pattern: str, **given: Any) -> Case:
    options = {"format": "text", "pattern": pattern} | given.pop("options", {})
    return Case(name, data, options, file="odd.log", **given)


CASES = [
    _log("a day that only leap years have, and a zone behind UTC", Repeated(b"", _COMMON), "common", rows=[_web()]),
    _log("no size, and a quote in the request", _COMMON.replace(b"12\n", b"-\n").replace(b"a b", b'\\"'), "common",
         rows=[_web(bytes=None, request='GET /\\" HTTP/1.0')]),
    _log("a day that the month does not have", _COMMON.replace(b"29/Feb/2024", b"31/Feb/2024"), "common",
         error="not a value of type timestamp[us, tz=UTC]"),
    _log("a user with a blank, and an empty request", _COMMON.replace(b"- [", b"J D [").replace(b"GET /a b HTTP/1.0", b""),
         "common", rows=[_web(user="J D", request=None)]),
    _log("line ends of Windows, and empty lines", Repeated(b"\r\n", _COMMON.replace(b"\n", b"\r\n\r\n")), "common",
         rows=[_web()]),
    _log("more behind the Combined Log Format", _COMMON.rstrip() + b' "http://x/" "curl" 0.003\n', "combined",
         rows=[_web(referer="http://x/", user_agent="curl")]),
    _log("the Common Log Format as the Combined one", _COMMON, "combined", error="does not fit the Combined Log Format"),
    _log("syslog without a priority, without a program, and with a day of one digit",
         b"<34>Oct 11 22:14:15 m su: 'su root' failed\nFeb  5 17:32:18 h last message repeated 3 times\n", "syslog",
         rows=[{"priority": 34, "time": "Oct 11 22:14:15", "host": "m", "app": "su", "pid": None,
                "message": "'su root' failed"},
               {"priority": None, "time": "Feb  5 17:32:18", "host": "h", "app": None, "pid": None,
                "message": "last message repeated 3 times"}]),
    _log("syslog with brackets within structured data",
         b'<34>1 2003-10-11T22:14:15.003Z m su - ID47 [x@1 a="]" b="\\""] text\n', "syslog5424",
         rows=[{"priority": 34, "version": 1, "time": dt.datetime(2003, 10, 11, 22, 14, 15, 3000, tzinfo=_UTC),
                "host": "m", "app": "su", "pid": None, "msgid": "ID47", "data": '[x@1 a="]" b="\\""]',
                "message": "text"}]),
    _log("logfmt with escapes, an empty value, a word alone and a field twice",
         Repeated(b"", b'a=1 msg="x \\"y\\" = z" e= ok a=2\n\nmsg=u\xc3\xa9 a=3\n'), "logfmt",
         rows=[{"a": 2, "msg": 'x "y" = z', "e": None, "ok": True}, {"a": 3, "msg": "ué", "e": None, "ok": None}]),
    _log("logfmt with a quote that is never closed", b'a=1\na="x\n', "logfmt", error="a quote is never closed"),
    _log("logfmt with prose between", b"a=1\nhello world\n", "logfmt", error="no word of it is key=value"),
    _log("logfmt with a late field", {"odd.log": b"a=1\n" * 300000 + b"b=2\n" + b"a=1\n" * 300000}, "logfmt",
         error="field 'b' is not in the schema"),
    _log("logfmt of declared fields", b"a=1 b=2\nc=3\n", "logfmt", options={"schema": {"c": "int16", "a": "string"}},
         rows=[{"c": None, "a": "1"}, {"c": 3, "a": None}], types={"c": "int16"}),
    _log("a W3C log with comments between", Repeated(
        b"#Version: 1.0\r\n#Fields: date time cs(User-Agent) sc-status\r\n",
        b"2024-02-29 00:00:01 Mozilla/5.0+(X) 200\r\n#Date: 2024-02-29\r\n2024-02-29 00:00:02 - 404\r\n"), "w3c",
         rows=[{"date": dt.date(2024, 2, 29), "time": dt.time(0, 0, 1), "cs(User-Agent)": "Mozilla/5.0+(X)",
                "sc-status": 200},
               {"date": dt.date(2024, 2, 29), "time": dt.time(0, 0, 2), "cs(User-Agent)": None, "sc-status": 404}]),
    _log("a W3C log whose fields change", b"#Fields: a b\n1 2\n#Fields: b a\n1 2\n", "w3c",
         error="its fields change within the file, from 'a b' to 'b a'"),
    _log("a W3C log without its fields", b"1 2\n", "w3c", error="no line '#Fields: ...'"),
    _log("JSON behind text", Repeated(b"", b'I 12:00 {"a": 1, "b": {"c": "}"}}\n\nW {"a": 2}\n'), "json",
         rows=[{"prefix": "I 12:00", "a": 1, "b": {"c": "}"}}, {"prefix": "W", "a": 2, "b": None}]),
    _log("a line without JSON", b'x {"a": 1}\nx\n', "json", error="the line holds no JSON object"),
    _log("JSON that is broken, dropped", b'x {"a": 1}\nx {"a": }\nz {"a": 3}\nw\n', "json",
         options={"on_bad_record": "skip"}, rows=[{"prefix": "x", "a": 1}, {"prefix": "z", "a": 3}]),
    _log("JSON that is broken, as nulls", b'x {"a": 1}\nx {"a": "s"}\nw\n', "json",
         options={"on_bad_record": "null", "schema": {"prefix": "string", "a": "int64"}},
         rows=[{"prefix": "x", "a": 1}, {"prefix": "x", "a": None}, {"prefix": None, "a": None}]),
    _log("a group that takes no part", b"k=1\nk\n", "^(?P<k>[a-z])(?:=(?<v>[0-9]))?$",
         rows=[{"k": "k", "v": 1}, {"k": "k", "v": None}]),
    _log("leading zeros are text", b"<007>\n<1>\n", r"<(?<n>\d+)>", rows=[{"n": "007"}, {"n": "1"}]),
    _log("leading zeros of a declared number", b"<007>\n", r"<(?<n>\d+)>", options={"schema": {"n": "int8"}},
         rows=[{"n": 7}]),
    _log("a late type", {"odd.log": b"n=1\n" * 300000 + b"n=x\n" + b"n=1\n" * 300000}, r"n=(?<n>\w)",
         error="not exactly a value of type int64"),
    _log("a line that does not fit, as nulls", b"n=1 m=2\nx\nn=3 m=q\n", r"n=(?<n>\d) m=(?<m>\w)",
         options={"on_bad_record": "null", "schema": {"n": "int64", "m": "int64"}},
         rows=[{"n": 1, "m": 2}, {"n": None, "m": None}, {"n": 3, "m": None}]),
    _log("bytes that are not UTF-8", b"n=1\nn=\xff\nn=2\n", r"n=(?<n>.)", options={"on_bad_record": "skip"},
         rows=[{"n": 1}, {"n": 2}]),
    _log("places of records", b"\nn=1\r\n\nn=2\n", r"n=(?<n>.)", columns=("n", "_line", "_offset"),
         rows=[{"n": 1, "_line": 2, "_offset": 1}, {"n": 2, "_line": 4, "_offset": 7}]),
    _log("a mark of UTF-8", b"\xef\xbb\xbfn=1\n", r"^n=(?<n>.)", rows=[{"n": 1}]),
    _log("brackets in classes and escapes", b"(1]\n", r"[(](?<n>\d)[])]", rows=[{"n": 1}]),
    _log("a line longer than max_record", b"n=1\n" + b"n=2 " * 100 + b"\n", r"n=(?<n>\d)", options={"max_record": 100, "schema": "n:int64"},
         error="a record longer than 100 bytes (max_record)"),
    _log("no line fits", b"a\nb\n", r"(?<n>\d)", error="no line of its sample has the form"),
    _log("a pattern without names", b"a\n", r"(\d)", error="has no named group"),
    _log("a pattern that looks ahead", b"a\n", r"(?<n>\d)(?=x)", error="is no regular expression of RE2"),
    _log("a name twice", b"a\n", r"(?<n>\d)(?<n>x)", error="two groups are called 'n'"),
    _log("a column without a group", b"a\n", r"(?<n>\d)", options={"schema": {"m": "string"}}, error="has no group 'm'"),
]  # fmt: skip
