"""Detection of the encoding or kind of a file by its first bytes, where they are no UTF-8 text."""

from __future__ import annotations

from mmflow.errors import SourceError

__all__ = ["BOM", "check_kind", "check_not_wide", "check_text"]

#: The byte order mark that UTF-8 may begin with.
BOM = b"\xef\xbb\xbf"
# UTF-32's before UTF-16's, which one of them begins with.
_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32LE"),
    (b"\0\0\xfe\xff", "UTF-32BE"),
    (b"\xff\xfe", "UTF-16LE"),
    (b"\xfe\xff", "UTF-16BE"),
)
_KINDS = (
    # One compression of a file is undone before it comes here.
    (b"\x1f\x8b", "gzip data", "it is compressed twice: decompress it once"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", "it is compressed twice: decompress it once"),
    (b"BZh", "bzip2 data", "it is compressed twice: decompress it once"),
    (b"\xfd7zXZ\0", "xz data", "it is compressed twice: decompress it once"),
    (b"\x04\x22\x4d\x18", "LZ4 data", "it is compressed twice: decompress it once"),
    (b"\xff\x06\0\0sNaPpY", "Snappy data", "decompress it first: snzip -d"),
    (b"PK\x03\x04", "a spreadsheet (.xlsx), or another archive", "set format=excel, or unpack it"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old spreadsheet (.xls)", "set format=excel"),
    (b"Obj\x01", "Avro", "set format=avro"),
    (b"\x93NUMPY", "npy", "set format=npy"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
)
# Which bytes of four are NULs.
_NULS = {
    "UTF-32LE": (0, 1, 1, 1),
    "UTF-32BE": (1, 1, 1, 0),
    "UTF-16LE": (0, 1, 0, 1),
    "UTF-16BE": (1, 0, 1, 0),
}
_PROBED = 64  # bytes that tell UTF-16 and UTF-32 without a mark


def check_kind(path: str, start: bytes) -> None:
    """Refuse a file whose first bytes are those of a binary format.

    Raises:
        SourceError: Names the kind, and what to do.
    """
    for magic, kind, advice in _KINDS:
        # bzip2's mark alone may begin a name.
        if start.startswith(magic) and not (magic == b"BZh" and start[4:10] != b"1AY&SY"):
            raise SourceError(
                f"{path}: it is no text: its first bytes (byte offset 0) are those of {kind}\n  {advice}",
                path=path,
                byte_offset=0,
            )


def check_text(path: str, start: bytes) -> None:
    """Refuse a file whose first bytes say that it is no UTF-8 text.

    Args:
        path: Path of the file, for messages.
        start: Its first bytes, as UTF-8 where its encoding was given.

    Raises:
        SourceError: It is UTF-16 or UTF-32, compressed, or of a binary format.
    """
    check_kind(path, start)
    check_not_wide(path, start)


def check_not_wide(path: str, start: bytes) -> None:
    """Refuse a file whose first bytes say that it is UTF-16 or UTF-32.

    Raises:
        SourceError: It is; the message says which encoding to set.
    """
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    found = marked or _unmarked(start[:_PROBED])
    if found is None:
        return
    # With a mark, the order of bytes is the file's own.
    option = found[:6].lower() if marked else f"{found[:6]}-{found[6:]}".lower()
    raise SourceError(
        f"{path}: it is no UTF-8 text: its first bytes (line 1, byte offset 0) are those of {found}\n"
        f"  set encoding={option!r}",
        path=path,
        byte_offset=0,
        code="MMF-SRC-004",
    )


def _unmarked(probe: bytes) -> str | None:
    """Return UTF-16 or UTF-32 for text of mostly Latin letters, by where its NULs are; None: it is neither."""
    if len(probe) < 4 or 0 not in probe or len(probe.strip(b"\0")) < 2:
        return None
    probe = probe[: len(probe) // 4 * 4]
    nuls = tuple(sum(1 for b in probe[i::4] if b == 0) for i in range(4))
    fours = len(probe) // 4
    for name, pattern in _NULS.items():
        if all(n == fours * wanted for n, wanted in zip(nuls, pattern, strict=True)):
            return name
    return None
