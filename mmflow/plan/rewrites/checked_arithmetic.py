"""Whole numbers never wrap: arithmetic in a plan becomes checked functions, sums are added up wide.

DataFusion 55 wraps `+ - * <<`, unary minus and `sum` of integers, `sum` of decimals beyond 38 digits, and `sum` and
`avg` of durations. Operations whose operands' types and literals show that nothing can overflow stay as they are.
Sums in aggregates: `measures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
from substrait.algebra_pb2 import Expression

from mmflow.plan.errors import RefusedError
from mmflow.plan.functions.checked_arithmetic import CheckedFunction, bounds
from mmflow.plan.rewrites.expression_types import kind_of
from mmflow.plan.stages import Function
from mmflow.plan.substrait import RelationBuilder, messages

__all__ = [
    "MOST_SUM_DIGITS",
    "WIDE",
    "Arithmetic",
    "cast",
    "constant_overflow",
    "is_narrow",
    "restore_sum_type",
    "summed",
    "wide_argument",
]

#: Type in which partial sums of integers are merged.
WIDE = pa.decimal128(38, 0)

_OPERATIONS = {
    "add": "add",
    "subtract": "subtract",
    "multiply": "multiply",
    "bitwise_shift_left": "shift_left",
    "negate": "negate",
}
MOST_SUM_DIGITS = 28  # DataFusion sums decimals in ten digits more than theirs, 38 at most
_FEW = 1 << 32


class Arithmetic:
    """Rewriter that replaces operations that may overflow by checked functions.

    Args:
        rels: Function space of the query.
        use: Declares a function to the query and its workers, and returns its anchor.
    """

    def __init__(self, rels: RelationBuilder, use: Callable[[Function], int]) -> None:
        self._names = rels.names
        self._use = use

    def check(self, e: Expression, schema: pa.Schema) -> None:
        """Rewrite one expression over columns of `schema` in place, after those in it."""
        if e.WhichOneof("rex_type") != "scalar_function":
            return
        function = e.scalar_function
        operation = _OPERATIONS.get(self._names.get(function.function_reference, ""))
        if operation is None:
            return
        operands = [a.value for a in function.arguments]
        kind = kind_of(e, schema)
        if kind is None or not pa.types.is_integer(kind) or any(kind_of(o, schema) != kind for o in operands):
            return
        ranges = [_range(o, schema, self._names) for o in operands]
        if not _fits(operation, ranges, kind):
            function.function_reference = self._use(CheckedFunction(operation, kind))


def constant_overflow(e: Expression, names: Mapping[int, str]) -> str | None:
    """Return the overflow of an operation between integer literals, for people; None: there is none."""
    operation = _OPERATIONS.get(names.get(e.scalar_function.function_reference, ""))
    if operation is None or any(isinstance(m, Expression.FieldReference) for m in messages(e)):
        return None
    nothing = pa.schema([])
    kind = kind_of(e, nothing)
    operands = [a.value for a in e.scalar_function.arguments]
    if kind is None or not pa.types.is_integer(kind) or any(kind_of(o, nothing) != kind for o in operands):
        return None
    ranges = [_range(o, nothing, names) for o in operands]
    if any(low != high for low, high in ranges):
        return None
    values = [low for low, _ in ranges]
    if operation == "shift_left":
        fits = 0 <= values[1] < kind.bit_width and values[0] << values[1] <= bounds(kind)[1]
    else:
        fits = _fits(operation, ranges, kind)
    return None if fits else f"{operation} of {' and '.join(map(str, values))} does not fit {kind}"


def _range(e: Expression, schema: pa.Schema, names: Mapping[int, str]) -> tuple[int, int]:
    """Return an interval that holds all values of an integer expression."""
    kind = kind_of(e, schema)
    if kind is None or not pa.types.is_integer(kind):
        return bounds(pa.int64())
    match e.WhichOneof("rex_type"):
        case "literal" if e.literal.WhichOneof("literal_type") != "null":
            value = getattr(e.literal, str(e.literal.WhichOneof("literal_type")))
            value = value if value >= 0 or pa.types.is_signed_integer(kind) else value + (1 << kind.bit_width)
            return value, value
        case "cast":
            source = kind_of(e.cast.input, schema)
            if source is not None and pa.types.is_integer(source):
                low, high = _range(e.cast.input, schema, names)
                return max(low, bounds(kind)[0]), min(high, bounds(kind)[1])
        case "scalar_function":
            name = names.get(e.scalar_function.function_reference, "")
            operation = _OPERATIONS.get(name)
            operands = [a.value for a in e.scalar_function.arguments]
            if operation in _EXACT:
                return _EXACT[operation](*(_range(o, schema, names) for o in operands))
    return bounds(kind)


def _product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


_EXACT: Mapping[str | None, Callable[..., tuple[int, int]]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "multiply": _product,
    "negate": lambda a: (-a[1], -a[0]),
}


def _fits(operation: str, ranges: list[tuple[int, int]], kind: pa.DataType) -> bool:
    if operation not in _EXACT:
        return False
    low, high = _EXACT[operation](*ranges)
    return bounds(kind)[0] <= low and high <= bounds(kind)[1]


def restore_sum_type(
    total: Expression, kind: pa.DataType, rels: RelationBuilder, use: Callable[[Function], int]
) -> Expression:
    """Return a wide total as the type of a sum of `kind`; the expression raises where it does not fit."""
    if pa.types.is_integer(kind):
        kind = pa.int64() if pa.types.is_signed_integer(kind) else pa.uint64()
    elif pa.types.is_decimal(kind):
        kind = pa.decimal128(38, kind.scale)
    number = pa.int64() if pa.types.is_duration(kind) else kind
    made = Expression()
    made.scalar_function.function_reference = use(CheckedFunction("sum", number))
    made.scalar_function.arguments.add().value.CopyFrom(total)
    made.scalar_function.output_type.CopyFrom(rels.types_of([number])[0])
    return cast(made, kind, rels) if number != kind else made


def summed(window: Expression.WindowFunction, name: str, schema: pa.Schema) -> pa.DataType | None:
    """Return the type of the argument of a window function whose sum may wrap; None: it can't.

    Raises:
        RefusedError: The function sums intervals, or averages durations.
    """
    arguments = [a.value for a in window.arguments]
    if name not in ("sum", "avg") or not arguments:
        return None
    kind = kind_of(arguments[0], schema)
    if kind is None or pa.types.is_floating(kind) or (name == "avg" and pa.types.is_decimal(kind)):
        return None
    if kind == pa.month_day_nano_interval() or name == "avg":
        raise RefusedError(f"{name} of {kind} over a window may overflow unseen: cast to bigint or to double")
    if pa.types.is_decimal(kind) and (pa.types.is_decimal256(kind) or kind.precision <= MOST_SUM_DIGITS):
        return None
    return None if is_narrow(arguments[0], schema) else kind


def wide_argument(argument: Expression, kind: pa.DataType, rels: RelationBuilder) -> Expression:
    """Return the expression that a window function sums instead of an argument of `kind`."""
    if pa.types.is_decimal(kind):
        return cast(argument, pa.decimal256(76, kind.scale), rels)
    return cast(cast(argument, pa.int64(), rels) if pa.types.is_duration(kind) else argument, WIDE, rels)


def is_narrow(argument: Expression, schema: pa.Schema) -> bool:
    """Return whether an argument comes from 32 bits or less. No task has the 2^32 rows that would overflow 64."""
    if argument.WhichOneof("rex_type") == "literal" and argument.literal.HasField("i64"):
        value = int(argument.literal.i64)
        return -_FEW < value < _FEW
    while argument.WhichOneof("rex_type") == "cast":
        argument = argument.cast.input
    kind = kind_of(argument, schema)
    small: bool = kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32())
    return small


def cast(expression: Expression, to: pa.DataType, rels: RelationBuilder) -> Expression:
    """Return a cast that raises where a value does not fit."""
    made = Expression()
    made.cast.input.CopyFrom(expression)
    made.cast.type.CopyFrom(rels.types_of([to])[0])
    made.cast.failure_behavior = Expression.Cast.FAILURE_BEHAVIOR_THROW_EXCEPTION
    return made
