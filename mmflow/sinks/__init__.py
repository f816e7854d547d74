"""Record batches to files: Parquet, Arrow IPC, CSV, NDJSON, npy; committed all or nothing."""

from mmflow.sinks.base import SUFFIXES, IfExists, Sink, SinkSpec, StagedFile
from mmflow.sinks.commit import Commit, Committed
from mmflow.sinks.files import open_sink
from mmflow.sinks.spec import check_sink, sink_spec
from mmflow.sinks.staging import staged_there

__all__ = [
    "SUFFIXES",
    "Commit",
    "Committed",
    "IfExists",
    "Sink",
    "SinkSpec",
    "StagedFile",
    "check_sink",
    "open_sink",
    "sink_spec",
    "staged_there",
]
