"""Python functions in expressions and SQL: over arrays (udf), or accumulating (udaf).

Inside mmflow text is `string_view`; functions see and give `string`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import datafusion.functions
import pyarrow as pa
from datafusion import Accumulator, AggregateUDF, ScalarUDF

from mmflow.api.expressions.tree.called import called
from mmflow.errors import ConfigError, UserFunctionError
from mmflow.formats.decoding.compact import without_views
from mmflow.formats.schemas.schema import canonical_type, parse_type, type_text
from mmflow.usercode.failures import keep_failures
from mmflow.usercode.tracebacks import PublicApi, public

if TYPE_CHECKING:
    from mmflow.api.expressions import Expr

__all__ = ["Udf", "udaf", "udf"]

#: Names in plans that are taken.
_taken = set(datafusion.functions.__all__)
_lock = threading.Lock()  # of the taken names

Types: TypeAlias = str | Any | Sequence[str | Any]


class Udf(PublicApi):
    """Python function for expressions. `session.register_udf` makes it available in SQL.

    Attributes
    ----------
    name
        Name in plans, which bind functions by name when they run: no two functions of a process share one.
    sql_name
        Name in SQL.
    made
        Function as DataFusion holds it.
    """

    def __init__(
        self, name: str, sql_name: str, made: ScalarUDF | AggregateUDF, recipe: tuple[Any, ...]
    ) -> None:
        self.name = name
        self.sql_name = sql_name
        self.made = made
        self._recipe = recipe

    def __reduce__(self) -> tuple[Any, ...]:
        # DataFusion's objects can't be pickled: they are made again from what they were made of.
        return _remade, self._recipe

    def __call__(self, *arguments: Expr | Any) -> Expr:
        """Return an expression that calls the function; arguments that are no expressions are literals."""
        from mmflow.api.expressions import as_value, call_function  # noqa: PLC0415  (slow)

        return call_function(self.sql_name, called(self), [as_value(a) for a in arguments], {})


def _unique_name(name: str) -> str:
    """Return a name in plans for a new function: its own, or with a number if another function has it."""
    with _lock:
        numbered = (f"{name}_{n}" for n in itertools.count(2))
        unique = next(n for n in itertools.chain((name,), numbered) if n not in _taken)
        _taken.add(unique)
        return unique


def _types(types: Types) -> list[pa.DataType]:
    listed = [types] if isinstance(types, str | pa.DataType) else list(types)
    return [canonical_type(parse_type(t)) for t in listed]


@public
def udf(
    input_types: Types, return_type: str | pa.DataType, *, name: str | None = None, volatile: bool = False
) -> Callable[[Callable[..., pa.Array]], Udf]:
    """Make a function of pyarrow arrays usable in expressions, as a decorator.

    The function takes one array for each argument, and returns an array of the same length.

    Parameters
    ----------
    input_types
        Types of the arguments: Arrow types or their names, one or a list.
    return_type
        Type of the result.
    name
        Name in SQL. By default that of the function.
    volatile
        Whether equal arguments may give different results.

    Returns
    -------
    Callable
        Decorator that returns a function of expressions.

    Raises
    ------
    ConfigError
        An unknown type.

    Examples
    --------
    >>> import mmflow as mf
    >>> import pyarrow.compute as pc
    >>> @mf.udf("int64", "int64")
    ... def squared(values):
    ...     return pc.multiply(values, values)
    >>> mf.from_arrow({"a": [2, 3]}).select(squared(mf.col("a")).alias("s")).to_arrow().to_pydict()
    {'s': [4, 9]}
    """
    types = _types(input_types), canonical_type(parse_type(return_type))

    def decorate(function: Callable[..., pa.Array]) -> Udf:
        sql_name = name or function.__name__
        return _scalar(function, types, _unique_name(sql_name), sql_name, volatile)

    return decorate


def _scalar(
    function: Callable[..., pa.Array],
    types: tuple[list[pa.DataType], pa.DataType],
    name: str,
    sql_name: str,
    volatile: bool,
) -> Udf:
    arguments, result = types
    where = f"function {sql_name!r}"

    def over_public_types(*arrays: pa.Array) -> pa.Array:
        made = function(*[without_views(a) for a in arrays])
        if isinstance(made, pa.ChunkedArray):
            made = made.combine_chunks()
        rows = len(arrays[0]) if arrays else None
        if not isinstance(made, pa.Array) or (rows is not None and len(made) != rows):
            given = f"an array of {len(made):,}" if isinstance(made, pa.Array) else type(made).__name__
            asked = "" if rows is None else f" of {rows:,} values"
            raise UserFunctionError.at(f"{where} returned {given}, expected a pyarrow array{asked}")
        try:
            return without_views(made).cast(result)
        except pa.ArrowInvalid as error:
            raise UserFunctionError.at(
                f"{where} returned {type_text(made.type)}, which does not fit {type_text(result)}: {error}"
            ) from error

    fields = [pa.field(f"argument{i}", t) for i, t in enumerate(arguments)]
    volatility = "volatile" if volatile else "immutable"
    called = keep_failures(over_public_types, where, sql_name)
    made = ScalarUDF(name, called, fields, pa.field("result", result), volatility)
    recipe = (_scalar, function, types, name, sql_name, volatile)
    return Udf(name, sql_name, made, recipe)


@public
def udaf(
    input_types: Types,
    return_type: str | pa.DataType,
    state_types: Types,
    *,
    name: str | None = None,
) -> Callable[[type[Accumulator]], Udf]:
    """Make a `datafusion.Accumulator` class usable as an aggregate function, as a decorator.

    Parameters
    ----------
    input_types
        Types of the arguments, one or a list. Text comes as string_view arrays.
    return_type
        Type of the result.
    state_types
        Types of the values that `state` returns.
    name
        Name in SQL. By default that of the class, in lower case.

    Returns
    -------
    Callable
        Decorator that returns a function of expressions, for `agg`.

    Raises
    ------
    ConfigError
        An unknown type, or a class that is no accumulator.

    Examples
    --------
    >>> import mmflow as mf
    >>> import pyarrow as pa
    >>> import pyarrow.compute as pc
    >>> from datafusion import Accumulator
    >>> @mf.udaf("int64", "int64", "int64")
    ... class Total(Accumulator):
    ...     def __init__(self):
    ...         self.total = 0
    ...     def update(self, values):
    ...         self.total += pc.sum(values).as_py() or 0
    ...     def merge(self, states):
    ...         self.update(states[0])
    ...     def state(self):
    ...         return [pa.scalar(self.total)]
    ...     def evaluate(self):
    ...         return pa.scalar(self.total)
    >>> mf.from_arrow({"a": [1, 2]}).agg(Total(mf.col("a")).alias("t")).to_arrow().to_pydict()
    {'t': [3]}
    """
    types = _types(input_types), canonical_type(parse_type(return_type)), _types(state_types)

    def decorate(accumulator: type[Accumulator]) -> Udf:
        if not isinstance(accumulator, type) or not issubclass(accumulator, Accumulator):
            raise ConfigError("udaf decorates a subclass of datafusion.Accumulator")
        sql_name = name or accumulator.__name__.lower()
        return _aggregate(accumulator, types, _unique_name(sql_name), sql_name)

    return decorate


def _aggregate(
    accumulator: type[Accumulator],
    types: tuple[list[pa.DataType], pa.DataType, list[pa.DataType]],
    name: str,
    sql_name: str,
) -> Udf:
    methods = ("__init__", "update", "merge", "state", "evaluate", "retract_batch")
    kept = {
        m: keep_failures(getattr(accumulator, m), f"{m}() of {sql_name!r}", sql_name)
        for m in methods
        if hasattr(accumulator, m)
    }
    made = AggregateUDF(name, type(accumulator.__name__, (accumulator,), kept), *types, "immutable")
    return Udf(name, sql_name, made, (_aggregate, accumulator, types, name, sql_name))


def _remade(make: Callable[..., Udf], *recipe: Any) -> Udf:
    return make(*recipe)
