"""Types of columns from a sample: guessed from its first rows, and verified by the kernel over all of it.

    first rows --infer--> kinds --kernel, exact--> all rows have them    done
                                               `-> some have not         infer anew from all texts

Invariant: the types are those that `infer_column` gives for all texts of the sample. A kind that holds the first
rows and, read exactly, every further one is the narrowest for all. Kinds that the kernel does not read exactly as the
patterns of `schemas.inference` do are inferred from all texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.csv.decoder import CsvTypes
from mmflow.formats.csv.inference import InferredColumn, infer_column
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.csv.styles import ValueStyles
from mmflow.formats.schemas.inference import begins_as_text

__all__ = ["infer_columns"]

_FIRST_ROWS = 500
#: Kinds that the kernel reads exactly as they are inferred.
_VERIFIED = (pa.int64(), pa.float64(), pa.bool_(), pa.date32())
_USUAL = ValueStyles()


def infer_columns(
    names: tuple[str, ...], pieces: Sequence[bytes], dialect: Dialect, styles: ValueStyles
) -> list[InferredColumn]:
    """Infer the type of each column; null where there is no value.

    Args:
        names: Names of the columns.
        pieces: Parts of the file's text, each of whole lines.
        dialect: Dialect of the text.
        styles: Spelling of values.
    """
    strings = dict.fromkeys(names, pa.string_view())
    texts = CsvTypes(names, strings, styles.null, False, styles.quoted_null, styles.columns(strings))
    batches, _ = _decoded(names, pieces, texts, dialect)
    first = batches[0].slice(0, _FIRST_ROWS) if batches else None
    found: list[InferredColumn | None] = [None] * len(names)
    if first is not None and styles == _USUAL and sum(b.num_rows for b in batches) > first.num_rows:
        found = _verified(names, first, pieces, dialect)
    return [
        column or _inferred(name, [text for b in batches for text in _texts(b.column(i))], styles)
        for i, (name, column) in enumerate(zip(names, found, strict=True))
    ]


def _texts(column: pa.Array) -> list[str]:
    return [text for text in column.to_pylist() if text is not None]


def _inferred(name: str, texts: Sequence[str], styles: ValueStyles) -> InferredColumn:
    return infer_column(name, texts, styles) if texts else InferredColumn(pa.null())


def _decoded(
    names: tuple[str, ...], pieces: Sequence[bytes], types: CsvTypes, dialect: Dialect
) -> tuple[list[pa.RecordBatch], bool]:
    """Return the records of pieces, and whether all of them are whole and of the types."""
    decoder = csv_decoder(names, types, dialect, "skip")
    batches, whole = [], True
    for piece in pieces:
        rest = pa.py_buffer(piece)
        while rest.size:
            decoded = decoder.decode(rest, rest.size, final=True, located=False)
            batches.append(decoded.batch)
            whole = whole and not decoded.bad and not decoded.repaired
            if not decoded.consumed:
                break
            rest = rest.slice(decoded.consumed)
    return batches, whole


def _verified(
    names: tuple[str, ...], first: pa.RecordBatch, pieces: Sequence[bytes], dialect: Dialect
) -> list[InferredColumn | None]:
    """Return the columns of which the first rows and the kernel say enough; None for the others."""
    found: list[InferredColumn | None] = []
    # The kernel reads dates of the year 0, which dates in Python don't have.
    verified = _VERIFIED[:-1] if any(b"0000-" in piece for piece in pieces) else _VERIFIED
    kinds: dict[str, pa.DataType] = {}
    for name, column in zip(names, first.columns, strict=True):
        texts = _texts(column)
        guess = _inferred(name, texts, _USUAL)
        text = bool(texts) and begins_as_text(texts[0])
        found.append(guess if text or guess.kind in verified else None)
        if guess.kind in verified:
            kinds[name] = guess.kind
    if kinds:
        _, whole = _decoded(tuple(kinds), pieces, CsvTypes(names, kinds, _USUAL.null, exact=True), dialect)
        if not whole:
            return [None if name in kinds else column for name, column in zip(names, found, strict=True)]
    return found
