"""The reference CSV decoder: structure by numpy, values by pyarrow.csv.

Broken records are found by the structure alone, whatever columns are wanted; pyarrow only ever sees
records of the right shape, as one block (pyarrow 26 loses a byte where a quoted CRLF lies between two
blocks).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.base import BadRecordPolicy
from mmflow.formats.csv.respelling import respeller
from mmflow.formats.csv.structure import BROKEN, Dialect, Structure, scan_structure, structure_advice
from mmflow.formats.csv.styles import ColumnStyle
from mmflow.formats.csv.values import convert_text, is_read_as_text, unify_nan
from mmflow.formats.decoding.decoder import BadValue, Decoded
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.decoding.kernel_types import kernel_type
from mmflow.formats.decoding.views import take_rows
from mmflow.formats.encodings.invalid import invalid_utf8_reason
from mmflow.formats.schemas.inference import misreads
from mmflow.formats.schemas.overrides import override_hint
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["CsvDecoder", "CsvTypes", "check_types", "column_positions"]

I64 = npt.NDArray[np.int64]

_NULL_LINE = b"-\n"
_COMMENT = ord("#")
_HEX, _EXPONENT = lazy_regex(rb"0[xX]"), lazy_regex(rb"[eE]")


@dataclass(frozen=True, slots=True)
class CsvTypes:
    """Names and types of a file's columns.

    Attributes:
        names: Columns of the file, in its order.
        types: Types of the columns that are read; others are skipped.
        nulls: Unquoted texts that mean null.
        exact: Text that its value could not be written as again is none of the type (`schemas.inference.misreads`).
        quoted_null: Texts that mean null do so in quotes, too.
        styles: Spelling of the columns whose values are not spelled as usual.
    """

    names: tuple[str, ...]
    types: dict[str, pa.DataType]
    nulls: tuple[str, ...]
    exact: bool = False
    quoted_null: bool = False
    styles: Mapping[str, ColumnStyle] = field(default_factory=dict)

    def nulls_of(self, name: str) -> tuple[str, ...]:
        """Return the texts that mean null in a column."""
        style = self.styles.get(name)
        return self.nulls if style is None or style.nulls is None else style.nulls


@lru_cache(maxsize=64)
def column_positions(names: tuple[str, ...]) -> Mapping[str, int]:
    """Return the position of each column, of which each task asks again; of a name that comes twice, the first."""
    return {name: position for position, name in reversed(list(enumerate(names)))}


class CsvDecoder:
    """`RecordDecoder` for CSV.

    Args:
        columns: Wanted columns, a subset of `types.types`.
        types: Types of the columns of the file.
        dialect: Dialect of the file.
        policy: Policy for bad records.
        check_all: Convert every column, so that a bad value is found whatever columns are wanted.
    """

    skips_nuls = True

    def __init__(
        self,
        columns: tuple[str, ...],
        types: CsvTypes,
        dialect: Dialect,
        policy: BadRecordPolicy,
        *,
        check_all: bool = False,
    ) -> None:
        self.columns = columns
        self._types = types
        self._dialect = dialect
        self._policy = policy
        self._converted = tuple(types.types) if check_all else columns
        self._respelled = {
            name: respeller(types.types[name], style)
            for name, style in types.styles.items()
            if style.respells and name in types.types
        }

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        raw = np.frombuffer(data, np.uint8)
        found = scan_structure(raw, stop, self._dialect, final=final)
        count = len(found.starts)
        consumed = found.consumed
        newlines = np.flatnonzero(raw[:consumed] == 10)
        structural = np.flatnonzero((found.fields != len(self._types.names)) | (found.broken != 0))
        bad = {int(i): self._broken(found, int(i), newlines, int(raw[found.starts[i]])) for i in structural}
        kept = np.ones(count, np.bool_)
        kept[structural] = False
        if self._policy == "error" and bad:
            kept[min(bad) :] = False
        arrays: dict[str, pa.Array] = {}
        rows = np.flatnonzero(kept)
        if self._converted and len(rows):
            text, spans = _end_with_newline(*_join_records(raw, found, rows), self._dialect)
            arrays = self._readable(self._converted, text)
            for name in self._converted if len(arrays) < len(self._converted) else ():
                if name in arrays:
                    continue
                arrays[name], wrong = self._column(name, text, spans)
                for row, value in wrong:
                    record = int(rows[row])
                    if record not in bad:
                        bad[record] = self._wrong(found, record, newlines, name, value, advise=not bad)
        return self._assembled(found, rows, arrays, bad, newlines, located)

    # ---- values ----------------------------------------------------------------------------

    def _readable(self, columns: Sequence[str], text: pa.Buffer) -> dict[str, pa.Array]:
        """Return the columns whose every value is of its type; halving them finds the others in few passes."""
        try:
            return self._read_values(columns, text)
        except pa.ArrowInvalid:
            if len(columns) == 1:
                return {}
            half = len(columns) // 2
            return self._readable(columns[:half], text) | self._readable(columns[half:], text)

    def _column(self, name: str, text: pa.Buffer, spans: I64) -> tuple[pa.Array, list[tuple[int, bytes]]]:
        """Return the values of a column, and the rows whose text is not of its type; these are null."""
        wrong: list[int] = []
        if name in self._respelled:
            pieces = [self._read_respelled(name, text, wrong)]
        else:
            pieces = self._pieces(name, text, spans, 0, len(spans), wrong)
        texts = self._read((name,), text, (), as_bytes=True)[name]
        values = [(row, texts[row].as_py()) for row in wrong]
        return pa.concat_arrays(pieces), values

    def _pieces(
        self, name: str, text: pa.Buffer, spans: I64, low: int, high: int, wrong: list[int]
    ) -> list[pa.Array]:
        """Return rows `[low, high)` in pieces that convert, halving the others down to the single wrong row."""
        if self._policy == "error" and wrong:
            return [pa.nulls(high - low, self._types.types[name])]  # only the first wrong row matters
        begin, end = int(spans[low, 0]), int(spans[high - 1, 1])
        try:
            return [self._read((name,), text.slice(begin, end - begin), self._types.nulls_of(name))[name]]
        except pa.ArrowInvalid:
            if high - low == 1:
                wrong.append(low)
                return [pa.nulls(1, self._types.types[name])]
            middle = (low + high) // 2
            left = self._pieces(name, text, spans, low, middle, wrong)
            return left + self._pieces(name, text, spans, middle, high, wrong)

    def _read_values(self, columns: Sequence[str], text: pa.Buffer) -> dict[str, pa.Array]:
        """Read columns of whole records, each in its style.

        Raises:
            pa.ArrowInvalid: A value is not of its type.
        """
        types = self._types
        if not types.styles:
            return self._read(columns, text, types.nulls)
        made: dict[str, pa.Array] = {}
        usual = [c for c in columns if c not in types.styles]
        if usual:
            made = self._read(usual, text, types.nulls)
        for name in columns:
            if name in self._respelled:
                made |= self._read_numbers(name, text) or {name: self._read_respelled(name, text, None)}
            elif name in types.styles:
                made |= self._read((name,), text, types.nulls_of(name))
        return made

    def _read_numbers(self, name: str, text: pa.Buffer) -> dict[str, pa.Array]:
        """Read a column of durations whose values are all numbers; empty where they are not."""
        if not self._types.styles[name].spans:
            return {}
        try:
            return self._read((name,), text, self._types.nulls_of(name))
        except pa.ArrowInvalid:
            return {}

    def _read_respelled(self, name: str, text: pa.Buffer, wrong: list[int] | None) -> pa.Array:
        """Read a column whose values are spelled in a style of their own.

        Args:
            name: Column.
            text: Whole records.
            wrong: Takes the rows whose text is not of the column's type, which are null; None: they are an error.

        Raises:
            pa.ArrowInvalid: A value is not of its type.
        """
        texts = self._read((name,), text, self._types.nulls_of(name), as_bytes=True)[name].to_pylist()
        respell = self._respelled[name]
        usual = [None if t is None else respell(t.decode(errors="replace")) for t in texts]
        lost = [
            row for row, (t, u) in enumerate(zip(texts, usual, strict=True)) if t is not None and u is None
        ]
        if lost and wrong is None:
            raise pa.ArrowInvalid(f"a text of column {name!r} is not in its style")
        # All are quoted, so that only a null is the text of nulls.
        lines = [
            _NULL_LINE if t is None else b'"%b"\n' % t.replace('"', '""').encode(errors="replace")
            for t in usual
        ]
        ends = np.cumsum([len(line) for line in lines])
        spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
        joined = pa.py_buffer(b"".join(lines))
        types = self._types
        plain = CsvDecoder(
            (name,),
            CsvTypes((name,), {name: types.types[name]}, ("-",), types.exact),
            Dialect(),
            self._policy,
        )
        if wrong is None:
            return plain._read((name,), joined, ("-",))[name]
        found: list[int] = []
        pieces = plain._pieces(name, joined, spans, 0, len(spans), found)
        wrong += sorted({*lost, *found})
        return pa.concat_arrays(pieces)

    def _read(
        self, columns: Sequence[str], text: pa.Buffer, nulls: Sequence[str], *, as_bytes: bool = False
    ) -> dict[str, pa.Array]:
        """Read columns of whole records.

        Raises:
            pa.ArrowInvalid: A value is not of its type.
        """
        dialect = self._dialect
        positions = column_positions(self._types.names)
        wanted = {column: str(positions[column]) for column in columns}
        types = {wanted[c]: pa.binary() if as_bytes else _text_type(self._types.types[c]) for c in columns}
        import pyarrow.csv as pacsv  # noqa: PLC0415  (slow)

        table = pacsv.read_csv(
            pa.BufferReader(text),
            read_options=pacsv.ReadOptions(
                use_threads=False,
                block_size=text.size + 1,
                column_names=list(map(str, range(len(self._types.names)))),
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=dialect.delimiter.decode("latin-1"),
                quote_char=dialect.quote.decode("latin-1") if dialect.quote else False,
                double_quote=bool(dialect.quote),
                escape_char=dialect.escape.decode("latin-1") if dialect.escape else False,
                newlines_in_values=True,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=list(nulls),
                strings_can_be_null=True,
                quoted_strings_can_be_null=self._types.quoted_null,
            ),
        )
        made = {}
        for column, name in wanted.items():
            array = pa.concat_arrays(table[name].chunks)
            if pa.types.is_decimal(array.type):
                array.validate(
                    full=True
                )  # pyarrow 26 reads 9999.9 into decimal(4, 2) as 999990, without a word
            elif pa.types.is_floating(array.type):
                array = unify_nan(array)
            kind = array.type if as_bytes else self._types.types[column]
            made[column] = array if array.type == kind else convert_text(array, kind)
        doubtful = () if as_bytes else [c for c in columns if self._doubtful(made[c], text)]
        if doubtful:
            texts = self._read(doubtful, text, nulls, as_bytes=True)
            for column in doubtful:
                kind = self._types.types[column]
                if misreads(kind, texts[column].to_pylist(), made[column], exact=self._types.exact):
                    raise pa.ArrowInvalid(f"a text of column {column!r} is no {kind}")
        return made

    def _doubtful(self, values: pa.Array, text: pa.Buffer) -> bool:
        """Return whether a value might say something else than its text."""
        types, kind = pa.types, values.type
        if types.is_string_view(kind) or types.is_null(kind):
            return False
        if self._types.exact:
            return True
        if types.is_floating(kind):
            return bool(np.isinf(numpy_values(values)).any())
        if types.is_integer(kind):
            return _HEX.search(memoryview(text)) is not None
        return types.is_decimal(kind) and _EXPONENT.search(memoryview(text)) is not None

    # ---- bad records ---------------------------------------------------------------------------

    def _broken(self, found: Structure, index: int, newlines: I64, first_byte: int) -> BadValue:
        code = int(found.broken[index])
        counts = (len(self._types.names), int(found.fields[index]))
        reason = BROKEN[code] if code else "expected {:,} fields, found {:,}".format(*counts)
        if self._policy == "error":
            reason += structure_advice(code, *counts, commented=first_byte == _COMMENT)
        return _bad_value(found, index, newlines, None, None, reason)

    def _wrong(
        self, found: Structure, index: int, newlines: I64, column: str, raw: bytes, *, advise: bool
    ) -> BadValue:
        kind = self._types.types[column]
        value = raw.decode(errors="replace")
        if pa.types.is_string_view(kind):
            reason = invalid_utf8_reason(raw, advise=advise)
        else:
            exactly = "exactly " if self._types.exact else ""
            usual = override_hint(column) if exactly else ""
            from mmflow.formats.csv.advice import advice  # noqa: PLC0415  (slow: for errors only)

            hint = advice(value, column, kind, self._types) or usual
            reason = f"not {exactly}a value of type {type_text(kind)}" + (f"; {hint}" if hint else "")
        bad = _bad_value(found, index, newlines, column, value, reason)
        return replace(bad, not_text=pa.types.is_string_view(kind))

    def _assembled(
        self,
        found: Structure,
        rows: I64,
        arrays: dict[str, pa.Array],
        bad: dict[int, BadValue],
        newlines: I64,
        located: bool,
    ) -> Decoded:
        count = len(found.starts)
        ordered = [bad[i] for i in sorted(bad)]
        keep = np.ones(len(rows), np.bool_)
        padded: I64 | None = None
        if self._policy == "error" and ordered:
            ordered = ordered[:1]
            keep = rows < min(bad)
        elif self._policy == "null":
            # Every record keeps its row: broken ones are all null.
            padded = np.full(count, -1, np.int64)
            padded[rows] = np.arange(len(rows))
            ordered = [_with_nulls(b) for b in ordered]
        elif bad:
            keep = ~np.isin(rows, np.fromiter(bad, np.int64))
        numbers = np.arange(count) if padded is not None else rows[keep]
        made = []
        for name in self.columns:
            array = arrays.get(name, pa.nulls(0, self._types.types[name]))
            made.append(_choose_rows(array, keep, padded))
        batch = _batch(self.columns, made, len(numbers))
        decoded = Decoded(batch, found.consumed, count, len(newlines), bad=ordered)
        if located:
            decoded.offsets = found.starts[numbers]
            decoded.located_lines = np.searchsorted(newlines, decoded.offsets)
        return decoded


def check_types(types: dict[str, pa.DataType]) -> None:
    """Refuse types that CSV text can't be read as.

    Raises:
        ConfigError: Names the column.
    """
    known: set[pa.DataType] = set()
    for name, kind in types.items():
        if kind in known:
            continue
        known.add(kind)
        if kernel_type(kind) is not None:
            continue
        decoder = CsvDecoder((name,), CsvTypes((name,), {name: kind}, ("",)), Dialect(), "null")
        try:
            decoder.decode(pa.py_buffer(b"x\n"), 2, final=True, located=False)
        except pa.ArrowNotImplementedError as error:
            raise ConfigError(
                f"column {name!r}: CSV can't be read as {type_text(kind)}; read it as string"
            ) from error


def _text_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if is_read_as_text(kind) else kind


def _bad_value(
    found: Structure, index: int, newlines: I64, column: str | None, value: str | None, reason: str
) -> BadValue:
    start = int(found.starts[index])
    line = int(np.searchsorted(newlines, start))
    length = int(found.ends[index]) - start
    return BadValue(start, length, index, line, column, value, reason)


def _with_nulls(bad: BadValue) -> BadValue:
    return replace(bad, dropped=False)


def _join_records(raw: npt.NDArray[np.uint8], found: Structure, rows: I64) -> tuple[pa.Buffer, I64]:
    """Return the text of some records, joined, and the place of each in it, shape (rows, 2).

    Without a copy where they are neighbours.
    """
    starts, nexts = found.starts[rows], found.nexts[rows]
    if np.array_equal(nexts[:-1], starts[1:]):
        begin = int(starts[0])
        spans = np.stack([starts - begin, nexts - begin], axis=1)
        return pa.py_buffer(raw[begin : int(nexts[-1])]), spans
    breaks = np.flatnonzero(nexts[:-1] != starts[1:]) + 1
    runs = np.concatenate([[0], breaks, [len(rows)]])
    parts = [raw[int(starts[a]) : int(nexts[b - 1])] for a, b in itertools.pairwise(runs)]
    lengths = nexts - starts
    ends = np.cumsum(lengths)
    return pa.py_buffer(np.concatenate(parts)), np.stack([ends - lengths, ends], axis=1)


def _end_with_newline(text: pa.Buffer, spans: I64, dialect: Dialect) -> tuple[pa.Buffer, I64]:
    """Return the same with a line break at the end, where an empty field stands there.

    pyarrow 26 reads an empty last field as quoted, and so never as null, if the field before it was quoted and nothing
    follows.
    """
    tail = memoryview(text)[-2:].tobytes()
    if not tail.removesuffix(b"\r").endswith(dialect.delimiter):
        return text, spans
    spans = spans.copy()
    spans[-1, 1] += 1
    return pa.py_buffer(b"".join((memoryview(text), b"\n"))), spans


def _choose_rows(array: pa.Array, keep: npt.NDArray[np.bool_], padded: I64 | None) -> pa.Array:
    if padded is not None:
        if len(array) == len(padded):
            return array
        return take_rows(array, pa.array(np.maximum(padded, 0), mask=padded < 0))
    return array if keep.all() else take_rows(array, pa.array(np.flatnonzero(keep)))


def _batch(names: Sequence[str], arrays: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    if names:
        return pa.RecordBatch.from_arrays(list(arrays), names=list(names))
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])
