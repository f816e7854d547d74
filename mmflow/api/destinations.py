"""Destinations of plans that write: what a run context needs of a commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from mmflow.engines.loop import Outcome
from mmflow.plan.stages import FilesInput, Plan, ScanInput
from mmflow.sinks import CommitResult, SinkSpec, open_commit
from mmflow.sinks.streamed import StreamSink

__all__ = ["Destination", "FileDestination", "Note", "StreamDestination"]

#: Function that records a commit once its output is visible.
Note = Callable[[CommitResult], None]


class Destination(Protocol):
    """Place of a plan's output. Readers see all of it, or what was there before."""

    @property
    def path(self) -> str:
        """Path or URL that the recorder knows the output by."""
        ...

    @property
    def done(self) -> bool:
        """True if the output is visible already: an earlier driver of this run committed it."""
        ...

    def prepare(self) -> None:
        """Check the destination, and let tasks write to it. Set `done`."""
        ...

    def sweep(self) -> None:
        """Delete what a run that committed left unfinished."""
        ...

    def receive(self, batch: pa.RecordBatch) -> None:
        """Write rows that the plan returns to its driver."""
        ...

    def commit(self, outcome: Outcome | None, note: Note) -> CommitResult:
        """Publish the output of a run; without an outcome, complete the commit of an earlier driver."""
        ...

    def abort(self) -> None:
        """Undo what was not committed. Idempotent."""
        ...


class FileDestination:
    """Files of a `Dataset.write`."""

    def __init__(
        self, spec: SinkSpec, run: str, plan: Plan, schema: pa.Schema, *, resumable: bool = False
    ) -> None:
        self.path = spec.path
        self._schema = schema
        self._inputs = _input_files(plan)
        self._commit = open_commit(spec, run, resumable=resumable)

    @property
    def done(self) -> bool:
        return self._commit.done

    def prepare(self) -> None:
        self._commit.prepare(self._inputs, self._schema)

    def sweep(self) -> None:
        self._commit.sweep()

    def receive(self, batch: pa.RecordBatch) -> None:
        """Drop the batch: tasks write the files."""

    def commit(self, outcome: Outcome | None, note: Note) -> CommitResult:
        return self._commit.commit(() if outcome is None else outcome.files, self._schema, note)

    def abort(self) -> None:
        self._commit.abort()


class StreamDestination:
    """Stream of a `Dataset.write`, which gets rows as they come."""

    done = False

    def __init__(self, spec: SinkSpec, schema: pa.Schema) -> None:
        self.path = spec.path
        self._spec = spec
        self._schema = schema
        self._sink: StreamSink | None = None

    def prepare(self) -> None:
        self._sink = StreamSink(self._spec, self._schema)

    def sweep(self) -> None:
        """Do nothing: a stream keeps no files."""

    def receive(self, batch: pa.RecordBatch) -> None:
        assert self._sink is not None  # prepared
        self._sink.write(batch)

    def commit(self, outcome: Outcome | None, note: Note) -> CommitResult:
        """Complete the stream. It is not noted: a run that is resumed has to write it again."""
        del outcome, note
        assert self._sink is not None  # prepared
        self._sink.close()
        return CommitResult(self.path, 1, self._sink.rows, self._sink.nbytes)

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.discard()


def _input_files(plan: Plan) -> list[str]:
    scans = [i for stage in plan.stages for i in stage.inputs if isinstance(i, ScanInput | FilesInput)]
    return [path for scan in scans for path in scan.source.files]
