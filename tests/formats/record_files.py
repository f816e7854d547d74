"""Reading a file through shards as a run does, with the boundary check; and generated files."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

from mmflow.formats import Format, ScanReport, ScanRequest
from mmflow.mapping import MappedFile
from mmflow.shards import BoundaryCheck, Shard, Valid, identify_files, plan_shards

Io = Literal["mmap", "pread"]


def read(
    path: Path,
    form: Format,
    columns: tuple[str, ...],
    *,
    shard_size: int = 1 << 30,
    window: int = 64 << 20,
    io: Io = "mmap",
    stop_after: int = 0,
) -> tuple[list[dict[str, Any]], list[ScanReport]]:
    """Rows and reports of a file, shard by shard; wrong guesses are run again.

    With `stop_after`, a scan ends after so many batches, and another one reads the rest of its shard.

    Raises:
        BadRecordError: The first bad record, under the policy `error`.
    """
    (entry,) = identify_files([str(path)])
    check = BoundaryCheck(str(path))
    rows: list[dict[str, Any]] = []
    reports: list[ScanReport] = []
    shards = plan_shards(
        entry, 0, shard_size=shard_size, splittable=form.splittable, skips_holes=form.skips_holes
    )
    left = deque(shards)
    while left:
        shard = replace(left.popleft(), lines_before=check.lines_before)
        while True:
            request = ScanRequest(columns, window_bytes=window)
            found: list[dict[str, Any]] = []
            with MappedFile.open(str(path), io=io, expected=entry.identity) as file:
                scan = form.scan(file, shard, request)
                for number, batch in enumerate(scan, 1):
                    found += batch.to_pylist() or [{}] * batch.num_rows
                    rest = scan.report.next
                    if number == stop_after and scan.report.error is None and rest < shard.end:
                        left.appendleft(Shard(shard.file, rest, shard.end, known_start=rest))
                        shard = replace(shard, end=rest)
                        break
            result = check.verify(shard, scan.report)
            if isinstance(result, Valid):
                break
            shard = check.known(shard)
        if scan.report.error is not None:
            raise scan.report.error.located(
                records_before=result.records_before, lines_before=result.lines_before
            )
        rows += found
        reports.append(scan.report)
    if form.splittable:
        check.finish(entry.identity.size)
    return rows, reports


#: How a file may be read: shard size (from one page), window size, mmap or pread.
ways = st.tuples(
    st.sampled_from([4096, 8192, 12288, 1 << 20]),
    st.sampled_from([1, 77, 4096, 5000, 1 << 20]),
    st.sampled_from(["mmap", "pread"]),
)
