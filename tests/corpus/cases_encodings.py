"""Text in other encodings than UTF-8, in CSV, NDJSON and text files; compressed, damaged, and of the wrong encoding."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Mapping
from typing import Any

from tests.corpus.case import Case, Repeated

_CITIES = {
    "latin-1": ("Málaga", "Größe"),
    "windows-1252": ("Málaga – €5", "“Größe”"),
    "windows-1250": ("Łódź", "České Budějovice"),
    "windows-1251": ("Москва", "Ёлка"),
    "koi8-r": ("Москва", "Ёлка"),
    "cp437": ("naïve", "Größe"),
    "cp866": ("Москва", "Ёлка"),
    "mac-roman": ("Málaga – €5", "Größe"),
    "iso-8859-15": ("Œuvre", "€"),
    "cp037": ("plain", "Größe"),
    "utf-16-le": ("Łódź 😀", "東京"),
    "utf-16-be": ("Łódź 😀", "東京"),
    "utf-32-le": ("Łódź 😀", "東京"),
    "utf-32-be": ("Łódź 😀", "東京"),
    "shift_jis": ("東京|都", "ｶﾅ表ソ"),
    "cp932": ("①東京", "ｶﾅ表ソ"),
    "euc_jp": ("東京", "ｶﾅ表丂"),
    "gb18030": ("北京|市", "Łódź 😀 㐀"),
    "gbk": ("北京", "镕"),
    "big5": ("臺北", "功許"),
    "euc_kr": ("서울", "부산"),
    "cp949": ("서울", "똠방각하"),
    "johab": ("서울", "부산"),
    "iso2022_jp": ("東京", "かな"),
    "iso2022_kr": ("서울", "부산"),
    "hz": ("北京", "上海"),
    "utf-7": ("Łódź", "東京"),
}


def _plain(encoding: str, first: str, second: str) -> Case:
    head, body = "id,city,größe\n", f'1,{first},0.5\n2,"{second}, ""x""\ny",\n'
    name = "größe" if encoding not in _NO_UMLAUT else "size"
    head = head.replace("größe", name)
    rows: list[Mapping[str, Any]] = [
        {"id": 1, "city": first, name: 0.5},
        {"id": 2, "city": f'{second}, "x"\ny', name: None},
    ]
    stateful = encoding in ("iso2022_jp", "iso2022_kr", "hz", "utf-7")
    if stateful:  # a state can't be repeated by repeating bytes
        data: bytes | Repeated = (head + body * 400).encode(encoding)
        return Case(f"{encoding}, in one shard", data, {"encoding": encoding}, rows * 400)
    data = Repeated(head.encode(encoding), body.encode(encoding))
    return Case(encoding, data, {"encoding": encoding}, rows)


_NO_UMLAUT = {"windows-1251", "koi8-r", "cp866", "shift_jis", "cp932", "gbk", "big5", "euc_kr", "cp949", "johab",
              "iso2022_jp", "iso2022_kr", "hz"}  # fmt: skip
_MARK = "\ufeff"
_ROWS = [{"a": 1, "b": "é"}, {"a": 2, "b": "日"}]
_TEXT = "a,b\n1,é\n2,日\n"


CASES: list[Case] = [
    *(_plain(encoding, *cities) for encoding, cities in _CITIES.items()),
    # Byte order marks.
    Case(
        "utf-16 with a little-endian mark",
        Repeated((_MARK + "a,b\n").encode("utf-16-le"), "1,é\n2,日\n".encode("utf-16-le")),
        {"encoding": "utf-16"},
        _ROWS,
    ),
    Case(
        "utf-16 with a big-endian mark",
        Repeated((_MARK + "a,b\n").encode("utf-16-be"), "1,é\n2,日\n".encode("utf-16-be")),
        {"encoding": "utf-16"},
        _ROWS,
    ),
    Case("utf-16 without a mark", _TEXT.encode("utf-16-le"), {"encoding": "utf-16"}, _ROWS),
    Case("utf-16, big-endian, without a mark", _TEXT.encode("utf-16-be"), {"encoding": "utf-16"}, _ROWS),
    Case(
        "utf-16-le with a mark all the same",
        (_MARK + _TEXT).encode("utf-16-le"),
        {"encoding": "utf-16-le"},
        _ROWS,
    ),
    Case("utf-32 with a mark", (_MARK + _TEXT).encode("utf-32-be"), {"encoding": "utf-32"}, _ROWS),
    Case("gb18030 with a mark", (_MARK + _TEXT).encode("gb18030"), {"encoding": "gb18030"}, _ROWS),
    Case("utf-8-sig", (_MARK + _TEXT).encode(), {"encoding": "utf-8-sig"}, _ROWS),
    # Line ends and holes in wide text.
    Case(
        "utf-16 with CRLF",
        Repeated("a,b\r\n".encode("utf-16"), "1,é\r\n2,日\r\n".encode("utf-16-le")),
        {"encoding": "utf-16"},
        _ROWS,
    ),
    Case(
        "utf-16 without a last line break", "a,b\n1,é\n2,日".encode("utf-16"), {"encoding": "utf-16"}, _ROWS
    ),
    Case(
        "utf-16 with bytes of line breaks in its letters",
        Repeated("a,b\n".encode("utf-16"), "1,ਊ਍\n2,Ċ\n".encode("utf-16-le")),
        {"encoding": "utf-16"},
        [{"a": 1, "b": "ਊ਍"}, {"a": 2, "b": "Ċ"}],
    ),
    Case(
        "utf-16 with NULs before records",
        "a,b\n1,é\n".encode("utf-16") + bytes(4098) + "2,日\n".encode("utf-16-le") + bytes(6),
        {"encoding": "utf-16"},
        _ROWS,
    ),
    Case(
        "utf-16 with blank lines", "a,b\n\n1,é\n\r\n2,日\n\n".encode("utf-16"), {"encoding": "utf-16"}, _ROWS
    ),
    # Offsets, lines, frames.
    Case(
        "offsets in utf-16 are bytes of the file",
        "a,b\n1,é\n2,日\n".encode("utf-16"),
        {"encoding": "utf-16"},
        [{"a": 1, "_offset": 10, "_line": 2}, {"a": 2, "_offset": 18, "_line": 3}],
        columns=("a", "_offset", "_line"),
    ),
    Case(
        "offsets in shift_jis are bytes of the file",
        "a,b\n表,é\n".replace("é", "ｱ").encode("shift_jis") * 1 + "x,日\n".encode("shift_jis"),
        {"encoding": "shift_jis"},
        [{"_offset": 4, "_line": 2}, {"_offset": 9, "_line": 3}],
        columns=("_offset", "_line"),
    ),
    Case(
        "offsets in iso-2022-jp are bytes of the file",
        "a,b\n1,日\n2,é\n".replace("é", "本").encode("iso2022_jp"),
        {"encoding": "iso-2022-jp"},
        [{"a": 1, "_offset": 4, "_line": 2}, {"a": 2, "_offset": 15, "_line": 3}],
        columns=("a", "_offset", "_line"),
    ),
    Case(
        "a title and a footer in utf-16",
        Repeated(
            "Titel, größer\na,b\n".encode("utf-16"),
            "1,é\n2,日\n".encode("utf-16-le"),
            "Summe,3\n".encode("utf-16-le"),
        ),
        {"encoding": "utf-16", "skip_rows": 1, "skip_footer": 1},
        _ROWS,
    ),
    Case(
        "no header in latin-1",
        "1,é\n2,ü\n".encode("latin-1"),
        {"encoding": "latin-1", "header": False},
        [{"f0": 1, "f1": "é"}, {"f0": 2, "f1": "ü"}],
    ),
    Case(
        "a null text beyond ASCII",
        "a,b\n1,–\n2,x\n".encode("windows-1252"),
        {"encoding": "windows-1252", "null": "–"},
        [{"a": 1, "b": None}, {"a": 2, "b": "x"}],
    ),
    Case("a delimiter found in utf-16", "a;b\n1;é\n2;日\n".encode("utf-16"), {"encoding": "utf-16"}, _ROWS),
    # Compressed files.
    Case(
        "latin-1 in gzip",
        gzip.compress(("a,b\n" + "1,é\n2,ü\n" * 900).encode("latin-1")),
        {"encoding": "latin-1"},
        [{"a": 1, "b": "é"}, {"a": 2, "b": "ü"}] * 900,
        file="odd.csv.gz",
    ),
    Case(
        "utf-16 in bzip2",
        bz2.compress(("a,b\n" + "1,é\n2,日\n" * 900).encode("utf-16")),
        {"encoding": "utf-16"},
        _ROWS * 900,
        file="odd.csv.bz2",
    ),
    Case(
        "iso-2022-jp in gzip",
        gzip.compress(("a,b\n" + "1,日\n" * 900).encode("iso2022_jp")),
        {"encoding": "iso2022_jp"},
        [{"a": 1, "b": "日"}] * 900,
        file="odd.csv.gz",
    ),
    # NDJSON and text.
    Case(
        "ndjson in utf-16",
        Repeated(
            _MARK.encode("utf-16-be"), '{"a": 1, "b": "é\\n"}\n{"a": 2, "b": "日"}\n'.encode("utf-16-be")
        ),
        {"encoding": "utf-16"},
        [{"a": 1, "b": "é\n"}, {"a": 2, "b": "日"}],
        file="odd.ndjson",
    ),
    Case(
        "ndjson in latin-1, keys too",
        Repeated(b"", '{"größe": 1, "b": ["é"]}\n'.encode("latin-1")),
        {"encoding": "latin-1"},
        [{"größe": 1, "b": ["é"]}],
        file="odd.ndjson",
    ),
    Case(
        "ndjson in gb18030",
        Repeated(b"", '{"a": "北京", "b": {"c": "😀"}}\n'.encode("gb18030")),
        {"encoding": "gb18030"},
        [{"a": "北京", "b": {"c": "😀"}}],
        file="odd.ndjson",
    ),
    Case(
        "text in utf-16 with a mark",
        Repeated(_MARK.encode("utf-16-le"), "é 1\r\n\n日\n".encode("utf-16-le")),
        {"encoding": "utf-16"},
        [{"line": "é 1"}, {"line": ""}, {"line": "日"}],
        file="odd.txt",
    ),
    Case(
        "text in windows-1251",
        Repeated(b"", "Привет\nмир\n".encode("cp1251")),
        {"encoding": "windows-1251"},
        [{"line": "Привет"}, {"line": "мир"}],
        file="odd.log",
    ),
    Case(
        "text in shift_jis, with backslashes in its letters",
        Repeated(b"", "表示\\ソ\nｱ\n".encode("shift_jis")),
        {"encoding": "shift_jis"},
        [{"line": "表示\\ソ"}, {"line": "ｱ"}],
        file="odd.txt",
    ),
    Case(
        "text in EBCDIC",
        Repeated(b"", "HELLO\nWORLD\n".encode("cp500")),
        {"encoding": "cp500"},
        [{"line": "HELLO"}, {"line": "WORLD"}],
        file="odd.txt",
    ),
    Case("an empty file in utf-16, with a schema", b"", {"encoding": "utf-16", "schema": "a:int64"}, []),
    Case(
        "a pattern over text in latin-1",
        Repeated(b"", "é 1\nü 2\n".encode("latin-1")),
        {"encoding": "latin-1", "pattern": "(?P<t>[^ ]+) (?P<n>\\d+)"},
        [{"t": "é", "n": 1}, {"t": "ü", "n": 2}],
        file="odd.txt",
    ),
    Case(
        "a W3C log in utf-16",
        ("#Fields: c-ip n\n" + "é 1\n" * 9).encode("utf-16"),
        {"encoding": "utf-16", "pattern": "w3c"},
        [{"c-ip": "é", "n": 1}] * 9,
        file="odd.log",
    ),
    Case(
        "text of fixed width in latin-1",
        Repeated(b"id  name\n", " 1  Jörg\n20  Bo\n".encode("latin-1")),
        {"format": "fwf", "encoding": "latin-1"},
        [{"id": 1, "name": "Jörg"}, {"id": 20, "name": "Bo"}],
        file="odd.txt",
    ),
    Case(
        "text of fixed width in utf-16",
        "größe  n\nJörg  12\nBo     3\n".encode("utf-16"),
        {"format": "fwf", "encoding": "utf-16"},
        [{"größe": "Jörg", "n": 12}, {"größe": "Bo", "n": 3}],
        file="odd.txt",
    ),
    # Bad records.
    Case(
        "a lone surrogate in utf-16",
        "a,b\n1,é\n2,".encode("utf-16") + b"\x00\xd8" + "x\n".encode("utf-16-le"),
        {"encoding": "utf-16"},
        error="line 3, record 1, byte offset 18: column 'b': not valid utf-16-le at byte 4 (0x00) of the record",
    ),
    Case(
        "a lone surrogate in utf-16, skipped",
        Repeated("a,b\n".encode("utf-16"), ("1,é\n" * 300).encode("utf-16-le") + b"2\0,\0\x00\xd8\n\0"),
        {"encoding": "utf-16", "on_bad_record": "skip"},
        [{"a": 1, "b": "é"}] * 300,
    ),
    Case(
        "a byte that windows-1252 does not have",
        Repeated(b"a,b\n", b"1,\x81x\n" + b"2,\xe9\n" * 400),
        {"encoding": "windows-1252", "on_bad_record": "null"},
        [{"a": 1, "b": None}, *[{"a": 2, "b": "é"}] * 400],
    ),
    Case(
        "a byte that windows-1252 does not have, an error",
        b"a,b\n1,x\n2,y\x81\n",
        {"encoding": "windows-1252"},
        error="line 3, record 1, byte offset 8: column 'b': not valid windows-1252 at byte 3 (0x81) of the record",
    ),
    Case(
        "a cut character at the end of shift_jis",
        b"a,b\n1,\x93\xfa\n2,\x93",
        {"encoding": "shift_jis"},
        error="not valid shift_jis at byte 2 (0x93)",
    ),
    Case(
        "half a unit at the end of utf-16",
        "a,b\n1,é\n2,日".encode("utf-16") + b"x",
        {"encoding": "utf-16"},
        error="not valid utf-16-le at byte 6 (0x78)",
    ),
    Case(
        "a bad number in utf-16",
        "a,b\n1,é\nx,日\n".encode("utf-16"),
        {"encoding": "utf-16", "schema": "a:int64,b:string"},
        error="line 3, record 1, byte offset 18: column 'a': not a value of type int64 (value 'x')\n  record: b'x,\\xe6\\x97\\xa5'",
    ),
    Case(
        "latin-1 read as UTF-8",
        b"a,b\n1,x\n2,caf\xe9\n",
        {},
        error="column 'b': not valid UTF-8 at byte 3 (0xe9); it is likely windows-1252 or latin-1: set encoding='windows-1252' (value 'caf\ufffd')",
    ),
    Case(
        "a line of latin-1 read as UTF-8",
        b"ok\ncaf\xe9\n",
        {},
        error="not valid UTF-8 at byte 3 (0xe9); it is likely windows-1252 or latin-1: set encoding='windows-1252'",
        file="odd.txt",
    ),
    Case(
        "ndjson of latin-1 read as UTF-8",
        b'{"a": "x"}\n{"a": "caf\xe9"}\n',
        {},
        error="not valid UTF-8 at byte 10 (0xe9); it is likely windows-1252 or latin-1",
        file="odd.ndjson",
    ),
    # Files of another encoding than was said.
    Case(
        "a header of latin-1 read as UTF-8",
        b"a,caf\xe9\n1,2\n",
        {},
        error="the name of its column 2 is not UTF-8 (line 1, byte offset 5)\n  it is likely windows-1252 or latin-1: set encoding='windows-1252'",
    ),
    Case(
        "a header with a byte that its encoding does not have",
        b"a,b\x81\n1,2\n",
        {"encoding": "windows-1252"},
        error="the name of its column 2 is not valid windows-1252 (line 1, byte offset 3)",
    ),
    Case(
        "utf-16 read as UTF-8",
        _TEXT.encode("utf-16"),
        {},
        error="are those of UTF-16LE\n  set encoding='utf-16'",
    ),
    Case(
        "utf-16 without a mark read as UTF-8",
        "a,b\n1,2\n".encode("utf-16-be"),
        {},
        error="are those of UTF-16BE\n  set encoding='utf-16-be'",
    ),
    Case(
        "utf-16 text read as UTF-8",
        ("ab\n" * 9).encode("utf-16-le"),
        {},
        error="set encoding='utf-16-le'",
        file="odd.txt",
    ),
    Case(
        "utf-16 read as latin-1",
        _TEXT.encode("utf-16"),
        {"encoding": "latin-1"},
        error="are those of UTF-16LE\n  set encoding='utf-16'",
    ),
    Case(
        "UTF-8 read as utf-16",
        b"name,value\n1,2\n3,4\n",
        {"encoding": "utf-16"},
        error="it is not utf-16: its first bytes (line 1, byte offset 0) are text of UTF-8\n  leave encoding= out",
    ),
    Case(
        "big-endian read as utf-16-le",
        (_MARK + _TEXT).encode("utf-16-be"),
        {"encoding": "utf-16-le"},
        error="the byte order mark of UTF-16-BE\n  set encoding='utf-16'",
    ),
    Case(
        "UTF-8 with a mark read as latin-1",
        (_MARK + _TEXT).encode(),
        {"encoding": "latin-1"},
        error="the byte order mark of UTF-8\n  leave encoding= out",
    ),
    Case(
        "an encoding that there is not",
        b"a\n1\n",
        {"encoding": "latin-99"},
        error="encoding = 'latin-99': there is no such encoding",
    ),
    Case(
        "a codec that is no encoding of files",
        b"a\n1\n",
        {"encoding": "base64"},
        error="encoding = 'base64': text in files is not encoded so",
    ),
]
