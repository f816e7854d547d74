"""The sink of all formats to object stores: files in local temporary space, each uploaded when it is complete.

Invariant: after `write` returned, its objects are whole in the staging of a run that may write; after it raised,
its attempt has left nothing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks.base import SinkSpec, StagedFile
from mmflow.sinks.failures import writing
from mmflow.sinks.files import AMPLE, write_files
from mmflow.sinks.object_places import Places
from mmflow.sinks.object_store import ObjectStore
from mmflow.sinks.spec import check_sink

__all__ = ["ObjectSink"]


class ObjectSink:
    """Writes files of any format to a URL; see `sinks.base.Sink`.

    Args:
        scratch: A folder for files until they are uploaded; None: the system's temporary one.
        memory: See `write_files`.
    """

    def __init__(
        self, spec: SinkSpec, scratch: str | os.PathLike[str] | None = None, memory: int = AMPLE
    ) -> None:
        self.spec = spec
        self._memory = memory
        self._scratch = scratch

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        *,
        run: str,
        stage: int,
        number: int,
        attempt: int,
        part: tuple[int, ...] = (),
    ) -> tuple[StagedFile, ...]:
        """Write one attempt's rows; a task without rows writes a file only if it is number 0.

        Raises:
            SinkError: See `Sink.write`; also if the run was stopped meanwhile.
            ConfigError: No package for this kind of URL.
        """
        spec, places = self.spec, Places.of(self.spec)
        check_sink(spec, schema)
        store = ObjectStore(places.base)
        self._require_open(store, places, run)
        staging = places.attempt(run, stage=stage, number=number, attempt=attempt, part=part)

        def keep(file: Path, path: str) -> str:
            name = f"{staging}/{path}.staged"
            store.upload(file, name)
            file.unlink()
            return name

        with contextlib.ExitStack() as stack:
            with writing(str(self._scratch or tempfile.gettempdir())):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sink-", dir=self._scratch))
            try:
                staged = write_files(
                    spec,
                    batches,
                    schema,
                    folder=Path(folder),
                    stem=f"part-{run}-{number:05d}",
                    number=number,
                    part=part,
                    keep=keep,
                    memory=self._memory,
                )
                self._require_open(store, places, run)
            except BaseException:  # whatever it was, also Ctrl-C
                with contextlib.suppress(SinkError):  # the first error is the one that counts
                    store.delete_folder(staging)
                raise
        return staged

    def _require_open(self, store: ObjectStore, places: Places, run: str) -> None:
        if store.info(places.open(run)) is None:
            raise SinkError(
                f"can't write {self.spec.path}: {places.open(run)} is not there; either the run was stopped, "
                "or this worker doesn't see the same store as the driver (credentials, endpoint)",
                path=self.spec.path,
            )
