"""Rows as a Markdown table (GitHub's pipe tables), for issues, pull requests and documents.

Invariant: a cell is one line, and neither begins another one nor is HTML, whatever the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

import pyarrow as pa

from mmflow.sinks.text_table import NULL, cell_texts, is_right_aligned, one_line
from mmflow.sinks.writers.text import text_slices

__all__ = ["write_markdown"]

_LONGEST_CELL = 1 << 20
_ESCAPES = str.maketrans({"\\": "\\\\", "|": "\\|", "<": "&lt;", "`": "\\`", "*": "\\*"})


def write_markdown(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    """Write all rows as a table, and return their number."""
    _write(stream, [one_line(name) for name in schema.names])
    _write(stream, ["--:" if is_right_aligned(kind) else "---" for kind in schema.types])
    rows = 0
    for batch in batches:
        for piece in text_slices(batch):
            columns = [cell_texts(column, _LONGEST_CELL) for column in piece.columns]
            for cells in zip(*columns, strict=True):
                _write(stream, [NULL if c is None else c for c in cells])
            rows += piece.num_rows
    return rows


def _write(stream: BinaryIO, cells: Sequence[str]) -> None:
    stream.write(f"| {' | '.join(c.translate(_ESCAPES) for c in cells)} |\n".encode())
