"""Reading a file through shards as a run does, with the chain check; and generated files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

from mmflow.formats import Format, ScanReport, ScanRequest
from mmflow.mapping import MappedFile
from mmflow.shards import FileChain, Right, entries, plan_shards

Io = Literal["mmap", "pread"]


def read(
    path: Path,
    form: Format,
    columns: tuple[str, ...],
    *,
    shard_size: int = 1 << 30,
    window: int = 64 << 20,
    io: Io = "mmap",
) -> tuple[list[dict[str, Any]], list[ScanReport]]:
    """Rows and reports of a file, shard by shard; wrong guesses are run again.

    Raises:
        BadRecordError: The first bad record, under the policy `error`.
    """
    (entry,) = entries([str(path)])
    chain = FileChain(str(path))
    rows: list[dict[str, Any]] = []
    reports: list[ScanReport] = []
    shards = plan_shards(
        entry, 0, shard_size=shard_size, splittable=form.splittable, skips_holes=form.skips_holes
    )
    for shard in shards:
        start: int | None = None
        while True:
            request = ScanRequest(columns, start=start, lines_before=chain.lines_before, window_bytes=window)
            with MappedFile.open(str(path), io=io, expected=entry.identity) as file:
                scan = form.scan(file, shard, request)
                found = [row for batch in scan for row in (batch.to_pylist() or [{}] * batch.num_rows)]
            verdict = chain.judge(shard, scan.report, start)
            if isinstance(verdict, Right):
                break
            start = verdict.start
        if scan.report.error is not None:
            raise scan.report.error.located(
                records_before=verdict.records_before, lines_before=verdict.lines_before
            )
        rows += found
        reports.append(scan.report)
    if form.splittable:
        chain.finish(entry.identity.size)
    return rows, reports


#: How a file may be read: shard size (from one page), window size, mmap or pread.
ways = st.tuples(
    st.sampled_from([4096, 8192, 12288, 1 << 20]),
    st.sampled_from([1, 77, 4096, 5000, 1 << 20]),
    st.sampled_from(["mmap", "pread"]),
)
