"""Bad records that a run set aside: `quarantine.arrow` in its folder (`engines.rejects.SCHEMA`)."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import pyarrow as pa

from mmflow.engines.rejects import SCHEMA
from mmflow.errors import ConfigError
from mmflow.runs.directory import RunDirectory

__all__ = ["quarantine_name", "read_quarantine", "write_quarantine"]

_STEM, _END = "quarantine", ".arrow"


def quarantine_name(number: str) -> str:
    """Return the name of the file of a plan's bad records; "" is the number of a run's first plan."""
    return f"{_STEM}-{number}{_END}" if number else f"{_STEM}{_END}"


def write_quarantine(directory: RunDirectory, number: str, rejects: Sequence[pa.RecordBatch]) -> str:
    """Write the bad records of one plan of a run.

    Args:
        directory: The run's.
        number: Of the plan, "" for the first.
        rejects: Batches of `engines.rejects.SCHEMA`.

    Returns:
        The file's path or URL.

    Raises:
        EngineError: No room, no permission.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in rejects:
            writer.write_batch(batch)
    name = quarantine_name(number)
    directory.write_bytes(name, sink.getvalue())
    return directory.path(name)


def read_quarantine(directory: RunDirectory) -> pa.Table:
    """All bad records that a run set aside; no rows if there were none.

    Raises:
        EngineError: They can't be read.
        ConfigError: A file is not what a run wrote.
    """
    tables = []
    for name in directory.names(""):
        if posixpath.basename(name).startswith(_STEM) and name.endswith(_END):
            data = directory.read_bytes(name)
            try:
                tables.append(pa.ipc.open_file(pa.py_buffer(data or b"")).read_all())
            except pa.ArrowInvalid as error:
                raise ConfigError(f"{directory.path(name)} is damaged: {error}") from error
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()
