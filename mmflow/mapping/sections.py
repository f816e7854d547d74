"""Sections of compressed files: parts that are decompressed without what precedes them.

    file   | member | member | member | member | ...        text   | section 0    | section 1 | ...
           ^ sections begin at some of these                         ^ known without decompressing anything

Invariant: a chain of headers that leads from the first byte of the file exactly to its last one finds the places.
Nothing is taken for a header because of its first bytes alone, and a section whose text is not as long as was found is
damaged.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.file import MappedFile
from mmflow.mapping.identity import FileIdentity

__all__ = [
    "Checkpoint",
    "Sections",
    "distrust_sections",
    "find_sections",
    "forget_sections",
    "is_distrusted",
    "keep_sections",
    "kept_sections",
    "sections_of",
]

I64 = npt.NDArray[np.int64]

#: Bytes of text of a section, at least: one row is read by decompressing one section.
_SECTION = 256 << 10
#: Bytes of text of the longest section; a file with a longer one is read as a stream.
_MOST = 32 << 20
#: Bytes of the file that are looked at together.
_PIECE = 16 << 20
#: Longest block of BGZF, and longest text of one (SAM specification 4.1).
_BLOCK = 1 << 16
_GZIP_EXTRA = b"\x1f\x8b\x08\x04"
_BGZF = struct.Struct("<2sHH")  # subfield: BC, its length, and the length of the block less one
_BGZF_HEADER = 12
#: Frames of zstd (RFC 8878), and the table of frames at the end of a seekable file (zstd, contrib/seekable_format).
_ZSTD, _SKIPPED, _SEEK_TABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18", b"\xb1\xea\x92\x8f"
_ZSTD_HEADER, _SEEK_FOOTER = 18, 9
_RESERVED_BLOCK, _RLE_BLOCK = 3, 1
#: Streams of xz (The .xz File Format 1.1): header and footer, and the bits of a number in each byte.
_XZ, _XZ_FRAME, _XZ_END, _VLI_BITS = b"\xfd7zXZ\0", 12, b"YZ", 7


#: Bytes of checkpoints in memory: those of some 100 GB of text.
_MOST_KEPT = 256 << 20
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of an inflater at the begin of a block (kernels/inflate).

    Attributes:
        bit: Bits of its first byte that belong to the block before.
        checksum: CRC-32 of the text of the member so far.
        length: Bytes of that text.
        members: Members that were begun.
        reach: Bytes of text before it that it may refer to.
        history: This text, compressed by zstd.
    """

    bit: int
    checksum: int
    length: int
    members: int
    reach: int
    history: bytes

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Numbers that are known of the text before it."""
        return self.bit, self.checksum, self.length, self.members


@dataclass(frozen=True, slots=True)
class Sections:
    """Sections of a compressed file.

    Attributes:
        compression: Compression of the file.
        kind: Name of what it consists of, for people.
        count: Number of these.
        offsets: Offset of each section in the file, in bytes, and the size of the file.
        texts: Offset of each section's text, and the size of all text.
        members: Number of members before each section; 0 where checkpoints say it.
        checkpoints: State at the begin of each section but the first; none where sections are whole members.
    """

    compression: str
    kind: str
    count: int
    offsets: I64
    texts: I64
    members: I64
    checkpoints: tuple[Checkpoint, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, about."""
        return self.offsets.nbytes * 3 + sum(len(c.history) + 100 for c in self.checkpoints)

    @property
    def size(self) -> int:
        """Size of all text, in bytes."""
        return int(self.texts[-1])

    def at(self, offset: int) -> int:
        """Return the number of the section that holds a byte of the text."""
        return int(np.searchsorted(self.texts, offset, "right")) - 1

    def covering(self, begin: int, end: int) -> tuple[int, int]:
        """Return the first section of a range of the text that is not empty, and the one behind its last."""
        return self.at(begin), self.at(end - 1) + 1


#: Sections that passes have found, and files whose sections did not fit.
_kept: dict[tuple[str, FileIdentity], Sections] = {}
_distrusted: set[tuple[str, FileIdentity]] = set()


def keep_sections(path: str, identity: FileIdentity, sections: Sections) -> bool:
    """Keep sections that a pass over a file has found, for this process. False: one is too long, or too many are kept.

    None is given up for another, since tasks that were planned with it may open the file later.
    """
    if np.diff(sections.texts).max() > _MOST:
        return False
    with _lock:
        _kept.pop((path, identity), None)
        _distrusted.discard((path, identity))
        for other in [key for key in _kept if key[0] == path]:  # of earlier versions
            del _kept[other]
        if sum(found.nbytes for found in _kept.values()) + sections.nbytes > _MOST_KEPT:
            return False
        _kept[path, identity] = sections
        return True


def kept_sections(path: str, identity: FileIdentity) -> Sections | None:
    """Return the sections that are kept of a file."""
    with _lock:
        return _kept.get((path, identity))


def sections_of(path: str, identity: FileIdentity) -> Sections | None:
    """Return the sections of a file by which its contents are read: those of its checkpoints, or of its headers.

    Raises:
        SourceError: It can't be read.
        SourceChangedError: It is another file by now.
    """
    return kept_sections(path, identity) or find_sections(path, identity)


def distrust_sections(path: str, identity: FileIdentity) -> None:
    """Note that sections don't fit their file, so that the next query reads it from its start.

    They stay until others are kept, for tasks that were planned with them: each says what it finds wrong.
    """
    with _lock:
        if (path, identity) in _kept:
            _distrusted.add((path, identity))


def is_distrusted(path: str, identity: FileIdentity) -> bool:
    """Return whether sections of a file did not fit it, and no others have been found since."""
    with _lock:
        return (path, identity) in _distrusted


def forget_sections() -> None:
    """Forget all sections that are kept."""
    with _lock:
        _kept.clear()
        _distrusted.clear()


@lru_cache(64)
def find_sections(path: str, identity: FileIdentity) -> Sections | None:
    """Return the sections that the headers of a local file tell.

    None where it has one member only, or they can't be found for sure.

    Args:
        path: Path of the file.
        identity: Its identity.

    Raises:
        SourceError: It can't be read.
        SourceChangedError: It is another file by now.
    """
    with MappedFile.open(path, expected=identity) as file:
        start = file.glance(0, _BGZF_HEADER)
        found = None
        if start.startswith(_GZIP_EXTRA):
            found = _made("gzip", "BGZF block", _bgzf_blocks(file), 0, file.size)
        elif start.startswith(_ZSTD) or start[1:4] == _SKIPPED:
            found = _made("zstd", "zstd frame", _zstd_frames(file), 0, file.size)
        elif start.startswith(_XZ):
            size, blocks = _xz_index(file)
            found = _made("xz", "xz block", blocks, _XZ_FRAME, file.size - size)
        file.check_unchanged()
    return found


def _made(
    compression: str, kind: str, found: Iterable[tuple[int, int]], begin: int, end: int
) -> Sections | None:
    """Join members to sections; None where they don't lead from `begin` to `end`, or a section is too long.

    Args:
        compression: Compression of the file.
        kind: Name of a member, for people.
        found: Bytes of each member and of its text.
        begin: Offset of the first one.
        end: Offset behind the last one.
    """
    offset = begin
    offsets, texts, members = [offset], [0], [0]
    text = count = 0
    for size, length in found:
        if length > _MOST:
            return None
        if text - texts[-1] >= _SECTION or (text > texts[-1] and text - texts[-1] + length > _MOST):
            offsets.append(offset)
            texts.append(text)
            members.append(count)
        offset += size
        text += length
        count += 1
    if offset != end or count < 2 or text == 0:
        return None
    if text == texts[-1]:  # members without text, such as the mark of the end, belong to those before
        for column in (offsets, texts, members):
            column.pop()
    offsets.append(offset)
    texts.append(text)
    columns = [np.array(column, np.int64) for column in (offsets, texts, members)]
    return Sections(compression, kind, count, columns[0], columns[1], columns[2])


def _bgzf_blocks(file: MappedFile) -> Iterator[tuple[int, int]]:
    """Yield the bytes of each block and of its text, up to what is no block."""
    at = 0
    while at < file.size:
        data = memoryview(file.window(at, _PIECE).buffer).cast("B")
        final = at + len(data) == file.size
        done = 0
        while done < len(data) and (final or len(data) - done >= _BLOCK):
            size = _block_size(data[done : done + _BLOCK])
            if size is None:
                return
            length = int.from_bytes(data[done + size - 4 : done + size], "little")
            if length > _BLOCK:
                return
            yield size, length
            done += size
        at += done


def _block_size(data: memoryview) -> int | None:
    """Return the length of the block at the start of some bytes; None: they begin with no whole one."""
    if len(data) < _BGZF_HEADER or data[:4] != _GZIP_EXTRA:
        return None
    end = _BGZF_HEADER + int.from_bytes(data[10:12], "little")
    at = _BGZF_HEADER
    while at + _BGZF.size <= min(end, len(data)):
        name, length, size = _BGZF.unpack_from(data, at)
        if name == b"BC" and length == 2:
            size += 1
            return size if end + 8 < size <= len(data) else None
        at += 4 + length
    return None


def _zstd_frames(file: MappedFile) -> Iterator[tuple[int, int]]:
    """Yield the bytes of each frame and of its text, up to what is no frame, or one of unknown length of text."""
    at, number = 0, 0
    table: list[tuple[int, int]] | None = None
    while at < file.size:
        head = file.glance(at, _ZSTD_HEADER)
        if head[1:4] == _SKIPPED and head[0] >> 4 == 5:
            size, length = 8 + int.from_bytes(head[4:8], "little"), 0
        elif head.startswith(_ZSTD):
            size, stated = _frame_size(file, at, head)
            if stated is None:
                table = _seek_table(file) if table is None else table
                if number >= len(table) or table[number][0] != size:
                    return
                stated = table[number][1]
            length = stated
            number += 1
        else:
            return
        if size <= 0 or at + size > file.size:
            return
        yield size, length
        at += size


def _frame_size(file: MappedFile, begin: int, head: bytes) -> tuple[int, int | None]:
    """Return the bytes of a frame, 0 where it is none, and those of its text where it states them."""
    flags = head[4] if len(head) > 4 else 0
    single = flags >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    wide = (single, 2, 4, 8)[flags >> 6]
    stated = int.from_bytes(head[at : at + wide], "little") + (256 if wide == 2 else 0) if wide else None
    at += begin + wide
    while True:
        block = int.from_bytes(file.glance(at, 3), "little")
        kind = block >> 1 & 3
        if kind == _RESERVED_BLOCK or at + 3 > file.size:
            return 0, None
        at += 3 + (1 if kind == _RLE_BLOCK else block >> 3)
        if block & 1:
            return at + 4 * (flags >> 2 & 1) - begin, stated


def _seek_table(file: MappedFile) -> list[tuple[int, int]]:
    """Return the bytes of frames and of their texts, as the end of a seekable file states them; else nothing."""
    footer = file.glance(max(0, file.size - _SEEK_FOOTER), _SEEK_FOOTER)
    if len(footer) < _SEEK_FOOTER or footer[5:] != _SEEK_TABLE:
        return []
    count, width = int.from_bytes(footer[:4], "little"), 12 if footer[4] >> 7 else 8
    begin = file.size - _SEEK_FOOTER - count * width
    if begin < 0:
        return []
    data = file.window(begin, count * width).buffer.to_pybytes()
    return [struct.unpack_from("<II", data, at) for at in range(0, len(data), width)]


def _xz_index(file: MappedFile) -> tuple[int, list[tuple[int, int]]]:
    """Return the bytes of the index with the footer, and those of each block and of its text, of a file of one stream.

    None of either where the index is damaged.
    """
    footer = file.glance(max(0, file.size - _XZ_FRAME), _XZ_FRAME)
    size = 4 * (int.from_bytes(footer[4:8], "little") + 1)
    begin = file.size - _XZ_FRAME - size
    if (
        footer[10:] != _XZ_END
        or begin < _XZ_FRAME
        or zlib.crc32(footer[4:10]) != int.from_bytes(footer[:4], "little")
    ):
        return 0, []
    index = file.window(begin, size).buffer.to_pybytes()
    if index[0] or zlib.crc32(index[:-4]) != int.from_bytes(index[-4:], "little"):
        return 0, []
    numbers: list[int] = []
    at = 1
    while at < size - 4 and (not numbers or len(numbers) <= 2 * numbers[0]):
        number = shift = 0
        while at < size - 4:
            byte = index[at]
            number |= (byte & 127) << shift
            at, shift = at + 1, shift + _VLI_BITS
            if byte < 128:  # the last byte of a number
                break
        numbers.append(number)
    if len(numbers) != 2 * numbers[0] + 1:
        return 0, []
    blocks = [(-(-n // 4) * 4, length) for n, length in zip(numbers[1::2], numbers[2::2], strict=True)]
    return size + _XZ_FRAME, blocks
