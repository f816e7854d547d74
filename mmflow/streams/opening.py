"""Opening of streams by path: standard input, descriptors that a shell passes on, and named pipes.

    -  /dev/stdin  /dev/fd/0         standard input; a regular file (`< x.csv`) is read as the file that it is
    /dev/fd/63  /proc/self/fd/63     process substitution: `<(command)`
    /tmp/fifo                        a named pipe, which is opened again by each reader

Invariant: a descriptor is read here alone, and closed with the stream, so that a command that writes is told.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Mapping, Sequence

from mmflow.errors import ConfigError, SourceError
from mmflow.mapping.streams import descriptor_of, is_stream_path, keep_stream, stream_at
from mmflow.storage.os_errors import read_error
from mmflow.streams.polled_reader import PolledReader
from mmflow.streams.stream import Stream

__all__ = ["check_format", "open_streams", "stream_of"]

#: Formats that are read from the start on; others begin with what is at the end, or need the size.
_FORMATS = ("csv", "ndjson", "text", "fwf", "arrow_ipc")
_numbers = itertools.count(1)
#: Streams of descriptors, with device and inode of what these were.
_of_descriptors: dict[int, tuple[tuple[int, int], Stream, str]] = {}


def stream_of(path: str) -> Stream | None:
    """Return the stream that a path of a plan stands for; None: it is a file or a URL."""
    found = stream_at(path)
    return found if isinstance(found, Stream) else None


def open_streams(paths: Sequence[str]) -> tuple[str, ...]:
    """Open the streams among paths, and return the paths by which plans know them.

    Raises:
        SourceError: A stream can't be opened, or was read before.
        ConfigError: A stream is named together with other files.
    """
    if len(paths) == 1:
        return (_open(paths[0]),) if is_stream_path(paths[0]) else tuple(paths)
    stream = next((path for path in paths if descriptor_of(path) is not None), None)
    if stream is not None:
        raise ConfigError(
            f"{stream} is a stream, and is read alone, not in a list of {len(paths):,} files; read each by itself, and "
            "put them together with UNION ALL"
        )
    return tuple(paths)


def check_format(path: str, name: str, options: Mapping[str, object]) -> None:
    """Check that a path, if it stands for a stream, is read as a format that a stream can have.

    Raises:
        SourceError: It can't: the format is not read from its start to its end.
        ConfigError: An option needs the end.
    """
    if stream_at(path) is None:
        return
    if str(options.get("skip_footer", 0)) != "0":
        raise ConfigError(
            f"skip_footer: {path} is a stream, whose end nobody knows before it is there; cut the last lines off "
            "(`| head -n -1`), or save it to a file first"
        )
    if name not in _FORMATS:
        raise SourceError(
            f"can't read {path} as {name}: it is a stream, and {name} is not read from its start to its end; save it "
            f"to a file first (`cat > data.{name}`), and read that",
            path=path,
        )


def _open(path: str) -> str:
    number = descriptor_of(path)
    if number is None:
        try:
            # A pipe that nobody writes to yet would be waited for, and Ctrl-C would not end that.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise read_error(path, error) from error
        return _keep(path, Stream(path, next(_numbers), PolledReader(descriptor)))
    try:
        status = os.fstat(number)
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"can't read {path}: it is a directory; name its files instead", path=path)
        if stat.S_ISREG(status.st_mode) and os.lseek(number, 0, os.SEEK_CUR) == 0:
            return _file_of(number, status)
        what = status.st_dev, status.st_ino
        known = _of_descriptors.get(number)
        if known is not None and what == (_nothing() if known[1].is_closed else known[0]):
            known[1].open().close()  # says so where it was read before
            return known[2]
        descriptor = os.dup(number)
    except OSError as error:
        raise read_error(path, error) from error
    stream = Stream(path, next(_numbers), PolledReader(descriptor), lambda: _close(number))
    key = _keep(path, stream)
    _of_descriptors[number] = what, stream, key
    return key


def _file_of(number: int, status: os.stat_result) -> str:
    """Return the path of a regular file that is a descriptor: its name, where it still has it."""
    link = f"/proc/self/fd/{number}"
    named = os.readlink(link)
    try:
        found = os.stat(named)
    except OSError:  # it has no name any more, or its folder can't be looked at
        return link
    return named if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino) else link


def _nothing() -> tuple[int, int]:
    """Return device and inode of what takes the place of a descriptor that was read."""
    status = os.stat(os.devnull)
    return status.st_dev, status.st_ino


def _close(number: int) -> None:
    """Close a descriptor. Its number is taken, so that no file that is opened later gets it."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(nothing, number)
    finally:
        os.close(nothing)


def _keep(path: str, stream: Stream) -> str:
    """Let a path stand for a stream: its own, or one with a number where that stood for another one."""
    key = path
    for number in itertools.count(2):
        if stream_at(key) is None and (key == path or not os.path.lexists(key)):
            break
        key = f"{path} ({number})"
    keep_stream(key, stream)
    return key
