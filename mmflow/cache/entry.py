"""One entry of the cache: its key, its bytes, and their checks.

    | magic, version, lengths, sums | facts, JSON |  ..  | body ... | sum of each block of the body |
    0                                              n * 4096

Invariants: the facts are those of the key, so that an entry under a wrong name is noticed. The head has a sum of its
own, and of all sums. Nothing is synced: what a power cut leaves of an entry has a wrong sum, and is dropped. A block of
the body is compared with its sum when a process looks at it for the first time. The mapping holds a shared lock on the
file, which keeps it from being evicted; it ends with the last view of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mmflow.cache.place import is_own_file
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity
from mmflow.mapping.system import system
from mmflow.storage import disk
from mmflow.storage.facts import parse_object
from mmflow.storage.format_versions import CACHE_ENTRY

__all__ = [
    "BLOCK",
    "KINDS",
    "CacheEntry",
    "DamagedEntryError",
    "EntryKey",
    "Kind",
    "encode_head",
    "open_entry",
]

Kind = Literal["pages", "rows", "checkpoints", "columns"]
#: Kinds of entries: pages of remote files, row indexes, checkpoints of decompression, decoded columns.
KINDS: tuple[Kind, ...] = ("pages", "rows", "checkpoints", "columns")
#: Bytes of the body that have a sum of their own.
BLOCK = 256 << 10
_ALIGN = 4096
_MAGIC = b"mmfcache"
#: Magic, version, bytes of the facts, bytes of the body, sum of the sums; then the sum of all that and of the facts.
_HEAD = struct.Struct("<8sIIQI")
_SUM = struct.Struct("<I")
_MAX_FACTS = 1 << 20
_SHAPE = {"kind": str, "source": str, "identity": [lambda value: isinstance(value, int | str)], "facts": dict}


class DamagedEntryError(ValueError):
    """An entry has other bytes than were written. It is dropped, and its file is read instead."""


@dataclass(frozen=True, slots=True)
class EntryKey:
    """Key of an entry: all that decides its content.

    Attributes:
        kind: Kind of entry.
        source: Path or URL of the file that it was made of.
        identity: Identity of that file.
        facts: What else decides the content, as values of JSON: options of the format, schema, columns, shard, version
            of the decoder. People read them (`mmflow cache show`).
    """

    kind: Kind
    source: str
    identity: FileIdentity
    facts: Mapping[str, Any]

    @property
    def text(self) -> bytes:
        """The key as canonical JSON."""
        found = self.identity
        identity = [found.device, found.inode, found.size, found.mtime_ns, found.tag]
        facts = {"kind": self.kind, "source": self.source, "identity": identity, "facts": self.facts}
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()

    @property
    def name(self) -> str:
        """Name of the entry's file."""
        return hashlib.blake2b(self.text, digest_size=16).hexdigest()

    @classmethod
    def parse(cls, text: bytes) -> EntryKey:
        """Return the key that an entry states.

        Raises:
            ValueError: It is none.
        """
        found = parse_object(text, _SHAPE)
        if found["kind"] not in KINDS or len(found["identity"]) != 5:
            raise ValueError("it is no key of an entry")
        return cls(found["kind"], found["source"], FileIdentity(*found["identity"]), found["facts"])


def body_offset(facts: int) -> int:
    """Return where the body begins, behind so many bytes of facts."""
    return -(-(_HEAD.size + _SUM.size + facts) // _ALIGN) * _ALIGN


def encode_head(text: bytes, length: int, sums: bytes) -> bytes:
    """Return the head of an entry, without the padding before its body."""
    head = _HEAD.pack(_MAGIC, CACHE_ENTRY.version, len(text), length, zlib.crc32(sums))
    return head + _SUM.pack(zlib.crc32(text, zlib.crc32(head))) + text


class CacheEntry:
    """Mapped entry, which nobody evicts as long as it or a view of it lives.

    Attributes:
        key: Its key.
        size: Bytes of its body.
        path: Its file, whose body begins at `begin`. Only for a check: its name may be another entry's soon.
    """

    __slots__ = ("__weakref__", "_lock", "_memory", "_right", "_sums", "begin", "key", "path", "size")

    def __init__(self, path: str, key: EntryKey, memory: mmap.mmap, begin: int, size: int) -> None:
        self.path = path
        self.key = key
        self.begin = begin
        self.size = size
        self._memory = memory
        blocks = -(-size // BLOCK)
        self._sums = np.frombuffer(memory, "<u4", blocks, begin + size)
        self._right = bytearray(blocks)
        self._lock = threading.Lock()

    def view(self, offset: int = 0, length: int | None = None) -> memoryview:
        """Return bytes of the body, read-only and not copied; the file stays pinned until the view is released.

        Raises:
            DamagedEntryError: They are not those that were written. The entry has been dropped.
        """
        end = self.size if length is None else offset + length
        if not 0 <= offset <= end <= self.size:
            raise DamagedEntryError(f"{self.path} has {self.size} bytes, and not those up to {end}")
        self._check(offset // BLOCK, -(-end // BLOCK))
        return memoryview(self._memory)[self.begin + offset : self.begin + end]

    def _check(self, first: int, last: int) -> None:
        for block in range(first, last):
            if self._right[block]:
                continue
            begin = self.begin + block * BLOCK
            end = min(begin + BLOCK, self.begin + self.size)
            with memoryview(self._memory) as memory:
                found = zlib.crc32(memory[begin:end])
            if found != self._sums[block]:
                self.drop()
                raise DamagedEntryError(f"{self.path} is damaged in its block {block}")
            self._right[block] = 1

    def drop(self) -> None:
        """Remove the entry's file; views stay as they are. Never fails."""
        with contextlib.suppress(OSError):
            disk.unlink(self.path)


def open_entry(path: str, key: EntryKey | None = None) -> CacheEntry | None:
    """Open an entry and pin it.

    Args:
        path: Its file.
        key: The key that it must have; None: any, of which its name follows.

    Returns:
        None: there is none, or it is being evicted.

    Raises:
        DamagedEntryError: It is not as it was written, or of another version, or somebody else's.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | system.open_flags
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        system.lock(fd, shared=True, wait=False)
        found = os.fstat(fd)
        if not found.st_nlink:
            return None
        entry = _parse(path, key, fd, found)
        with contextlib.suppress(OSError):  # the file system is read-only
            os.utime(fd, ns=(time.time_ns(), time.time_ns()))
        return entry
    except OSError:  # it is being evicted; the disk fails
        return None
    finally:
        os.close(fd)  # the mapping has a descriptor of its own, which shares the lock


def _parse(path: str, key: EntryKey | None, fd: int, found: os.stat_result) -> CacheEntry:
    if not is_own_file(found):
        raise DamagedEntryError(f"{path} belongs to another user, or others can write to it")
    head = os.pread(fd, _ALIGN, 0)
    if len(head) < _ALIGN:
        raise DamagedEntryError(f"{path} is too short")
    magic, version, facts, size, sums = _HEAD.unpack_from(head)
    if (magic, version) != (_MAGIC, CACHE_ENTRY.version) or facts > _MAX_FACTS:
        raise DamagedEntryError(f"{path} is no entry of this version")
    begin, at = body_offset(facts), _HEAD.size + _SUM.size
    if found.st_size != begin + size + _SUM.size * -(-size // BLOCK):
        raise DamagedEntryError(f"{path} has another length than its head says")
    memory = mmap.mmap(fd, found.st_size, prot=mmap.PROT_READ)
    text = memory[at : at + facts]
    if zlib.crc32(text, zlib.crc32(head[: _HEAD.size])) != _SUM.unpack_from(head, _HEAD.size)[0]:
        raise DamagedEntryError(f"the head of {path} is damaged")
    if zlib.crc32(memory[begin + size :]) != sums:
        raise DamagedEntryError(f"the sums of {path} are damaged")
    if key is None:
        try:
            key = EntryKey.parse(text)
        except ValueError as error:
            raise DamagedEntryError(f"{path}: {error}") from error
    if key.text != text or key.name != os.path.basename(path):
        raise DamagedEntryError(f"{path} is another entry than its name says")
    return CacheEntry(path, key, memory, begin, size)
