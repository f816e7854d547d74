"""Spelling of values in text: the type that holds every one of some texts, and texts that a type would misread.

    texts of a column -> joined, a line each -> one pattern for all of them -> checks of what patterns can't say

A type is inferred only where its values can be written as the same text again, but for the usual rounding of a float's
decimals and the forms that ISO 8601 gives one moment.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mmflow.lazy.patterns import lazy_regex

__all__ = ["begins_as_text", "infer_type", "misreads"]

_INT = rb"-?(?:0|[1-9][0-9]*)"
_REAL = rb"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_SPECIAL = rb"-?(?:nan|NaN|NAN|inf|Inf|INF|[iI]nfinity)"
_BOOL = rb"true|false|True|False|TRUE|FALSE"
_DATE = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_MOMENT = _DATE + rb"(?:[ T][0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?)?"
_ZONED = _DATE + rb"[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[-+][0-9]{2}(?::?[0-9]{2})?)"


def _lines(one: bytes) -> re.Pattern[bytes]:
    """Match any number of lines of `one`, without going back over what matched."""
    return re.compile(rb"(?:(?:" + one + rb")\n)*+")


_INTS, _BOOLS, _DATES = _lines(_INT), _lines(_BOOL), _lines(_DATE)
_REALS, _MOMENTS, _ZONES = _lines(_REAL + rb"|" + _SPECIAL), _lines(_MOMENT), _lines(_ZONED)
_ONE_INT, _ONE_REAL, _ONE_BOOL = (lazy_regex(p) for p in (_INT, _REAL + rb"|" + _SPECIAL, _BOOL))
#: Whole numbers of more digits than every float64 holds.
_LONG = lazy_regex(rb"^-?[0-9]{16,}$", re.MULTILINE)
#: Pattern of reals that may be out of range, or rounded though they are whole.
_RISKY = lazy_regex(rb"[eE]|^-?[0-9]{16,}$|[0-9]{300}", re.MULTILINE)
_SAFE = {pa.int64(): _INTS, pa.uint64(): _INTS, pa.float64(): _REALS, pa.bool_(): _BOOLS, pa.date32(): _DATES,
         pa.timestamp("us"): _MOMENTS, pa.timestamp("us", "UTC"): _ZONES}  # fmt: skip
_DIGIT = lazy_regex(rb"[0-9]")
_LARGEST = 10**38 - 1
#: Characters of a number that is an int64 whatever they are.
_SHORT = 18
_RANGES = (
    (pa.int64(), -(1 << 63), (1 << 63) - 1),
    (pa.uint64(), 0, (1 << 64) - 1),
    (pa.decimal128(38, 0), -_LARGEST, _LARGEST),
)


def infer_type(texts: Sequence[str]) -> pa.DataType:
    """Return the type that holds each of the texts; string where only that does, or where there are none.

    >>> infer_type(["1", "-20"]), infer_type(["02134", "10001"])
    (DataType(int64), DataType(string))
    """
    if not texts or begins_as_text(texts[0]):
        return pa.string()  # most columns of text, at once
    joined = "\n".join([*texts, ""]).encode()
    if joined.count(b"\n") != len(texts):
        return pa.string()
    if _INTS.fullmatch(joined):
        if max(map(len, texts)) <= _SHORT:
            return pa.int64()
        least, most = _extremes(texts)
        return next((kind for kind, low, high in _RANGES if low <= least and most <= high), pa.string())
    if _REALS.fullmatch(joined):
        return pa.float64() if _DIGIT.search(joined) and _holds_reals(joined, texts) else pa.string()
    if _BOOLS.fullmatch(joined):
        return pa.bool_()
    for pattern, kind, parse in (
        (_DATES, pa.date32(), dt.date.fromisoformat),
        (_MOMENTS, pa.timestamp("us"), dt.datetime.fromisoformat),
        (_ZONES, pa.timestamp("us", "UTC"), dt.datetime.fromisoformat),
    ):
        if pattern.fullmatch(joined) and _all_parse(texts, parse):
            return kind
    return pa.string()


def begins_as_text(first: str) -> bool:
    """Return whether the first text of a column says that the column is text, whatever the others are."""
    return not first or first[0] not in "0123456789-.tfTFnNiI"


def _extremes(texts: Sequence[str]) -> tuple[int, int]:
    if max(map(len, texts)) > 39:
        return -(10**38), 10**38  # beyond any type; Python turns no text of 5,000 digits into an int
    numbers = list(map(int, texts))
    return min(numbers), max(numbers)


def _holds_reals(joined: bytes, texts: Sequence[str]) -> bool:
    """Return whether all of them are within range, and whole numbers among them exact."""
    if (b"e" in joined or b"E" in joined or max(map(len, texts)) > 300) and any(
        math.isinf(float(t)) and not t.lstrip("-").lower().startswith("inf") for t in texts
    ):
        return False
    return all(_is_exact(number.decode(), float) for number in _LONG.findall(joined))


def _is_exact(whole: str, rounded: Any) -> bool:
    """Return whether a float holds this whole number exactly."""
    value = rounded(whole)
    return not math.isinf(value) and Decimal(value) == Decimal(whole)


def _all_parse(texts: Sequence[str], parse: Any) -> bool:
    try:
        for text in set(texts):  # the same dates come again and again
            parse(text)
    except ValueError:
        return False
    return True


def misreads(kind: pa.DataType, texts: Sequence[bytes | None], values: pa.Array, *, exact: bool) -> bool:
    """Return whether pyarrow read one of the texts as a value of the type that the text does not say.

    pyarrow 26 reads `0x10` as 16 and `0xffffffffffffffff` as -1, `1e999` as infinity, `1e-999` as the decimal 0.00.

    Args:
        kind: Type of the column.
        texts: Texts of the fields, without quotes; None where they are null.
        values: Values that pyarrow read.
        exact: Also where the value could not be written as the same text again: `007`, ` 7`, 1 for true, a whole number
            that a float rounds.
    """
    if exact and kind in _SAFE:
        joined = b"\n".join([*(t for t in texts if t is not None), b""])
        if _SAFE[kind].fullmatch(joined) and not (kind == pa.float64() and _RISKY.search(joined)):
            return False
    pairs = zip(texts, values, strict=True)
    return any(t is not None and _misread(kind, t, v, exact=exact) for t, v in pairs)


def _misread(kind: pa.DataType, text: bytes, scalar: pa.Scalar, *, exact: bool) -> bool:
    types = pa.types
    if types.is_integer(kind):
        return b"x" in text.lower() or (exact and not _ONE_INT.fullmatch(text))
    if types.is_floating(kind):
        value = scalar.as_py()
        if math.isinf(value) and _DIGIT.search(text):
            return True
        if not exact:
            return False
        if not _ONE_REAL.fullmatch(text):
            return True
        return _LONG_FOR[kind.bit_width].fullmatch(text) is not None and Decimal(value) != Decimal(
            text.decode()
        )
    if types.is_decimal(kind):
        if Decimal(text.decode()) != scalar.as_py():
            return True
        return exact and not (_ONE_REAL if kind.scale else _ONE_INT).fullmatch(text)
    if types.is_boolean(kind):
        return exact and not _ONE_BOOL.fullmatch(text)
    if types.is_temporal(kind):
        return exact and text != text.strip()
    return False


#: Whole numbers that a float of so many bits may not hold.
_LONG_FOR = {
    64: lazy_regex(rb"-?[0-9]{16,}"),
    32: lazy_regex(rb"-?[0-9]{8,}"),
    16: lazy_regex(rb"-?[0-9]{4,}"),
}
