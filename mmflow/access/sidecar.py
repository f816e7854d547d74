"""Record indexes on disk, and those of this process.

    .NAME.mmflow-index beside the file; where that can't be written: in $XDG_CACHE_HOME/mmflow/indexes (~/.cache)

    | magic, version, what it was built by, the file's identity, totals | starts | rows | lines | checksum |

Invariant: a sidecar is taken only if its checksum holds, it is of this very file (device, inode, size, time of
modification) and of these options, and somebody wrote it who may: the user, root, or the file's owner. Else it is as
if it weren't there. It is replaced by one rename, so readers and other writers see an old one or a new one.
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

from mmflow.access.index import RecordIndex
from mmflow.mapping import FileIdentity
from mmflow.mapping.system import system
from mmflow.remote.url import is_url
from mmflow.shards import Chained, FileEntry
from mmflow.sinks.atomic import fsync_folder

__all__ = ["fingerprint", "forget", "keep", "known", "sidecar_paths"]

_MAGIC = b"mmfindex"
_VERSION = 1
_HEAD = struct.Struct("<8sII16s QQQq QQQQ QQ")
_CHECK = 16
#: Smaller files are indexed in milliseconds, and sidecars are not to be more than 0.1% of them.
_LEAST_FILE = 1 << 20
#: A sidecar is written anew when the index covers so many bytes more.
_LEAST_GROWTH = 1 << 20
#: Of a file that was written to this lately, another change may not show in its time of modification.
_SETTLED_NS = 50_000_000
_MOST_HELD = 64 << 20

_Key = tuple[str, FileIdentity, bytes]
_held: OrderedDict[_Key, RecordIndex] = OrderedDict()
_lock = threading.Lock()


def fingerprint(parts: object) -> bytes:
    """Sixteen bytes for what an index was built by; `parts` by its repr."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def sidecar_paths(path: str) -> Iterator[str]:
    """Where the sidecar of a file may be, best first; nowhere for a URL: this process has its index."""
    if is_url(path):
        return
    real = os.path.realpath(path)
    folder, name = os.path.split(real)
    yield os.path.join(folder, f".{name}.mmflow-index")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    digest = hashlib.blake2b(os.fsencode(real), digest_size=16).hexdigest()
    yield os.path.join(home, "mmflow", "indexes", f"{digest}.mmflow-index")


def known(entry: FileEntry, by: bytes) -> RecordIndex:
    """What is known of a file's records: by this process, or from a sidecar; else nothing."""
    key = (entry.path, entry.identity, by)
    with _lock:
        held = _held.get(key)
        if held is not None:
            _held.move_to_end(key)
            return held
    if entry.identity.size >= _LEAST_FILE:
        for path in sidecar_paths(entry.path):
            index = _loaded(path, entry, by)
            if index is not None:
                _hold(key, index)
                return index
    return RecordIndex.empty()


def keep(entry: FileEntry, by: bytes, index: RecordIndex, before: RecordIndex) -> None:
    """Keep an index, which was `before` when it was found; on disk, where that is worth it. Never fails."""
    if time.time_ns() - entry.identity.mtime_ns < _SETTLED_NS:
        return
    _hold((entry.path, entry.identity, by), index)
    grown = index.chained.covered - before.chained.covered
    if entry.identity.size < _LEAST_FILE or grown < _LEAST_GROWTH:
        return
    data = _packed(entry, by, index)
    for path in sidecar_paths(entry.path):
        with contextlib.suppress(OSError):  # no permission, no room: the next place, or none
            _write(path, data, entry.path)
            return


def forget(entry: FileEntry, by: bytes) -> None:
    """Drop an index that turned out to be wrong."""
    with _lock:
        _held.pop((entry.path, entry.identity, by), None)
    for path in sidecar_paths(entry.path):
        with contextlib.suppress(OSError):
            os.unlink(path)


def _hold(key: _Key, index: RecordIndex) -> None:
    with _lock:
        _held[key] = index
        _held.move_to_end(key)
        while len(_held) > 1 and sum(i.nbytes for i in _held.values()) > _MOST_HELD:
            _held.popitem(last=False)


# ---- bytes ----------------------------------------------------------------------------------------


def _packed(entry: FileEntry, by: bytes, index: RecordIndex) -> bytes:
    identity, chained = entry.identity, index.chained
    head = _HEAD.pack(
        _MAGIC, _VERSION, index.complete, by,
        identity.device, identity.inode, identity.size, identity.mtime_ns,
        chained.next, chained.covered, chained.records, chained.lines,
        index.total, len(index.starts),
    )  # fmt: skip
    columns = [c.astype("<i8").tobytes() for c in (index.starts, index.rows, index.lines)]
    body = b"".join((head, *columns))
    return body + hashlib.blake2b(body, digest_size=_CHECK).digest()


def _loaded(path: str, entry: FileEntry, by: bytes) -> RecordIndex | None:
    """The index in a sidecar; None: there is none that can be trusted."""
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
    return _unpacked(data, entry, by)


def _unpacked(data: bytes, entry: FileEntry, by: bytes) -> RecordIndex | None:
    if len(data) < _HEAD.size + _CHECK:
        return None
    body, check = memoryview(data)[:-_CHECK], data[-_CHECK:]
    if hashlib.blake2b(body, digest_size=_CHECK).digest() != check:
        return None
    magic, version, complete, built_by, *numbers = _HEAD.unpack_from(data)
    device, inode, size, mtime, following, covered, records, lines, total, count = numbers
    if (magic, version, built_by) != (_MAGIC, _VERSION, by):
        return None
    if FileIdentity(device, inode, size, mtime) != entry.identity or len(body) != _HEAD.size + 24 * count:
        return None
    columns = np.frombuffer(body, "<i8", offset=_HEAD.size).astype(np.int64).reshape(3, count)
    chained = Chained(following, covered, records, lines)
    index = RecordIndex(columns[0], columns[1], columns[2], total, chained, bool(complete))
    return index if index.plausible(size) else None


def _write(path: str, data: bytes, source: str) -> None:
    """Put a sidecar in place; readable by whoever can read the file.

    Raises:
        OSError: It can't be written; nothing is left then.
    """
    folder = os.path.dirname(path)
    if not os.path.basename(path).startswith("."):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    # One name, so that a writer that was killed leaves one part, which the next one takes over.
    part = f"{path}.part"
    mode = os.stat(source).st_mode & 0o444 | 0o200
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(fd, "wb") as file:
        try:
            system.lock(fd, shared=False, wait=False)
        except BlockingIOError:
            return  # somebody else is writing it
        if not os.path.exists(part) or os.stat(part).st_ino != os.fstat(fd).st_ino:
            return  # somebody else just put it in place
        try:
            os.ftruncate(fd, 0)
            file.write(data)
            file.flush()
            os.fsync(fd)
            os.replace(part, path)
        except BaseException:  # a full disk, Ctrl-C: no litter
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
    fsync_folder(Path(folder))
