"""The job of faulted runs: files of any format, a query, functions that take a while, and processes that fork."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

import mmflow as mf

_TYPES = {"id": "int64", "k": "int64", "v": "int64", "s": "string"}
#: As `faulted_data` writes them.
_LAYOUT = [{"name": n, "type": "int64", "offset": 8 * i} for i, n in enumerate(["id", "k", "v"])]
_LAYOUT.append({"name": "s", "type": "char[16]", "offset": 24})
_NUMBERS = (f"CAST(split_part(line, ',', {n}) AS BIGINT) AS {c}" for n, c in enumerate(("id", "k", "v"), 1))
_SPLIT = f"SELECT {', '.join(_NUMBERS)}, split_part(line, ',', 4) AS s FROM lines"
_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("csv", {"schema": _TYPES}),
    "ndjson": ("ndjson", {"schema": _TYPES}),
    "text": ("text", {}),
    "records": ("records", {"layout": _LAYOUT}),
    "arrow": ("arrow", {}),
    "parquet": ("parquet", {}),
}


def _slow(pause: float) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Return a function that gives each batch as it is, after a while."""

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.num_rows:
            time.sleep(pause)
        return batch

    return slow


@mf.job
def faulted(
    session: mf.Session,
    *,
    source: str,
    kind: str,
    sql: str,
    pause: float = 0.0,
    processes: bool = False,
    fork: str = "",
    storage: str = "",
) -> mf.Dataset:
    """Run a query over files.

    Args:
        source: Paths or URLs, with commas between.
        kind: Format of the files.
        sql: Query over the table a.
        pause: Seconds that each batch takes.
        processes: Let it take them in other processes.
        fork: Action of a forked child of this process: exit, query, unwind.
        storage: Options of the file system, as JSON.
    """
    form, options = _READERS[kind]
    rows = session.read(source.split(","), form, **options, storage_options=storage or None)
    if kind == "text":
        rows = session.sql(_SPLIT, lines=rows)
    if pause or processes:
        rows = rows.map_batches(_slow(pause), rows.schema, processes=processes, batch_rows=500)
    if fork == "unwind" and os.fork() == 0:
        sys.exit(0)  # through all that is open here
    if fork:
        threading.Thread(target=_fork, args=(fork, rows), daemon=True).start()
    return session.sql(sql, a=rows)


def _fork(what: str, rows: mf.Dataset) -> None:
    """Fork while the run goes."""
    time.sleep(0.5)
    if os.fork() == 0:
        with contextlib.suppress(mf.EngineError):
            if what == "query":
                rows.count()
        time.sleep(1.0)  # holds what it was born with
        os._exit(0)
