"""Arrow values as text: the fields of CSV and the tokens of JSON, column by column, by Arrow kernels.

Invariant: written values read back as the same values: floats are recognizable as floats and have as many digits as
needed; decimals are exact; timestamps with a zone are UTC, ISO 8601.

- JSON: "NaN", "Infinity" and "-Infinity" for the numbers that JSON lacks, as in Spark and protobuf; binary as
  base64; maps with text keys as objects, others as arrays of {"key", "value"}; durations as a number of their unit.
- CSV: nested values as JSON text; NaN and infinities as nan, inf, -inf; the rest as in JSON, unquoted.

Scalars have their types, and no compute function is given a Python value: where pyarrow 26 infers a type, it imports
pandas if that is installed (0.7 s).
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.formats.ndjson.values import is_binary
from mmflow.formats.schemas.schema import public_type
from mmflow.lazy import compute as pc
from mmflow.sinks.writers.value_limits import UnwritableError, check_years, unwritable_value_error

__all__ = ["csv_field", "csv_lines", "csv_rows", "json_rows", "lines", "text_slices", "text_type_problem"]

_SLICE_ROWS = 16 << 10
_SLICE_BYTES = 64 << 20
#: Characters for which a CSV field is quoted, beside the delimiter.
_SPECIAL = '"\r\n\0\ufeff'
#: Values that Python writes as fast as Arrow, and faster than pyarrow.compute is imported.
_FEW, _FEW_AT_FIRST = 256, 8192
_SHORT_ESCAPES = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROLS = [chr(n) for n in range(32)]
_ZERO = pa.scalar(0.0, pa.float64())


def text_type_problem(data_type: pa.DataType) -> str | None:
    """Return why a type can't be written as text; None where it can."""
    if pa.types.is_union(data_type):
        return "union values have no form in text"
    if pa.types.is_interval(data_type):
        return "calendar intervals have no form in text"
    if pa.types.is_dictionary(data_type):
        return text_type_problem(data_type.value_type)
    if pa.types.is_nested(data_type):
        children = (data_type.field(i).type for i in range(data_type.num_fields))
        return next((why for why in map(text_type_problem, children) if why is not None), None)
    return None


def text_slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield slices of the batch whose text stays below Arrow's 2 GiB for one array."""
    kinds = [public_type(c.type) for c in batch.columns]
    columns = [c if c.type == k else c.cast(k) for c, k in zip(batch.columns, kinds, strict=True)]
    plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names) if columns else batch
    per_row = max(1, plain.nbytes // max(1, plain.num_rows))
    step = max(1, min(_SLICE_ROWS, _SLICE_BYTES // per_row))
    for start in range(0, plain.num_rows, step):
        yield plain.slice(start, step)


# ---- JSON ---------------------------------------------------------------------------------------


def json_rows(batch: pa.RecordBatch) -> pa.StringArray:
    """Return each row as the text of one JSON object.

    Args:
        batch: A slice from `text_slices`.
    """
    if not batch.num_columns:
        return _repeated("{}", batch.num_rows)
    tokens = [
        _named(name, column, _json) for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return _json_object(batch.schema.names, tokens, batch.num_rows)


def _named(name: str, column: pa.Array, form: Callable[[pa.Array], Any]) -> Any:
    """Convert a column with `form`; an error names the column."""
    try:
        return form(column)
    except UnwritableError as error:
        raise unwritable_value_error(name, error) from None


def _json_object(names: list[str], columns: list[Any], length: int) -> Any:
    """Return JSON objects from the tokens of their fields."""
    parts: list[Any] = []
    for position, (name, tokens) in enumerate(zip(names, columns, strict=True)):
        key = json.dumps(name, ensure_ascii=False)
        parts += [_text(("," if position else "{") + key + ":"), tokens]
    parts.append(_text("}"))
    return pc.binary_join_element_wise(*parts, _text("")) if len(names) else _repeated("{}", length)


def _json(array: pa.Array) -> Any:
    """Return JSON tokens, none of them null."""
    tokens = _json_tokens(array)
    return pc.fill_null(pc.if_else(array.is_null(), _text(None), tokens), _text("null"))


def _json_tokens(array: pa.Array) -> Any:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _json_tokens(array.cast(kind.value_type))
    if isinstance(array, pa.ExtensionArray):
        return _json_tokens(array.storage)
    if pa.types.is_null(kind):
        return _repeated(None, len(array))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _quoted_json(array.cast(pa.string()))
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return _json_object(names, [_json(column) for column in array.flatten()], len(array))
    if pa.types.is_map(kind):
        return _json_map(array)
    if pa.types.is_nested(kind):
        return _json_list(array)
    if pa.types.is_floating(kind):
        texts = _plain(array)
        if pc.all(pc.is_finite(array)).as_py() is not False:  # None where all are null
            return texts
        infinite = pc.if_else(
            pc.less(array.cast(pa.float64()), _ZERO), _text('"-Infinity"'), _text('"Infinity"')
        )
        lacking = pc.if_else(pc.is_nan(array), _text('"NaN"'), infinite)
        return pc.if_else(pc.is_finite(array), texts, lacking)
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        # ISO 8601 has a T between date and time.
        iso = pc.replace_substring(_plain(array), " ", "T", max_replacements=1)
        return pc.binary_join_element_wise(_text('"'), iso, _text('"'), _text(""))
    if is_binary(kind):
        return pc.binary_join_element_wise(_text('"'), _plain(array), _text('"'), _text(""))
    return _plain(array)


def _quoted_json(array: Any) -> Any:
    if pc.any(pc.match_substring_regex(array, r'[\x00-\x1f"\\]')).as_py():
        array = pc.replace_substring(pc.replace_substring(array, "\\", "\\\\"), '"', '\\"')
        if pc.any(pc.match_substring_regex(array, r"[\x00-\x1f]")).as_py():
            for control in _CONTROLS:
                escape = _SHORT_ESCAPES.get(control, f"\\u{ord(control):04x}")
                array = pc.replace_substring(array, control, escape)
    return pc.binary_join_element_wise(_text('"'), array, _text('"'), _text(""))


def _json_list(array: pa.Array) -> Any:
    # From lengths, for every kind of list: pyarrow 26 casts list views to lists wrongly.
    lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int32()), pa.scalar(0, pa.int32()))
    ends = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return _joined_lists(ends, _json(array.flatten()), "[", "]")


def _json_map(array: pa.Array) -> Any:
    first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
    ends = pc.subtract(array.offsets, array.offsets[0])
    keys, items = array.keys.slice(first, last - first), array.items.slice(first, last - first)
    if public_type(keys.type) != pa.string():
        pairs = _json_object(["key", "value"], [_json(keys), _json(items)], len(keys))
        return _joined_lists(ends, pairs, "[", "]")
    pairs = pc.binary_join_element_wise(_quoted_json(keys), _json(items), _text(":"))
    return _joined_lists(ends, pairs, "{", "}")


def _joined_lists(ends: pa.Array, tokens: Any, opening: str, closing: str) -> Any:
    """Return consecutive tokens joined to one text per list; the caller handles nulls."""
    lists = pa.ListArray.from_arrays(ends, tokens)
    joined = pc.binary_join(lists, _text(","))
    return pc.binary_join_element_wise(_text(opening), joined, _text(closing), _text(""))


# ---- CSV ----------------------------------------------------------------------------------------


def csv_lines(batch: pa.RecordBatch, *, delimiter: str, null: str) -> bytes | pa.Buffer:
    """Return the rows as lines of CSV, each with its line end. Arguments and errors are those of `csv_rows`.

    A few values are written without Arrow's functions, the first of which takes 45 ms.
    """
    few = _FEW if "pyarrow.compute" in sys.modules else _FEW_AT_FIRST
    columns = [_few_texts(c) for c in batch.columns] if batch.num_rows * batch.num_columns <= few else [None]
    if None in columns:
        return lines(csv_rows(batch, delimiter=delimiter, null=null))
    _check_one_column(batch, null)
    fields = ([csv_field(text, delimiter, null) for text in texts or ()] for texts in columns)
    return "".join(f"{delimiter.join(row)}\n" for row in zip(*fields, strict=True)).encode()


def csv_field(text: str | None, delimiter: str, null: str) -> str:
    """Return a text as a CSV field, quoted where it must be."""
    if text is None:
        return null
    quoted = text in ("", null) or any(c in text for c in _SPECIAL + delimiter)
    return '"' + text.replace('"', '""') + '"' if quoted else text


def _few_texts(column: pa.Array) -> list[str | None] | None:
    """Return values as Python writes them; None where Arrow does it in another way."""
    kind = column.type
    is_float = pa.types.is_float64(kind)
    if not (is_float or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)):
        return None
    values = column.to_pylist()
    # Other floats have an exponent, at other sizes than in Python.
    if is_float and not all(v is None or v == 0 or 1e-4 <= abs(v) < 1e10 for v in values):
        return None
    shown = str.lower if pa.types.is_boolean(kind) else str
    return [None if v is None else shown(str(v)) for v in values]


def csv_rows(batch: pa.RecordBatch, *, delimiter: str, null: str) -> pa.StringArray:
    """Return each row as the text of one RFC 4180 record, without its line end.

    Nulls are `null`, unquoted. Text that equals it or is empty is quoted, so that it stays text; so is text with NULs
    or byte order marks, which readers drop at the start of a record or the file.

    Args:
        batch: A slice from `text_slices`; at least one column.
        delimiter: One character.
        null: Text for nulls.

    Raises:
        SinkError: A value has no form: a date beyond the year 9999, or a null that would be an empty line.
    """
    _check_one_column(batch, null)
    fields = [
        _named(name, column, lambda array: csv_fields(array, delimiter, null))
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pc.binary_join_element_wise(*fields, _text(delimiter))


def _check_one_column(batch: pa.RecordBatch, null: str) -> None:
    """Check that no row would be an empty line.

    Raises:
        SinkError: One would be.
    """
    if batch.num_columns == 1 and null == "" and batch.column(0).null_count:
        raise SinkError(
            f"column {batch.schema.names[0]!r} holds a null, which CSV of one column has no form for, since an empty "
            "line is no record; replace it (coalesce), write another column too, or choose another text for nulls "
            "(null=…) or another format",
            column=batch.schema.names[0],
        )


def csv_fields(array: pa.Array, delimiter: str, null: str) -> Any:
    """Return values as CSV fields, quoted where they must be.

    Raises:
        UnwritableError: A value has no form.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        return csv_fields(array.cast(kind.value_type), delimiter, null)
    if pa.types.is_null(kind):
        return _repeated(null, len(array))
    text = (
        pc.if_else(array.is_null(), _text(None), _json_tokens(array))
        if pa.types.is_nested(kind)
        else _plain(array)
    )
    special = "[" + "".join(f"\\x{ord(c):02x}" if ord(c) < 128 else c for c in _SPECIAL + delimiter) + "]"
    needs = pc.or_(pc.match_substring_regex(text, special), pc.equal(text, _text("")))
    if null:
        needs = pc.or_(needs, pc.equal(text, _text(null)))
    if pc.any(needs).as_py():
        doubled = pc.replace_substring(text, '"', '""')
        quoted = pc.binary_join_element_wise(_text('"'), doubled, _text('"'), _text(""))
        text = pc.if_else(needs, quoted, text)
    return pc.fill_null(text, _text(null))


# ---- both ---------------------------------------------------------------------------------------


def lines(texts: pa.StringArray, *, ending: str = "\n") -> pa.Buffer:
    """Return the bytes of the texts, each followed by `ending`."""
    joined = pc.binary_join_element_wise(texts, pa.scalar(ending, pa.string()), pa.scalar("", pa.string()))
    _, offsets, data = joined.buffers()
    if not len(joined):
        return pa.py_buffer(b"")
    return data.slice(0, int.from_bytes(offsets.slice(4 * len(joined), 4).to_pybytes(), "little"))


def _plain(array: pa.Array) -> Any:
    """Return values as text, without quotes; nulls stay null."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if is_binary(kind):
        encoded = (None if v is None else base64.b64encode(v).decode() for v in array.to_pylist())
        return pa.array(list(encoded), pa.string())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        check_years(array)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        array = array.cast(pa.timestamp(kind.unit, "UTC"))
    if pa.types.is_decimal(kind) and kind.scale < 0:
        array = array.cast(pa.decimal256(76, 0))  # else 1.5E+6, which readers of CSV reject
    text = array.cast(pa.string())
    if pa.types.is_floating(kind):
        # A reader that infers types from the first rows would read 1 as an integer.
        whole = pc.match_substring_regex(text, r"^-?[0-9]+$")
        return pc.if_else(whole, pc.binary_join_element_wise(text, _text(".0"), _text("")), text)
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1")
    return text


def _text(value: str | None) -> Any:
    return pa.scalar(value, pa.string())


def _repeated(value: str | None, length: int) -> Any:
    return pa.repeat(_text(value), length)
