"""The reference decoder of NDJSON: record by record, with Python's json. The definition, not the fast way.

Late fields and late types are never dropped in silence: with an inferred schema, a field that it does not know is a
bad record.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy
from mmflow.formats.decoding.decoder import BadValue, Decoded
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.formats.encodings.invalid import invalid_reason
from mmflow.formats.ndjson.raw import minified, raw_members
from mmflow.formats.ndjson.values import EXTRA, UNKNOWN, Misfit, fit_raw, fit_value, parse
from mmflow.formats.schemas.json_type import holds_json, plain_type
from mmflow.formats.text.lines import TextDecoder
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc

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
        extra: Fields that are not in the schema, and values that are not of their type, make no record bad: they are
            kept as JSON in the column `_extra`.
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
        extra: bool = False,
    ) -> None:
        self.columns = columns
        self._schema = schema
        self._policy = policy
        self._closed = closed
        self._exact = exact
        self._extra = extra
        self._known = frozenset(schema.names)
        wanted = frozenset(columns)
        read = (
            schema.names
            if check_all or (extra and EXTRA in wanted)
            else [n for n in schema.names if n in wanted]
        )
        self._read = pa.schema([schema.field(n) for n in read])
        self._raw = frozenset(f.name for f in self._read if holds_json(f.type))
        types = [pa.field(f.name, plain_type(f.type)) for f in self._read]
        self._made = pa.schema([*types, (EXTRA, pa.string_view())] if extra and EXTRA in wanted else types)
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
        columns: dict[str, list[Any]] = {n: [] for n in self._made.names}
        bad: list[BadValue] = []
        for index, offset in enumerate(offsets.tolist()):
            end = raw.find(b"\n", offset)
            text = raw[offset : end if end >= 0 else len(raw)].rstrip(b"\r")
            row, wrong = self._record(text, advise=not bad)
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
                        not_text=wrong.reason.startswith("not valid UTF-8"),
                    )
                )
                if self._policy == "error":
                    break
                if not null:
                    continue
            kept.append(index)
            for name, values in columns.items():
                values.append(row.get(name))
        arrays = {f.name: pa.array(columns[f.name], f.type) for f in self._made}
        return np.array(kept, np.int64), arrays, bad

    def _record(self, text: bytes, *, advise: bool) -> tuple[dict[str, Any], Misfit | None]:
        """Return the fitted values of a record, and the first error in it."""
        try:
            record = parse(text.decode())
        except RecursionError:  # json's, at some 1,000 brackets less the calls it is in
            return {}, Misfit("", None, "brackets nested too deep, some 900 are the most")
        except UnicodeDecodeError as error:
            return {}, Misfit("", None, invalid_reason(text, "utf-8", error.start, advise=advise))
        except ValueError as error:
            return {}, Misfit("", None, f"not a JSON object: {error}")
        first: Misfit | None = None
        unknown = [k for k in record if k not in self._known] if self._closed or self._extra else []
        if unknown and not self._extra:
            first = Misfit(unknown[0], record[unknown[0]], UNKNOWN)
        raw = raw_members(text.decode()) if self._raw or self._extra else {}
        extra = {k: raw[k] for k in unknown} if self._extra else {}
        row: dict[str, Any] = {}
        for f in self._read:
            try:
                row[f.name] = self._fit(record, raw, f, closed=self._closed or self._extra)
            except Misfit as error:
                row[f.name] = None
                if not self._extra:
                    first = first or error
                    continue
                extra[f.name] = raw[f.name]
                if (
                    error.reason == UNKNOWN
                ):  # a new field within: what is known of the value stays in its column
                    with suppress(Misfit):
                        row[f.name] = self._fit(record, raw, f, closed=False)
        if extra:
            kept = {k: v for k, v in raw.items() if k in extra}
            row[EXTRA] = "{" + ",".join(f"{_key(text, k)}:{minified(v)}" for k, v in kept.items()) + "}"
        return row, first

    def _fit(self, record: dict[str, Any], raw: dict[str, str], field: pa.Field, *, closed: bool) -> Any:
        name, kind = field.name, field.type
        if name in self._raw:
            return fit_raw(raw.get(name), kind, name, exact=self._exact, closed=closed)
        return fit_value(record.get(name), kind, name, exact=self._exact, closed=closed)


def _key(record: bytes, key: str) -> str:
    """Return a key in quotes, as the record writes it: without escapes where it has none."""
    plain = f'"{key}"'
    return plain if plain.encode(errors="surrogatepass") in record and "\\" not in key else json.dumps(key)


def _blank(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which lines hold nothing but white space, shape (rows,)."""
    trimmed = pc.utf8_trim(texts.cast(pa.binary()).cast(pa.string(), safe=False), " \t\r")
    empty: npt.NDArray[np.bool_] = numpy_values(pc.binary_length(trimmed)) == 0
    return empty & ~null_places(trimmed)
