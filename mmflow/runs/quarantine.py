"""Quarantined bad records of a run: `quarantine.arrow` in its folder (`formats.rejects.SCHEMA`)."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.rejects import SCHEMA
from mmflow.runs.directory import RunDirectory

__all__ = ["is_quarantine", "pack_quarantine", "quarantine_name", "read_quarantine", "write_quarantine"]

_STEM, _END = "quarantine", ".arrow"


def quarantine_name(number: str) -> str:
    """Return the name of the file of a plan's bad records; "" is the number of a run's first plan."""
    return f"{_STEM}-{number}{_END}" if number else f"{_STEM}{_END}"


def is_quarantine(name: str) -> bool:
    """Return whether a file of a run's folder has bad records."""
    return name.startswith(_STEM) and name.endswith(_END)


def pack_quarantine(rejects: Sequence[pa.RecordBatch]) -> pa.Buffer:
    """Return the file of bad records, batches of `formats.rejects.SCHEMA`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in rejects:
            writer.write_batch(batch)
    return sink.getvalue()


def write_quarantine(directory: RunDirectory, number: str, packed: pa.Buffer) -> str:
    """Write the bad records of one plan of a run.

    Args:
        directory: Folder of the run.
        number: Number of the plan, "" for the first.
        packed: File of the bad records.

    Returns:
        The file's path or URL.

    Raises:
        EngineError: No space, no permission.
    """
    name = quarantine_name(number)
    directory.write_bytes(name, packed)
    return directory.path(name)


def read_quarantine(directory: RunDirectory) -> pa.Table:
    """Read all quarantined records of a run; the table is empty if there are none.

    Raises:
        EngineError: They can't be read.
        SourceError: A file is damaged.
    """
    tables = []
    for name in directory.names(""):
        if is_quarantine(name):
            data = directory.read_bytes(name)
            try:
                table = pa.ipc.open_file(pa.py_buffer(data or b"")).read_all()
                table.validate(full=True)
                tables.append(table.cast(SCHEMA))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise SourceError(f"{directory.path(name)} is damaged: {error}") from error
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()
