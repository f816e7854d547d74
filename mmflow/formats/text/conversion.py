"""Conversion of the texts of a field to values of its column's type, by pyarrow.

Moments with a zone may also stand as web servers write them: `28/Jul/1995:13:17:45 +0200`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.csv.values import convert_text, unify_nan
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.schemas.inference import infer_type, misreads
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.patterns import lazy_regex

__all__ = ["LOG_TIME", "check_field_types", "convert_field", "infer_field", "null_texts", "parse_log_times"]

#: Type of the moments that web servers write.
LOG_TIME = pa.timestamp("us", "UTC")
_LOG_TIME = lazy_regex(
    r"[0-9]{2}/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [-+][0-9]{4}"
)
_LOG_TIME_BYTES = 26
_SHAPE = np.frombuffer(b"00/AAA/0000:00:00:00 +0000", np.uint8)
_DIGITS = np.flatnonzero(np.isin(_SHAPE, np.frombuffer(b"0", np.uint8)))
_SIGNS = np.flatnonzero(np.isin(_SHAPE, np.frombuffer(b"/: ", np.uint8)))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_OF = {int.from_bytes(name.encode(), "big"): number for number, name in enumerate(_MONTHS)}
_CODES = np.array(sorted(_MONTH_OF), np.int64)
_NUMBERS = np.array([_MONTH_OF[code] for code in _CODES.tolist()], np.int64)
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def infer_field(texts: list[str]) -> pa.DataType:
    """Return the type that holds each of the texts, none of which is null."""
    if texts and all(map(_LOG_TIME.fullmatch, texts)):
        return LOG_TIME
    return infer_type(texts)


def null_texts(texts: pa.Array, nulls: tuple[str, ...]) -> pa.Array:
    """Return a column of `string` with null for the texts that mean it."""
    wanted = pa.array(nulls, pa.string())
    return pc.if_else(pc.is_in(texts, value_set=wanted), pa.scalar(None, pa.string()), texts)


def convert_field(texts: pa.Array, kind: pa.DataType, *, exact: bool) -> tuple[pa.Array, list[int]]:
    """Convert a column of `string`; also return the rows whose text is no value of the type: null.

    Args:
        texts: Texts; nulls stay.
        kind: Type of the column.
        exact: Text that its value could not be written as again is none of the type.
    """
    wrong: list[int] = []
    pieces = _convert_pieces(texts, 0, kind, exact, wrong)
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), wrong


def _convert_pieces(
    texts: pa.Array, begin: int, kind: pa.DataType, exact: bool, wrong: list[int]
) -> list[pa.Array]:
    """Convert pieces of the texts, halving those that don't convert down to the single wrong row."""
    try:
        return [_convert(texts, kind, exact)]
    except pa.ArrowInvalid:
        if len(texts) == 1:
            wrong.append(begin)
            return [pa.nulls(1, kind)]
        half = len(texts) // 2
        left = _convert_pieces(texts.slice(0, half), begin, kind, exact, wrong)
        return left + _convert_pieces(texts.slice(half), begin + half, kind, exact, wrong)


def _convert(texts: pa.Array, kind: pa.DataType, exact: bool) -> pa.Array:
    """Convert whole columns.

    Raises:
        pa.ArrowInvalid: A text is no value of the type.
    """
    if pa.types.is_string_view(kind):
        return texts.cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz is not None and (found := parse_log_times(texts)) is not None:
        values, missing = found
        return pa.array(values * _UNITS[kind.unit], pa.int64(), mask=missing).cast(kind)
    if pa.types.is_time(kind):
        # pyarrow 26 has no cast from text to times.
        day = pa.scalar("1970-01-01", pa.string())
        joined = pc.binary_join_element_wise(day, texts, pa.scalar(" ", pa.string()))
        return joined.cast(pa.timestamp(kind.unit)).cast(kind)
    made = convert_text(texts, kind)
    if pa.types.is_floating(kind):
        made = unify_nan(made)
    if pa.types.is_nested(kind) or not _doubtful(texts, made, exact):
        return made
    distinct = texts.unique()
    distinct_texts = [None if t is None else t.encode() for t in distinct.to_pylist()]
    if misreads(kind, distinct_texts, convert_text(distinct, kind), exact=exact):
        raise pa.ArrowInvalid(f"a text is no {kind}")
    return made


def _doubtful(texts: pa.Array, made: pa.Array, exact: bool) -> bool:
    """Return whether a value might say something else than its text."""
    kind = made.type
    if pa.types.is_integer(kind):
        same = pc.all(pc.equal(made.cast(pa.string()), texts)).as_py()
        return same is False
    if pa.types.is_floating(kind):
        return exact or bool(np.isinf(numpy_values(made)).any())
    return exact or pa.types.is_decimal(kind)


def parse_log_times(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None:
    """Return moments of web servers as seconds since 1970, and where they are null; None if any is of another form.

    pyarrow 26 reads `31/Feb/1995` by strptime as the third of March.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    missing = numpy_values(texts.is_null())
    starts = offsets[:-1].astype(np.int64)
    if missing.all() or not (missing | (np.diff(offsets) == _LOG_TIME_BYTES)).all():
        return None
    raw = np.frombuffer(texts.buffers()[2], np.uint8)
    first = int(starts[~missing][0])
    starts[missing] = first  # any that is there
    text = raw[starts[:, None] + np.arange(_LOG_TIME_BYTES)]
    digits = text[:, _DIGITS] - ord("0")
    if (digits > 9).any() or (text[:, _SIGNS] != _SHAPE[_SIGNS]).any():
        return None
    number = digits.astype(np.int64)
    day, hour, minute, second = (10 * number[:, i] + number[:, i + 1] for i in (0, 6, 8, 10))
    year = 10 * (10 * (10 * number[:, 2] + number[:, 3]) + number[:, 4]) + number[:, 5]
    ahead = (10 * number[:, 12] + number[:, 13]) * 60 + 10 * number[:, 14] + number[:, 15]
    code = text[:, 3].astype(np.int64) << 16 | text[:, 4].astype(np.int64) << 8 | text[:, 5]
    place = np.minimum(np.searchsorted(_CODES, code), len(_CODES) - 1)
    months = (year - 1970) * 12 + _NUMBERS[place]
    begin = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    length = (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - begin
    sign = np.where(text[:, 21] == ord("+"), -1, 1)
    right = (
        (_CODES[place] == code) & (day >= 1) & (day <= length) & (hour < 24) & (minute < 60) & (second < 60)
    )
    right &= np.isin(text[:, 21], np.frombuffer(b"+-", np.uint8)) & (ahead < 24 * 60) & (number[:, 14] < 6)
    if not right.all():
        return None
    return ((begin + day - 1) * 24 + hour) * 3600 + minute * 60 + second + sign * ahead * 60, missing


def check_field_types(schema: pa.Schema) -> None:
    """Refuse types that text can't be read as.

    Raises:
        ConfigError: Names the column.
    """
    for field in schema:
        try:
            convert_field(pa.array(["x"], pa.string()), field.type, exact=False)
        except pa.ArrowNotImplementedError as error:
            raise ConfigError(
                f"column {field.name!r}: text can't be read as {type_text(field.type)}; read it as string"
            ) from error
