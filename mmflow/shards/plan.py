"""Planning of shards, lazily and without reading a byte of the files.

    file     |.data......|....hole......|..data...........|
    extents  [0,         e1)            [b2,              size)
    shards   [0,  s)[s, e1)             [b2, +s)[+s, size)      s = shard size
             fresh                      fresh

Invariant: the shards of a file are in order, don't overlap, begin at page boundaries (those of a compressed file's
contents: at sections), and leave out nothing but holes. Costs O(shards) time (plus the holes) and O(1) memory.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mmflow.errors import SourceError
from mmflow.mapping import FileIdentity
from mmflow.mapping.access_policy import PSEUDO_FILE_SYSTEMS
from mmflow.mapping.streams import stream_at
from mmflow.mapping.system import system
from mmflow.remote.opening import read_identities
from mmflow.shards.model import FileEntry, Shard
from mmflow.storage.os_errors import read_error
from mmflow.storage.url import is_url, may_be_member

__all__ = ["cut_remainder", "default_shard_size", "group_shards", "identify_files", "plan_shards"]

#: Shards of a worker, so that all are busy to the end: fewer where they would be small, since each costs a task.
_SHARDS_PER_WORKER, _FEW_SHARDS = 4, 2
_SMALL_SHARD = 64 << 20
#: Two windows (`formats.ScanRequest`), less the records that reach from one into the next.
_LARGEST_SHARD = 126 << 20
#: Holes shorter than this are read over: as zeros from memory they cost less than a shard of their own.
_SHORT_HOLE = 1 << 20


def identify_files(paths: Iterable[str], storage: str = "") -> tuple[FileEntry, ...]:
    """Return the files with their identities, as they are now.

    Args:
        paths: Files and URLs.
        storage: Options of the file system of URLs (`remote.storage_text`).

    Raises:
        SourceError: A file is missing, or reports no size (/proc and the like).
    """
    listed = list(paths)
    found = read_identities(listed, storage)
    for path, identity in zip(listed, found, strict=True):
        if identity.size == 0 and not (is_url(path) or may_be_member(path)) and stream_at(path) is None:
            _refuse_sizeless(path)
    return tuple(FileEntry(p, i, storage) for p, i in zip(listed, found, strict=True))


def _refuse_sizeless(path: str) -> None:
    """Refuse files of /proc: they look empty and are not, so reading nothing of them would be a wrong answer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise read_error(path, error) from error
    try:
        name = system.file_system_name(fd)
    finally:
        os.close(fd)
    if name in PSEUDO_FILE_SYSTEMS:
        raise SourceError(
            f"can't read {path}: files of {name} don't have a size; copy it to a disk, and read that",
            path=path,
        )


def default_shard_size(nbytes: int, workers: int) -> int:
    """Return the bytes of a shard where the user set no size.

    There are enough shards to keep all workers busy to the end. None is so small that starting its task takes much of
    the time, or so large that a lost task costs much.

    Args:
        nbytes: Size of all files together, in bytes.
        workers: Tasks that run at once.

    >>> [default_shard_size(n << 20, 2) >> 20 for n in (10, 160, 400, 1600, 1 << 20)]
    [16, 40, 66, 126, 126]
    """
    count = min(max(nbytes // (workers * _SMALL_SHARD), _FEW_SHARDS), _SHARDS_PER_WORKER)
    return min(max(-(-nbytes // (count * workers)), 16 << 20), _LARGEST_SHARD)


def plan_shards(
    entry: FileEntry,
    number: int,
    *,
    shard_size: int,
    splittable: bool,
    skips_holes: bool,
    page_size: int = system.granularity,
) -> Iterator[Shard]:
    """Yield the shards of one file, in order; none for an empty file.

    Args:
        entry: File.
        number: Its number in the source: `Shard.file`.
        shard_size: Bytes per shard, rounded up to whole pages; at least one page.
        splittable: Whether the file may be cut; False: it is one shard.
        skips_holes: Whether to leave out what the file system knows to be a hole.
        page_size: Bytes of which each shard's begin is a multiple.

    Raises:
        SourceError: The file can't be opened (only with `skips_holes`).
        SourceChangedError: The file is not the one that `entry` describes (only with `skips_holes`).
    """
    size = entry.identity.size
    if size == 0:
        return
    if not splittable:
        yield Shard(number, 0, size, fresh=True)
        return
    step = max(1, -(-shard_size // page_size)) * page_size
    if entry.identity.is_contents:
        yield from _shards_of_sections(entry, number, step)
        return
    extents = (
        _data_extents(entry, page_size, max(page_size, min(step, _SHORT_HOLE)))
        if skips_holes and not (is_url(entry.path) or may_be_member(entry.path))
        else [(0, size)]
    )
    for extent_begin, extent_end in extents:
        for begin in range(extent_begin, extent_end, step):
            yield Shard(number, begin, min(begin + step, extent_end), fresh=begin == extent_begin)


def _shards_of_sections(entry: FileEntry, number: int, step: int) -> Iterator[Shard]:
    """Yield shards of the contents of a compressed file, which begin where sections do: no other one is read twice."""
    from mmflow.mapping.sections import sections_of  # noqa: PLC0415  (most files are plain)

    found = sections_of(entry.path, entry.identity.file)
    size, begin = entry.identity.size, 0
    while begin < size:
        end = size
        if found is not None and begin + step < size:
            end = int(found.texts[found.at(begin + step - 1) + 1])
        yield Shard(number, begin, end, fresh=begin == 0)
        begin = end


def cut_remainder(
    shard: Shard, begin: int, parts: int, *, least: int, page_size: int = system.granularity
) -> tuple[Shard, ...]:
    """Cut the remainder of a shard, from its first unread record on, into shards of about the same size.

    The start of the first one is known.

    Args:
        shard: Shard.
        begin: Offset of the first unread record, in bytes.
        parts: Largest number of new shards.
        least: Smallest size of each in bytes, unless there is only one.
        page_size: Bytes of which the cuts are multiples; `least` if that is smaller.

    >>> [(s.begin, s.end) for s in cut_remainder(Shard(0, 0, 90), 13, 3, least=10, page_size=8)]
    [(13, 48), (48, 80), (80, 90)]
    >>> [(s.begin, s.end) for s in cut_remainder(Shard(0, 0, 90), 13, 9, least=30, page_size=8)]
    [(13, 48), (48, 90)]
    """
    align = min(page_size, least)
    step = -(-max(least, -(-(shard.end - begin) // parts)) // align) * align
    first = -(-begin // align) * align + step
    ends = [*range(first, shard.end - least + 1, step), shard.end]
    cut = [Shard(shard.file, b, e) for b, e in itertools.pairwise((begin, *ends))]
    return (replace(cut[0], known_start=begin), *cut[1:])


def _data_extents(entry: FileEntry, page_size: int, short: int) -> Iterator[tuple[int, int]]:
    """Yield the page-aligned parts of a file that hold data; parts less than `short` bytes apart are joined."""
    try:
        fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        entry.identity.check(entry.path)
        raise read_error(entry.path, error) from error
    except OSError as error:
        raise read_error(entry.path, error) from error
    try:
        entry.identity.check_same(FileIdentity.of(fd), entry.path)
        size = entry.identity.size
        current: tuple[int, int] | None = None
        for data_begin, data_end in _seek_data(fd, size):
            begin = data_begin - data_begin % page_size
            end = min(-(-data_end // page_size) * page_size, size)
            if current is None:
                current = begin, end
            elif begin - current[1] < short:
                current = current[0], end
            else:
                yield current
                current = begin, end
        if current is not None:
            yield current
    finally:
        os.close(fd)


def _seek_data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            yield position, size  # a file system that doesn't know holes: all is data
            return
        if begin >= size:
            return
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        yield begin, end
        position = end


def group_shards(
    shards: Iterable[Shard], files: Sequence[FileEntry], *, target_bytes: int, max_shards: int
) -> Iterator[tuple[Shard, ...]]:
    """Group shards into tasks: small whole files together, all else alone.

    Neighbouring files of one shard each share a group up to `target_bytes` and `max_shards`. A shard of a file that
    has several is alone, so that a wrong guess of its start costs one shard. The order stays. Reads one shard ahead;
    O(group) memory.

    >>> f = [FileEntry("a", FileIdentity(0, 1, 10, 0)), FileEntry("b", FileIdentity(0, 2, 10, 0))]
    >>> two = [Shard(0, 0, 10, True), Shard(1, 0, 10, True)]
    >>> [len(group) for group in group_shards(two, f, target_bytes=100, max_shards=8)]
    [2]
    """
    group: list[Shard] = []
    nbytes = 0
    previous = -1
    ahead = iter(shards)
    shard = next(ahead, None)
    while shard is not None:
        following = next(ahead, None)
        several = shard.file == previous or (following is not None and following.file == shard.file)
        length = files[shard.file].identity.size
        if several or (group and (nbytes + length > target_bytes or len(group) >= max_shards)):
            if group:
                yield tuple(group)
            group, nbytes = [], 0
        if several:
            yield (shard,)
        else:
            group.append(shard)
            nbytes += length
        previous = shard.file
        shard = following
    if group:
        yield tuple(group)
