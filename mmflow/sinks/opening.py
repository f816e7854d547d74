"""Choice between local and object store sinks. Only URLs import fsspec."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

from mmflow.sinks.base import Sink, SinkSpec, StagedFile
from mmflow.sinks.commit.local import LocalCommit
from mmflow.sinks.commit.protocol import Commit
from mmflow.sinks.commit.staging import is_staged, read_placed
from mmflow.sinks.files import DEFAULT_MEMORY, FileSink
from mmflow.storage.url import is_url

__all__ = ["open_commit", "open_sink", "staged_files"]


def open_commit(spec: SinkSpec, run: str, *, resumable: bool = False) -> Commit:
    """Return the driver's side of one write.

    Args:
        spec: Destination and format.
        run: Id of the run: letters, digits, `_`, `-`, `.`. A resumed run keeps its id.
        resumable: Keep staging when the run fails, so that it can be resumed; another run deletes it.
    """
    if is_url(spec.path):
        from mmflow.sinks.commit.object_commit import ObjectCommit  # noqa: PLC0415  (only URLs need it)

        return ObjectCommit(spec, run, resumable=resumable)
    if spec.table:
        from mmflow.sinks.commit.delta_commit import DeltaCommit  # noqa: PLC0415  (only tables need it)

        return DeltaCommit(spec, run, resumable=resumable)
    return LocalCommit(spec, run, resumable=resumable)


def staged_files(spec: SinkSpec, run: str) -> Callable[[StagedFile], bool]:
    """Return a predicate: is a file that a task of this run staged still there, whole?

    A store is listed once, at the first file; call this function again for a newer state.
    """
    if not is_url(spec.path):
        placed = cache(partial(read_placed, spec, run))
        return lambda file: is_staged(spec, run, file, placed())

    @cache
    def sizes() -> dict[str, int]:
        from mmflow.sinks.commit.object_commit import staged_sizes  # noqa: PLC0415  (only URLs need it)

        return staged_sizes(spec, run)

    return lambda file: sizes().get(file.staged) == file.nbytes


def open_sink(
    spec: SinkSpec, scratch: str | os.PathLike[str] | None = None, memory: int = DEFAULT_MEMORY
) -> Sink:
    """Return the sink that writes as `spec` says; `open_commit` prepares and commits it.

    Args:
        scratch: A folder for temporary files of URLs; None: the system's temporary folder.
        memory: Bytes that the task may use, also for buffered rows.
    """
    if is_url(spec.path):
        from mmflow.sinks.object_sink import ObjectSink  # noqa: PLC0415  (only URLs need it)

        return ObjectSink(spec, scratch, memory)
    return FileSink(spec, memory)
