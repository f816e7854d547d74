"""A member of a zip archive as an open file: windows of its bytes in the archive."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import pyarrow as pa

from mmflow.mapping.access_policy import Access, Io
from mmflow.mapping.archives import Member, member_at
from mmflow.mapping.file import MappedFile
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.readable import WindowReader
from mmflow.mapping.window import Window

__all__ = ["MemberFile", "as_gzip"]

#: Header of a gzip file without a name (RFC 1952).
_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class MemberFile(MappedFile):
    """Member of an archive. Offsets are those in the member's bytes, compressed or not.

    Attributes:
        member: Place and compression of the member.
    """

    member: Member
    in_archive = True

    @classmethod
    def open_member(
        cls,
        path: str,
        *,
        io: Io = "auto",
        budget: int | None = None,
        access: Access = "sequential",
        expected: FileIdentity | None = None,
    ) -> Self | None:
        """Open the member that a path stands for, as `MappedFile.open`; None: the path stands for none.

        Raises:
            SourceError: The archive can't be read, or the member can't be decompressed.
            SourceChangedError: The archive is not the one that was planned with.
            EngineError: The process is out of file descriptors.
        """
        found = member_at(path)
        if found is None:
            return None
        archive, identity, member = found
        if expected is not None:
            expected.check_same(member.identity(identity), path)
        opened = cls.open(archive, io=io, budget=budget, access=access, expected=identity)
        opened.path, opened.identity = path, member.identity(identity)
        opened.member, opened.compression = member, member.compression
        opened.whole = False  # it would be read from the start of the archive
        return opened

    def _window(self, offset: int, length: int, populate: bool, lease: object = None) -> Window:
        made = super()._window(self.member.begin + offset, length, populate, lease)
        return replace(made, offset=offset)

    def resident(self, begin: int, end: int) -> int:
        return super().resident(self.member.begin + begin, self.member.begin + end)

    def prefetch(self, offset: int, length: int) -> None:
        """Do nothing: the kernel reads ahead."""

    def load(self, begin: int, end: int) -> None:
        at = self.member.begin
        self._loader().load(at + begin, at + min(end, self.size))

    def read_into(self, offset: int, view: memoryview) -> None:
        super().read_into(self.member.begin + offset, view)

    def evict_behind(self, offset: int, length: int) -> None:
        super().evict_behind(self.member.begin + offset, length)


class _GzipReader(WindowReader):
    """Deflated member with the header and the trailer that make it a gzip file, so that its checksum is checked."""

    def __init__(self, file: MemberFile, ahead: int) -> None:
        super().__init__(file, ahead=ahead)
        member = file.member
        self._before = _GZIP
        self._behind = member.crc.to_bytes(4, "little") + (member.length % (1 << 32)).to_bytes(4, "little")

    def read_buffer(self, nbytes: int = -1) -> pa.Buffer:
        if self._before:
            before, self._before = self._before, b""
            return pa.py_buffer(before)
        found = super().read_buffer(nbytes)
        if not found.size and nbytes:
            behind, self._behind = self._behind, b""
            return pa.py_buffer(behind)
        return found

    read = read_buffer


def as_gzip(file: MappedFile, ahead: int = 0) -> WindowReader:
    """Return a deflated member as the gzip file of its contents; its bytes up to `ahead` may be brought in ahead."""
    assert isinstance(file, MemberFile)
    return _GzipReader(file, ahead)
