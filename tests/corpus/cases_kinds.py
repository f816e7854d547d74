"""Files whose first bytes say that they are of another kind than their name, or of none that is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

from tests.corpus.case import Case

__all__ = ["CASES"]

_TEXT = b"a,b\n1,x\n2,y\n"
_ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def _zip(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


CASES = [
    Case("gzip in a .csv", gzip.compress(_TEXT), rows=_ROWS),
    Case("text in a .csv.gz", _TEXT, file="odd.csv.gz", rows=_ROWS),
    Case("bzip2", bz2.compress(_TEXT), rows=_ROWS),
    Case("xz", lzma.compress(_TEXT), file="odd.csv.xz", rows=_ROWS),
    Case("two members of gzip", gzip.compress(_TEXT[:8]) + gzip.compress(_TEXT[8:]), rows=_ROWS),
    Case("a zip archive of one file", _zip({"data.csv": _TEXT}), file="odd.csv.zip", rows=_ROWS),
    Case("a zip archive in a .csv", _zip({"data.csv": _TEXT}), rows=_ROWS),
    Case("a zip archive with a folder", _zip({"x/": b"", "x/data.csv": _TEXT}), rows=_ROWS),
    Case("a zip archive of NDJSON", _zip({"data.ndjson": b'{"a": 1}\n'}), file="odd.ndjson.zip", rows=[{"a": 1}]),
    Case("a zip archive of two files", _zip({"a.csv": _TEXT, "b.csv": _TEXT}), error="zip archive of 2 files (a.csv, b.csv)"),
    Case("a zip archive of two files by its name", _zip({"b.csv": _TEXT, "a.csv": _TEXT, "__MACOSX/._a.csv": b"junk"}),
         file="odd.zip", rows=[*_ROWS, *_ROWS]),
    Case("a zip archive of one file, and hidden ones", _zip({"__MACOSX/._a.csv": b"junk", ".x": b"", "a.csv": _TEXT}),
         rows=_ROWS),
    Case("a zip archive of nothing", _zip({}), error="zip archive of 0 files"),
    Case("a zip archive that is cut", _zip({"data.csv": _TEXT})[:-30], error="its first bytes say zip, and it is damaged"),
    Case("gzip that is cut", gzip.compress(_TEXT * 100)[:-10], error="damaged or cut short"),
    Case("gzip twice", gzip.compress(gzip.compress(_TEXT)), error="compressed twice"),
    Case("a database of SQLite", b"SQLite format 3\0" + bytes(100), error="an SQLite database"),
    Case("a database of SQLite without a name", b"SQLite format 3\0" + bytes(100), file="odd", error="SQLite"),
    Case("Parquet in a .csv", b"PAR1" + bytes(20) + b"PAR1", error="Parquet"),
    Case("an encrypted footer of Parquet", b"PARE" + bytes(20) + b"PARE", file="odd.parquet", error="encrypted"),
    Case("Feather of version 1", b"FEA1" + bytes(40), file="odd.feather", error="Feather of version 1"),
    Case("a Word document", _zip({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"}),
         file="odd.docx", error="no spreadsheet"),
    Case("an old Office file", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), error="no spreadsheet"),
    Case("text named .xlsx", _TEXT, file="odd.xlsx", error="named like excel, but begins with b'a,b"),
    Case("text named .orc", _TEXT, file="odd.orc", error="named like orc"),
    Case("text named .avro", _TEXT, file="odd.avro", error="named like avro"),
    Case("text named .parquet", _TEXT, file="odd.parquet", error="named like parquet"),
    Case("a header that begins with ORC", b"ORC,b\n1,2\n", rows=[{"ORC": 1, "b": 2}]),
    Case("a header that begins with PK", b"PK,b\n1,2\n", rows=[{"PK": 1, "b": 2}]),
    Case("a header that begins with Obj", b"Obj,b\n1,2\n", rows=[{"Obj": 1, "b": 2}]),
    Case("an ELF program", b"\x7fELF\x02\x01\x01" + bytes(80), error="control character"),
    Case("Avro that is no Avro", b"Obj\x01" + bytes(80), file="odd.avro", error="no Avro file"),
    Case("ORC that is no ORC", b"ORC\0" + bytes(80), file="odd.orc", error="no ORC file"),
]  # fmt: skip
