"""Local or object store: the one place that decides. Only URLs import fsspec."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

from mmflow.remote.url import is_url
from mmflow.sinks.base import Sink, SinkSpec, StagedFile
from mmflow.sinks.commit import LocalCommit
from mmflow.sinks.committing import Commit
from mmflow.sinks.files import AMPLE, FileSink
from mmflow.sinks.staging import staged_there

__all__ = ["open_commit", "open_sink", "staged_files"]


def open_commit(spec: SinkSpec, run: str, *, resumable: bool = False) -> Commit:
    """The driver's side of one write.

    Args:
        spec: Where and how.
        run: Identifies the run; letters, digits, `_`, `-`, `.`. A run that is resumed has the same.
        resumable: What was staged stays when the run fails, for the run to go on with; the next run sweeps it.
    """
    if is_url(spec.path):
        from mmflow.sinks.object_commit import ObjectCommit  # noqa: PLC0415  (imports fsspec)

        return ObjectCommit(spec, run, resumable=resumable)
    return LocalCommit(spec, run, resumable=resumable)


def staged_files(spec: SinkSpec, run: str) -> Callable[[StagedFile], bool]:
    """Says of a file that a task of this run staged whether it is still there, whole.

    A store is asked once, for all of them, when the first one is asked for: another answer is for another call.
    """
    if not is_url(spec.path):
        return partial(staged_there, spec, run)

    @cache
    def sizes() -> dict[str, int]:
        from mmflow.sinks.object_commit import staged_sizes  # noqa: PLC0415  (imports fsspec)

        return staged_sizes(spec, run)

    return lambda file: sizes().get(file.staged) == file.nbytes


def open_sink(spec: SinkSpec, scratch: str | os.PathLike[str] | None = None, memory: int = AMPLE) -> Sink:
    """The sink that writes as `spec` says; `open_commit` prepares and commits it.

    Args:
        scratch: A folder for temporary files of URLs; None: the system's temporary one.
        memory: Bytes that the task may use; rows that wait to be written take a part of it.
    """
    if is_url(spec.path):
        from mmflow.sinks.object_sink import ObjectSink  # noqa: PLC0415  (imports fsspec)

        return ObjectSink(spec, scratch, memory)
    return FileSink(spec, memory)
