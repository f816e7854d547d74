"""Methods of narwhals' expressions of text, times, lists and structs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from narwhals._compliant import LazyExprNamespace
from narwhals._sql.expr_dt import SQLExprDateTimeNamesSpace
from narwhals._sql.expr_str import SQLExprStringNamespace
from narwhals._utils import not_implemented

import mmflow as mf
from mmflow.api.expressions import Expr
from mmflow.integrations.narwhals.native import literal_of

__all__ = ["ListFields", "StructFields", "TextFields", "TimeFields"]


class TextFields(SQLExprStringNamespace):
    """Methods of text."""

    def contains(self, pattern: Any, *, literal: bool) -> Any:
        def found(text: Expr, pattern: Expr) -> Expr:
            if literal and pattern._node.value is None:
                return mf.functions.contains(text, pattern)
            return text.str.contains(literal_of(pattern, "str.contains()"), literal=literal)

        return self.compliant._with_elementwise(found, {"pattern": pattern})

    def ends_with(self, suffix: Any) -> Any:
        return self.compliant._with_elementwise(lambda e, suffix: e.str.ends_with(suffix), {"suffix": suffix})

    def starts_with(self, prefix: Any) -> Any:
        return self.compliant._with_elementwise(
            lambda e, prefix: e.str.starts_with(prefix), {"prefix": prefix}
        )

    def len_chars(self) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.len_chars())

    def replace(self, value: Any, pattern: str, *, literal: bool, n: int) -> Any:
        if n not in (1, -1):
            raise NotImplementedError(f"str.replace(n={n}): mmflow replaces one match, or all of them (-1)")
        return self._replaced("replace" if n == 1 else "replace_all", value, pattern, literal)

    def replace_all(self, value: Any, pattern: str, *, literal: bool) -> Any:
        return self._replaced("replace_all", value, pattern, literal)

    def _replaced(self, method: str, value: Any, pattern: str, literal: bool) -> Any:
        def replaced(text: Expr, value: Expr) -> Expr:
            by = literal_of(value, f"str.{method}()")
            return getattr(text.str, method)(pattern, by, literal=literal)

        return self.compliant._with_elementwise(replaced, {"value": value})

    def slice(self, offset: int, length: int | None) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.slice(offset, length))

    def split(self, by: str) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.split(by))

    def strip_chars(self, characters: str | None) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.strip_chars(characters))

    def strip_chars_start(self, characters: str) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.strip_chars_start(characters))

    def strip_chars_end(self, characters: str) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.strip_chars_end(characters))

    def to_date(self, format: str | None) -> Any:
        if format is None:
            return self.compliant._with_elementwise(lambda e: e.cast(pa.date32()))
        return self.compliant._with_elementwise(lambda e: e.str.strptime(pa.date32(), format))

    def to_datetime(self, format: str | None) -> Any:
        if format is None:
            raise NotImplementedError(
                "str.to_datetime() needs a `format` on mmflow: it is not guessed from the rows"
            )
        if "z" in format.replace("%%", "").lower():
            raise NotImplementedError(f"str.to_datetime({format!r}): mmflow parses times without a zone")
        return self.compliant._with_elementwise(lambda e: e.str.strptime(pa.timestamp("us"), format))

    def to_lowercase(self) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.to_lowercase())

    def to_uppercase(self) -> Any:
        return self.compliant._with_elementwise(lambda e: e.str.to_uppercase())

    to_time = not_implemented()
    to_titlecase = not_implemented()


class TimeFields(SQLExprDateTimeNamesSpace):
    """Methods of dates, times and durations."""

    def _of(self, method: str, *arguments: Any) -> Any:
        return self.compliant._with_elementwise(lambda e: getattr(e.dt, method)(*arguments))

    def year(self) -> Any:
        return self._of("year")

    def month(self) -> Any:
        return self._of("month")

    def day(self) -> Any:
        return self._of("day")

    def hour(self) -> Any:
        return self._of("hour")

    def minute(self) -> Any:
        return self._of("minute")

    def second(self) -> Any:
        return self._of("second")

    def millisecond(self) -> Any:
        return self._of("millisecond")

    def microsecond(self) -> Any:
        return self._of("microsecond")

    def nanosecond(self) -> Any:
        return self._of("nanosecond")

    def ordinal_day(self) -> Any:
        return self._of("ordinal_day")

    def weekday(self) -> Any:
        return self._of("weekday")

    def date(self) -> Any:
        return self._of("date")

    def total_minutes(self) -> Any:
        return self._of("total_minutes")

    def total_seconds(self) -> Any:
        return self._of("total_seconds")

    def total_milliseconds(self) -> Any:
        return self._of("total_milliseconds")

    def total_microseconds(self) -> Any:
        return self._of("total_microseconds")

    def total_nanoseconds(self) -> Any:
        return self._of("total_nanoseconds")

    def to_string(self, format: str) -> Any:
        return self._of("strftime", format)

    def timestamp(self, time_unit: str) -> Any:
        return self._of("epoch", time_unit)

    def truncate(self, every: str) -> Any:
        return self._of("truncate", every)

    def offset_by(self, by: str) -> Any:
        return self._of("offset_by", by)

    def convert_time_zone(self, time_zone: str) -> Any:
        return self._of("convert_time_zone", time_zone)

    def replace_time_zone(self, time_zone: str | None) -> Any:
        return self._of("replace_time_zone", time_zone)


class ListFields(LazyExprNamespace):
    """Methods of lists."""

    def _of(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self.compliant._with_elementwise(lambda e: getattr(e.list, method)(*arguments, **options))

    def contains(self, item: Any) -> Any:
        if item is None:
            return self.compliant._with_elementwise(lambda e: e.list.eval(mf.element().is_null()).list.any())
        return self._of("contains", item)

    def get(self, index: int) -> Any:
        return self._of("get", index, null_on_oob=True)

    def len(self) -> Any:
        return self._of("len")

    def max(self) -> Any:
        return self._of("max")

    def mean(self) -> Any:
        return self._of("mean")

    def min(self) -> Any:
        return self._of("min")

    def sort(self, *, descending: bool, nulls_last: bool) -> Any:
        return self._of("sort", descending=descending, nulls_last=nulls_last)

    def sum(self) -> Any:
        return self._of("sum")

    def unique(self, *, maintain_order: bool) -> Any:
        if maintain_order:
            raise NotImplementedError("list.unique(maintain_order=True): mmflow keeps no order here")
        return self._of("unique")

    median = not_implemented()


class StructFields(LazyExprNamespace):
    """Methods of structs."""

    def field(self, name: str) -> Any:
        return self.compliant._with_elementwise(lambda e: e.struct.field(name)).alias(name)
