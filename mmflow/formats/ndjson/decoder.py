"""The reference decoder of NDJSON: record by record, with Python's json. The definition, not the fast way.

Late fields and late types are never dropped in silence: with an inferred schema, a field that it does not know is a
bad record.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmflow.formats.base import BadRecordPolicy
from mmflow.formats.decoding.decoder import BadValue, Decoded
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.formats.ndjson.values import UNKNOWN, Misfit, fit_value, parse
from mmflow.formats.text.lines import TextDecoder

__all__ = ["NdjsonDecoder"]


class NdjsonDecoder:
    """`RecordDecoder` for NDJSON.

    Args:
        columns: Wanted fields of the top level.
        schema: Schema of all fields.
        policy: Policy for bad records.
        closed: A field that is not in the schema makes a record bad; one within a struct only where that is read.
        check_all: Fit every field to its type, whatever is wanted.
        exact: A whole number that a float would round does not fit.
    """

    skips_nuls = True

    def __init__(
        self,
        columns: tuple[str, ...],
        schema: pa.Schema,
        policy: BadRecordPolicy,
        *,
        closed: bool,
        check_all: bool = False,
        exact: bool = False,
    ) -> None:
        self.columns = columns
        self._schema = schema
        self._policy = policy
        self._closed = closed
        self._fit = partial(fit_value, exact=exact, closed=closed)
        self._known = frozenset(schema.names)
        wanted = frozenset(columns)
        read = schema.names if check_all else [n for n in schema.names if n in wanted]
        self._read = pa.schema([schema.field(n) for n in read])
        self._lines = TextDecoder(("line",), "null")

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        lines = self._lines.decode(data, stop, final=final, located=True)
        assert lines.offsets is not None
        assert lines.line_numbers is not None
        raw = data.slice(0, lines.consumed).to_pybytes()
        texts = lines.batch.column(0)
        blank = _blank(texts)
        numbers = np.flatnonzero(~blank)
        offsets, line_numbers = lines.offsets[numbers], lines.line_numbers[numbers]
        kept, arrays, bad = self._one_by_one(raw, offsets, line_numbers)
        made = [arrays[c] for c in self.columns]
        if made:
            batch = pa.RecordBatch.from_arrays(made, names=list(self.columns))
        else:
            batch = pa.RecordBatch.from_arrays([pa.nulls(len(kept))], names=["rows"]).select([])
        decoded = Decoded(batch, lines.consumed, len(numbers), lines.lines, bad=bad)
        if located:
            decoded.offsets, decoded.located_lines = offsets[kept], line_numbers[kept]
        return decoded

    def _one_by_one(
        self, raw: bytes, offsets: np.ndarray, line_numbers: np.ndarray
    ) -> tuple[np.ndarray, dict[str, pa.Array], list[BadValue]]:
        kept: list[int] = []
        columns: dict[str, list[Any]] = {n: [] for n in self._read.names}
        bad: list[BadValue] = []
        for index, offset in enumerate(offsets.tolist()):
            end = raw.find(b"\n", offset)
            text = raw[offset : end if end >= 0 else len(raw)].rstrip(b"\r")
            row, wrong = self._record(text)
            if wrong is not None:
                null = self._policy == "null"
                bad.append(
                    BadValue(
                        offset,
                        len(text),
                        index,
                        int(line_numbers[index]),
                        wrong.column or None,
                        None if wrong.value is None else str(wrong.value),
                        wrong.reason,
                        not null,
                    )
                )
                if self._policy == "error":
                    break
                if not null:
                    continue
            kept.append(index)
            for name, values in columns.items():
                values.append(row.get(name))
        arrays = {f.name: pa.array(columns[f.name], f.type) for f in self._read}
        return np.array(kept, np.int64), arrays, bad

    def _record(self, text: bytes) -> tuple[dict[str, Any], Misfit | None]:
        """Return the fitted values of a record, and the first error in it."""
        try:
            record = parse(text.decode())
        except RecursionError:  # json's, at some 1,000 brackets less the calls it is in
            return {}, Misfit("", None, "brackets nested too deep, some 900 are the most")
        except ValueError as error:
            return {}, Misfit("", None, f"not a JSON object: {error}")
        first: Misfit | None = None
        if self._closed:
            unknown = [k for k in record if k not in self._known]
            if unknown:
                first = Misfit(unknown[0], record[unknown[0]], UNKNOWN)
        row = {}
        for f in self._read:
            try:
                row[f.name] = self._fit(record.get(f.name), f.type, f.name)
            except Misfit as error:
                row[f.name] = None
                first = first or error
        return row, first


def _blank(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which lines hold nothing but white space, shape (rows,)."""
    trimmed = pc.utf8_trim(texts.cast(pa.binary()).cast(pa.string(), safe=False), " \t\r")
    empty: npt.NDArray[np.bool_] = numpy_values(pc.binary_length(trimmed)) == 0
    return empty & ~null_places(trimmed)
