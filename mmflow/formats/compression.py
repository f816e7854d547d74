"""Compressed files: a file's first bytes say whether and how it is compressed, whatever its name."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.mapping import FileIdentity, MappedFile, as_arrow_file
from mmflow.mapping.readable import WindowReader
from mmflow.storage.url import file_name, may_be_member

__all__ = [
    "SUFFIXES",
    "Contents",
    "compressed_records_error",
    "compression_suffix",
    "damaged_error",
    "decompress_stream",
    "detect_compression",
    "file_compression",
    "is_known_plain",
    "is_spreadsheet",
    "is_text",
    "open_decompressed",
    "read_first_bytes",
    "refuse_compressed",
]

#: Suffix of a name to the compression that it promises.
SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".xz": "xz", ".zip": "zip"}
_ZIP, _EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
#: First members of archives that are files of another format: spreadsheets (and other documents), numpy's.
_DOCUMENTS = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/", b"mimetype")
#: Methods of zip that Python knows: stored, deflate, bzip2, LZMA.
_ZIP_METHODS = (0, 8, 12, 14)
_ZSTD, _LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
#: Bytes after bzip2's mark, which alone may begin a name: a block, or the end of an empty file.
_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
_PROBED = 512  # bytes that tell
_FIRST = 1 << 20  # of a remote file: what a scan asks for first
#: Compressions of files that were looked at lately: each task of a file asks for it.
_known: dict[tuple[str, FileIdentity], str | None] = {}
_MOST_KNOWN = 4096


class Contents(Protocol):
    """Decompressed contents of a file or a stream, in order."""

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes, fewer than `nbytes` only at the end."""
        ...

    def readinto(self, b: memoryview) -> int:
        """Fill memory, less of it only at the end, and return how much."""
        ...


def compression_suffix(path: str) -> str | None:
    """Return the suffix of a name that promises a compression; None: it has none."""
    name = file_name(path).lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def detect_compression(start: bytes, path: str) -> str | None:
    """Return the compression that the first bytes of a file are of; None: none.

    Args:
        start: 512 bytes or more, or the whole file.
        path: Path for messages; its suffix only decides between two formats for a frame that is skipped.

    Raises:
        SourceError: Its name promises a compression, and its first bytes are neither of one nor text.

    >>> detect_compression(b"\\x1f\\x8b\\x08\\x00", "a.csv"), detect_compression(b"a,b\\n", "a.csv.gz")
    ('gzip', None)
    """
    if start.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if start.startswith(_ZSTD):
        return "zstd"
    if start.startswith(_LZ4):
        return "lz4"
    if start.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if start.startswith(b"BZh") and start[4:10] in _BZ2_BLOCKS:
        return "bz2"
    if start.startswith(_EMPTY_ZIP):
        return "zip"
    if start.startswith(_ZIP) and not is_spreadsheet(start) and not _first_member(start).endswith(b".npy"):
        return "zip"
    suffix = compression_suffix(path)
    if suffix in (".zst", ".lz4") and 0x50 <= start[:1].ljust(1)[0] <= 0x5F and start[1:4] == b"\x2a\x4d\x18":
        return SUFFIXES[suffix]  # frames to be skipped are the same in both
    if suffix is not None and not is_text(start):
        raise SourceError(
            f"can't read {path}: its first bytes, {start[:8]!r}, are neither those of {SUFFIXES[suffix]}, as its name "
            "says, nor text; it is damaged, or of another kind",
            path=path,
            byte_offset=0,
        )
    return None


def is_spreadsheet(start: bytes) -> bool:
    """Return whether a file that begins so is an archive of a document's parts: .xlsx and .ods, but also .docx."""
    return start.startswith(_ZIP) and _first_member(start).startswith(_DOCUMENTS)


def _first_member(start: bytes) -> bytes:
    """Return the name of a zip archive's first member (APPNOTE 4.3.7: its length at byte 26, the name at byte 30)."""
    return start[30 : 30 + int.from_bytes(start[26:28], "little")]


def is_text(start: bytes) -> bool:
    """Return whether the first 512 of these bytes are UTF-8 without NULs."""
    start = start[:_PROBED]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # A character that the piece cuts is no damage.
        return error.reason == "unexpected end of data" and len(start) == _PROBED and b"\0" not in start
    return b"\0" not in start


def is_known_plain(path: str, identity: FileIdentity) -> bool:
    """Return whether `file_compression` has looked at a file in this process, and it is not compressed."""
    return _known.get((path, identity), "") is None


def file_compression(file: MappedFile) -> str | None:
    """Return how an open file is compressed, by its first bytes; None: it is not.

    Raises:
        SourceError: It can't be read; or as `detect_compression`.
    """
    if file.once or file.decompressed:  # of a stream it is undone on the way
        return None
    if file.compression is not None:
        return file.compression
    key = (file.path, file.identity)
    if key not in _known:
        # Of a remote file all that a scan would ask for first: else it would be one request more.
        probe = file.window(0, min(_FIRST if file.fetches else _PROBED, file.size)).buffer
        found = detect_compression(probe.slice(0, min(_PROBED, probe.size)).to_pybytes(), file.path)
        if not file.fetches and not file.whole:  # of those all that comes is of one version
            file.check_unchanged()
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = found
    return _known[key]


@contextmanager
def open_decompressed(file: MappedFile, ahead: int = 0) -> Iterator[Contents]:
    """Open a compressed file as a stream of its contents; a remote one is read ahead up to byte `ahead`.

    Raises:
        SourceError: It is damaged.
    """
    from mmflow.formats import checkpoints  # noqa: PLC0415  (most files are plain)
    from mmflow.formats.inflating import GzipContents, PipedSource  # noqa: PLC0415  (most files are plain)

    compression = file_compression(file)
    assert compression is not None
    try:
        if compression == "deflate":
            from mmflow.mapping.member_file import as_gzip  # noqa: PLC0415  (slow: only archives need it)

            yield GzipContents(PipedSource(as_gzip(file, ahead)))
        elif compression == "gzip":
            # Who reads all of a file leaves checkpoints for those who read it later.
            marks = type(file) is MappedFile and ahead >= file.size >= checkpoints.LEAST
            contents = GzipContents(WindowReader(file, ahead=ahead), checkpoints.SPACING if marks else 0)
            yield contents
            if marks:
                checkpoints.keep_checkpoints(file, contents)
        else:
            with decompress_stream(as_arrow_file(file, ahead=ahead), compression, file.path) as stream:
                yield stream
    except (pa.ArrowInvalid, EOFError, OSError) as error:
        if not file.fetches:
            file.check_unchanged()  # which may be why
        raise damaged_error(file.path, compression, error) from error


@contextmanager
def decompress_stream(source: pa.NativeFile, compression: str, path: str) -> Iterator[Contents]:
    """Open the contents of compressed bytes, in order.

    Args:
        source: The compressed bytes.
        compression: Compression that their first ones tell.
        path: Path for messages.

    Raises:
        pa.ArrowInvalid, EOFError, OSError: They are damaged.
        SourceError: An archive does not hold one text.
    """
    if compression == "zip":
        with _zip_member(source, path) as stream:
            yield stream
        return
    if compression == "gzip":
        from mmflow.formats.inflating import GzipContents, PipedSource  # noqa: PLC0415  (most files are plain)

        yield GzipContents(PipedSource(source))
        return
    if compression != "xz":
        with pa.CompressedInputStream(source, compression) as stream:
            yield stream
        return
    import lzma  # noqa: PLC0415  (not every build of Python has it)

    try:
        packed: Any = lzma.LZMAFile(source)  # noqa: SIM115  (closed by the next)
        with pa.PythonFile(packed, mode="r") as stream:
            yield stream
    except lzma.LZMAError as error:
        raise EOFError(str(error)) from error


@contextmanager
def _zip_member(source: pa.NativeFile, path: str) -> Iterator[Contents]:
    """Open the only file of a zip archive as a stream.

    Raises:
        EOFError: It is damaged.
        SourceError: It holds several files, or none; or one that is encrypted, or compressed in a way that is not read.
    """
    import zipfile  # noqa: PLC0415  (slow)

    from mmflow.mapping.archives import check_readable, is_data  # noqa: PLC0415  (slow: only archives need it)

    try:
        with zipfile.ZipFile(cast("Any", source)) as archive:
            members = [m for m in archive.infolist() if is_data(m.filename)]
            if len(members) != 1:
                names = ", ".join(m.filename for m in members[:5])
                raise SourceError(
                    f"can't read {path}: it is a zip archive of {len(members):,} files ({names}), not of one; its "
                    "members are read as files if it is a local file named .zip, else unpack it",
                    path=path,
                )
            check_readable(path, members[0], _ZIP_METHODS)
            with archive.open(members[0]) as member, pa.PythonFile(cast("Any", member), mode="r") as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError) as error:
        raise EOFError(str(error)) from error


def refuse_compressed(file: MappedFile) -> None:
    """Refuse a file of binary records that is compressed: its records would be those of the compressed bytes.

    Numbers may begin as gzip does; only what can be decompressed counts.

    Raises:
        SourceError: It is compressed.
    """
    start = file.window(0, min(_PROBED, file.size)).buffer
    compression = detect_compression(start.to_pybytes(), "")
    if compression == "gzip":
        from mmflow.formats.inflating import (  # noqa: PLC0415  (most files are plain)
            GzipContents,
            InflateError,
            PipedSource,
        )

        try:
            GzipContents(PipedSource(pa.BufferReader(start))).read(1)
        except InflateError:
            return
    if compression is not None:
        raise compressed_records_error(file.path)


def compressed_records_error(path: str) -> SourceError:
    """Return the error for binary records that are compressed."""
    return SourceError(
        f"can't read {path}: it is compressed, and binary records are not decompressed; decompress it, and read that",
        path=path,
    )


def read_first_bytes(file: MappedFile, size: int) -> bytes:
    """Return the first bytes of a file's contents, decompressed where it is compressed.

    Raises:
        SourceError: It is compressed and damaged.
    """
    if file_compression(file) is not None:
        with open_decompressed(file) as stream:
            return bytes(stream.read(size))
    return bytes(file.window(0, size).buffer.to_pybytes())


def damaged_error(path: str, compression: str, error: BaseException) -> SourceError:
    """Return the error for a file or stream that can't be decompressed."""
    says = "its archive says" if may_be_member(path) else "its first bytes say"
    offset = getattr(error, "byte_offset", None)  # of an InflateError
    place = {} if offset is None else {"byte_offset": offset}
    return SourceError(
        f"can't decompress {path}: {error}; {says} {compression}, and it is damaged or cut short",
        path=path,
        **place,
    )
