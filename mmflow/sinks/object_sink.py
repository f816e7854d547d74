"""Sink of all formats to object stores: files in local temporary space, each uploaded when it is complete.

Invariant: after `write` returns, its objects are whole in the staging of a run that may write; after it raises, its
attempt has left nothing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks.base import SinkAttempt, SinkSpec, StagedFile
from mmflow.sinks.commit.destination_store import DestinationStore
from mmflow.sinks.commit.object_paths import ObjectPaths
from mmflow.sinks.files import DEFAULT_MEMORY, write_files
from mmflow.sinks.spec import check_sink
from mmflow.storage.os_errors import write_errors

__all__ = ["ObjectSink"]


class ObjectSink:
    """Writer of files of any format to a URL.

    Args:
        scratch: A folder for files until they are uploaded; None: the system's temporary folder.
        memory: Bytes that the task may use, as in `write_files`.
    """

    def __init__(
        self, spec: SinkSpec, scratch: str | os.PathLike[str] | None = None, memory: int = DEFAULT_MEMORY
    ) -> None:
        self.spec = spec
        self._memory = memory
        self._scratch = scratch

    def write(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, attempt: SinkAttempt
    ) -> tuple[StagedFile, ...]:
        """Write one attempt's rows; a task without rows writes a file only if it is number 0.

        Raises:
            SinkError: As in `Sink.write`; also if the run was stopped meanwhile.
            ConfigError: The package for this kind of URL is missing.
        """
        spec, paths = self.spec, ObjectPaths.of(self.spec)
        check_sink(spec, schema)
        store = DestinationStore(paths.base, spec.storage)
        self._require_open(store, paths, attempt.run)
        staging = paths.attempt(attempt)
        # Final names have a token of the driver's in its place (`ObjectCommit`).
        token = staging.rpartition("-")[2]

        def keep(file: Path, path: str) -> str:
            name = f"{staging}/{path}.staged"
            store.upload(file, name)
            file.unlink()
            return name

        with contextlib.ExitStack() as stack:
            with write_errors(str(self._scratch or tempfile.gettempdir())):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sink-", dir=self._scratch))
            try:
                staged = write_files(
                    spec, batches, schema, attempt, Path(folder), keep, self._memory, unique=True, token=token
                )
                self._require_open(store, paths, attempt.run)
            except BaseException:  # also Ctrl-C
                with contextlib.suppress(SinkError):  # the first error is the one that counts
                    store.delete_folder(staging)
                raise
        return staged

    def _require_open(self, store: DestinationStore, paths: ObjectPaths, run: str) -> None:
        if store.info(paths.open(run)) is None:
            raise SinkError(
                f"can't write {self.spec.path}: {paths.open(run)} is not there; either the run was stopped, "
                "or this worker doesn't see the same store as the driver (credentials, endpoint)",
                path=self.spec.path,
            )
