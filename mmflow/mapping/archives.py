"""Members of zip archives as files: `data.zip/folder/a.csv`, a path that no file system has.

    data.zip      | header | a.csv | header | b.csv | list of members |
    MemberFile               ^-----^  windows of these bytes only

A stored member is a range of the archive: mapped, and cut into shards, as a file of its own is. A compressed one is
that much of the archive, and is decompressed as a compressed file is.

Invariant: a member is what the list of its archive says. Its identity changes with that of the archive.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from mmflow.errors import SourceError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.identity import FileIdentity
from mmflow.storage.globs import is_hidden
from mmflow.storage.url import ARCHIVE_SUFFIX, may_be_member

if TYPE_CHECKING:
    from zipfile import ZipInfo

__all__ = ["Member", "check_readable", "is_data", "member_at", "members_of", "split_member_path"]

#: Header of a member: its signature, 22 bytes, and the lengths of its name and of its extra field.
_HEADER, _LENGTHS, _MAGIC = 30, 26, b"PK\3\4"
#: Compression methods by number (APPNOTE 4.4.5): as `formats.compression` calls those that are read.
_METHODS = {0: None, 8: "deflate", 12: "bz2", 93: "zstd", 95: "xz"}
_OTHERS = {
    1: "shrink", 6: "implode", 9: "deflate64", 14: "LZMA", 18: "IBM TERSE", 19: "IBM LZ77", 94: "MP3", 96: "JPEG",
    97: "WavPack", 98: "PPMd", 99: "AES",
}  # fmt: skip
_ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class Member:
    """File in an archive.

    Attributes:
        begin: Offset of its bytes in the archive.
        size: Number of these bytes.
        compression: Compression of them; None: they are as they are.
        crc: CRC-32 of its contents.
        length: Number of bytes of its contents.
    """

    begin: int
    size: int
    compression: str | None
    crc: int
    length: int

    def identity(self, archive: FileIdentity) -> FileIdentity:
        """Return the identity of the member, with its own size."""
        tag = f"member at {self.begin}, {self.crc:08x}"
        return FileIdentity(archive.device, archive.inode, self.size, archive.mtime_ns, tag)


def split_member_path(path: str) -> tuple[str, str] | None:
    """Return the archive and the name of the member that a path stands for; None: it stands for none.

    The part that is the archive exists, and is a file.
    """
    if not may_be_member(path):
        return None
    at = path.lower().find(f"{ARCHIVE_SUFFIX}/")
    while at >= 0:
        archive = path[: at + len(ARCHIVE_SUFFIX)]
        if os.path.isfile(archive):
            return archive, path[at + len(ARCHIVE_SUFFIX) + 1 :]
        at = path.lower().find(f"{ARCHIVE_SUFFIX}/", at + 1)
    return None


def is_data(name: str) -> bool:
    """Return whether a member is data: no folder, and not hidden as `__MACOSX/` is.

    >>> [is_data(name) for name in ("a/b.csv", "a/", "__MACOSX/a/._b.csv")]
    [True, False, False]
    """
    return not name.endswith("/") and not any(is_hidden(part) for part in name.split("/"))


def check_readable(path: str, info: ZipInfo, methods: Container[int]) -> None:
    """Check that a member is not encrypted, and compressed by one of some methods.

    Raises:
        SourceError: It is encrypted, or compressed by a method that is not read.
    """
    shown = f"can't read {path}: its member {info.filename!r} is"
    if info.flag_bits & _ENCRYPTED:
        raise SourceError(f"{shown} encrypted; unpack it with its password, and read that", path=path)
    if info.compress_type not in methods:
        name = _OTHERS.get(info.compress_type)
        method = f"method {info.compress_type}" + (f" ({name})" if name else "")
        raise SourceError(
            f"{shown} compressed by {method}, which is not read; unpack it, and read that", path=path
        )


def members_of(archive: str) -> Mapping[str, ZipInfo]:
    """Return the members of an archive that are data, by name, in order; none where it is no archive.

    Raises:
        SourceError: It can't be read, or has two members of one name.
    """
    return _members(archive, FileIdentity.of(archive))


@lru_cache(64)
def _members(archive: str, identity: FileIdentity) -> Mapping[str, ZipInfo]:
    del identity  # of the archive whose list is kept
    import zipfile  # noqa: PLC0415  (slow)

    found: dict[str, ZipInfo] = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if is_data(info.filename)]
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return {}  # those who read it as a file say what it is
    for info in infos:
        if info.filename in found:
            raise SourceError(
                f"can't read {archive}: it has two members {info.filename!r}; unpack it, and read what you mean",
                path=archive,
            )
        found[info.filename] = info
    return dict(sorted(found.items()))


@lru_cache(1 << 12)
def _member(archive: str, identity: FileIdentity, name: str) -> Member | None:
    info = _members(archive, identity).get(name)
    if info is None:
        return None
    check_readable(archive, info, _METHODS)
    begin = info.header_offset  # below zero where the end of the list states a wrong place
    with open(archive, "rb") as file:
        file.seek(max(0, begin))
        head = file.read(_HEADER) if begin >= 0 else b""
    lengths = [int.from_bytes(head[at : at + 2], "little") for at in (_LENGTHS, _LENGTHS + 2)]
    begin += _HEADER + sum(lengths)
    if not head.startswith(_MAGIC) or begin + info.compress_size > identity.size:
        raise SourceError(
            f"can't read {archive}: its list of members is wrong about {name!r}; the archive is damaged",
            path=archive,
        )
    return Member(begin, info.compress_size, _METHODS[info.compress_type], info.CRC, info.file_size)


def member_at(path: str) -> tuple[str, FileIdentity, Member] | None:
    """Return the archive of the member that a path stands for, its identity, and the member; None: it stands for none.

    Raises:
        SourceError: The archive can't be read, or the member can't be decompressed.
    """
    split = split_member_path(path)
    if split is None:
        return None
    archive, name = split
    identity = FileIdentity.of(archive)
    member = _member(archive, identity, name)
    return None if member is None else (archive, identity, member)
