"""The words of sharding, as values."""

from __future__ import annotations

from dataclasses import dataclass

from mmflow.mapping import FileIdentity

__all__ = ["FileEntry", "Shard"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a source and its identity when planned; `storage`: options of a remote one's file system."""

    path: str
    identity: FileIdentity
    storage: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """Byte range `[begin, end)` of file number `file`; `begin` is page aligned, or where a record is known to begin.

    `fresh`: what lies before `begin` is the file's start or a hole, so a record may begin right there.
    """

    file: int
    begin: int
    end: int
    fresh: bool = False
