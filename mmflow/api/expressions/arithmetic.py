"""Arithmetic: `/` divides truly, `//` and `%` floor as Python's, `**` of integers is exact.

Results of integers are checked for overflow by the planner (docs/planning.md).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family
from mmflow.api.expressions.tree.called import called
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import PlanError
from mmflow.plan.functions.bits import BitFunction

__all__ = ["arithmetic", "inverted", "logic", "negated"]

#: Exponents up to which a power of an integer is a product: the next one overflows for all bases but 0, 1 and -1.
_MOST_PRODUCT = 63
#: Bits of the widest integer type.
_WIDEST = 64


def arithmetic(symbol: str) -> Callable[[Resolved, Resolved], Raw]:
    """Return the build function of an arithmetic operator."""
    compute = _COMPUTE[symbol]

    def build(left: Resolved, right: Resolved) -> Raw:
        kinds = {family(left.type), family(right.type)} - {"null"}
        if kinds <= {"number"}:
            return compute(_fitted(left, right), _fitted(right, left))
        other = _OTHERS.get((symbol, family(left.type), family(right.type)))
        if other is None:
            raise PlanError(
                f"operator {symbol} does not take {left.shown()} and {right.shown()}{_advice(symbol, kinds)}",
                code="MMF-PLN-004",
            )
        return other(left, right)

    return build


def _fitted(operand: Resolved, other: Resolved) -> Resolved:
    """Return an integer literal beside a uint64 as a uint64 too: no integer type holds that and an int64."""
    if other.type != pa.uint64() or not _is_literal(operand) or not _is_integer(operand):
        return operand
    value = operand.value.as_py()  # type: ignore[union-attr]  # it has one
    if value < 0:
        return operand
    scalar = pa.scalar(value, pa.uint64())
    return replace(operand, raw=literal(scalar), value=scalar, known=scalar.type)


def _advice(symbol: str, kinds: set[str]) -> str:
    if "text" in kinds and "number" in kinds:
        return "; cast one of them"
    return "; cast truth values to 'int64' to count them" if "bool" in kinds else ""


def _plain(compute: Callable[[Any, Any], Any]) -> Callable[[Resolved, Resolved], Raw]:
    def build(left: Resolved, right: Resolved) -> Raw:
        made: Raw = compute(left.raw, right.raw)
        return made

    return build


def _is_integer(operand: Resolved) -> bool:
    return bool(types.is_integer(operand.type))


def _is_literal(operand: Resolved) -> bool:
    return operand.value is not None and operand.value.is_valid


def _divide(left: Resolved, right: Resolved) -> Raw:
    if types.is_decimal(left.type) and not types.is_floating(right.type):
        return left.raw / F.nullif(right.raw, literal(0))
    return _as_float(left) / _as_float(right)


def _as_float(operand: Resolved) -> Raw:
    if types.is_floating(operand.type):
        return operand.raw
    if _is_literal(operand):
        return literal(float(operand.value.as_py()))  # type: ignore[union-attr]  # it has one
    return operand.raw.cast(pa.float64())


def _floor_divide(left: Resolved, right: Resolved) -> Raw:
    if types.is_floating(left.type) or types.is_floating(right.type):
        return F.floor(_as_float(left) / _as_float(right))
    if _is_exact_decimal(left, right):
        # Decimal division truncates four digits behind the point, but not what is divisible.
        return (left.raw - _modulo(left, right)) / _divisor(right)
    quotient = left.raw / _divisor(right)
    if types.is_unsigned_integer(left.type) and _is_positive(right):
        return quotient
    remainder = left.raw % _divisor(right)
    return F.when(_other_sign(remainder, right), quotient - literal(1)).otherwise(quotient)


def _is_exact_decimal(left: Resolved, right: Resolved) -> bool:
    """Return whether both are computed as decimals: one is, or no integer type holds both."""
    kinds = left.type, right.type
    unsigned = pa.uint64() in kinds and any(map(types.is_signed_integer, kinds))
    return unsigned or any(map(types.is_decimal, kinds))


def _modulo(left: Resolved, right: Resolved) -> Raw:
    floating = types.is_floating(left.type) or types.is_floating(right.type)
    divisor = right.raw if floating else _divisor(right)
    remainder = left.raw % divisor
    if types.is_unsigned_integer(left.type) and _is_positive(right):
        return remainder
    return F.when(_other_sign(remainder, right), remainder + divisor).otherwise(remainder)


def _divisor(right: Resolved) -> Raw:
    """Return a divisor, null for 0: whole numbers have no infinity to give."""
    if _is_literal(right) and right.value.as_py() != 0:  # type: ignore[union-attr]  # it has one
        return right.raw
    return F.nullif(right.raw, literal(pa.scalar(0, right.type)))


def _is_positive(operand: Resolved) -> bool:
    return bool(types.is_unsigned_integer(operand.type)) or (
        _is_literal(operand) and operand.value.as_py() > 0  # type: ignore[union-attr]  # it has one
    )


def _other_sign(remainder: Raw, divisor: Resolved) -> Raw:
    zero = literal(0)
    if _is_positive(divisor):
        return remainder < zero
    return ((remainder < zero) & (divisor.raw > zero)) | ((remainder > zero) & (divisor.raw < zero))


def _power(base: Resolved, exponent: Resolved) -> Raw:
    count = exponent.value.as_py() if _is_literal(exponent) and exponent.value is not None else None
    if _is_integer(base) and isinstance(count, int) and 0 <= count <= _MOST_PRODUCT:
        raw = base.raw if base.type == pa.uint64() else base.raw.cast(pa.int64())
        return F.when(raw.is_not_null(), literal(1)).end() if count == 0 else _product(raw, count)
    return F.power(_as_float(base), _as_float(exponent))


def _product(base: Raw, count: int) -> Raw:
    if count == 1:
        return base
    half = _product(base, count // 2)
    return half * half * base if count % 2 else half * half


def _joined(left: Resolved, right: Resolved) -> Raw:
    known = left.raw.is_not_null() & right.raw.is_not_null()
    return F.when(known, F.concat(left.raw, right.raw)).end()


_COMPUTE: dict[str, Callable[[Resolved, Resolved], Raw]] = {
    "+": _plain(operator.add), "-": _plain(operator.sub), "*": _plain(operator.mul), "/": _divide,
    "//": _floor_divide, "%": _modulo, "**": _power,
}  # fmt: skip


def _between_times(left: Resolved, right: Resolved) -> Raw:
    """Build the duration between two times; of dates it is in seconds, since DataFusion's is a number of days."""
    kinds = [k for k in (left.type, right.type) if types.is_timestamp(k)] or [pa.timestamp("s")]
    return left.raw.cast(kinds[0]) - right.raw.cast(kinds[-1])


def _moved(compute: Callable[[Any, Any], Any]) -> Callable[[Resolved, Resolved], Raw]:
    def build(left: Resolved, right: Resolved) -> Raw:
        for operand in (left, right):
            if types.is_date(operand.type):
                raise PlanError(
                    f"durations can't be added to {operand.shown()}: cast it to a timestamp first"
                )
        made: Raw = compute(left.raw, right.raw)
        return made

    return build


_OTHERS: dict[tuple[str, str, str], Callable[[Resolved, Resolved], Raw]] = {
    ("+", "text", "text"): _joined,
    **{("-", kind, kind): _between_times for kind in ("time", "zoned time")},
    **{(symbol, "duration", "duration"): _COMPUTE[symbol] for symbol in "+-"},
    **{
        (symbol, kind, "duration"): _moved(compute)
        for symbol, compute in (("+", operator.add), ("-", operator.sub))
        for kind in ("time", "zoned time")
    },
    **{("+", "duration", kind): _moved(operator.add) for kind in ("time", "zoned time")},
}


def negated(operand: Resolved) -> Raw:
    """Build unary minus."""
    if family(operand.type) not in ("number", "null"):
        raise PlanError(f"operator - does not take {operand.shown()}", code="MMF-PLN-004")
    if types.is_floating(operand.type):
        return operand.raw * literal(pa.scalar(-1.0, operand.type))  # 0 - 0.0 would lose the sign
    return literal(0) - operand.raw


def logic(symbol: str) -> Callable[[Resolved, Resolved], Raw]:
    """Return the build function of `&`, `|` or `^`, which combine conditions, or the bits of integers."""

    def build(left: Resolved, right: Resolved) -> Raw:
        if _is_integer(left) or _is_integer(right):
            return _bitwise(symbol, left, right)
        _check_conditions(symbol, left, right)
        made: Raw = _LOGIC[symbol](left.raw, right.raw)
        return made

    return build


_LOGIC: dict[str, Callable[[Any, Any], Any]] = {"&": operator.and_, "|": operator.or_, "^": operator.ne}
_BITS = {"&": "and", "|": "or", "^": "xor"}


def _bitwise(symbol: str, left: Resolved, right: Resolved) -> Raw:
    kind = _bits_type(symbol, left, right)
    function = called(BitFunction(_BITS[symbol], kind))
    made: Raw = function(*(_in_bits(symbol, o, kind) for o in (left, right)))
    return made


def _bits_type(symbol: str, left: Resolved, right: Resolved) -> pa.DataType:
    """Return the type in which bits are combined: a literal takes the other's, else the one that holds both."""
    for one, other in ((left, right), (right, left)):
        if not _is_integer(one) and not types.is_null(one.type):
            both = f"{left.shown()} and {right.shown()}"
            comparison = "; put each comparison in parentheses" if types.is_boolean(one.type) else ""
            raise PlanError(
                f"operator {symbol} combines two conditions or two integers, but not {both}{comparison}"
            )
        if one.value is not None and _is_integer(other):
            return other.type
    widths = left.type.bit_width, right.type.bit_width
    signed = [types.is_signed_integer(o.type) for o in (left, right)]
    if signed[0] == signed[1]:
        return left.type if widths[0] >= widths[1] else right.type
    needed = 2 * widths[signed.index(False)]
    if needed > _WIDEST:
        raise PlanError(
            f"operator {symbol}: no integer type holds {left.shown()} and {right.shown()}; cast one of them"
        )
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[max(needed, widths[signed.index(True)])]


def _in_bits(symbol: str, operand: Resolved, kind: pa.DataType) -> Raw:
    if operand.type == kind:
        return operand.raw
    if operand.value is None or not operand.value.is_valid:
        return operand.raw.cast(kind)
    try:
        return literal(pa.scalar(operand.value.as_py(), kind))
    except (pa.ArrowInvalid, OverflowError) as error:
        raise PlanError(
            f"operator {symbol}: {operand.shown()} does not fit {kind}, the type of the other"
        ) from error


def inverted(operand: Resolved) -> Raw:
    """Build `~`: not, or all bits of an integer."""
    if _is_integer(operand):
        made: Raw = called(BitFunction("not", operand.type))(operand.raw)
        return made
    _check_conditions("~", operand)
    return ~operand.raw


def _check_conditions(symbol: str, *operands: Resolved) -> None:
    for operand in operands:
        if family(operand.type) not in ("bool", "null"):
            raise PlanError(
                f"operator {symbol} combines conditions or integers, but {operand.shown()} is neither; put each "
                "comparison in parentheses: (col('a') > 1) & (col('b') < 2)"
            )
