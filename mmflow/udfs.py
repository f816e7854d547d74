"""Python functions in expressions and SQL: over arrays (udf), or accumulating (udaf).

Inside mmflow text is `string_view`; functions see and give `string`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
from datafusion import Accumulator, AggregateUDF, Expr, ScalarUDF

from mmflow.errors import ConfigError
from mmflow.exec.compact import owned
from mmflow.formats.schema import canonical_type, parse_type

__all__ = ["CALLED", "Udf", "udaf", "udf"]

#: UDFs that expressions may hold; an expression doesn't say which, so every session knows them all.
CALLED: dict[str, Udf] = {}

Types: TypeAlias = str | Any | Sequence[str | Any]


class Udf:
    """A function for expressions; `session.register_udf` makes it known to SQL by its name.

    Attributes:
        name: In SQL.
        made: DataFusion's object.
        aggregate: It aggregates.
    """

    def __init__(self, name: str, made: Any, recipe: tuple[Any, ...], *, aggregate: bool) -> None:
        self.name = name
        self.made = made
        self.aggregate = aggregate
        self._recipe = recipe

    def __reduce__(self) -> tuple[Any, ...]:
        # DataFusion's objects can't be pickled: they are made again from what they were made of.
        return _remade, self._recipe

    def __call__(self, *arguments: Expr) -> Expr:
        """An expression that calls the function."""
        CALLED[self.name] = self
        return self.made(*arguments)  # type: ignore[no-any-return]


def _types(types: Types) -> list[pa.DataType]:
    listed = [types] if isinstance(types, str | pa.DataType) else list(types)
    return [canonical_type(parse_type(t)) for t in listed]


def udf(
    input_types: Types, return_type: str | pa.DataType, *, name: str | None = None, volatile: bool = False
) -> Callable[[Callable[..., pa.Array]], Udf]:
    """A decorator: a function of pyarrow arrays, one per argument, that gives an array of the same length.

    Args:
        input_types: Of the arguments, Arrow types or names.
        return_type: Of the result.
        name: In SQL; None: the function's own.
        volatile: Equal arguments may give different results.

    Raises:
        ConfigError: An unknown type.
    """
    arguments, result = _types(input_types), canonical_type(parse_type(return_type))

    def decorate(function: Callable[..., pa.Array]) -> Udf:
        called = name or function.__name__

        def over_public_types(*arrays: pa.Array) -> pa.Array:
            made = function(*[owned(a) for a in arrays])
            if isinstance(made, pa.ChunkedArray):
                made = made.combine_chunks()
            return owned(made).cast(result)

        fields = [pa.field(f"argument{i}", t) for i, t in enumerate(arguments)]
        volatility = "volatile" if volatile else "immutable"
        made = ScalarUDF(called, over_public_types, fields, pa.field("result", result), volatility)
        recipe = (udf, function, (arguments, result), {"name": called, "volatile": volatile})
        return Udf(called, made, recipe, aggregate=False)

    return decorate


def udaf(
    input_types: Types,
    return_type: str | pa.DataType,
    state_types: Types,
    *,
    name: str | None = None,
) -> Callable[[type[Accumulator]], Udf]:
    """A decorator: a `datafusion.Accumulator` class (update, merge, state, evaluate) as an aggregate function.

    Args:
        input_types: Of the arguments; text as string_view arrays.
        return_type: Of the result.
        state_types: Of what `state` gives.
        name: In SQL; None: the class's own, in lower case.

    Raises:
        ConfigError: An unknown type, or a class that is no accumulator.
    """
    arguments, result, states = (
        _types(input_types),
        canonical_type(parse_type(return_type)),
        _types(state_types),
    )

    def decorate(accumulator: type[Accumulator]) -> Udf:
        if not isinstance(accumulator, type) or not issubclass(accumulator, Accumulator):
            raise ConfigError("udaf decorates a subclass of datafusion.Accumulator")
        called = name or accumulator.__name__.lower()
        made = AggregateUDF(called, accumulator, arguments, result, states, "immutable")
        recipe = (udaf, accumulator, (arguments, result, states), {"name": called})
        return Udf(called, made, recipe, aggregate=True)

    return decorate


def _remade(
    decorator: Callable[..., Any], function: Any, types: Sequence[Any], options: dict[str, Any]
) -> Udf:
    made = decorator(*types, **options)(function)
    assert isinstance(made, Udf)
    return made
