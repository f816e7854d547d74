"""Decoding of lines that are split into fields: typed columns, and bad records for lines that don't fit.

    line decoder  -->  lines, with their offsets  -->  splitter  -->  texts of the fields  -->  values

Lines are found by the decoder of text, by its kernel as a rule. A condition of the query that needs certain bytes in a
line leaves the others out before they are split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, Comparison
from mmflow.formats.decoding.decoder import I64, BadValue, Decoded, RecordDecoder
from mmflow.formats.decoding.views import take_rows
from mmflow.formats.schemas.schema import type_text
from mmflow.formats.text.conversion import convert_field, null_texts
from mmflow.formats.text.splitting import Splitter
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass

__all__ = ["FieldTypes", "FieldsDecoder", "needles"]

#: Function that makes a decoder of lines, of those that meet conditions.
Lines = Callable[[Sequence[Comparison]], RecordDecoder]


@dataclass(frozen=True, slots=True)
class FieldTypes:
    """Types of the fields.

    Attributes:
        schema: Columns that can be read.
        nulls: Texts that mean null.
        exact: Text that its value could not be written as again is a bad value.
    """

    schema: pa.Schema
    nulls: tuple[str, ...] = ("",)
    exact: bool = False


def needles(prune: Sequence[Comparison], splitter: Splitter, types: FieldTypes) -> list[Comparison]:
    """Return what conditions on fields ask of their lines: texts that these must hold."""
    found = []
    for c in prune if splitter.verbatim else ():
        kind = types.schema.field(c.column).type if c.column in types.schema.names else None
        if kind is None or c.op not in ("eq", "contains"):
            continue
        if pa.types.is_string_view(kind) and isinstance(c.value, str):
            found.append(Comparison("line", "contains", c.value))
        elif pa.types.is_integer(kind) and c.op == "eq" and type(c.value) is int:
            found.append(Comparison("line", "contains", str(abs(c.value))))
    return found


class FieldsDecoder:
    """`RecordDecoder` for lines that are split into fields.

    Args:
        columns: Wanted columns.
        splitter: Splits lines.
        types: Types of the columns.
        policy: Policy for bad records.
        lines: Makes a decoder of lines, whose policy is `null`.
        check_all: Convert all columns, so that a bad value is found whatever columns are wanted.
        prune: Conditions; lines that don't meet them may be left out, unless all must be checked.
    """

    skips_nuls = True

    def __init__(
        self,
        columns: tuple[str, ...],
        splitter: Splitter,
        types: FieldTypes,
        policy: BadRecordPolicy,
        lines: Lines,
        *,
        check_all: bool = False,
        prune: Sequence[Comparison] = (),
    ) -> None:
        self.columns = columns
        self._splitter, self._types, self._policy = splitter, types, policy
        self._converted = tuple(types.schema.names) if check_all else columns
        narrowed = needles(prune, splitter, types) if policy == "error" and not check_all else []
        self._every = lines(())
        self._lines = lines(narrowed) if narrowed else self._every

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        decoded = self._lines.decode(data, stop, final=final, located=True)
        offsets = decoded.offsets
        assert offsets is not None  # asked for
        count, lines = decoded.batch.num_rows, decoded.batch.column(0)
        not_text = {b.record: b for b in decoded.bad}  # only where no lines were left out
        texts = lines.cast(pa.string())
        if not_text:
            texts = texts.fill_null(pa.scalar("", pa.string()))
        split = self._splitter.split(texts, self._converted)
        bad: dict[int, BadValue] = {
            row: self._bad(decoded, row, texts, None, None, reason) for row, reason in split.bad.items()
        }
        arrays: dict[str, pa.Array] = {}
        for name in self._converted:
            kind = self._types.schema.field(name).type
            fields = null_texts(split.texts[name], self._types.nulls)
            if bad or not_text or split.left_out is not None:
                fields = _without(fields, [*bad, *not_text], split.left_out)
            arrays[name], wrong = convert_field(fields, kind, exact=self._types.exact)
            for row in wrong:
                if row not in bad and row not in not_text:
                    bad[row] = self._bad(decoded, row, texts, name, fields[row].as_py(), self._misfit(kind))
        bad |= {row: replace(b, column=None, dropped=self._policy != "null") for row, b in not_text.items()}
        left_out = np.zeros(count, np.bool_) if split.left_out is None else split.left_out.copy()
        left_out[list(not_text)] = False
        return self._assembled(decoded, data, stop, arrays, bad, left_out, located, final)

    def _assembled(
        self,
        decoded: Decoded,
        data: pa.Buffer,
        stop: int,
        arrays: dict[str, pa.Array],
        bad: dict[int, BadValue],
        left_out: np.ndarray,
        located: bool,
        final: bool,
    ) -> Decoded:
        count = decoded.batch.num_rows
        keep = ~left_out
        records = decoded.records - int(left_out.sum())
        before = np.cumsum(left_out)
        ordered = [replace(bad[row], record=bad[row].record - int(before[row])) for row in sorted(bad)]
        if bad and self._policy == "error":
            keep[min(bad) :] = False
            ordered = ordered[:1]
            if self._lines is not self._every:
                ordered = [replace(ordered[0], record=self._number(data, ordered[0].offset, final))]
        elif bad and self._policy != "null":
            keep[list(bad)] = False
        numbers = np.flatnonzero(keep)
        if len(numbers) < count:
            taken = pa.array(numbers)
            arrays = {name: take_rows(arrays[name], taken) for name in self.columns}
        if self.columns:
            batch = pa.RecordBatch.from_arrays([arrays[c] for c in self.columns], names=list(self.columns))
        else:
            batch = pa.RecordBatch.from_arrays([pa.nulls(len(numbers))], names=["rows"]).select([])
        made = Decoded(batch, decoded.consumed, records, decoded.lines, bad=ordered)
        if located:
            made.offsets = _offsets(decoded)[numbers]
            made.located_lines = lambda: _line_numbers(decoded)[numbers]
        return made

    def _number(self, data: pa.Buffer, offset: int, final: bool) -> int:
        """Return the number of the record at an offset, where lines before it were left out unseen."""
        before = self._every.decode(data, offset, final=final, located=True)
        lines = before.batch.column(0).cast(pa.string()).fill_null(pa.scalar("", pa.string()))
        split = self._splitter.split(lines, ())
        return len(lines) - (0 if split.left_out is None else int(split.left_out.sum()))

    def _bad(
        self, decoded: Decoded, row: int, lines: pa.Array, column: str | None, value: str | None, reason: str
    ) -> BadValue:
        length = len(lines[row].as_py().encode())
        line = int(_line_numbers(decoded)[row])
        kept = self._policy == "null"
        return BadValue(
            int(_offsets(decoded)[row]), length, row, line, column, value, reason, dropped=not kept
        )

    def _misfit(self, kind: pa.DataType) -> str:
        if self._types.exact:
            return f"not exactly a value of type {type_text(kind)}; declare its type with schema="
        return f"not a value of type {type_text(kind)}"


def _offsets(decoded: Decoded) -> I64:
    assert decoded.offsets is not None  # asked for
    return decoded.offsets


def _line_numbers(decoded: Decoded) -> I64:
    """Return the lines before each row, counted once."""
    if callable(decoded.located_lines):
        decoded.located_lines = decoded.located_lines()
    assert decoded.located_lines is not None  # asked for
    return decoded.located_lines


def _without(texts: pa.Array, rows: Sequence[int], left_out: np.ndarray | None) -> pa.Array:
    """Return texts with null at some rows, and where lines were left out."""
    wrong = np.zeros(len(texts), np.bool_) if left_out is None else left_out.copy()
    wrong[list(rows)] = True
    return pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), texts)
