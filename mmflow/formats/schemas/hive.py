"""Columns that stand in the path: `sales/year=2024/region=eu/part-0.parquet`.

    names        which folders `name=value` the files of a source lie in: the same ones, or it is an error
    types        declared; else those that mmflow wrote (its manifest); else found from all values
    HiveColumns  the columns bound to their types: values of a file, and whether a filter leaves the file out

Formats know nothing of them: whoever scans a file adds them (`worker.scan`, `rows.source`).

Invariant: a value is read back as it was written, or it is an error that names the path.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import Comparison
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["NULL", "HiveColumns", "hive_names", "hive_types", "hive_values"]

NULL = "__HIVE_DEFAULT_PARTITION__"
_PART = lazy_regex(r"([^=]+)=(.*)", re.DOTALL)
# No leading zeros nor plus signs, so that the text can be got back from the number.
_INTEGER = lazy_regex(r"-?[1-9][0-9]*|0")
# As a declared type reads them: `month=02` may be asked for as an integer.
_DIGITS = lazy_regex(r"[+-]?[0-9]+")
_DECIMAL = lazy_regex(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Texts that a decimal is written as again.
_FIXED_POINT = lazy_regex(r"(?!-0\.0*$)-?(0|[1-9][0-9]*)\.([0-9]+)")
_MOST_DIGITS = 38
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DATE = lazy_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = lazy_regex(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def hive_values(path: str) -> dict[str, str | None]:
    """Return names and values of the folders `name=value` of a path, from the outermost in; None is null.

    >>> hive_values("out/k=a%2Fb/n=__HIVE_DEFAULT_PARTITION__/part-0.parquet")
    {'k': 'a/b', 'n': None}
    """
    found: dict[str, str | None] = {}
    for part in os.path.dirname(path).split("/"):
        match = _PART.fullmatch(part)
        if match is not None:
            found[unquote(match[1])] = None if match[2] == NULL else unquote(match[2])
    return found


def hive_names(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the folders `name=value` that all these files lie in.

    Raises:
        SourceError: Some files have other such folders than the first.
    """
    names = tuple(hive_values(paths[0]))
    folder = None
    for path in paths:
        # Much faster than `os.path.dirname`, and there may be 100,000.
        if path.rpartition("/")[0] == folder:
            continue
        folder = path.rpartition("/")[0]
        if set(hive_values(path)) != set(names):
            raise SourceError(
                f"{path} lies in folders {sorted(hive_values(path))} of the form name=value, "
                f"{paths[0]} in {sorted(names)}; read them apart, or give hive=false",
                path=path,
            )
    return names


def hive_types(paths: Sequence[str], names: Sequence[str]) -> dict[str, pa.DataType]:
    """Return a type for each of these folders that reads every value of it exactly.

    int64 or uint64 for integers without leading zeros, decimal128 for numbers with as many decimals each, bool for true
    and false, date32 and timestamp for ISO 8601; else, and where every value is null, string_view.
    """
    values: dict[str, set[str]] = {name: set() for name in names}
    for folder in dict.fromkeys(os.path.dirname(path) for path in paths):
        for name, value in hive_values(folder + "/x").items():
            if name in values and value is not None:
                values[name].add(value)
    return {name: _inferred(texts) for name, texts in values.items()}


def _inferred(texts: set[str]) -> pa.DataType:
    if not texts:
        return pa.string_view()
    if texts <= {"true", "false"}:
        return pa.bool_()
    integers = all(_INTEGER.fullmatch(text) for text in texts)
    for kind in (pa.int64(), pa.uint64()) if integers else (*_decimals(texts), pa.date32(), *_moments(texts)):
        try:
            for text in texts:
                _parsed(text, kind)
        except (ValueError, OverflowError, pa.ArrowInvalid):
            continue
        return kind
    return pa.string_view()


def _decimals(texts: set[str]) -> tuple[pa.DataType, ...]:
    """Return the type of decimals that are written with the same number of digits behind the point each."""
    found = [_FIXED_POINT.fullmatch(text) for text in texts]
    places = {len(match[2]) for match in found if match}
    if None in found or len(places) > 1:
        return ()
    digits = max(len(match[1]) + len(match[2]) for match in found if match)
    return (pa.decimal128(digits, *places),) if digits <= _MOST_DIGITS else ()


def _moments(texts: set[str]) -> tuple[pa.DataType, ...]:
    """Return the timestamp type of texts that all have a zone, or all have none; nanoseconds where one has them."""
    found = [_TIMESTAMP.fullmatch(text) for text in texts]
    zones = {match is not None and match[3] is not None for match in found}
    if None in found or len(zones) > 1:
        return ()
    unit = "ns" if any(len(match[2]) > len("00:00:00.000000") for match in found if match) else "us"
    return (pa.timestamp(unit, "UTC" if zones == {True} else None),)


@dataclass(frozen=True, slots=True)
class HiveColumns:
    """Columns of a source that stand in its paths.

    Attributes:
        schema: Schema of the whole source, with the columns of its files, in order.
        names: Names of the columns that paths hold.
    """

    schema: pa.Schema
    names: tuple[str, ...]

    def check(self, paths: Sequence[str]) -> None:
        """Check that the values of all paths are of their columns' types.

        Raises:
            SourceError: One is not; names the path.
            ConfigError: No text is read as such a type.
        """
        seen: set[str] = set()
        for path in paths:
            folder = os.path.dirname(path)
            if folder not in seen:
                seen.add(folder)
                self._scalars(path, self.names)

    def values(self, path: str) -> dict[str, pa.Scalar]:
        """Return the values of the columns that a path holds.

        Raises:
            SourceError: One is not of its column's type, or the path holds none.
        """
        return self._scalars(path, self.names)

    def inside(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return those of these columns that stand in the files."""
        return tuple(name for name in columns if name not in self.names)

    def may_hold(self, path: str, prune: Sequence[Comparison]) -> bool:
        """Return whether a file may hold a row that satisfies all comparisons, by its path alone."""
        asked = [comparison for comparison in prune if comparison.column in self.names]
        if not asked:
            return True
        values = self._scalars(path, {comparison.column for comparison in asked})
        from mmflow.formats.parquet.statistics import Bounds, bound_of, may_match  # noqa: PLC0415  (slow)

        for comparison in asked:
            value = values[comparison.column]
            bound = bound_of(value)
            if not may_match(comparison, Bounds(1, int(not value.is_valid), bound, bound)):
                return False
        return True

    def added(self, path: str, columns: Sequence[str]) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
        """Return what makes batches of `columns` from batches of those of them that stand in the file."""
        wanted = [name for name in columns if name in self.names]
        constant = {name: _Repeated(value) for name, value in self._scalars(path, wanted).items()}
        if not wanted:
            return lambda batch: batch

        def add(batch: pa.RecordBatch) -> pa.RecordBatch:
            rows = batch.num_rows
            arrays = [constant[n].array(rows) if n in constant else batch.column(n) for n in columns]
            return pa.RecordBatch.from_arrays(arrays, names=list(columns))

        return add

    def _scalars(self, path: str, names: Sequence[str] | set[str]) -> dict[str, pa.Scalar]:
        texts = hive_values(path)
        return {name: self._scalar(path, texts, name) for name in self.names if name in names}

    def _scalar(self, path: str, texts: dict[str, str | None], name: str) -> pa.Scalar:
        kind = self.schema.field(name).type
        if name not in texts:
            raise SourceError(f"{path} lies in no folder {name}=…, as other files do", path=path)
        text = texts[name]
        if text is None:
            return pa.scalar(None, kind)
        try:
            return _parsed(text, kind)
        except (ValueError, OverflowError, pa.ArrowInvalid) as error:
            raise SourceError(
                f"{path}: {name} = {text!r} is no {kind}, as which its column is read; "
                f"name a type that holds it in schema=, or move the folder away",
                path=path,
                column=name,
            ) from error


class _Repeated:
    """One value as arrays of any length, of which the longest is kept."""

    def __init__(self, value: pa.Scalar) -> None:
        self._value = value
        self._longest = pa.nulls(0, value.type)

    def array(self, rows: int) -> pa.Array:
        if len(self._longest) < rows:
            value, kind = self._value, self._value.type
            if not value.is_valid:
                self._longest = pa.nulls(rows, kind)
            elif pa.types.is_string_view(kind):  # pyarrow 26 can't repeat views
                self._longest = pa.repeat(value.cast(pa.string()), rows).cast(kind)
            else:
                self._longest = pa.repeat(value, rows)
        return self._longest.slice(0, rows)


def _parsed(text: str, kind: pa.DataType) -> pa.Scalar:
    """Parse a text as a value of a type.

    Raises:
        ValueError, OverflowError, pa.ArrowInvalid: It says none.
        ConfigError: No text is read as such a type.
    """
    types = pa.types
    if types.is_string_view(kind):
        return pa.scalar(text, pa.string()).cast(kind)
    if types.is_integer(kind):
        return pa.scalar(int(_matched(_DIGITS, text)), kind)
    if types.is_boolean(kind):
        return pa.scalar({"true": True, "false": False}[_lower(text)], kind)
    if types.is_floating(kind):
        return pa.scalar(float(text), kind)
    if types.is_decimal(kind):
        return pa.array([_matched(_DECIMAL, text)], pa.string()).cast(kind)[0]
    if types.is_date(kind):
        day = dt.date.fromisoformat(_matched(_DATE, text))
        return pa.scalar(day, kind)
    if types.is_timestamp(kind):
        return _moment(text, kind)
    raise ConfigError(
        f"a column of folders can't be {kind}; declare it as text, a number, bool, a date or a timestamp, and cast it"
    )


def _moment(text: str, kind: pa.DataType) -> pa.Scalar:
    match = _TIMESTAMP.fullmatch(text)
    if match is None or (match[3] is None) != (kind.tz is None):
        raise ValueError(text)
    # In Python's integers: numpy's and pyarrow's wrap around at the ends of a unit's range.
    second = dt.datetime.fromisoformat(f"{match[1]}T{match[2][:8]}+00:00") - _EPOCH
    nanoseconds = (second // dt.timedelta(seconds=1) - _offset(match[3])) * 10**9
    nanoseconds += int(match[2][9:].ljust(9, "0"))
    count, rest = divmod(nanoseconds, {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[kind.unit])
    if rest:
        raise ValueError(text)
    return pa.scalar(count, pa.int64()).cast(kind)


def _offset(zone: str | None) -> int:
    """Parse an offset from UTC such as `+02:00`, in seconds."""
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    seconds = 3600 * int(digits[:2]) + 60 * int(digits[2:])
    return -seconds if zone[0] == "-" else seconds


def _matched(pattern: re.Pattern[str], text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ValueError(text)
    return text


def _lower(text: str) -> str:
    lower = text.lower()  # Spark and Hive write true, some write True
    if lower not in ("true", "false"):
        raise ValueError(text)
    return lower
