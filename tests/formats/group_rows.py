"""Reading files of group formats shard by shard, with the boundary check, in every way the tests want."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmflow.formats import Comparison, Format, ScanReport, ScanRequest
from mmflow.formats.schemas.schema import public_schema
from mmflow.mapping import Io, MappedFile
from mmflow.shards import BoundaryCheck, Shard, Valid

PAGE = 4096


def tiling(size: int, cuts: Sequence[int]) -> list[Shard]:
    """Shards of a file between page numbers `cuts`, as far as they lie inside."""
    inside = sorted({0, size, *(c * PAGE for c in cuts if 0 < c * PAGE < size)})
    return [Shard(0, b, e, fresh=b == 0) for b, e in itertools.pairwise(inside)]


def read(
    form: Format,
    path: Path | str,
    *,
    cuts: Sequence[int] = (),
    columns: Sequence[str] | None = None,
    prune: tuple[Comparison, ...] = (),
    io: Io = "auto",
    window: int = 64 << 20,
    batch_rows: int = 64 << 10,
) -> tuple[list[dict[str, Any]], list[ScanReport]]:
    """Rows of a file, and its shards' reports, which follow each other from group 0 on."""
    wanted = tuple(form.schema.names if columns is None else columns)
    expected = pa.schema([form.schema.field(name) for name in wanted])
    request = ScanRequest(wanted, prune=prune, window_bytes=window, batch_rows=batch_rows)
    check = BoundaryCheck(str(path), grouped=True)
    batches: list[pa.RecordBatch] = []
    reports = []
    with MappedFile.open(str(path), io=io) as file:
        for shard in tiling(file.size, cuts):
            scan = form.scan(file, shard, request)
            for batch in scan:
                assert batch.schema.equals(expected)
                assert 0 < batch.num_rows <= batch_rows
                batch.validate(full=True)
                batches.append(batch)
            assert isinstance(check.verify(shard, scan.report), Valid)
            reports.append(scan.report)
        file.check_unchanged()
    # Views outlive the file and its windows' makers.
    if not wanted:
        return [{}] * sum(b.num_rows for b in batches), reports
    public = public_schema(expected)
    rows = [row for b in batches for row in b.cast(public).to_pylist()]
    return rows, reports
