"""Messages between the kernel and a file system in a process (linux/fuse.h, version 7.31 and what 7.36 adds).

Python's bindings for libfuse don't serve here: mfusepy 3.1 drops the flags of a rename, so that an exchange of two names
would replace one of them, and a file that is open and has no name any more can't be looked at by path.
"""

from __future__ import annotations

import enum
import struct

__all__ = [
    "ATTRIBUTES", "BUFFER", "DIRECT_IO", "DIRENT", "ENTRY", "HEADER", "INIT_FLAGS", "INIT_FLAGS_2", "INIT_REPLY", "INVALIDATE_INODE",
    "READ_LOCK_OWNER", "REPLY", "SETATTR", "STATFS", "WRITE_BYTES", "WRITE_CACHE", "Op", "Valid",
]  # fmt: skip

WRITE_BYTES = 128 << 10
BUFFER = WRITE_BYTES + (64 << 10)


class Op(enum.IntEnum):
    """Requests; their names are those of rules."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46


class Valid(enum.IntFlag):
    """Attributes that SETATTR sets."""

    MODE = 1
    UID = 2
    GID = 4
    SIZE = 8
    MTIME = 32
    MTIME_NOW = 256


#: Length, request, unique number, inode, user, group, process, length of extensions.
HEADER = struct.Struct("<IIQQIIIHH")
#: Length, error, unique number.
REPLY = struct.Struct("<IiQ")
INIT_REPLY = struct.Struct("<IIIIHHIIHHII24x")
ATTRIBUTES = struct.Struct("<6Q10I")
#: Inode, generation, seconds that the name and the attributes may be cached, and nanoseconds.
ENTRY = struct.Struct("<4Q2I")
SETATTR = struct.Struct("<II6Q8I")
STATFS = struct.Struct("<5Q4I24x")
DIRENT = struct.Struct("<QQII")
INVALIDATE_INODE = struct.Struct("<Qqq")

#: Asynchronous reads; large writes; more flags.
INIT_FLAGS = 1 << 0 | 1 << 5 | 1 << 30
#: Mappings of files that are read past the page cache.
INIT_FLAGS_2 = 1 << 4
DIRECT_IO = 1
#: Flag of a read that a call asked for, past the page cache: it names who holds locks.
READ_LOCK_OWNER = 1 << 1
#: Flag of a write that comes from the page cache.
WRITE_CACHE = 1 << 0
