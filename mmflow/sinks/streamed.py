"""Rows into a stream: standard output, a descriptor of the shell, or a named pipe. CSV, NDJSON or Arrow.

Invariant: rows are written in order, as they become final. Nothing can be taken back: what fails later leaves the rows
before it, and Arrow without the mark of its end.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any, BinaryIO

import pyarrow as pa

from mmflow.errors import ConfigError, SinkError
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.formats.schemas.schema import public_schema
from mmflow.mapping.answering import check_answers
from mmflow.mapping.streams import descriptor_of, is_stream_path
from mmflow.sinks.base import SinkSpec
from mmflow.sinks.spec import sink_spec
from mmflow.sinks.writers import rows
from mmflow.sinks.writers.base import Writer
from mmflow.storage.os_errors import write_errors
from mmflow.storage.url import is_url

__all__ = ["StreamSink", "stream_spec", "writes_stream"]

_BUFFER = 1 << 20
_STDOUT = ("-", "/dev/stdout")
_FORMATS = ("csv", "ndjson", "arrow")


def writes_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether a path stands for standard output, another descriptor, or a named pipe.

    Raises:
        SourceUnreachableError: The file server of the path does not answer.
    """
    name = os.fspath(path)
    if name in _STDOUT or descriptor_of(name) is not None:
        return True
    if is_url(name):
        return False
    check_answers([name])
    return is_stream_path(name)


def stream_spec(path: str | os.PathLike[str], format: str | None, options: dict[str, Any]) -> SinkSpec:
    """Return the checked spec of a stream: CSV by default.

    Raises:
        ConfigError: The format is not written from start to end, or an option is for files.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if given.pop("if_exists", "error") != "error" or "partition_by" in given:
        raise ConfigError(f"{path} is a stream: if_exists and partition_by are for files and folders")
    spec = sink_spec("stream/", format or "csv", **given)
    if spec.format not in _FORMATS:
        raise ConfigError(
            f"can't write {spec.format} to {path}, a stream: write one of {', '.join(_FORMATS)}"
        )
    return SinkSpec(os.fspath(path), spec.format, options=spec.options)


class _Counting(io.RawIOBase):
    """Binary file that counts the bytes written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            self.count += view.nbytes
            return self._file.write(view)

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            super().close()


class StreamSink:
    """Writer of rows to one stream. `rows` and `nbytes` count what was written.

    Args:
        spec: Made by `stream_spec`.
        schema: Schema of the rows.

    Raises:
        SinkError: It can't be opened. A named pipe is waited for until somebody reads it.
    """

    def __init__(self, spec: SinkSpec, schema: pa.Schema) -> None:
        self._path = spec.path
        self._schema = public_schema(schema)
        self.rows = 0
        number = 1 if spec.path in _STDOUT else descriptor_of(spec.path)
        with write_errors(spec.path, "open"):
            opened = open(spec.path if number is None else os.dup(number), "wb", buffering=_BUFFER)  # noqa: SIM115
        self._file = _Counting(opened)
        self._writer: Writer | Any
        if spec.format == "arrow":
            codec = spec.options.get("compression", "none")
            options = pa.ipc.IpcWriteOptions(compression=None if codec == "none" else codec)
            self._writer = pa.ipc.new_stream(self._file, self._schema, options=options)
        else:
            making = rows.csv_writer if spec.format == "csv" else rows.ndjson_writer
            self._writer = making(self._file, self._schema, spec.options)

    @property
    def nbytes(self) -> int:
        return self._file.count

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows.

        Raises:
            SinkError: Nobody reads the stream any more, or it can't be written to.
        """
        with self._failing():
            self._writer.write(public_batch(batch, self._schema))
            self._file.flush()
        self.rows += batch.num_rows

    def close(self) -> None:
        """Complete the stream and close it.

        Raises:
            SinkError: As of `write`.
        """
        with self._failing():
            self._writer.close()
            self._file.close()

    def discard(self) -> None:
        """Close the stream as it is; never raises."""
        with contextlib.suppress(OSError, ValueError):
            self._file.close()

    @contextlib.contextmanager
    def _failing(self) -> Any:
        try:
            with write_errors(self._path):
                yield
        except SinkError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise SinkError(
                    f"{self._path} was closed by its reader after {self.rows:,} rows; the others were not written",
                    path=self._path,
                ) from error
            raise
