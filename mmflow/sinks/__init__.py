"""Record batches to files: Parquet, Arrow IPC, CSV, NDJSON, npy; committed all or nothing."""

from typing import TYPE_CHECKING

from mmflow.lazy.packages import names_of
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

if TYPE_CHECKING:
    from mmflow.sinks.commit.protocol import Commit
    from mmflow.sinks.opening import open_commit, open_sink, staged_files
    from mmflow.sinks.spec import check_sink, sink_spec
else:
    __getattr__ = names_of(
        __name__,
        {
            "Commit": "commit.protocol",
            "check_sink": "spec",
            "open_commit": "opening",
            "open_sink": "opening",
            "sink_spec": "spec",
            "staged_files": "opening",
        },
    )

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
