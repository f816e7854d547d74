"""Inference of a column's type from its texts, in the style that the options say.

    texts -> as epochs, by the formats, as numbers with the decimal character, as usual -> type

Invariant: each of the texts is a value of the type in the column's style.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.csv.respelling import number
from mmflow.formats.csv.strptime import TimeFormat, parse_moment
from mmflow.formats.csv.styles import UNITS, ValueStyles
from mmflow.formats.schemas.inference import infer_type
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["InferredColumn", "infer_column"]

_EPOCHS = lazy_regex(r"-?[0-9]+(?:\.([0-9]+))?")
_USUAL = ValueStyles()
_TRUTH = {"true", "True", "TRUE", "false", "False", "FALSE"}


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """Type of a column, and whether its values are spelled by one of the formats of dates and times."""

    kind: pa.DataType
    formatted: bool = False


def infer_column(name: str, texts: Sequence[str], styles: ValueStyles) -> InferredColumn:
    """Infer the type of a column."""
    if not texts:
        return InferredColumn(pa.string())
    if styles == _USUAL:
        return InferredColumn(infer_type(texts))
    unit = styles.unit(name)
    if unit:
        return InferredColumn(_infer_epoch(texts, unit))
    for formats in (styles.timestamps(name), styles.dates(name)):
        kind = _infer_formatted(texts, formats, styles.time_zone) if formats else None
        if kind is not None:
            return InferredColumn(kind, formatted=True)
    numbers = _infer_number(texts, styles)
    if numbers is not None:
        return InferredColumn(numbers)
    kind = infer_type(texts)
    if _is_number(kind) and not _same_number(texts, styles):
        kind = pa.string()
    if styles.time_zone and kind == pa.timestamp("us"):
        kind = pa.timestamp("us", "UTC")
    truth = {*styles.true_values, *styles.false_values}
    if truth and pa.types.is_string(kind) and not set(texts) - truth - _TRUTH:
        kind = pa.bool_()
    return InferredColumn(kind)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _infer_epoch(texts: Sequence[str], unit: str) -> pa.DataType:
    most = 0
    for text in texts:
        found = _EPOCHS.fullmatch(text)
        if found is None:
            return pa.string()
        most = max(most, UNITS[unit] + len(found[1] or ""))
    finest = next((u for u, places in UNITS.items() if places >= most), None)
    return pa.string() if finest is None else pa.timestamp(finest, "UTC")


def _infer_formatted(texts: Sequence[str], formats: Sequence[TimeFormat], zone: str) -> pa.DataType | None:
    """Return the type of texts that each are in one of the formats; None where one isn't."""
    zoned = set()
    places = 0
    for text in texts:
        moment = next((m for m in (parse_moment(text, form) for form in formats) if m is not None), None)
        if moment is None:
            return None
        zoned.add(moment.east is not None)
        places = max(places, len(moment.fraction))
    unit = "ns" if places > UNITS["us"] else "us"
    if not any(form.dated for form in formats):
        return pa.time64(unit)
    if not any(form.timed or form.zoned for form in formats):
        return pa.date32()
    if zoned == {True} or zone:
        return pa.timestamp(unit, "UTC")
    return pa.timestamp(unit) if zoned == {False} else None


def _infer_number(texts: Sequence[str], styles: ValueStyles) -> pa.DataType | None:
    """Return the type of numbers of the style; None where a text is none."""
    if styles.decimal == "." and not styles.thousands:
        return None
    usual = [number(text, styles.decimal, styles.thousands) for text in texts]
    if None in usual:
        return None
    kind = infer_type([text for text in usual if text is not None])
    return kind if _is_number(kind) else None


def _same_number(texts: Sequence[str], styles: ValueStyles) -> bool:
    return styles.decimal == "." or not any("." in text for text in texts)
