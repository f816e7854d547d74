"""Detection of a file's format, from its first bytes and its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.compression import compression_suffix, is_spreadsheet, is_text
from mmflow.formats.csv.header import first_record
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.encodings.encoding import find_encoding
from mmflow.formats.schemas.encodings import BOM, check_kind, check_not_wide
from mmflow.formats.schemas.sampling import sample_file
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping.streams import stream_at
from mmflow.storage.url import file_name

__all__ = ["check_one_format", "detect"]

_MAGIC = (
    (b"PAR1", "parquet"),
    (b"PARE", "parquet"),  # with an encrypted footer, which the format says
    (b"ARROW1", "arrow_ipc"),
    (b"\xff\xff\xff\xff", "arrow_ipc"),
    (b"FEA1", "arrow_ipc"),  # Feather of version 1, as which the format refuses it
    (b"\x93NUMPY", "npy"),
    (b"Obj\x01", "avro"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel"),  # .xls, and others of its time
)
_SUFFIXES = {
    "csv": "csv",
    "tsv": "csv",
    "psv": "csv",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "json": "json",
    "log": "text",
    "txt": "text",
    "text": "text",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow_ipc",
    "arrows": "arrow_ipc",
    "ipc": "arrow_ipc",
    "feather": "arrow_ipc",
    "npy": "npy",
    "orc": "orc",
    "avro": "avro",
    "xlsx": "excel",
    "xlsm": "excel",
    "xlsb": "excel",
    "xls": "excel",
    "ods": "excel",
    "npz": "npy",
}
#: Formats that are no text.
_BINARY = {"parquet", "npy", "arrow_ipc", "orc", "avro", "excel"}
_DELIMITERS = {"tsv": "\t", "psv": "|"}
_CANDIDATES = (",", ";", "\t", "|")
#: Records that are compared to tell CSV from text.
_COMPARED = 20
#: A field, perhaps with a quoted part at its front, and the candidate behind it.
_FIELD = lazy_regex(rb'(?:"(?:[^"]|"")*")?[^,;\t|\r\n]*([,;\t|])?')


def detect(path: str, encoding: str = "utf-8") -> tuple[str, dict[str, Any]]:
    """Return the name of a file's format, and options that its contents suggest (CSV: delimiter, header).

    Raises:
        SourceError: It can't be read, is of no format that mmflow knows, or of another encoding.
        ConfigError: There is no such encoding.
    """
    coded = find_encoding(encoding)
    sample = sample_file(path, piece=1 << 16, encoding=coded)
    suffix = _suffix(path)
    if suffix == "npz" and sample.start.startswith(b"PK"):
        return "npy", {}
    if sample.compression is None and is_spreadsheet(sample.start):
        return "excel", {}
    if sample.compression is None and sample.start.startswith(b"ORC") and not is_text(sample.start):
        return "orc", {}
    for magic, name in _MAGIC:
        if not sample.start.startswith(magic):
            continue
        if sample.compression is None:
            return name, {}
        raise SourceError(
            f"{path} is {name}, compressed as a whole by {sample.compression}; only csv, ndjson and text are read so: "
            "decompress it, and read that",
            path=path,
        )
    name = _SUFFIXES.get(suffix, "")
    if name == "csv" and suffix != "csv":
        return "csv", {"delimiter": _DELIMITERS[suffix]}
    if name == "csv":
        return "csv", _detect_delimiter(sample.start)
    if name in _BINARY:
        found = sample.start[:8]
        packed = "" if sample.compression is None else f" once {sample.compression} is undone"
        raise SourceError(f"{path} is named like {name}, but begins with {found!r}{packed}", path=path)
    if name and name != "json":
        return name, {}
    if not name and _OBJECT.match(sample.start) and b"\n" not in sample.start and not sample.whole:
        # Its first record is a long one.
        sample = sample_file(path, enough=lambda start: b"\n" in start, encoding=coded)
    if (kind := _json_kind(sample.start, sure=name == "json")) is not None:
        return kind, {}
    if b"\0" in sample.start:
        check_kind(path, sample.start)
        check_not_wide(path, sample.start)
        raise SourceError(
            f"{path}: can't tell its format from its name or its first bytes; say which: format=csv, json, ndjson, "
            "text, records, arrow, npy, parquet, orc, avro or excel",
            path=path,
            code="MMF-SRC-003",
        )
    if stream_at(path) is not None and (delimiter := _common_delimiter(sample.start)) is not None:
        return "csv", {} if delimiter == "," else {"delimiter": delimiter}
    return "text", {}


def check_one_format(paths: Sequence[str]) -> None:
    """Check that the names of files do not say several formats.

    Raises:
        SourceError: They do.
    """
    found: dict[str, str] = {}
    endings: set[str] = set()
    for path in paths:
        ending = path.rpartition(".")[2]
        if ending in endings:  # most are alike, and there may be 100,000
            continue
        suffix = _suffix(path)
        if suffix == ending.lower():
            endings.add(ending)
        if (name := _SUFFIXES.get(suffix)) is not None:
            found.setdefault("ndjson" if name == "json" else name, path)
    if len(found) > 1:
        listed = ", ".join(f"{name} ({path.rpartition('/')[2]})" for name, path in sorted(found.items()))
        raise SourceError(
            f"these {len(paths):,} files are of several formats by their names: {listed}; name those of one by a "
            "pattern such as 'folder/*.csv', or say the format of all",
            path=paths[0],
        )


def _suffix(path: str) -> str:
    path = file_name(path)
    if compression_suffix(path) is not None:
        path = path.rpartition(".")[0]
    return path.rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


_OBJECT = lazy_regex(rb'\s*\{\s*["}]')
_JSON = lazy_regex(rb'[ \t\r\n]*(?:\[[ \t\r\n]*)?(?:\{[ \t\r\n]*["}]|\][ \t\r\n]*$)')


def _common_delimiter(start: bytes) -> str | None:
    """Return the delimiter that all first records hold as often, for streams, which have no name; None: none does."""
    for delimiter in _CANDIDATES:
        dialect, position = Dialect(delimiter.encode()), 0
        counts: list[int] = []
        while len(counts) < _COMPARED and (record := first_record(start, dialect, position)) is not None:
            counts.append(len(record.fields))
            position = record.following
        if counts and counts[0] > 1 and len(set(counts)) == 1:
            return delimiter
    return None


def _json_kind(start: bytes, *, sure: bool) -> str | None:
    """Return ndjson or json for the first bytes of a file; None: neither, where it is not `sure` to be one of them."""
    text = start.removeprefix(BOM).lstrip(b"\0")
    lines = [line for line in text.split(b"\n")[:8] if line.strip()]
    if not sure and _JSON.match(text) is None:
        return None
    whole = lines[:2] if len(lines) > 2 or text.endswith(b"\n") else lines[:1]
    if whole and all(map(_is_object, whole)) and not (sure and len(lines) == 1):
        return "ndjson"
    if not sure:
        from mmflow.formats.json.path import auto_steps  # noqa: PLC0415  (slow)
        from mmflow.formats.json.walk import START, KernelWalker  # noqa: PLC0415  (slow)

        walked = KernelWalker(auto_steps(text)).walk(pa.py_buffer(text), len(text), START, final=False)
        first = walked.lines.to_pybytes().partition(b"\n")[0]
        if walked.problem or (first and not _is_object(first)):
            return None
    return "json"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _detect_delimiter(start: bytes) -> dict[str, Any]:
    """Return the delimiter that stands in the first record most often outside of quotes, where it isn't a comma.

    A quote opens behind any of them: which one counts is not known yet.
    """
    first = first_record(start, Dialect(b","))
    counts = dict.fromkeys(_CANDIDATES, 0)
    position = len(start) if first is None else first.begin
    while (field := _FIELD.match(start, position)) is not None and field[1]:
        counts[field[1].decode()] += 1
        position = field.end()
    best = max(_CANDIDATES, key=lambda d: counts[d])
    return {} if counts[","] == counts[best] else {"delimiter": best}
