"""Building record indexes: shards are scanned without columns, and the chain check proves where records begin.

The first shard piece by piece, and only as far as the wanted row: `ds[5]` costs a piece. Then shards in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mmflow.access.index import SPACING, Marks, RecordIndex
from mmflow.access.threads import in_order
from mmflow.formats import ScanReport, ScanRequest
from mmflow.formats.decoder import ScannedFormat
from mmflow.mapping import Io, MappedFile
from mmflow.remote.opening import open_file
from mmflow.remote.reach import Reach
from mmflow.shards import Chained, FileChain, FileEntry, Shard, WrongStart, plan_shards

__all__ = ["Building", "extended"]

_SHARD_BYTES = 4 << 20
_FIRST_WINDOW = 1 << 20
_NEWLINE = 10
_LOCAL = Reach()


@dataclass(frozen=True, slots=True)
class Building:
    """How an index is built.

    Attributes:
        io: As `MappedFile.open` takes it.
        workers: Threads.
        shard_size: In bytes; None: some MiB.
        reach: How remote files are reached.
    """

    io: Io = "auto"
    workers: int = 1
    shard_size: int | None = None
    reach: Reach = _LOCAL


@dataclass(frozen=True, slots=True)
class _Scanned:
    shard: Shard
    start: int | None
    report: ScanReport
    marks: Marks


def extended(
    index: RecordIndex, entry: FileEntry, form: ScannedFormat, upto: int, how: Building
) -> RecordIndex:
    """The index with at least `upto` rows, or complete.

    Args:
        index: Of this file, as far as it goes.
        entry: The file.
        form: Its format, with which `index` was built too.
        upto: Rows.
        how: The rest.

    Raises:
        BadRecordError: A record is bad, and the format's policy is `error`.
        SourceError: The file can't be read.
        SourceChangedError: It is not the file that `entry` was made of.
    """
    chain = FileChain(entry.path, chained=index.chained)
    found: list[tuple[Marks, Chained]] = []
    total = index.total
    shards = _left(entry, form, index.chained.covered, how)

    def scan(shard: Shard, start: int | None, enough: int | None = None) -> _Scanned:
        return _scanned(entry, form, how, shard, start, enough)

    def accept(scanned: _Scanned) -> None:
        nonlocal total
        before = chain.chained
        verdict = chain.judge(scanned.shard, scanned.report, scanned.start)
        if isinstance(verdict, WrongStart):
            scanned = scan(scanned.shard, verdict.start)
            verdict = chain.judge(scanned.shard, scanned.report, verdict.start)
        if scanned.report.error is not None:
            raise scanned.report.error.located(
                records_before=verdict.records_before, lines_before=verdict.lines_before
            )
        found.append((scanned.marks, before))
        total += scanned.marks.total

    first = next(shards, None)
    if first is not None:
        due = chain.due(first)
        accept(scan(first, None if first.fresh and due == first.begin else due, upto - total))
    if first is not None and total < upto:
        jobs: Iterator[Callable[[], _Scanned]] = (partial(scan, shard, None) for shard in shards)
        with closing(in_order(jobs, how.workers)) as results:
            for scanned in results:
                accept(scanned)
                if total >= upto:
                    break
    complete = total < upto or chain.next == entry.identity.size
    if complete:
        chain.finish(entry.identity.size)
    return index.grown(found, chain.chained, complete=complete)


def _left(entry: FileEntry, form: ScannedFormat, covered: int, how: Building) -> Iterator[Shard]:
    """The shards behind what is covered."""
    size = how.shard_size or _SHARD_BYTES
    for shard in plan_shards(
        entry, 0, shard_size=size, splittable=form.splittable, skips_holes=form.skips_holes
    ):
        if shard.begin >= covered:
            yield shard
        elif shard.end > covered:
            yield Shard(0, covered, shard.end)


def _scanned(
    entry: FileEntry, form: ScannedFormat, how: Building, shard: Shard, start: int | None, enough: int | None
) -> _Scanned:
    """Scan a shard; with `enough`, as far as so many rows, and then the shard ends there."""
    starts: list[int] = []
    rows: list[int] = []
    lines: list[int] = []
    total = 0
    request = ScanRequest((), start=start, window_bytes=_SHARD_BYTES, piece_bytes=2 * SPACING)
    if enough is not None:
        request = replace(request, window_bytes=_FIRST_WINDOW)
    reach = replace(how.reach, storage=entry.storage)
    with open_file(entry.path, io=how.io, expected=entry.identity, reach=reach) as file:
        scan = form.scan(file, shard, request)
        for batch in scan:
            report = scan.report
            if not starts:
                starts.append(report.first)
                rows.append(0)
                lines.append(_header_lines(file, report.first) if start is None and shard.begin == 0 else 0)
            total += batch.num_rows
            if report.error is None and report.next < shard.end:
                if enough is not None and total >= enough:
                    shard = replace(shard, end=report.next)
                    break
                if report.next - starts[-1] >= SPACING:
                    starts.append(report.next)
                    rows.append(total)
                    lines.append(report.lines)
        file.check_unchanged()
    report = scan.report
    if len(starts) > 1 and starts[-1] == report.next:
        for marks in (starts, rows, lines):
            marks.pop()
    return _Scanned(shard, start, report, Marks(starts, rows, lines, total))


def _header_lines(file: MappedFile, first: int) -> int:
    text = np.frombuffer(file.window(0, first).buffer, np.uint8)
    return int(np.count_nonzero(text == _NEWLINE))
