"""Files and shards, as values."""

from __future__ import annotations

from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity

__all__ = ["FileEntry", "Shard"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """File of a source, with its identity at planning time and the options of its remote file system (`storage`)."""

    path: str
    identity: FileIdentity
    storage: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """Byte range `[begin, end)` of file number `file`.

    `begin` is page aligned, begins a section of a compressed file, or is a known start of a record. `fresh` says that
    the file's start or a hole lies before `begin`, so a record may begin right there. `known_start`: byte offset of its
    first record; None: it is guessed. `lines_before`: physical lines of the file before `known_start` (needed by
    `_line` only).
    """

    file: int
    begin: int
    end: int
    fresh: bool = False
    known_start: int | None = None
    lines_before: int = 0
