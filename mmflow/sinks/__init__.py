"""Record batches to files: Parquet, Arrow IPC, CSV, NDJSON, npy; committed all or nothing."""

from mmflow.sinks.base import (
    SUFFIXES,
    CommitResult,
    IfExists,
    Sink,
    SinkAttempt,
    SinkSpec,
    SortedColumn,
    StagedFile,
)
from mmflow.sinks.commit.protocol import Commit
from mmflow.sinks.opening import open_commit, open_sink, staged_files
from mmflow.sinks.spec import check_sink, sink_spec

__all__ = [
    "SUFFIXES",
    "Commit",
    "CommitResult",
    "IfExists",
    "Sink",
    "SinkAttempt",
    "SinkSpec",
    "SortedColumn",
    "StagedFile",
    "check_sink",
    "open_commit",
    "open_sink",
    "sink_spec",
    "staged_files",
]
