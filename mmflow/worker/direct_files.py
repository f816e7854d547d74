"""Parquet files that DataFusion reads by itself, as tables of a fragment.

Invariant: rows count only if the files were the same before and after, and are those that were planned with.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
from datafusion import DataFrame, SessionConfig, SessionContext, col
from datafusion.plan import Metric
from datafusion.record_batch import RecordBatchStream

from mmflow.errors import MmflowError, SourceError
from mmflow.formats import ScanReport
from mmflow.mapping import MappedFile
from mmflow.plan.stages import FilesInput
from mmflow.remote.opening import open_file

__all__ = ["REASON", "DirectFiles"]

#: How the files are read, for people.
REASON = "Parquet is read by DataFusion itself: its footers show that pyarrow would give the same rows"

#: Settings without which DataFusion 55 leaves nothing out, neither by statistics, page indexes nor bloom filters.
_STATISTICS = (
    "datafusion.execution.collect_statistics",
    "datafusion.execution.parquet.pruning",
    "datafusion.execution.parquet.enable_page_index",
    "datafusion.execution.parquet.bloom_filter_on_read",
)
#: Seconds between checks whether the task was cancelled.
_PAUSE = 0.1
#: Metrics of DataFusion 55 by which a scan counts the bytes that it read.
_BYTES = "bytes_scanned"
_GROUPS = re.compile(r"(?P<total>\d+) total → (?P<kept>\d+) matched.*")
#: Errors of DataFusion 55 over a file, and not over the query.
_OF_FILES = re.compile(
    r"Parquet|Object Store|ParquetError|invalid utf-?8|Generic LocalFileSystem", re.IGNORECASE
)


class DirectFiles:
    """Files of the inputs of a fragment, open while it runs; a context manager.

    Args:
        inputs: Inputs that DataFusion reads.
        check: Called ten times a second while they are read; what it raises ends that at once.

    Raises:
        SourceError: A file can't be opened.
        SourceChangedError: A file is not the one that was planned with.
    """

    def __init__(self, inputs: Sequence[FilesInput], check: Callable[[], None]) -> None:
        self._inputs = inputs
        self._check = check
        self._open: list[MappedFile] = []
        self.threads = max(i.threads for i in inputs)
        self.report = ScanReport(records=sum(i.rows for i in inputs))

    def __enter__(self) -> Self:
        try:
            for entry in dict.fromkeys(e for i in self._inputs for e in i.files):
                self._open.append(open_file(entry.path, expected=entry.identity))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Idempotent."""
        while self._open:
            self._open.pop().close()

    def configured(self, config: SessionConfig) -> SessionConfig:
        """Return the settings of a context that reads the files."""
        if not all(i.statistics for i in self._inputs):
            for name in _STATISTICS:
                config = config.set(name, "false")
        return config

    def register(self, context: SessionContext, schemas: dict[str, pa.Schema]) -> None:
        """Register each input as a table, whose columns have the names and types of its schema."""
        for source in self._inputs:
            context.register_view(source.name, _table(context, source, schemas[source.name]))

    def check_unchanged(self) -> None:
        """Check that no file has changed since it was opened.

        Raises:
            SourceChangedError: One has; nothing that was read may be used.
        """
        for file in self._open:
            file.check_unchanged()

    def explained(self, error: BaseException) -> MmflowError | None:
        """Return the error of the files for one of DataFusion's; None: they are not to blame.

        Raises:
            SourceChangedError: A file has changed.
        """
        self.check_unchanged()
        panic = type(error).__name__ == "PanicException"
        text = str(error).removeprefix("DataFusion error: ").strip()
        if not panic and not _OF_FILES.search(text):
            return None
        paths = ", ".join(dict.fromkeys(file.path for file in self._open))
        return SourceError(
            f"can't read {paths}: {text.splitlines()[0] if text else 'DataFusion gave up'}; if the file is damaged, "
            "restore it or write it again",
            path=self._open[0].path,
        )

    def batches(self, frame: DataFrame) -> Iterator[pa.RecordBatch]:
        """Run a frame, and yield its batches. All of DataFusion's work ends with the iteration.

        An aggregate works long before it has a batch, so that the task must be able to end in between.
        """
        stream = frame.execute_stream()
        with asyncio.Runner() as runner:
            while (batch := runner.run(self._next(stream))) is not None:
                yield batch
        for _, metrics in frame.execution_plan().collect_metrics():
            self.report.bytes_read += metrics.sum_by_name(_BYTES) or 0
            self.report.pruned += sum(map(_left_out, metrics.metrics()))

    async def _next(self, stream: RecordBatchStream) -> pa.RecordBatch | None:
        waiting = asyncio.ensure_future(_taken(stream))
        try:
            while not (await asyncio.wait({waiting}, timeout=_PAUSE))[0]:
                self._check()
            return await waiting
        finally:
            waiting.cancel()


def _left_out(metric: Metric) -> int:
    """Return the row groups that were left out by statistics, if a metric says it: only its text does."""
    found = _GROUPS.fullmatch(repr(metric)) if metric.name == "row_groups_pruned_statistics" else None
    return 0 if found is None else int(found["total"]) - int(found["kept"])


async def _taken(stream: RecordBatchStream) -> pa.RecordBatch | None:
    try:
        return (await stream.__anext__()).to_pyarrow()
    except StopAsyncIteration:
        return None


def _table(context: SessionContext, source: FilesInput, schema: pa.Schema) -> DataFrame:
    types = pa.schema([pa.field(c, f.type) for c, f in zip(source.columns, schema, strict=True)])
    frames = []
    for number, entry in enumerate(source.files):
        name = f"{source.name}_file_{number}"
        path = Path(entry.path)
        context.register_parquet(
            name,
            path.absolute(),
            parquet_pruning=source.statistics,
            file_extension=path.suffix,
            schema=types,
        )
        frames.append(context.table(name))
    whole = reduce(lambda one, other: one.union(other), frames)
    quoted = ('"' + c.replace('"', '""') + '"' for c in source.columns)
    return whole.select(*(col(c).alias(f.name) for c, f in zip(quoted, schema, strict=True)))
