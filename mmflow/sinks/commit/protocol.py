"""Commit protocol: the order of steps that local paths and object stores share, and recovery of resumed runs."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks.base import CommitResult, SinkSpec, StagedFile
from mmflow.sinks.commit import manifest
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.sinks.spec import check_sink

__all__ = ["Commit", "Lock", "already_exists"]


class Lock(Protocol):
    """Lock of a destination."""

    def release(self) -> None: ...


class Commit(ABC):
    """Driver's side of one write: `prepare` first, then `commit` or `abort`. Made by `sinks.open_commit`.

    As a context manager it aborts unless it was committed.

    Attributes:
        done: True once the run has committed, also if that was before it died and was resumed.
    """

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool) -> None:
        self.spec = spec
        self.run = run
        self.done = False
        self._resumable = resumable
        self._lock: Lock | None = None

    def prepare(self, sources: Iterable[str] = (), schema: pa.Schema | None = None) -> None:
        """Check everything that can be checked before rows are computed, and prepare staging.

        Sets `done` if this run published before it died and was resumed: `commit` then only cleans up.

        Args:
            sources: Files and folders that the run reads.
            schema: Schema of the rows, if it is known: checked against the format.

        Raises:
            SinkError: The destination exists, is being written, is an input, can't be written,
                or can't hold the schema.
            ConfigError: The package for this kind of URL is missing.
        """
        if schema is not None:
            check_sink(self.spec, schema)
        try:
            with self._sink_errors():
                self._make_parents()
                self._take_lock()
                self._recover_stale_runs()
                self.done = self._is_committed()
                if not self.done:
                    self._prepare_staging(sources)
        except BaseException:  # also Ctrl-C: nothing may be left behind
            self._clean_up()
            raise

    def commit(
        self,
        files: Sequence[StagedFile],
        schema: pa.Schema,
        published: Callable[[CommitResult], None] = lambda _: None,
    ) -> CommitResult:
        """Publish the staged files of the successful attempts, in their order; others are dropped.

        Args:
            files: Staged files of the successful attempts.
            schema: Schema of the rows.
            published: Called once the result is visible, before the proof that this run published it is deleted.

        Raises:
            SinkError: A staged file is missing, the system refuses, or another run broke our lock; the old state
                remains.
        """
        assert self._lock is not None, "prepare comes first"
        if self.done:
            with self._sink_errors():
                self._sync_published()
            result = self._earlier_result()
        else:
            with self._sink_errors():
                if self.spec.is_folder:
                    self._publish_folder(files, schema)
                else:
                    assert len(files) == 1, "one file is written by one task"
                    self._publish_file(files[0])
            self.done = True
            rows, nbytes = sum(f.rows for f in files), sum(f.nbytes for f in files)
            result = CommitResult(self.spec.path, len(files), rows, nbytes)
        published(result)
        failpoint("noted")
        self._clean_up()
        failpoint("cleaned")
        return result

    def sweep(self) -> None:
        """Delete the staging of a run that committed before it died.

        Raises:
            SinkError: Another run writes to the destination now.
            ConfigError: The package for this kind of URL is missing.
        """
        with self._sink_errors():
            self._take_lock()
        self.done = True
        self._clean_up()

    def abort(self) -> None:
        """Delete staging, unless the run may be resumed from it, and unlock. Idempotent; does nothing after
        `commit`.
        """
        if self._lock is not None:
            self._clean_up(keep=self._resumable)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    # ---- resumed runs ----------------------------------------------------------------------------------

    def _is_committed(self) -> bool:
        if not self.spec.is_folder:
            return self._is_file_committed()
        found = self._manifest()
        return found is not None and manifest.holds_run(found, self.run)

    def _earlier_result(self) -> CommitResult:
        if not self.spec.is_folder:
            return CommitResult(self.spec.path, 1, *self._published_size())
        found = self._manifest()
        assert found is not None  # it says that this run wrote it
        own = [f for f in found["files"] if f.get("run") == self.run]
        return CommitResult(
            self.spec.path, len(own), sum(f["rows"] for f in own), sum(f["bytes"] for f in own)
        )

    # ---- steps that differ between local paths and object stores -----------------------------------------

    def _sink_errors(self) -> contextlib.AbstractContextManager[None]:
        """Turn errors of the block into SinkErrors."""
        return contextlib.nullcontext()

    @abstractmethod
    def _make_parents(self) -> None:
        """Create the folders above the destination."""

    @abstractmethod
    def _take_lock(self) -> None: ...

    @abstractmethod
    def _recover_stale_runs(self) -> None:
        """Finish or undo the commits that dead runs were in the middle of."""

    @abstractmethod
    def _prepare_staging(self, sources: Iterable[str]) -> None:
        """Check the destination and create staging; tasks may write from here on."""

    @abstractmethod
    def _publish_folder(self, files: Sequence[StagedFile], schema: pa.Schema) -> None: ...

    @abstractmethod
    def _publish_file(self, file: StagedFile) -> None: ...

    @abstractmethod
    def _sync_published(self) -> None:
        """Make durable what an earlier driver of the run published: it may have died before it did."""

    @abstractmethod
    def _manifest(self) -> dict[str, Any] | None:
        """Return the destination's manifest; None if it has none."""

    @abstractmethod
    def _is_file_committed(self) -> bool: ...

    @abstractmethod
    def _published_size(self) -> tuple[int, int]:
        """Return the rows and bytes of the file that this run published."""

    @abstractmethod
    def _clean_up(self, *, keep: bool = False) -> None:
        """Delete staging (unless `keep`), and unlock."""


def already_exists(shown: str, path: str) -> SinkError:
    """Return the error for a destination that appeared while the run computed."""
    return SinkError(
        f"{shown} was created by another process while this run computed; choose another output",
        path=path,
        code="MMF-OUT-003",
    )
