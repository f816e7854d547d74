"""Record indexes on disk and in this process.

    .NAME.mmflow-index beside the file; where that can't be written: in $XDG_CACHE_HOME/mmflow/indexes (~/.cache)

    | magic, version, options key, file identity, totals | starts | rows | lines | checksum |

Invariant: an index file is used only if its checksum is right, it belongs to this file (device, inode, size, time of
modification) and to these options, and its owner is the user, root, or the data file's owner. Else it is ignored. It is
replaced by one rename, so readers and other writers see the old one or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmflow.cache.place import user_folder
from mmflow.mapping import FileIdentity
from mmflow.mapping.system.owner_lock import try_lock
from mmflow.rows.index import RecordIndex
from mmflow.shards import FileEntry, VerifiedPrefix
from mmflow.sinks.commit.atomic import fsync_folder
from mmflow.storage import disk
from mmflow.storage.format_versions import ROW_INDEX
from mmflow.storage.url import is_url

__all__ = ["drop_index", "fingerprint", "load_index", "save_index", "sidecar_paths"]

_MAGIC = b"mmfindex"
_HEAD = struct.Struct("<8sII16s QQQq QQQQ QQ")
_CHECK = 16
#: Smaller files are indexed in milliseconds, and an index file must not exceed 0.1% of its file.
_MIN_FILE_BYTES = 1 << 20
#: Bytes by which an index must grow to be written again.
_MIN_GROWTH_BYTES = 1 << 20
#: In a file written to more recently, another change may not show in the time of modification.
_STABLE_AFTER_NS = 50_000_000
_MAX_CACHED_BYTES = 64 << 20

_Key = tuple[str, FileIdentity, bytes]
_indexes: OrderedDict[_Key, RecordIndex] = OrderedDict()
_lock = threading.Lock()


def fingerprint(parts: object) -> bytes:
    """Return sixteen bytes that identify the options of an index, from the repr of `parts`."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def sidecar_paths(path: str) -> Iterator[str]:
    """Yield the paths where the index file of a file may be, best first; none for a URL, whose index stays in
    memory.
    """
    if is_url(path):
        return
    real = os.path.realpath(path)
    folder, name = os.path.split(real)
    yield os.path.join(folder, f".{name}.mmflow-index")
    digest = hashlib.blake2b(os.fsencode(real), digest_size=16).hexdigest()
    yield os.path.join(user_folder(), "indexes", f"{digest}.mmflow-index")


def load_index(entry: FileEntry, options_key: bytes) -> RecordIndex:
    """Return the index of a file from this process or an index file; an empty one if there is none."""
    key = (entry.path, entry.identity, options_key)
    with _lock:
        cached = _indexes.get(key)
        if cached is not None:
            _indexes.move_to_end(key)
            return cached
    if entry.identity.size >= _MIN_FILE_BYTES:
        for path in sidecar_paths(entry.path):
            index = _read(path, entry, options_key)
            if index is not None:
                _cache_index(key, index)
                return index
    return RecordIndex.empty()


def save_index(entry: FileEntry, options_key: bytes, index: RecordIndex, before: RecordIndex) -> None:
    """Keep an index that extends `before`, also on disk where that pays off. Never fails."""
    if time.time_ns() - entry.identity.mtime_ns < _STABLE_AFTER_NS:
        return
    _cache_index((entry.path, entry.identity, options_key), index)
    grown = index.verified.covered - before.verified.covered
    if entry.identity.size < _MIN_FILE_BYTES or grown < _MIN_GROWTH_BYTES:
        return
    data = _encode(entry, options_key, index)
    for path in sidecar_paths(entry.path):
        with contextlib.suppress(OSError):  # no permission, no space: try the next path
            _write(path, data, entry.path)
            return


def drop_index(entry: FileEntry, options_key: bytes) -> None:
    """Delete an index that turned out to be wrong."""
    with _lock:
        _indexes.pop((entry.path, entry.identity, options_key), None)
    for path in sidecar_paths(entry.path):
        with contextlib.suppress(OSError):
            disk.unlink(path)


def _cache_index(key: _Key, index: RecordIndex) -> None:
    with _lock:
        _indexes[key] = index
        _indexes.move_to_end(key)
        while len(_indexes) > 1 and sum(i.nbytes for i in _indexes.values()) > _MAX_CACHED_BYTES:
            _indexes.popitem(last=False)


# ---- bytes ----------------------------------------------------------------------------------------


def _encode(entry: FileEntry, options_key: bytes, index: RecordIndex) -> bytes:
    identity, verified = entry.identity, index.verified
    head = _HEAD.pack(
        _MAGIC, ROW_INDEX.version, index.complete, options_key,
        identity.device, identity.inode, identity.size, identity.mtime_ns,
        verified.next, verified.covered, verified.records, verified.lines,
        index.total, len(index.starts),
    )  # fmt: skip
    columns = [c.astype("<i8").tobytes() for c in (index.starts, index.rows, index.lines)]
    body = b"".join((head, *columns))
    return body + hashlib.blake2b(body, digest_size=_CHECK).digest()


def _read(path: str, entry: FileEntry, options_key: bytes) -> RecordIndex | None:
    """Return the index in an index file; None if there is none that can be trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            owners = (os.geteuid(), 0, os.stat(entry.path).st_uid)
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners:
                return None
            data = file.read()
    except OSError:
        return None
    return _decode(data, entry, options_key)


def _decode(data: bytes, entry: FileEntry, options_key: bytes) -> RecordIndex | None:
    if len(data) < _HEAD.size + _CHECK:
        return None
    body, check = memoryview(data)[:-_CHECK], data[-_CHECK:]
    if hashlib.blake2b(body, digest_size=_CHECK).digest() != check:
        return None
    magic, version, complete, built_key, *numbers = _HEAD.unpack_from(data)
    device, inode, size, mtime, following, covered, records, lines, total, count = numbers
    if (magic, version, built_key) != (_MAGIC, ROW_INDEX.version, options_key):
        return None
    # Those of a compressed file's contents have a tag, too, which is known from the rest.
    made_of = FileIdentity(device, inode, size, mtime, entry.identity.tag)
    if made_of != entry.identity or len(body) != _HEAD.size + 24 * count:
        return None
    columns = np.frombuffer(body, "<i8", offset=_HEAD.size).astype(np.int64).reshape(3, count)
    verified = VerifiedPrefix(following, covered, records, lines)
    index = RecordIndex(columns[0], columns[1], columns[2], total, verified, bool(complete))
    return index if index.is_plausible(size) else None


def _write(path: str, data: bytes, source: str) -> None:
    """Write an index file atomically; everyone who can read the data file can read it.

    Raises:
        OSError: It can't be written; nothing is left behind.
    """
    folder = os.path.dirname(path)
    if not os.path.basename(path).startswith("."):
        disk.makedirs(folder, mode=0o700, exist_ok=True)
    # A fixed name, so that a killed writer leaves one part file, which the next writer reuses.
    part = f"{path}.part"
    mode = os.stat(source).st_mode & 0o444 | 0o200
    fd = disk.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        if not try_lock(fd):
            return  # another process is writing it
        if not os.path.exists(part) or os.stat(part).st_ino != os.fstat(fd).st_ino:
            return  # another process has just renamed it
        try:
            disk.ftruncate(fd, 0)
            disk.write_all(fd, data)
            disk.fsync(fd)
            disk.replace(part, path)
        except BaseException:  # a full disk, Ctrl-C: no litter
            with contextlib.suppress(OSError):
                disk.unlink(part)
            raise
    finally:
        disk.close(fd)
    fsync_folder(Path(folder))
