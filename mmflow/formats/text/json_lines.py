"""JSON at the end of lines of text: `2024-02-29 INFO {"ms": 12}`.

What stands before the first brace is the column `prefix`; the object that begins there is read as a record of NDJSON.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy
from mmflow.formats.decoding.decoder import BadValue, Decoded, RecordDecoder
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.decoding.views import take_rows
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass

__all__ = ["PREFIX", "JsonLinesDecoder", "split_json"]

PREFIX = "prefix"
_PATTERN = r"^(?P<prefix>[^{]*?)[ \t]*(?P<json>\{.*)$"


def split_json(lines: pa.Array) -> pa.StructArray:
    """Split lines (string) into structs of `prefix` and `json`; null where a line has no brace."""
    return pc.extract_regex(lines, _PATTERN)


@dataclass(slots=True)
class JsonLinesDecoder:
    """`RecordDecoder` for lines that end with a JSON object.

    Attributes:
        columns: Wanted columns.
        policy: Policy for bad records.
        lines: Decoder of lines, whose policy is `null`.
        objects: Decoder of NDJSON for the other columns, of the same policy.
    """

    columns: tuple[str, ...]
    policy: BadRecordPolicy
    lines: RecordDecoder
    objects: RecordDecoder
    skips_nuls: bool = True

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        decoded = self.lines.decode(data, stop, final=final, located=True)
        offsets, begins = decoded.offsets, decoded.line_numbers
        assert offsets is not None  # asked for
        assert begins is not None
        texts = decoded.batch.column(0).cast(pa.string())
        lengths = numpy_values(pc.fill_null(pc.binary_length(texts), pa.scalar(0, pa.int32()))).astype(
            np.int64
        )
        parts = split_json(texts.fill_null(pa.scalar("", pa.string())))
        found = numpy_values(parts.is_valid())
        blank = (lengths == 0) & numpy_values(texts.is_valid())
        bad = {b.record: replace(b, column=None, dropped=self.policy != "null") for b in decoded.bad}
        kept = self.policy == "null"
        for row in np.flatnonzero(~found & ~blank).tolist():
            if row not in bad:
                reason = "the line holds no JSON object"
                bad[row] = BadValue(
                    int(offsets[row]), int(lengths[row]), row, int(begins[row]), None, None, reason, not kept
                )
        rows = np.flatnonzero(found)
        batch, read = self._objects(parts, rows, bad, offsets, lengths, begins)
        # Rows of the objects' batch by line: -1 where there is none.
        place = np.full(len(texts), -1, np.int64)
        place[read] = np.arange(len(read))
        keep = ~blank
        before = np.cumsum(blank)
        ordered = [replace(bad[row], record=row - int(before[row])) for row in sorted(bad)]
        if bad and self.policy == "error":
            keep[min(bad) :] = False
            ordered = ordered[:1]
        elif not kept:
            keep &= place >= 0
        numbers = np.flatnonzero(keep)
        from_objects = place[numbers]
        objects = pa.array(np.maximum(from_objects, 0), mask=from_objects < 0)
        arrays = []
        for name in self.columns:
            if name == PREFIX:
                texts = pc.if_else(parts.is_valid(), parts.field("prefix"), pa.scalar(None, pa.string()))
                arrays.append(texts.take(pa.array(numbers)).cast(pa.string_view()))
            else:
                arrays.append(take_rows(batch.column(batch.schema.get_field_index(name)), objects))
        if arrays:
            made = pa.RecordBatch.from_arrays(arrays, names=list(self.columns))
        else:
            made = pa.RecordBatch.from_arrays([pa.nulls(len(numbers))], names=["rows"]).select([])
        result = Decoded(
            made, decoded.consumed, decoded.records - int(blank.sum()), decoded.lines, bad=ordered
        )
        if located:
            result.offsets, result.located_lines = offsets[numbers], begins[numbers]
        return result

    def _objects(
        self,
        parts: pa.StructArray,
        rows: np.ndarray,
        bad: dict[int, BadValue],
        offsets: np.ndarray,
        lengths: np.ndarray,
        begins: np.ndarray,
    ) -> tuple[pa.RecordBatch, np.ndarray]:
        """Decode the objects of some lines; return their rows and the lines of these. Bad ones are added to `bad`."""
        objects = parts.field("json").take(pa.array(rows))
        joined = pc.binary_join_element_wise(
            objects, pa.scalar("", pa.string()), pa.scalar("\n", pa.string())
        )
        starts = np.frombuffer(joined.buffers()[1], np.int32)[: len(rows) + 1].astype(np.int64)
        text = (joined.buffers()[2] or pa.py_buffer(b"")).slice(0, int(starts[-1]) if len(rows) else 0)
        batches: list[pa.RecordBatch] = []
        read: list[np.ndarray] = []
        done = 0
        while done < text.size or not batches:
            decoded = self.objects.decode(text.slice(done), text.size - done, final=True, located=True)
            assert decoded.offsets is not None  # asked for
            batches.append(decoded.batch)
            read.append(rows[np.searchsorted(starts, decoded.offsets + done)])
            for b in decoded.bad:
                row = int(rows[int(np.searchsorted(starts, b.offset + done, side="right")) - 1])
                bad.setdefault(
                    row,
                    replace(
                        b,
                        offset=int(offsets[row]),
                        length=int(lengths[row]),
                        record=row,
                        line=int(begins[row]),
                    ),
                )
            done += decoded.consumed
            if (decoded.bad and self.policy == "error") or not decoded.consumed:
                break
        if len(batches) == 1:
            return batches[0], read[0]
        arrays = [pa.concat_arrays([b.column(i) for b in batches]) for i in range(len(batches[0].schema))]
        lines = np.concatenate(read)
        if not arrays:
            return pa.RecordBatch.from_arrays([pa.nulls(len(lines))], names=["rows"]).select([]), lines
        return pa.RecordBatch.from_arrays(arrays, names=batches[0].schema.names), lines
