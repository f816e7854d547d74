"""What the commits of local paths and of object stores have in common: the order of things, and who resumes what."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks.base import Committed, SinkSpec, StagedFile
from mmflow.sinks.checkpoints import checkpoint
from mmflow.sinks.spec import check_sink

__all__ = ["Commit", "appeared"]


class _Lock(Protocol):
    def release(self) -> None: ...


class Commit(ABC):
    """The driver's side of one write. `prepare` first; then `commit` or `abort`. Made by `sinks.open_commit`.

    As a context manager it aborts unless it was committed.

    Attributes:
        done: The run had committed already, before it died and was resumed.
    """

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool = False) -> None:
        self.spec = spec
        self.run = run
        self.done = False
        self._resumable = resumable
        self._lock: _Lock | None = None

    def prepare(self, sources: Iterable[str] = (), schema: pa.Schema | None = None) -> None:
        """Check everything that can be checked before rows are computed, and make room for them.

        Sets `done` if this run (resumed) published already before it died: `commit` then only cleans up.

        Args:
            sources: Files and folders that the run reads.
            schema: Of the rows, if it is known: checked against the format.

        Raises:
            SinkError: The destination exists, is being written, is an input, can't be written,
                or can't hold the schema.
            ConfigError: No package for this kind of URL.
        """
        if schema is not None:
            check_sink(self.spec, schema)
        try:
            with self._failing():
                self._make_parents()
                self._take_lock()
                self._settle_others()
                self.done = self._was_committed()
                if not self.done:
                    self._make_room(sources)
        except BaseException:  # also Ctrl-C: nothing may stay behind
            self._leave()
            raise

    def commit(
        self,
        files: Sequence[StagedFile],
        schema: pa.Schema,
        published: Callable[[Committed], None] = lambda _: None,
    ) -> Committed:
        """Publish the staged files of the tasks that count, in their order; others are dropped.

        Args:
            files: Of the tasks that count.
            schema: Of the rows.
            published: Called once all of it can be seen, before what shows that it was this run is cleaned up.

        Raises:
            SinkError: A staged file is gone, the system refuses, or somebody broke our lock; the old state is still
                there.
        """
        assert self._lock is not None, "prepare comes first"
        if self.done:
            made = self._published_before()
        else:
            with self._failing():
                if self.spec.is_folder:
                    self._publish_folder(files, schema)
                else:
                    assert len(files) == 1, "one file is written by one task"
                    self._publish_file(files[0])
            self.done = True
            rows, nbytes = sum(f.rows for f in files), sum(f.nbytes for f in files)
            made = Committed(self.spec.path, len(files), rows, nbytes)
        published(made)
        checkpoint("noted")
        self._leave()
        checkpoint("cleaned")
        return made

    def sweep(self) -> None:
        """Delete what this run staged: it committed before it died.

        Raises:
            SinkError: Another run writes to the destination now.
            ConfigError: No package for this kind of URL.
        """
        with self._failing():
            self._take_lock()
        self.done = True
        self._leave()

    def abort(self) -> None:
        """Delete what was staged, unless the run may go on with it, and unlock. Idempotent; nothing after `commit`."""
        if self._lock is not None:
            self._leave(keep=self._resumable)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    # ---- what this run did before it died -------------------------------------------------------------

    def _was_committed(self) -> bool:
        if not self.spec.is_folder:
            return self._file_was_committed()
        found = self._manifest()
        return found is not None and found["run"] == self.run

    def _published_before(self) -> Committed:
        if not self.spec.is_folder:
            return Committed(self.spec.path, 1, *self._file_before())
        found = self._manifest()
        assert found is not None  # it says that this run wrote it
        own = [f for f in found["files"] if f["run"] == self.run]
        return Committed(self.spec.path, len(own), sum(f["rows"] for f in own), sum(f["bytes"] for f in own))

    # ---- what local paths and object stores do each in their way ------------------------------------------

    def _failing(self) -> contextlib.AbstractContextManager[None]:
        """Errors of the block as SinkErrors."""
        return contextlib.nullcontext()

    @abstractmethod
    def _make_parents(self) -> None:
        """Make the folders above the destination."""

    @abstractmethod
    def _take_lock(self) -> None: ...

    @abstractmethod
    def _settle_others(self) -> None:
        """Finish or undo what dead runs were in the middle of."""

    @abstractmethod
    def _make_room(self, sources: Iterable[str]) -> None:
        """Check the destination; from here on tasks may write."""

    @abstractmethod
    def _publish_folder(self, files: Sequence[StagedFile], schema: pa.Schema) -> None: ...

    @abstractmethod
    def _publish_file(self, file: StagedFile) -> None: ...

    @abstractmethod
    def _manifest(self) -> dict[str, Any] | None:
        """That of the destination."""

    @abstractmethod
    def _file_was_committed(self) -> bool: ...

    @abstractmethod
    def _file_before(self) -> tuple[int, int]:
        """Rows and bytes of the file that this run published."""

    @abstractmethod
    def _leave(self, *, keep: bool = False) -> None:
        """Delete what is staged (or keep it), and unlock."""


def appeared(shown: str, path: str) -> SinkError:
    """Somebody else was quicker."""
    return SinkError(
        f"{shown} was made by someone else while this run computed; choose another output", path=path
    )
