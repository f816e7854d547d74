"""Builder of record indexes: shards are scanned without columns, and the boundary check verifies record starts.

The first shard is scanned piece by piece, only up to the requested row: `ds[5]` costs one piece. The following shards
are scanned in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from mmflow.formats import ScanReport, ScanRequest
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.files import file_encoding
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import Io, MappedFile
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from mmflow.rows.index import SPACING, RecordIndex, ShardIntervals
from mmflow.rows.threads import run_in_order
from mmflow.shards import BoundaryCheck, FileEntry, Shard, StartMismatch, VerifiedPrefix, plan_shards

__all__ = ["IndexOptions", "extend_index"]

_SHARD_BYTES = 4 << 20
_FIRST_WINDOW = 1 << 20
_LOCAL = RemoteOptions()


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options for building an index.

    Attributes:
        io: Kind of I/O, as in `MappedFile.open`.
        workers: Number of threads.
        shard_size: Bytes of a shard; None: 4 MiB.
        remote_options: Options for remote files.
    """

    io: Io = "auto"
    workers: int = 1
    shard_size: int | None = None
    remote_options: RemoteOptions = _LOCAL


@dataclass(frozen=True, slots=True)
class _ScanResult:
    shard: Shard
    report: ScanReport
    intervals: ShardIntervals


def extend_index(
    index: RecordIndex, entry: FileEntry, form: ScannedFormat, upto: int, options: IndexOptions
) -> RecordIndex:
    """Return the index extended to at least `upto` rows, or to the end of the file.

    Args:
        index: Index of this file, perhaps of its beginning only.
        entry: The file.
        form: Its format, which `index` was built with.
        upto: Number of rows.
        options: Options for building an index.

    Raises:
        BadRecordError: A record is bad, and the format's policy is `error`.
        SourceError: The file can't be read.
        SourceChangedError: The file changed since `entry` was made.
    """
    check = BoundaryCheck(entry.path, verified=index.verified)
    found: list[tuple[ShardIntervals, VerifiedPrefix]] = []
    total = index.total
    shards = _remaining_shards(entry, form, index.verified.covered, options)

    def scan(shard: Shard, enough: int | None = None) -> _ScanResult:
        return _scan_shard(entry, form, options, shard, enough)

    def accept(scanned: _ScanResult) -> None:
        nonlocal total
        before = check.verified
        result = check.verify(scanned.shard, scanned.report)
        if isinstance(result, StartMismatch):
            scanned = scan(check.known(scanned.shard))
            result = check.verify(scanned.shard, scanned.report)
        if scanned.report.error is not None:
            raise scanned.report.error.located(
                records_before=result.records_before, lines_before=result.lines_before
            )
        found.append((scanned.intervals, before))
        total += scanned.intervals.total

    first = next(shards, None)
    if first is not None:
        accept(scan(check.known(first), upto - total))
    if first is not None and total < upto:
        jobs: Iterator[Callable[[], _ScanResult]] = (partial(scan, shard) for shard in shards)
        with closing(run_in_order(jobs, options.workers)) as results:
            for scanned in results:
                accept(scanned)
                if total >= upto:
                    break
    complete = total < upto or check.next == entry.identity.size
    if complete:
        check.finish(entry.identity.size)
    return index.extended_by(found, check.verified, complete=complete)


def _remaining_shards(
    entry: FileEntry, form: ScannedFormat, covered: int, options: IndexOptions
) -> Iterator[Shard]:
    """Yield the shards behind the covered part of the file."""
    size = options.shard_size or _SHARD_BYTES
    for shard in plan_shards(entry, 0, shard_size=size, splittable=True, skips_holes=form.skips_holes):
        if shard.begin >= covered:
            yield shard
        elif shard.end > covered:
            yield Shard(0, covered, shard.end)


def _scan_shard(
    entry: FileEntry,
    form: ScannedFormat,
    options: IndexOptions,
    shard: Shard,
    enough: int | None,
) -> _ScanResult:
    """Scan a shard; with `enough`, only until it has that many rows, where the shard then ends."""
    starts: list[int] = []
    rows: list[int] = []
    lines: list[int] = []
    total = 0
    request = ScanRequest((), window_bytes=_SHARD_BYTES, piece_bytes=2 * SPACING)
    if enough is not None:
        request = replace(request, window_bytes=_FIRST_WINDOW)
    remote_options = replace(options.remote_options, storage=entry.storage)
    with open_file(entry.path, io=options.io, expected=entry.identity, remote_options=remote_options) as file:
        scan = form.scan(file, shard, request)
        for batch in scan:
            report = scan.report
            if not starts:
                starts.append(report.first)
                rows.append(0)
                lines.append(
                    _header_lines(file, form, report.first)
                    if shard.known_start is None and shard.begin == 0
                    else 0
                )
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
        for intervals in (starts, rows, lines):
            intervals.pop()
    return _ScanResult(shard, report, ShardIntervals(starts, rows, lines, total))


def _header_lines(file: MappedFile, form: ScannedFormat, first: int) -> int:
    text = np.frombuffer(file.window(0, first).buffer, np.uint8)
    return len(file_encoding(file, form.encoding).encoding.line_ends(text))
