"""Selectors: expressions for all columns whose name or type fits, `mmflow.selectors`.

>>> import mmflow as mf
>>> from mmflow import selectors as cs
>>> ds = mf.from_arrow({"id": [1], "x": [0.5], "y": [1.5], "name": ["a"]})
>>> ds.select(cs.float() * 2, cs.string()).to_arrow().to_pydict()
{'x': [1.0], 'y': [3.0], 'name': ['a']}
>>> ds.select(cs.numeric() - cs.by_name("id")).columns
['x', 'y']
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.types as types

from mmflow.api.expressions.expr import Expr
from mmflow.api.expressions.tree.nodes import Node, missing_column, unbuilt
from mmflow.api.expressions.tree.place import find_place
from mmflow.errors import ConfigError, PlanError
from mmflow.formats.schemas.schema import canonical_type, parse_type
from mmflow.usercode.tracebacks import public

__all__ = [
    "Selector",
    "all",
    "boolean",
    "by_dtype",
    "by_name",
    "contains",
    "date",
    "datetime",
    "duration",
    "ends_with",
    "exclude",
    "float",
    "integer",
    "matches",
    "numeric",
    "starts_with",
    "string",
    "temporal",
]


class Selector(Expr):
    """Columns that fit, in the order of the dataset. `|`, `&`, `-`, `^` and `~` combine selectors."""

    __slots__ = ("_names",)

    def __init__(self, names: Callable[[pa.Schema], list[str]]) -> None:
        self._names = names
        super().__init__(Node("selector", (), unbuilt, find_place(), selector=names))

    def _made(self, node: Node) -> Any:
        return Expr(node)

    def _combined(
        self, other: Any, kept: Callable[[bool, bool], bool], otherwise: Callable[[], Expr]
    ) -> Expr:
        if not isinstance(other, Selector):
            return otherwise()
        one, two = self._names, other._names

        def names(schema: pa.Schema) -> list[str]:
            left, right = set(one(schema)), set(two(schema))
            return [n for n in schema.names if kept(n in left, n in right)]

        return Selector(names)

    def __or__(self, other: Any) -> Any:
        return self._combined(other, lambda a, b: a or b, lambda: super(Selector, self).__or__(other))

    def __and__(self, other: Any) -> Any:
        return self._combined(other, lambda a, b: a and b, lambda: super(Selector, self).__and__(other))

    def __sub__(self, other: Any) -> Any:
        return self._combined(other, lambda a, b: a and not b, lambda: super(Selector, self).__sub__(other))

    def __xor__(self, other: Any) -> Any:
        return self._combined(other, lambda a, b: a != b, lambda: super(Selector, self).__xor__(other))

    def __invert__(self) -> Any:
        return all() - self


def _where(fits: Callable[[pa.Field], bool]) -> Selector:
    return Selector(lambda schema: [f.name for f in schema if fits(f)])


def all() -> Selector:  # noqa: A001
    """Return the selector of all columns."""
    return _where(lambda _: True)


@public
def by_name(*names: str) -> Selector:
    """Return the selector of columns by name, all of which must exist."""

    def found(schema: pa.Schema) -> list[str]:
        for name in names:
            if name not in schema.names:
                raise PlanError(missing_column(name, schema.names, schema.names), code="MMF-PLN-002")
        return [*names]

    return Selector(found)


@public
def exclude(*names: str) -> Selector:
    """Return the selector of all columns but these, all of which must exist."""
    made: Selector = all() - by_name(*names)
    return made


@public
def matches(pattern: str) -> Selector:
    """Return the selector of columns in whose name a regular expression of Python matches.

    Raises
    ------
    ConfigError
        It is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"selectors.matches({pattern!r}): {error}") from error
    return _where(lambda f: compiled.search(f.name) is not None)


@public
def starts_with(*prefixes: str) -> Selector:
    """Return the selector of columns whose name starts with one of these."""
    return _where(lambda f: f.name.startswith(prefixes))


@public
def ends_with(*suffixes: str) -> Selector:
    """Return the selector of columns whose name ends with one of these."""
    return _where(lambda f: f.name.endswith(suffixes))


@public
def contains(*parts: str) -> Selector:
    """Return the selector of columns whose name contains one of these."""
    return _where(lambda f: _contains_one(f.name, parts))


@public
def by_dtype(*wanted: str | pa.DataType | type) -> Selector:
    """Return the selector of columns of certain types.

    Raises
    ------
    ConfigError
        There is no such type.
    """
    kinds = {canonical_type(parse_type(t)) for t in wanted}
    return _where(lambda f: f.type in kinds)


def numeric() -> Selector:
    """Return the selector of integers, floats and decimals."""
    return _where(
        lambda f: bool(types.is_integer(f.type) or types.is_floating(f.type) or types.is_decimal(f.type))
    )


def integer() -> Selector:
    """Return the selector of integers."""
    return _where(lambda f: bool(types.is_integer(f.type)))


def float() -> Selector:  # noqa: A001
    """Return the selector of floats."""
    return _where(lambda f: bool(types.is_floating(f.type)))


def boolean() -> Selector:
    """Return the selector of truth values."""
    return _where(lambda f: bool(types.is_boolean(f.type)))


def string() -> Selector:
    """Return the selector of text."""
    return _where(
        lambda f: bool(
            types.is_string_view(f.type) or types.is_string(f.type) or types.is_large_string(f.type)
        )
    )


def date() -> Selector:
    """Return the selector of dates."""
    return _where(lambda f: bool(types.is_date(f.type)))


def datetime() -> Selector:
    """Return the selector of timestamps."""
    return _where(lambda f: bool(types.is_timestamp(f.type)))


def duration() -> Selector:
    """Return the selector of durations."""
    return _where(lambda f: bool(types.is_duration(f.type)))


def temporal() -> Selector:
    """Return the selector of dates, timestamps, durations and times of day."""
    return _where(lambda f: bool(types.is_temporal(f.type)))


def _contains_one(name: str, parts: tuple[str, ...]) -> bool:
    return next((True for part in parts if part in name), False)
