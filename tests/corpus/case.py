"""Case of the corpus of odd files: bytes, options, and the rows or the error that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Case", "Repeated"]

#: Size that a repeated file has at least: four shards of a page, and a bit.
_LARGE = 4 * 4096 + 77


@dataclass(frozen=True, slots=True)
class Repeated:
    """File whose middle may be repeated, so that it has several shards.

    Attributes:
        head: Bytes before the first record, such as a header.
        body: Whole records.
        tail: Bytes after the last record.
    """

    head: bytes
    body: bytes
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Case:
    """One odd file, or several.

    Attributes:
        name: What is odd.
        data: Contents of the file; or of several files by name; or a file whose middle is repeated as well.
        options: Options of the reader, `format` among them where the name does not say it.
        rows: Expected rows (of `Repeated`: those of its body), or None where an error is expected.
        error: Text that the message of the error contains.
        file: Name of the file; of several, the glob, folder or file that is read.
        columns: Columns that are read, virtual ones too; by default all.
        types: Expected types by column, as text of `mmflow`; others are not checked.
    """

    name: str
    data: bytes | Mapping[str, bytes] | Repeated
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] | None = None
    error: str | None = None
    file: str = "odd.csv"
    columns: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path, *, large: bool) -> tuple[str, list[Mapping[str, Any]]]:
        """Write the files; return what is read, and the expected rows."""
        rows = list(self.rows or ())
        if isinstance(self.data, Mapping):
            for name, data in self.data.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        elif isinstance(self.data, Repeated):
            times = -(-_LARGE // len(self.data.body)) if large else 1
            (folder / self.file).write_bytes(self.data.head + self.data.body * times + self.data.tail)
            rows *= times
        else:
            (folder / self.file).write_bytes(self.data)
        return str(folder / self.file), rows
