"""Seed inputs of the fuzz targets, in the forms that they take: options, one byte each, then text.

    python fuzz/make_corpus.py FOLDER

Writes a folder for each target. Made anew for every run: what is in the corpus stands here.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

CSV = [
    b"1,2,3\n4,5,6\n",
    b'a,"b,c",""\n"x ""y"" z",\r\n\n',
    b"2024-05-06,12:34:56.5,2024-05-06T07:08:09.5+02:00\n0000-01-01,,NA\n",
    b"1.5,-0.25,1e308\n123456789.123456789,.5,5.\n",
    b'"un,closed\n1,2\n',
    b"\x00\x00\n1,\xff,\xc3\xa9\n1\r2\n",
    b"true,false,1\n" * 40 + b'"' + b"y" * 80 + b'",x,z\n',
    b"a,b,c,d,e,f,g,h,i,j,k\n" * 30,
]
NDJSON = [
    b'{"a":1,"b":"x","t":"2024-05-06T07:08:09Z","ok":true}\n' * 30,
    b'{"p":{"x":1.5,"y":"z"},"ps":[{"x":2},null,{"y":"\\u00e9\\n"}],"l":[1,null,3],"f":-0.5e3}\n' * 9,
    b' { "b" : "\\\\\\"" , "a" : null }\r\n\n{"a":2,"a":3}\n',
    b'{"b":"\\ud83d\\ude00"}\n{"b":"\\ud800"}\n{"q":[[[{}]]]}\n',
    b'{"a":01}\n{"a":1.}\n{"a":tru}\n{"a"}\n[]\n{"a":"x\n"}\n',
    b"\x00\x00{}\n{}\n\xff\n" + b'{"b":"' + "é€😀".encode() * 20 + b'"}\n',
    b'{"x":"' + b"\\" * 129 + b'"}\n{"a":9}\n',
]
LINES = [
    b"a needle in a line\nanother\r\nneedle\n\n" * 20,
    b"\x00\x00\nx\n\xffneedle\n",
    "é needle €\n".encode() * 9 + b"the end",
    b"n" * 300 + b"needle\n",
]


ENCODINGS = [
    "a,b\n1,Łódź €\n".encode("utf-16-le") * 40,
    "🎈 x\r\n".encode("utf-16-be") * 30 + b"\xd8\x00\xdc",
    "é\n🎈".encode("utf-32-le") * 30 + b"\x00\x00\x11\x00",
    b"plain text, and then \xe9\xa0\n" * 60,
    b"\x8f\xa2\xaf\x8f\xb0 \x81\x30\x81\x30 \x90\x30\x81\x30 \xa4\x41\n" * 70,
    bytes(range(256)) * 20,
]
NORMAL = [
    b'# note\n1, "x" ,2\n3,"a"b",c\n4\n5,6,7,8,9\n' * 5,
    b'1||"a||b"||c\n//x\n\n||||\n"un,closed\n1,2\n',
    b"1 2  3\r\n 4\t5 6 \r7 8 9\r",
    b'a\\,b,"c\\"d",e\n' * 9 + b"x,y,\n" * 30,
    b"1;2;3\n" * 50 + b'4;"5;6\n' + b"7;8;9;;\n" * 3 + b"\0\0\n",
    b'"a ""b"" c","d"\r\n' * 40 + b"\x1d,\x1d\n,,\n",
]
JSON = [
    b'[{"a": 1, "b": [1, {"c": "]"}]},\n {"a": "\\"\\\\"}]\n',
    b'{"data": [{"a": 1},\n  {\n    "a": [],\n "b": {}\n  }], "z": [[{"data": []}]]}{"data": null}',
    b'{"a": [{"a": 1}, {"b": 2}, null]} {"\\u0061": []}\n[[], [1, "x", {}]]',
    b'[{"t": "' + b"long " * 40 + b'"}, {"k": ' + b"[" * 70 + b"]" * 70 + b"}]",
    b"",
]


def _gzip(text: bytes, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    made = zlib.compressobj(level, zlib.DEFLATED, 31, 8, strategy)
    return made.compress(text) + made.flush()


_TEXT = b"".join(b"%d,%s,1996-%02d-11\n" % (i * i, b"AIR MAIL"[i % 3 :], i % 12) for i in range(400))
GZIP = [
    _gzip(_TEXT, 9),
    _gzip(_TEXT, 1) + _gzip(b"", 6) + _gzip(bytes(70_000), 6),
    _gzip(_TEXT, 6, zlib.Z_FIXED) + _gzip(_TEXT[:900], 0),
    _gzip(_TEXT, 6, zlib.Z_HUFFMAN_ONLY),
    b"\x1f\x8b\x08\x1c" + bytes(6) + b"\x03\0abcname\0comment\0" + _gzip(_TEXT, 4)[10:],
]
#: Without a header, so that few bytes are of no use.
DEFLATED = [packed[10:] for packed in GZIP[:4]]


def main() -> None:
    """Write the corpus.

    Raises:
        OSError: The folder can't be written.
    """
    folder = Path(sys.argv[1])
    options = {
        "csv": [
            bytes(o) for o in ((1, 2, 1, 255, 0), (0, 2, 3, 255, 12), (1, 43, 0, 120, 5), (1, 10, 3, 255, 22))
        ],
        "ndjson": [
            bytes(o) for o in ((255, 1, 255, 0), (0b10010, 3, 255, 3), (0, 4, 255, 0), (3, 6, 100, 4))
        ],
        "json": [bytes(o) for o in ((5, 3, 255, 255), (11, 3, 100, 7), (0, 1, 255, 63), (12, 2, 255, 0))],
        "encodings": [
            bytes((form, form % 2, cut)) for form, cut in zip(range(8), range(0, 256, 33), strict=True)
        ],
        "normal": [
            bytes(o)
            for o in (
                (0, 0, 0, 2, 1, 255, 255),
                (54, 18, 2, 2, 1, 255, 40),
                (2, 48, 1, 2, 0, 200, 255),
                (110, 97, 0, 3, 1, 255, 9),
                (39, 5, 0, 2, 1, 255, 255),
                (13, 12, 2, 1, 0, 255, 100),
            )
        ],
        "inflate": [bytes(o) for o in ((0,), (1, 40), (3, 200, 9))],
        "lines": [bytes(o) for o in ((7, 255, 0), (1, 120, 0))] + [bytes((3, 255, 6)) + b"needle"],
        "loop": [bytes(o) for o in ((1, 255, 2, 1), (0, 255, 0, 0), (1, 120, 9, 1))],
        # Rows, columns with nulls, and nodes of four bytes or more.
        "program": [bytes((1 + i, i * 7, *(b * (i + 3) % 251 for b in range(60)))) for i in range(12)],
        "records": [
            bytes((2, 0, 3, 1, 1, 7, 0, 3, 9, 1, 0)),
            bytes((0, 1, 7, 0, 0)),
            bytes((1, 2, 0, 3, 4, 0, 2)),
        ],
        "sums": [bytes((3,))],
    }
    texts = {
        "csv": CSV,
        "ndjson": NDJSON,
        "json": JSON,
        "encodings": ENCODINGS,
        "normal": NORMAL,
        "inflate": GZIP,
        "lines": LINES,
        "loop": [
            b"a,1.5\nbb,-2\n" * 90 + b'"c ""d""",3\r\n\n' * 20,
            b"a,1\n" * 40 + b"x,y\na,2\n",
            b"k,0.1\n" * 9 + b"k,2",
        ],
        "program": [bytes(range(256)), bytes(99), b"\xff" * 64],
        "records": [bytes(range(256)) * 4, b"ab \0 cd  " * 99, b""],
        "sums": [struct.pack("<9d", 1.0, -1.0, 1e300, -1e300, 5e-324, 0.1, 1e-20, -0.0, 3e18), bytes(80)],
    }
    for target, heads in options.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for i, head in enumerate(heads):
            for j, text in enumerate(texts[target]):
                (folder / target / f"seed-{i}-{j}").write_bytes(head + text)
    for j, text in enumerate(DEFLATED):
        (folder / "inflate" / f"seed-deflated-{j}").write_bytes(b"\x80" + text)


if __name__ == "__main__":
    main()
