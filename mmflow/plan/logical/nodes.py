"""DataFusion's logical plans, as far as its Python classes show them: nodes and their expressions.

They do not show plans of subqueries within expressions, and FILTER, ORDER BY and PARTITION BY of calls: a caller that
must see everything counts what it finds against the Substrait form of the plan, which holds it all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datafusion import Expr, LogicalPlan

from mmflow.plan.errors import is_datafusion_error

__all__ = ["calls_beyond_substrait", "expressions", "nodes", "parts", "tables_of"]


def nodes(plan: LogicalPlan) -> Iterator[LogicalPlan]:
    """Yield the nodes of a plan in pre-order, without those of subqueries."""
    yield plan
    for below in plan.inputs():
        yield from nodes(below)


def expressions(node: LogicalPlan) -> list[Expr]:
    """Return the expressions of a node itself, in the order of its Substrait form."""
    variant = node.to_variant()
    match type(variant).__name__:
        case "Projection":
            found: Sequence[object] = variant.projections()
        case "Filter":
            found = [variant.predicate()]
        case "Aggregate":
            found = [*variant.group_by_exprs(), *variant.aggregate_exprs()]
        case "WindowExpr":
            found = variant.get_window_expr()
        case "Sort":
            found = [key.expr() for key in variant.sort_exprs()]
        case "Join":
            condition = variant.filter()
            found = [e for pair in variant.on() for e in pair] + ([] if condition is None else [condition])
        case _:
            found = []
    return [e if isinstance(e, Expr) else Expr(e) for e in found]


def parts(expression: Expr) -> Iterator[Expr]:
    """Yield an expression and those within it, in pre-order; FILTER, ORDER BY and PARTITION BY can't be seen."""
    yield expression
    if expression.variant_name() in ("Column", "Literal", "Exists", "ScalarSubquery"):
        return  # their operands are themselves, or not implemented
    for operand in expression.rex_call_operands():
        yield from parts(operand)


def tables_of(plan: LogicalPlan) -> Iterator[str]:
    """Yield the names of the tables that a plan reads, as often as it does."""
    for node in nodes(plan):
        variant = node.to_variant()
        if type(variant).__name__ == "TableScan":
            yield str(variant.table_name())


# ---- calls of aggregates and window functions ---------------------------------------------------------------
#
# Their options are in DataFusion's own encoding of an expression only (datafusion.proto, here of version 55): a
# LogicalExprNode has one field, which is the kind of expression.

_ALIAS, _WINDOW, _AGGREGATE = 2, 18, 19
_NULL_TREATMENT = {_WINDOW: 11, _AGGREGATE: 7}
_RESPECT_NULLS = 0
#: Fields of a call that Substrait carries: its name in one of three, arguments, PARTITION BY, ORDER BY, and the
#: definition of Python's functions; of aggregates also FILTER (3) and DISTINCT (5).
_CARRIED = {_WINDOW: {1, 2, 3, 9, 4, 5, 6, 10}, _AGGREGATE: {1, 2, 3, 4, 5, 6}}
_FRAME, _UNITS, _ROWS = 8, 1, 0
_BOUNDS = (2, 3)
_NAMES = {12: "DISTINCT", 13: "FILTER"}


def calls_beyond_substrait(plan: LogicalPlan) -> str | None:
    """Return an option of an aggregate's or window function's call that Substrait drops; None: there is none.

    Options that are not known to be encoded count as dropped, so that new ones of DataFusion give no wrong rows.
    """
    for node in nodes(plan):
        variant = node.to_variant()
        match type(variant).__name__:
            case "Aggregate":
                calls, kind = variant.aggregate_exprs(), _AGGREGATE
            case "WindowExpr":
                calls, kind = variant.get_window_expr(), _WINDOW
            case _:
                continue
        for call in calls:
            dropped = _dropped(call, kind)
            if dropped is not None:
                return f"{dropped} of {'a window function' if kind == _WINDOW else 'an aggregate'}"
    return None


def _dropped(call: Expr, kind: int) -> str | None:
    try:
        tag, body = _only(call.to_bytes())
        while tag == _ALIAS:
            tag, body = _only(_only(body)[1])
    except BaseException as error:
        if not is_datafusion_error(error):
            raise
        tag, body = 0, b""
    if tag != kind:
        return "an unknown form"
    for field, value in _fields(body):
        if field == _FRAME and kind == _WINDOW:
            if isinstance(value, int) or not _is_supported_frame(value):
                return "a RANGE frame with offsets"
        elif field == _NULL_TREATMENT[kind]:
            if value != _RESPECT_NULLS:
                return "IGNORE NULLS"
        elif field not in _CARRIED[kind]:
            return _NAMES.get(field, "an unknown option")
    return None


def _is_supported_frame(frame: bytes) -> bool:
    """Return whether a window's frame is of rows, or between its ends and the current row."""
    fields = dict(_fields(frame))
    if fields.get(_UNITS, _ROWS) == _ROWS:
        return True
    return not any(_offset(fields[bound]) for bound in _BOUNDS if bound in fields)


def _offset(bound: int | bytes) -> bool:
    """Return whether a bound is an offset: it has a value that is not a typed null."""
    value = None if isinstance(bound, int) else dict(_fields(bound)).get(2)
    return value is not None and (isinstance(value, int) or [tag for tag, _ in _fields(value)] != [_NULL])


_NULL = 33  # of a ScalarValue


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Return the fields of an encoded message of protobuf: number, value (bytes where it has a length)."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                found.append((tag >> 3, value))
            case 2:
                size, at = _varint(message, at)
                found.append((tag >> 3, message[at : at + size]))
                at += size
            case wire:
                size = 8 if wire == 1 else 4
                found.append((tag >> 3, message[at : at + size]))
                at += size
    return found


def _only(message: bytes) -> tuple[int, bytes]:
    """Return the first field of an encoded message; its number is 0 where it is no message itself."""
    tag, body = _fields(message)[0]
    return (0, b"") if isinstance(body, int) else (tag, body)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
