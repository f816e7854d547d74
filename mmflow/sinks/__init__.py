"""Record batches to files: Parquet, Arrow IPC, CSV, NDJSON, npy; committed all or nothing."""

from mmflow.sinks.base import SUFFIXES, Committed, IfExists, Sink, SinkSpec, StagedFile
from mmflow.sinks.committing import Commit
from mmflow.sinks.opening import open_commit, open_sink, staged_files
from mmflow.sinks.spec import check_sink, sink_spec

__all__ = [
    "SUFFIXES",
    "Commit",
    "Committed",
    "IfExists",
    "Sink",
    "SinkSpec",
    "StagedFile",
    "check_sink",
    "open_commit",
    "open_sink",
    "sink_spec",
    "staged_files",
]
