"""Streams that this process reads: inputs without a size, whose bytes come once and in order, by path.

`remote.opening` finds them here, since plans and tasks know inputs by path. `mmflow.streams` opens them.

The contents of a compressed file may be a stream of one run, too. Its path is that of the file, which other runs may
read at the same time, so tasks find it by its identity.

Invariant: a path stands for one stream at most, also after that has ended: its rows are never those of another.
"""

from __future__ import annotations

import os
import stat
import weakref
from typing import Protocol

from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping.file import MappedFile
from mmflow.mapping.identity import FileIdentity
from mmflow.storage.url import is_url

__all__ = [
    "STREAM_TAG",
    "OpenStream",
    "descriptor_of",
    "is_stream_path",
    "keep_stream",
    "keep_tagged",
    "reads_streams",
    "stream_at",
    "tagged_stream",
]

#: Beginning of the tag in the identity of a stream.
STREAM_TAG = "stream "
_DESCRIPTOR = lazy_regex(r"/(?:dev|proc/self)/fd/(\d+)")
_NAMES = {"-": 0, "/dev/stdin": 0}


class OpenStream(Protocol):
    """Stream as those who open files by path need it. Its identity has the size 0: nobody knows it yet."""

    @property
    def identity(self) -> FileIdentity: ...

    def open(self) -> MappedFile:
        """Return the stream as a file, whose windows wait until their bytes have come.

        Raises:
            SourceError: It was read before.
        """
        ...


_streams: dict[str, OpenStream] = {}
_tagged: weakref.WeakValueDictionary[str, OpenStream] = weakref.WeakValueDictionary()


def keep_stream(path: str, stream: OpenStream) -> None:
    """Let a path stand for a stream, in this process and for good."""
    _streams[path] = stream


def keep_tagged(stream: OpenStream) -> None:
    """Let the identity of a stream stand for it, while something else refers to it, too."""
    _tagged[stream.identity.tag] = stream


def tagged_stream(identity: FileIdentity | None) -> OpenStream | None:
    """Return the stream that an identity stands for, which has the path of a file; None: it is that of a file."""
    return None if identity is None or not identity.tag else _tagged.get(identity.tag)


def stream_at(path: str) -> OpenStream | None:
    """Return the stream that a path stands for; None: it is a path of the file system, or a URL."""
    return _streams.get(path)


def reads_streams() -> bool:
    """Return whether this process has opened a stream."""
    return bool(_streams)


def descriptor_of(path: str) -> int | None:
    """Return the number of the descriptor that a path stands for; None: it stands for none.

    >>> descriptor_of("-"), descriptor_of("/dev/fd/63"), descriptor_of("a.csv")
    (0, 63, None)
    """
    if not path.startswith(("-", "/dev/", "/proc/")):
        return None
    found = _DESCRIPTOR.fullmatch(path)
    return _NAMES.get(path) if found is None else int(found[1])


def is_stream_path(path: str) -> bool:
    """Return whether a path stands for a descriptor or a named pipe."""
    if is_url(path):
        return False
    if descriptor_of(path) is not None:
        return True
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):  # who opens it says why
        return False
