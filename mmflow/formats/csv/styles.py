"""Spelling of values in CSV: the options that say how nulls, numbers, truth, dates and times are written.

    options -> ValueStyles of a file -> ColumnStyle of each column whose values are not spelled as usual

Invariant: a `ValueStyles` is plain data that goes into a format's spec and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.csv.strptime import TimeFormat, time_format
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass

__all__ = ["STYLE_OPTIONS", "UNITS", "ColumnStyle", "ValueStyles", "style_option"]

Pairs = tuple[tuple[str, tuple[str, ...]], ...]

#: Units of epochs, and their decimal places of a second.
UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
STYLE_OPTIONS = frozenset(
    {"null", "quoted_null", "true_values", "false_values", "decimal", "thousands", "date_format",
     "timestamp_format", "time_zone", "epoch"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ColumnStyle:
    """Spelling of one column's values.

    Attributes:
        nulls: Texts that mean null; None: those of the file.
        decimal: Character before the decimals.
        thousands: Character between groups of digits; empty: none.
        true_values: Texts that mean true, beside the usual ones.
        false_values: Texts that mean false, beside the usual ones.
        formats: Formats of dates and times, of which the first that fits counts; empty: ISO 8601.
        zone: Zone in which times without an offset are wall time; empty: they have none.
        epoch: Unit of numbers since 1970; empty: they are no such numbers.
        spans: Durations may be written with hours, minutes and seconds.
    """

    nulls: tuple[str, ...] | None = None
    decimal: str = "."
    thousands: str = ""
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()
    formats: tuple[TimeFormat, ...] = ()
    zone: str = ""
    epoch: str = ""
    spans: bool = False

    @property
    def respells(self) -> bool:
        """Return whether values are spelled unlike pyarrow spells them."""
        return replace(self, nulls=None) != ColumnStyle()


@dataclass(frozen=True, slots=True)
class ValueStyles:
    """Spelling of a file's values, by the options of the same names.

    Attributes:
        null: Texts that mean null in every column that `column_nulls` doesn't name.
        column_nulls: Texts that mean null by column.
        quoted_null: Whether such a text means null in quotes, too.
        true_values: Texts that mean true, beside the usual ones.
        false_values: Texts that mean false, beside the usual ones.
        decimal: Character before the decimals.
        thousands: Character between groups of digits; empty: none.
        date_format: Formats of dates.
        column_dates: Formats of dates by column.
        timestamp_format: Formats of timestamps.
        column_timestamps: Formats of timestamps, or of times, by column.
        time_zone: Zone of timestamps without an offset; empty: they have none.
        epoch: Units of timestamps that are numbers, by column.
    """

    null: tuple[str, ...] = ("",)
    column_nulls: Pairs = ()
    quoted_null: bool = False
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str = ""
    date_format: tuple[str, ...] = ()
    column_dates: Pairs = ()
    timestamp_format: tuple[str, ...] = ()
    column_timestamps: Pairs = ()
    time_zone: str = ""
    epoch: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ValueStyles:
        """Bind options, each of which `style_option` has parsed.

        Raises:
            ConfigError: Two of them contradict each other.
        """
        null, column_nulls = _by_column(options.get("null", ("",)), ("",))
        dates, column_dates = _by_column(options.get("date_format", ()), ())
        timestamps, column_timestamps = _by_column(options.get("timestamp_format", ()), ())
        made = cls(
            null, column_nulls, options.get("quoted_null", False), options.get("true_values", ()),
            options.get("false_values", ()), options.get("decimal", "."), options.get("thousands", ""), dates,
            column_dates, timestamps, column_timestamps, options.get("time_zone", ""),
            tuple(options.get("epoch", {}).items()),
        )  # fmt: skip
        if made.decimal == made.thousands:
            raise ConfigError(f"decimal and thousands are both {made.decimal!r}; they must differ")
        both = set(made.true_values) & set(made.false_values)
        if both:
            raise ConfigError(f"{min(both)!r} is in true_values and in false_values")
        return made

    def spec(self) -> dict[str, Any]:
        """Return the options, those with their defaults left out."""
        given: dict[str, Any] = {
            "null": _joined(self.null, self.column_nulls),
            "quoted_null": self.quoted_null,
            "true_values": list(self.true_values),
            "false_values": list(self.false_values),
            "decimal": self.decimal,
            "thousands": self.thousands,
            "date_format": _joined(self.date_format, self.column_dates),
            "timestamp_format": _joined(self.timestamp_format, self.column_timestamps),
            "time_zone": self.time_zone,
            "epoch": dict(self.epoch),
        }
        usual = {"null": None, "decimal": "."}
        return {
            key: value for key, value in given.items() if (value if key not in usual else value != usual[key])
        }

    def dates(self, name: str) -> tuple[TimeFormat, ...]:
        """Return the formats of dates of a column."""
        return tuple(map(time_format, _of(self.column_dates, name, self.date_format)))

    def timestamps(self, name: str) -> tuple[TimeFormat, ...]:
        """Return the formats of timestamps or times of a column."""
        return tuple(map(time_format, _of(self.column_timestamps, name, self.timestamp_format)))

    def unit(self, name: str) -> str:
        """Return the unit of the epochs of a column; empty where it has none."""
        return dict(self.epoch).get(name, "")

    def resolved(self, dates: Iterable[str], timestamps: Iterable[str]) -> ValueStyles:
        """Return the same for a file whose other columns are spelled by ISO 8601."""
        return replace(
            self,
            date_format=(),
            column_dates=tuple((n, _of(self.column_dates, n, self.date_format)) for n in dates),
            timestamp_format=(),
            column_timestamps=tuple(
                (n, _of(self.column_timestamps, n, self.timestamp_format)) for n in timestamps
            ),
        )

    def column(self, name: str, kind: pa.DataType) -> ColumnStyle | None:
        """Return the spelling of a column of a type; None where it is the usual one."""
        types = pa.types
        nulls = dict(self.column_nulls).get(name)
        made = ColumnStyle(nulls)
        if types.is_floating(kind) or types.is_decimal(kind):
            made = replace(made, decimal=self.decimal, thousands=self.thousands)
        elif types.is_integer(kind):
            made = replace(made, thousands=self.thousands)
        elif types.is_boolean(kind):
            made = replace(made, true_values=self.true_values, false_values=self.false_values)
        elif types.is_date(kind):
            made = replace(made, formats=self.dates(name))
        elif types.is_time(kind):
            times = self.timestamps(name)
            made = replace(made, formats=times if all(not f.dated for f in times) else ())
        elif types.is_duration(kind):
            made = replace(made, spans=True)
        elif types.is_timestamp(kind):
            zone = self.time_zone if kind.tz is not None else ""
            epoch = self.unit(name)
            made = replace(made, epoch=epoch, zone="" if epoch else zone)
            if not epoch:
                made = replace(made, formats=tuple(f for f in self.timestamps(name) if f.dated))
        return None if made == ColumnStyle() else made

    def columns(self, kinds: Mapping[str, pa.DataType]) -> dict[str, ColumnStyle]:
        """Return the spellings of the columns that are not spelled as usual."""
        if replace(self, null=("",), quoted_null=False) == ValueStyles():
            kinds = {name: kind for name, kind in kinds.items() if pa.types.is_duration(kind)}
        found = {name: self.column(name, kind) for name, kind in kinds.items()}
        return {name: style for name, style in found.items() if style is not None}

    def check(self, kinds: Mapping[str, pa.DataType]) -> None:
        """Check what options say of single columns.

        Raises:
            ConfigError: There is no such column, or its type doesn't go with the option.
        """
        named = {"null": self.column_nulls, "date_format": self.column_dates,
                 "timestamp_format": self.column_timestamps, "epoch": self.epoch}  # fmt: skip
        for option, pairs in named.items():
            for name, _ in pairs:
                if name not in kinds:
                    close = difflib.get_close_matches(name, list(kinds), 1)
                    hint = f"; did you mean {close[0]!r}?" if close else ""
                    raise ConfigError(f"{option} names the column {name!r}, which there is not{hint}")
        for name, _ in self.epoch:
            if not pa.types.is_timestamp(kinds[name]) and not pa.types.is_string_view(kinds[name]):
                raise ConfigError(
                    f"epoch names the column {name!r}, whose type is {kinds[name]}; declare it as a timestamp"
                )


def _by_column(value: Any, default: tuple[str, ...]) -> tuple[tuple[str, ...], Pairs]:
    return (default, tuple(value.items())) if isinstance(value, Mapping) else (tuple(value), ())


def _joined(for_all: tuple[str, ...], by_column: Pairs) -> Any:
    return {name: list(texts) for name, texts in by_column} if by_column else list(for_all)


def _of(pairs: Pairs, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    return dict(pairs).get(name, default)


# ---- options ---------------------------------------------------------------------------------------


def style_option(key: str, value: Any) -> Any:
    """Parse one of `STYLE_OPTIONS`.

    Raises:
        ConfigError: The value does not fit.
        TypeError: It is neither text nor a list of texts.
    """
    if key == "null":
        _refuse_joined(value)
    if key in ("null", "date_format", "timestamp_format"):
        made = (
            {str(name): _texts(key, texts) for name, texts in value.items()}
            if isinstance(value, Mapping)
            else _texts(key, value)
        )
        if key != "null":
            _check_formats(key, made)
        return made
    if key in ("true_values", "false_values"):
        return _texts(key, value)
    if key == "decimal":
        if value not in (".", ","):
            raise ConfigError(f"decimal = {value!r}: must be '.' or ','")
        return value
    if key == "thousands":
        return _separator(value)
    if key == "time_zone":
        return _zone(value)
    if key == "epoch":
        return _units(value)
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ConfigError(f"{key} = {value!r}: must be true or false")


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise TypeError(f"{key} = {value!r}: must be a text, or a list of texts")


def _refuse_joined(value: Any) -> None:
    if isinstance(value, str) and "," in value:
        texts = [t.strip() for t in value.split(",")]
        listed = ", ".join(map(repr, texts))
        raise ConfigError(
            f"null = {value!r}: it is one text that means null, and this one looks like a list; "
            f"write null=[{listed}], or --opt 'null=[{listed.replace(chr(39), chr(34))}]'"
        )


def _check_formats(key: str, value: Any) -> None:
    by_column = isinstance(value, Mapping)
    for text in [t for texts in value.values() for t in texts] if by_column else value:
        form = time_format(text)
        if key == "date_format" and (form.timed or form.zoned or not form.dated):
            raise ConfigError(f"date_format {text!r} gives a time; set timestamp_format={text!r}")
        if key == "timestamp_format" and not form.dated and not by_column:
            raise ConfigError(
                f"timestamp_format {text!r} gives no date; for columns of times name them: "
                f"timestamp_format={{'column': {text!r}}}"
            )


def _separator(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1 or value in list('+-0123456789eE"\n\r\0'):
        raise ConfigError(
            f"thousands = {value!r}: must be one character between digits, such as '.', ',' or ' '"
        )
    return value


def _zone(value: Any) -> str:
    import zoneinfo  # noqa: PLC0415  (slow)

    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        known = zoneinfo.available_timezones()
        close = difflib.get_close_matches(str(value), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else "an example is 'Europe/Berlin'"
        raise ConfigError(f"time_zone = {value!r}: there is no such time zone; {hint}") from error
    return str(value)


def _units(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"epoch = {value!r}: must be units by column, such as {{'column': 'ms'}}")
    for name, unit in value.items():
        if unit not in UNITS:
            raise ConfigError(f"epoch of column {name!r} = {unit!r}: must be one of {', '.join(UNITS)}")
    return {str(name): unit for name, unit in value.items()}
