"""A scan of which some batches take long, and notes of who was given which rows. Functions travel by value."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

import mmflow as mf
from mmflow import functions as F  # noqa: N812  (as users write it)

__all__ = ["ROWS", "SETTINGS", "Crawl", "counted", "write_rows"]

ROWS = 160_000
#: Two shards of eight batches each: the windows of so little memory have a mebibyte.
SETTINGS = {"shard_size": "8MiB", "memory": "16MiB", "workers": 2, "partitions": 8}


def write_rows(path: Path) -> None:
    """Write rows of some hundred bytes each: `id`, `text`."""
    path.write_text("id,text\n" + "".join(f"{i},{'x' * 92}\n" for i in range(ROWS)))


def counted(
    session: mf.Session, path: Path, crawl: Crawl, gate: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> list[int]:
    """Return a count of each id: a slow scan, an exchange, and a gate in its readers."""
    read = session.read_csv(str(path))
    crawled = read.map_batches(crawl.function(), schema=read.schema)
    counts = crawled.group_by("id").agg(F.count().alias("n"))
    rows = counts.map_batches(gate, schema={"id": "int64", "n": "int64"}).sort("id").to_arrow()
    assert rows.column("id").to_pylist() == list(range(ROWS))
    found: list[int] = rows.column("n").unique().to_pylist()
    return found


class Crawl:
    """Function for `map_batches` that takes more and more seconds for each batch of the first shard, as long as one process has it to
    itself, and a note of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def function(self) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
        folder, half = str(self.folder), ROWS // 2

        def crawl(batch: pa.RecordBatch) -> pa.RecordBatch:
            first = batch.column("id")[0].as_py()
            if first < half - 4000:
                had = [p.name.split("-") for p in Path(folder).iterdir()]
                before = [process for at, _, process, _ in had if int(at) < half - 4000]
                if not set(before) - {str(os.getpid())}:
                    # What its like take differs with the load, and so does how long one of them may take.
                    time.sleep(0.6 if len(before) < 3 else 3.0)
            open(f"{folder}/{first}-{batch.num_rows}-{os.getpid()}-{time.monotonic_ns()}", "w").close()
            return batch

        return crawl

    def rows(self) -> int:
        """Rows that it was given, all calls together."""
        return sum(int(p.name.split("-")[1]) for p in self.folder.iterdir())

    def processes(self) -> set[str]:
        """Return the processes that received rows of the first shard."""
        notes = [p.name.split("-") for p in self.folder.iterdir()]
        return {process for first, _, process, _ in notes if int(first) < ROWS // 2 - 4000}
