"""Arrays of npz archives: each is an npy file within a zip.

numpy.savez              the array's bytes as they are, so that it is mapped and cut into shards like an npy file
numpy.savez_compressed   deflated: one task, which holds the whole array in memory
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.npy.header import ArrayBytes, NpyHeader, read_header
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile

__all__ = ["InflatedArray", "is_archive", "open_array"]

_MAGIC = b"PK\x03\x04"
_EMPTY = b"PK\x05\x06"
#: Header of a member: its signature, 22 bytes, and the lengths of its name and its extra field.
_HEADER, _NAME, _EXTRA = 30, 26, 28


def is_archive(start: bytes) -> bool:
    """Return whether the first bytes of a file are those of a zip."""
    return start.startswith((_MAGIC, _EMPTY))


@dataclass(frozen=True, slots=True)
class Member:
    """Array of an archive.

    Attributes:
        begin: Offset of its npy file in `data`, or in the archive.
        end: Offset behind it.
        data: Its bytes, where they are compressed in the archive.
    """

    begin: int
    end: int
    data: pa.Buffer | None = None


class _Bytes(io.RawIOBase):
    """Bytes of a file for zipfile, read where it asks."""

    def __init__(self, file: MappedFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, self._file.size)[whence]
        if at < 0:
            raise OSError("the file is too short")
        self._at = at
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: Any) -> int:
        count = min(len(into), self._file.size - self._at)
        if count <= 0:
            return 0
        into[:count] = memoryview(self._file.window(self._at, count).buffer)
        self._at += count
        return count


def _member(file: MappedFile, array: str | None) -> Member:
    """Find an array of an archive.

    Args:
        file: Archive.
        array: Name of the array; None: the archive has one.

    Raises:
        SourceError: The archive is damaged, or lacks the array, or has several of which none was named.
    """
    try:
        with zipfile.ZipFile(_Bytes(file)) as found:
            names = {
                i.filename.removesuffix(".npy"): i for i in found.infolist() if i.filename.endswith(".npy")
            }
            listed = ", ".join(map(repr, names)) or "none"
            if array is None and len(names) != 1:
                raise SourceError(
                    f"can't read {file.path}: it has {len(names)} arrays, {listed}; name one: array=...",
                    path=file.path,
                )
            name = next(iter(names)) if array is None else array
            if name not in names:
                raise SourceError(
                    f"can't read {file.path}: it has no array {name!r}; it has {listed}", path=file.path
                )
            info = names[name]
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                data = found.read(info)
                return Member(0, len(data), pa.py_buffer(data))
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        raise SourceError(
            f"can't read {file.path}: {error}; the npz archive is damaged, or not of numpy", path=file.path
        ) from error
    head = file.window(info.header_offset, _HEADER).buffer.to_pybytes()
    if not head.startswith(_MAGIC) or len(head) < _HEADER:
        raise SourceError(
            f"can't read {file.path}: its list of members is wrong; the npz archive is damaged",
            path=file.path,
        )
    lengths = [int.from_bytes(head[at : at + 2], "little") for at in (_NAME, _EXTRA)]
    begin = info.header_offset + _HEADER + sum(lengths)
    return Member(begin, begin + info.file_size)


@dataclass(frozen=True, slots=True)
class _Window:
    buffer: pa.Buffer


class InflatedArray:
    """Bytes of a compressed array, with as much of `MappedFile` as readers of npy files need."""

    def __init__(self, file: MappedFile, data: pa.Buffer) -> None:
        self.path, self.size = file.path, data.size
        self._file, self._data = file, data

    def window(self, offset: int, length: int) -> _Window:
        return _Window(self._data.slice(offset, max(0, min(length, self.size - offset))))

    def window_sizes(self, most: int) -> Iterator[int]:
        return self._file.window_sizes(most)

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        del ranges

    def evict_behind(self, offset: int, length: int) -> None:
        del offset, length


def open_array(file: MappedFile, array: str | None) -> tuple[ArrayBytes, NpyHeader]:
    """Return the bytes in which an array of a file lies, and its header, whose offsets count in these.

    Args:
        file: npy file, or npz archive.
        array: Name of an array of the archive; None: there is one.

    Raises:
        SourceError: The file is neither, is damaged, or lacks the array.
    """
    if not is_archive(file.window(0, len(_MAGIC)).buffer.to_pybytes()):
        if array is not None:
            raise SourceError(
                f"can't read {file.path}: array={array!r} names an array of an npz archive, and it is none",
                path=file.path,
            )
        return file, read_header(file)
    found = _member(file, array)
    if found.data is None:
        return file, read_header(file, found.begin, found.end)
    inflated = InflatedArray(file, found.data)
    return inflated, read_header(inflated)
