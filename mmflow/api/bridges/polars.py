"""Datasets as lazy frames of Polars, which reads the columns, the rows and as many of them as its plan needs.

lf.filter(a > 3).select("b").head(5)     Polars' plan
  -> predicate, columns, number of rows  what its optimizer asks the source for
    -> dataset.limit().filter().select() a plan of mmflow: what it can't filter, Polars does
"""

from __future__ import annotations

import json
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa

from mmflow.api.expressions import Expr, col, lit
from mmflow.errors import ConfigError, PlanError

__all__ = ["condition_of", "to_polars_lazy"]


def to_polars_lazy(dataset: Any) -> Any:
    """Return the lazy frame of a dataset (`Dataset.to_polars_lazy`)."""
    try:
        import polars as pl  # noqa: PLC0415  (optional)
        from polars.io.plugins import register_io_source  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise ConfigError(
            f"to_polars_lazy() needs Polars: pip install 'polars>=1.30' ({error})", code="MMF-CFG-002"
        ) from error
    empty = pl.DataFrame(dataset.schema.empty_table())

    def read(
        columns: list[str] | None, predicate: Any | None, rows: int | None, size: int | None
    ) -> Iterator[Any]:
        del size  # batches come as mmflow makes them
        wanted = dataset.columns if columns is None else columns
        found = dataset if rows is None else dataset.limit(rows)
        # A number of rows beside a predicate is that of the rows before it.
        needed = {*wanted, *(() if predicate is None else predicate.meta.root_names())}
        found = found if predicate is None else _filtered(found, predicate)
        if needed != {*dataset.columns}:
            found = found.select([n for n in dataset.columns if n in needed])
        yield empty.select(wanted)
        for batch in found.iter_batches():
            frame = pl.DataFrame(batch)
            yield (frame if predicate is None else frame.filter(predicate)).select(wanted)

    return register_io_source(read, schema=empty.schema)


def _filtered(dataset: Any, predicate: Any) -> Any:
    """Return the rows that a predicate of Polars may hold for, as far as mmflow can say it."""
    condition = condition_of(predicate)
    if condition is None:
        return dataset
    try:
        return dataset.filter(condition)
    except PlanError:  # of types that mmflow does not compare
        return dataset


def condition_of(predicate: Any) -> Expr | None:
    """Return a condition that holds for each row for which one of Polars does; None: there is none of mmflow's.

    Its form as JSON changes with versions of Polars: what is not known is left to Polars.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _weaker(json.loads(predicate.meta.serialize(format="json")))
    except Exception:  # noqa: BLE001  (whatever Polars can't write as JSON)
        return None


class _Unknown(Exception):  # noqa: N818  (a signal, not an error)
    """Signal that mmflow has nothing that is the same."""


def _weaker(node: Any) -> Expr | None:
    """Return a condition that holds wherever a node does: of parts that all must hold, those that are known."""
    match node:
        case {"BinaryExpr": {"left": left, "op": "And" | "LogicalAnd", "right": right}}:
            known = [c for c in (_weaker(left), _weaker(right)) if c is not None]
            return reduce(operator.and_, known) if known else None
    try:
        return _same(node)
    except _Unknown:
        return None


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "And": operator.and_,
    "LogicalAnd": operator.and_,
    "Or": operator.or_,
    "LogicalOr": operator.or_,
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtEq": operator.le,
    "Gt": operator.gt,
    "GtEq": operator.ge,
}
_UNITS = {"Nanoseconds": "ns", "Microseconds": "us", "Milliseconds": "ms"}
_SCALARS: Mapping[str, pa.DataType] = {
    "Boolean": pa.bool_(),
    "Date": pa.date32(),
    "String": pa.string(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    **{
        f"{sign}Int{bits}": getattr(pa, f"{sign.lower()}int{bits}")()
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
}


def _same(node: Any) -> Expr:
    """Return the expression of mmflow that has the same value in each row.

    Raises:
        _Unknown: None has.
    """
    match node:
        case {"Column": str(name)}:
            return col(name)
        case {"Literal": {"Scalar": {"Datetime": [int(ticks), str(unit), None]}}} if unit in _UNITS:
            return lit(pa.scalar(ticks, pa.timestamp(_UNITS[unit])))
        case {"Literal": {"Scalar": dict(scalar)}}:
            ((kind, value),) = scalar.items()
            if kind in _SCALARS and value is not None:
                return lit(pa.scalar(value, _SCALARS[kind]))
        case {"BinaryExpr": {"left": left, "op": str(symbol), "right": right}} if symbol in _OPERATORS:
            made: Expr = _OPERATORS[symbol](_same(left), _same(right))
            return made
        case {"Function": {"input": [value], "function": {"Boolean": "IsNull"}}}:
            return _same(value).is_null()
        case {"Function": {"input": [value], "function": {"Boolean": "IsNotNull"}}}:
            return _same(value).is_not_null()
        case {"Function": {"input": [value], "function": {"Boolean": "Not"}}}:
            return ~_same(value)
        case {
            "Function": {
                "input": [value, low, high],
                "function": {"Boolean": {"IsBetween": {"closed": str(closed)}}},
            }
        }:
            above = operator.ge if closed in ("Both", "Left") else operator.gt
            below = operator.le if closed in ("Both", "Right") else operator.lt
            both: Expr = above(_same(value), _same(low)) & below(_same(value), _same(high))
            return both
        case {
            "Function": {
                "input": [value, {"Literal": {"Scalar": {"List": list(stream)}}}],
                "function": {"Boolean": {"IsIn": {"nulls_equal": False}}},
            }
        }:
            return _same(value).is_in(_list(stream))
    raise _Unknown


def _list(stream: list[int]) -> list[Any]:
    """Return the values of a literal that is a list, whose bytes are those of an Arrow stream of its values."""
    values = pa.ipc.open_stream(bytes(stream)).read_all().column(0)
    # A list of NaN has one, and SQL's has not.
    if values.null_count or pa.types.is_nested(values.type) or pa.types.is_floating(values.type):
        raise _Unknown
    return [*values]
