"""Expressions as nodes of a program, where the kernel computes what DataFusion 55 does.

Nodes are shared: an expression that stands twice is computed once. Branches of CASE that may fail are computed only for
the rows that take them; such a lazy branch is a context of its own, whose nodes are shared with no other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import Expression

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.native.literals import arrow_type, literal_value
from mmflow.plan.native.patterns import like_tokens, text_tokens, texts_tokens
from mmflow.plan.native.program import Form, Node, Op, form_of
from mmflow.plan.optimizer.literal_prefilter import required_texts
from mmflow.plan.substrait import field_index

__all__ = ["Expressions", "UnknownExpressionError", "Value"]


class UnknownExpressionError(Exception):
    """Expression that programs don't know."""


@dataclass(frozen=True, slots=True)
class Value:
    """Value of an expression.

    Attributes:
        kind: Its type.
        node: Its node; -1: a column that no node reads yet.
        column: The column that it is; None: it is computed.
        constant: Whether it is a literal.
        fallible: Whether it may need the fallback for a value that DataFusion may fail on.
        context: The lazy context of its node.
    """

    kind: pa.DataType
    node: int
    column: int | None = None
    constant: bool = False
    fallible: bool = False
    context: int = 0


_Columns = Sequence[Callable[[int], Value]]

_COMPARISONS = {  # operation, whether the operands change places
    "equal": (Op.EQUAL, False),
    "not_equal": (Op.NOT_EQUAL, False),
    "lt": (Op.LESS, False),
    "lte": (Op.LESS_EQUAL, False),
    "gt": (Op.LESS, True),
    "gte": (Op.LESS_EQUAL, True),
    "is_distinct_from": (Op.DISTINCT, False),
    "is_not_distinct_from": (Op.NOT_DISTINCT, False),
}
_TESTS = {  # operation, whether it is negated
    "is_null": (Op.IS_NULL, False),
    "is_not_null": (Op.IS_NOT_NULL, False),
    "is_unknown": (Op.IS_NULL, False),
    "is_not_unknown": (Op.IS_NOT_NULL, False),
    "is_true": (Op.IS_TRUE, False),
    "is_not_true": (Op.IS_TRUE, True),
    "is_false": (Op.IS_FALSE, False),
    "is_not_false": (Op.IS_FALSE, True),
}
_ARITHMETIC = {
    "add": Op.ADD,
    "subtract": Op.SUBTRACT,
    "multiply": Op.MULTIPLY,
    "divide": Op.DIVIDE,
    "modulus": Op.MODULO,
}
_CHECKED = {Op.ADD: Op.ADD_CHECKED, Op.SUBTRACT: Op.SUBTRACT_CHECKED, Op.MULTIPLY: Op.MULTIPLY_CHECKED}
_MOST_DIGITS = 38
#: Powers of ten that a double has exactly.
_REAL_PLACES = 22
#: Values of IN, other than text, that are compared one by one.
_MOST_VALUES = 64
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400


class Expressions:
    """Compiler of expressions.

    Args:
        anchors: Functions by name.
    """

    def __init__(self, anchors: Mapping[str, int]) -> None:
        self._names = {anchor: name for name, anchor in anchors.items()}
        self._nodes: list[Node] = []
        self._known: dict[object, int] = {}
        self._contexts = 0

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes so far."""
        return tuple(self._nodes)

    def column(self, number: int, kind: pa.DataType, context: int) -> Value:
        """Return a column of the table."""
        return Value(kind, -1, column=number, context=context)

    def node(self, value: Value) -> int:
        """Return the node of a value."""
        if value.node >= 0 or value.column is None:
            return value.node
        form = form_of(value.kind)
        if form is None:
            raise UnknownExpressionError
        return self._add(Op.COLUMN, form, (), value.context, number=value.column)

    def conjuncts(self, e: Expression) -> Iterator[Expression]:
        """Yield the expressions that all must be true for a condition to be."""
        if self._called(e) == "and":
            for argument in e.scalar_function.arguments:
                yield from self.conjuncts(argument.value)
        else:
            yield e

    def value(self, e: Expression, columns: _Columns, context: int) -> Value:
        """Return the value of an expression over columns.

        Raises:
            UnknownExpressionError: It has a part that programs don't know.
        """
        match e.WhichOneof("rex_type"):
            case "selection":
                index = field_index(e)
                if index is None:
                    raise UnknownExpressionError
                return columns[index](context)
            case "literal":
                return self._literal(e.literal)
            case "cast":
                return self._cast(e.cast, columns, context)
            case "singular_or_list":
                return self._list(e.singular_or_list, columns, context)
            case "if_then":
                return self._case(e.if_then, columns, context)
            case "scalar_function":
                return self._function(e, columns, context)
        raise UnknownExpressionError

    def required(self, e: Expression, columns: _Columns) -> Value | None:
        """Return a condition that holds wherever a condition does, which never fails; None: none is known.

        A regular expression requires the characters that all of its matches have.

        Raises:
            UnknownExpressionError: The condition may fail, or has a part of which that is not known.
        """
        arguments = [a.value for a in e.scalar_function.arguments]
        if self._called(e) != "regex_match" or len(arguments) != 2:
            value = self.value(e, columns, 0)
            if value.fallible:
                raise UnknownExpressionError
            return None if value.constant or value.kind != pa.bool_() else value
        value, pattern = self.value(arguments[0], columns, 0), self.value(arguments[1], columns, 0)
        if (
            value.constant
            or value.fallible
            or not pattern.constant
            or not _is_text(value.kind)
            or not _is_text(pattern.kind)
        ):
            raise UnknownExpressionError
        texts = required_texts(self._nodes[pattern.node][6].decode())
        return self._made(Op.LIKE, pa.bool_(), [value], 0, value=texts_tokens(texts)) if texts else None

    def _called(self, e: Expression) -> str:
        if e.WhichOneof("rex_type") != "scalar_function":
            return ""
        return self._names.get(e.scalar_function.function_reference, "")

    # ---- nodes --------------------------------------------------------------------------------

    def _add(
        self, op: Op, form: Form, arguments: Sequence[int], context: int, *, number: int = 0, limit: int = 0,
        lenient: bool = False, value: bytes = b"",
    ) -> int:  # fmt: skip
        key = (op, form, tuple(arguments), context, number, limit, lenient, value)
        if key not in self._known:
            self._known[key] = len(self._nodes)
            self._nodes.append((int(op), int(form), list(arguments), number, limit, lenient, value))
        return self._known[key]

    def _made(
        self, op: Op, kind: pa.DataType, arguments: Sequence[Value], context: int, *, fallible: bool = False,
        number: int = 0, limit: int = 0, lenient: bool = False, value: bytes = b"",
    ) -> Value:  # fmt: skip
        form = form_of(kind)
        if form is None or all(a.constant for a in arguments):
            raise UnknownExpressionError  # DataFusion computes with literals when it plans
        nodes = [self.node(a) for a in arguments]
        node = self._add(op, form, nodes, context, number=number, limit=limit, lenient=lenient, value=value)
        return Value(kind, node, fallible=fallible or any(a.fallible for a in arguments), context=context)

    def _constant(self, kind: pa.DataType, value: bytes | None) -> Value:
        form = form_of(kind)
        if form is None:
            raise UnknownExpressionError
        node = self._add(Op.CONSTANT, form, (), 0, number=int(value is None), value=value or b"")
        return Value(kind, node, constant=True)

    def _literal(self, literal: Expression.Literal) -> Value:
        found = literal_value(literal)
        if found is None:
            raise UnknownExpressionError
        return self._constant(*found)

    # ---- functions ----------------------------------------------------------------------------

    def _function(self, e: Expression, columns: _Columns, context: int) -> Value:
        name = self._called(e)
        arguments = [a.value for a in e.scalar_function.arguments]
        if name == "coalesce":
            return self._coalesce(arguments, columns, context)
        if name in ("like", "starts_with", "ends_with", "contains"):
            return self._like(name, arguments, columns, context)
        values = [self.value(a, columns, context) for a in arguments]
        made = self._called_with(name, values, context)
        declared = (
            arrow_type(e.scalar_function.output_type) if e.scalar_function.HasField("output_type") else None
        )
        if declared is not None and declared != made.kind:
            raise UnknownExpressionError
        return made

    def _called_with(self, name: str, values: list[Value], context: int) -> Value:
        if name in _COMPARISONS and len(values) == 2:
            op, turned = _COMPARISONS[name]
            return self._comparison(op, values[::-1] if turned else values, context)
        if name in _TESTS and len(values) == 1:
            return self._test(*_TESTS[name], values[0], context)
        if name in ("and", "or") and len(values) >= 2:
            return self._logic(Op.AND if name == "and" else Op.OR, values, context)
        if name == "not" and len(values) == 1 and values[0].kind == pa.bool_():
            return self._made(Op.NOT, pa.bool_(), values, context)
        if name in _ARITHMETIC and len(values) == 2:
            return self._arithmetic(_ARITHMETIC[name], values[0], values[1], context)
        if name == "negate" and len(values) == 1 and (_is_number(values[0].kind)):
            return self._made(Op.NEGATE, values[0].kind, values, context)
        if name.startswith("mmflow_"):
            return self._checked(name, values, context)
        if name == "nanvl" and len(values) == 2 and _same(values) and pa.types.is_floating(values[0].kind):
            return self._made(Op.NANVL, values[0].kind, values, context)
        if name == "nullif" and len(values) == 2 and _same(values):
            equal = self._comparison(Op.EQUAL, values, context)
            null = self._constant(values[0].kind, None)
            return self._made(Op.IF, values[0].kind, [equal, null, values[0]], context)
        raise UnknownExpressionError

    def _comparison(self, op: Op, values: list[Value], context: int) -> Value:
        one, two = (v.kind for v in values)
        decimals = pa.types.is_decimal128(one) and pa.types.is_decimal128(two) and one.scale == two.scale
        if one != two and not decimals and not (_is_text(one) and _is_text(two)):
            raise UnknownExpressionError
        return self._made(op, pa.bool_(), values, context)

    def _test(self, op: Op, negated: bool, value: Value, context: int) -> Value:
        if op in (Op.IS_TRUE, Op.IS_FALSE) and value.kind != pa.bool_():
            raise UnknownExpressionError
        if form_of(value.kind) is None and value.column is not None and value.kind != pa.null():
            # Of other columns the kernel reads only what is null.
            node = self._add(Op.COLUMN, Form.BOOL, (), context, number=value.column)
            value = Value(pa.bool_(), node, context=context)
        made = self._made(op, pa.bool_(), [value], context)
        return self._made(Op.NOT, pa.bool_(), [made], context) if negated else made

    def _logic(self, op: Op, values: list[Value], context: int) -> Value:
        if any(v.kind != pa.bool_() for v in values):
            raise UnknownExpressionError
        made = values[0]
        for value in values[1:]:
            constant = value if value.constant else made
            if constant.constant:
                # DataFusion writes `x IN (1, NULL)` as `x = 1 OR NULL`.
                made = self._with_null(op, made if value.constant else value, constant, context)
            else:
                made = self._made(op, pa.bool_(), [made, value], context)
        return made

    def _with_null(self, op: Op, value: Value, constant: Value, context: int) -> Value:
        """Return a value AND or OR null: it is null but where the value alone decides."""
        if value.constant or constant.node != self._constant(pa.bool_(), None).node:
            raise UnknownExpressionError
        decides = self._made(Op.IS_FALSE if op is Op.AND else Op.IS_TRUE, pa.bool_(), [value], context)
        decided = self._constant(pa.bool_(), bytes([op is Op.OR]))
        return self._made(Op.IF, pa.bool_(), [decides, decided, constant], context)

    def _arithmetic(self, op: Op, one: Value, two: Value, context: int) -> Value:
        if pa.types.is_decimal128(one.kind) and pa.types.is_decimal128(two.kind):
            return self._decimals(op, one, two, context)
        if one.kind != two.kind or not (pa.types.is_integer(one.kind) or _is_real(one.kind)):
            raise UnknownExpressionError
        fallible = op in (Op.DIVIDE, Op.MODULO) and pa.types.is_integer(one.kind)
        return self._made(op, one.kind, [one, two], context, fallible=fallible)

    def _decimals(self, op: Op, one: Value, two: Value, context: int) -> Value:
        """Return decimals as arrow-rs computes them: types of more than 38 digits have 38."""
        a, b = one.kind, two.kind
        if a.scale < 0 or b.scale < 0:
            raise UnknownExpressionError
        match op:
            case Op.ADD | Op.SUBTRACT:
                scale = max(a.scale, b.scale)
                digits = scale + max(a.precision - a.scale, b.precision - b.scale) + 1
                one, two = (self._scaled(v, scale - v.kind.scale, context) for v in (one, two))
            case Op.MULTIPLY:
                scale, digits = a.scale + b.scale, a.precision + b.precision + 1
                if scale > _MOST_DIGITS:
                    raise UnknownExpressionError
            case Op.DIVIDE:
                scale = min(a.scale + 4, _MOST_DIGITS)
                places = scale - a.scale + b.scale
                digits = a.precision + places
                one = self._scaled(one, places, context)
            case _:
                raise UnknownExpressionError
        kind = pa.decimal128(min(digits, _MOST_DIGITS), scale)
        fallible = digits > _MOST_DIGITS or op is Op.DIVIDE
        return self._made(_CHECKED.get(op, op), kind, [one, two], context, fallible=fallible)

    def _scaled(self, value: Value, places: int, context: int) -> Value:
        """Return a decimal with more places."""
        if places == 0:
            return value
        if places > _MOST_DIGITS:
            raise UnknownExpressionError
        if value.constant:
            raw = self._nodes[value.node][6]
            scaled = int.from_bytes(raw, "little", signed=True) * 10**places
            if not raw or abs(scaled) >= 10**_MOST_DIGITS:
                raise UnknownExpressionError
            kind = pa.decimal128(_MOST_DIGITS, value.kind.scale + places)
            return self._constant(kind, scaled.to_bytes(16, "little", signed=True))
        digits = value.kind.precision + places
        kind = pa.decimal128(min(digits, _MOST_DIGITS), value.kind.scale + places)
        return self._made(Op.SCALE_UP, kind, [value], context, fallible=digits > _MOST_DIGITS, number=places)

    def _checked(self, name: str, values: list[Value], context: int) -> Value:
        """Return a call of a function of `plan/functions/checked_arithmetic.py`."""
        kind = values[0].kind if values else pa.null()
        if not pa.types.is_integer(kind) or not _same(values):
            raise UnknownExpressionError
        if name == f"mmflow_negate_{kind}" and len(values) == 1:
            return self._made(Op.NEGATE_CHECKED, kind, values, context, fallible=True)
        operation = _ARITHMETIC.get(name.removeprefix("mmflow_").removesuffix(f"_{kind}"))
        if operation not in _CHECKED or name != f"mmflow_{operation.name.lower()}_{kind}" or len(values) != 2:
            raise UnknownExpressionError
        return self._made(_CHECKED[operation], kind, values, context, fallible=True)

    # ---- text and lists -----------------------------------------------------------------------

    def _like(self, name: str, arguments: list[Expression], columns: _Columns, context: int) -> Value:
        value = self.value(arguments[0], columns, context)
        literal = arguments[1].WhichOneof("rex_type") == "literal"
        kind, raw = (literal_value(arguments[1].literal) if literal else None) or (pa.null(), None)
        if value.constant or not _is_text(value.kind) or not _is_text(kind) or raw is None:
            raise UnknownExpressionError
        if len(arguments) > 2 and arguments[2].literal.WhichOneof("literal_type") != "null":
            raise UnknownExpressionError
        text = raw.decode()
        tokens = like_tokens(text) if name == "like" else text_tokens(name, text)
        return self._made(Op.LIKE, pa.bool_(), [value], context, value=tokens)

    def _list(self, e: Expression.SingularOrList, columns: _Columns, context: int) -> Value:
        value = self.value(e.value, columns, context)
        text = _is_text(value.kind)
        if value.constant or not e.options or not (text or len(e.options) <= _MOST_VALUES):
            raise UnknownExpressionError
        raw: list[bytes] = []
        null = False
        for option in e.options:
            found = literal_value(option.literal) if option.WhichOneof("rex_type") == "literal" else None
            if found is None or not (found[0] == value.kind or (text and _is_text(found[0]))):
                raise UnknownExpressionError
            if found[1] is None:
                null = True
            else:
                raw.append(struct.pack("<i", len(found[1])) + found[1] if text else found[1])
        return self._made(
            Op.IN, pa.bool_(), [value], context, number=int(null), value=b"".join(dict.fromkeys(raw))
        )

    # ---- choices ------------------------------------------------------------------------------

    def _case(self, e: Expression.IfThen, columns: _Columns, context: int) -> Value:
        clauses = list(e.ifs)
        compared: Expression | None = None
        if not clauses[0].HasField("then"):
            # CASE x WHEN: DataFusion's Substrait has x as a condition without a result.
            compared = getattr(clauses.pop(0), "if")
        last = getattr(e, "else") if e.HasField("else") else None
        return self._clauses(clauses, compared, last, columns, context)

    def _clauses(
        self,
        clauses: list[Expression.IfThen.IfClause],
        compared: Expression | None,
        last: Expression | None,
        columns: _Columns,
        context: int,
    ) -> Value:
        first, *others = clauses
        test = self.value(getattr(first, "if"), columns, context)
        if compared is not None:
            test = self._comparison(Op.EQUAL, [self.value(compared, columns, context), test], context)

        def then(within: int) -> Value:
            return self.value(first.then, columns, within)

        def otherwise(within: int) -> Value:
            if others:
                return self._clauses(others, compared, last, columns, within)
            return (
                self._constant(then(context).kind, None)
                if last is None
                else self.value(last, columns, within)
            )

        return self._if(test, then, otherwise, context)

    def _if(
        self, test: Value, then: Callable[[int], Value], otherwise: Callable[[int], Value], context: int
    ) -> Value:
        if test.kind != pa.bool_() or test.constant:
            raise UnknownExpressionError
        (one, lazy), (two, lazy_too) = self._branch(then, context), self._branch(otherwise, context)
        if one.kind != two.kind:
            raise UnknownExpressionError
        return self._made(Op.IF, one.kind, [test, one, two], context, number=lazy | lazy_too << 1)

    def _branch(self, branch: Callable[[int], Value], context: int) -> tuple[Value, bool]:
        """Return the value of a branch, and whether it is lazy."""
        value = branch(context)
        if not value.fallible:
            return value, False
        self._contexts += 1
        return branch(self._contexts), True

    def _coalesce(self, arguments: list[Expression], columns: _Columns, context: int) -> Value:
        first, *others = arguments
        value = self.value(first, columns, context)
        if not others:
            return value
        test = self._made(Op.IS_NOT_NULL, pa.bool_(), [value], context)
        rest, lazy = self._branch(lambda within: self._coalesce(others, columns, within), context)
        if value.kind != rest.kind:
            raise UnknownExpressionError
        return self._made(Op.IF, value.kind, [test, value, rest], context, number=lazy << 1)

    # ---- casts --------------------------------------------------------------------------------

    def _cast(self, e: Expression.Cast, columns: _Columns, context: int) -> Value:
        value, to = self.value(e.input, columns, context), arrow_type(e.type)
        if to is None or e.failure_behavior == e.FAILURE_BEHAVIOR_UNSPECIFIED:
            raise UnknownExpressionError
        if value.kind == to:
            return value
        lenient = e.failure_behavior == e.FAILURE_BEHAVIOR_RETURN_NULL
        made = self._converted(value, to, context, lenient=lenient)
        if made is None:
            raise UnknownExpressionError
        return made

    def _converted(self, value: Value, to: pa.DataType, context: int, *, lenient: bool) -> Value | None:
        given, types = value.kind, pa.types
        if _is_text(given) and _is_text(to):
            return replace(value, kind=to, node=self.node(value), column=None)
        plain = types.is_integer(given) or given == pa.bool_()
        if plain and types.is_integer(to):
            fits = _contains(to, given)
            return self._made(Op.CAST, to, [value], context, fallible=not (fits or lenient), lenient=lenient)
        if plain and _is_real(to):
            return self._made(Op.CAST, to, [value], context)
        if _is_real(given) and types.is_integer(to):
            return self._made(Op.CAST, to, [value], context, fallible=not lenient, lenient=lenient)
        if _is_real(given) and _is_real(to):
            return self._made(Op.CAST, to, [value], context)
        if types.is_integer(given) and to == pa.bool_():
            zero = self._constant(given, bytes(given.bit_width // 8))
            return self._made(Op.NOT_EQUAL, to, [value, zero], context)
        if types.is_decimal128(to) and to.scale >= 0:
            return self._to_decimal(value, to, context, lenient=lenient)
        if types.is_decimal128(given) and given.scale >= 0:
            return self._from_decimal(value, to, context, lenient=lenient)
        if types.is_timestamp(given) and types.is_timestamp(to) and given.tz == to.tz and not lenient:
            finer, rest = divmod(_UNITS[to.unit], _UNITS[given.unit])
            if rest:
                return None
            units = self._constant(pa.int64(), struct.pack("<q", finer))
            return self._made(Op.MULTIPLY_CHECKED, to, [value, units], context, fallible=True)
        if given == pa.date32() and types.is_timestamp(to) and to.tz is None and not lenient:
            days = self._made(Op.CAST, pa.int64(), [value], context)
            units = self._constant(pa.int64(), struct.pack("<q", _DAY * _UNITS[to.unit]))
            return self._made(Op.MULTIPLY_CHECKED, to, [days, units], context, fallible=to.unit != "s")
        return None

    def _to_decimal(self, value: Value, to: pa.DataType, context: int, *, lenient: bool) -> Value | None:
        given, room = value.kind, to.precision - to.scale
        if pa.types.is_integer(given):
            wide = self._made(Op.CAST, pa.decimal128(_MOST_DIGITS, 0), [value], context)
            low, high = _bounds(given)
            fallible = max(high, -low) >= 10**room and not lenient
            return self._made(
                Op.SCALE_UP,
                to,
                [wide],
                context,
                fallible=fallible,
                number=to.scale,
                limit=to.precision,
                lenient=lenient,
            )
        if _is_real(given) and to.scale <= _REAL_PLACES:
            return self._made(
                Op.FROM_REAL,
                to,
                [value],
                context,
                fallible=not lenient,
                number=to.scale,
                limit=to.precision,
                lenient=lenient,
            )
        if not pa.types.is_decimal128(given) or given.scale < 0:
            return None
        places = to.scale - given.scale
        # Rounding may add a digit.
        fits = given.precision - given.scale + (places < 0) <= room
        return self._made(
            Op.SCALE_UP if places >= 0 else Op.SCALE_DOWN, to, [value], context, fallible=not (fits or lenient),
            number=abs(places), limit=to.precision, lenient=lenient,
        )  # fmt: skip

    def _from_decimal(self, value: Value, to: pa.DataType, context: int, *, lenient: bool) -> Value | None:
        if to == pa.float64() and value.kind.scale <= _REAL_PLACES:
            return self._made(Op.TO_REAL, to, [value], context, number=value.kind.scale)
        if pa.types.is_integer(to):
            whole = self._made(
                Op.TRUNCATE, pa.decimal128(_MOST_DIGITS, 0), [value], context, number=value.kind.scale
            )
            return self._made(Op.CAST, to, [whole], context, fallible=not lenient, lenient=lenient)
        return None


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_real(kind: pa.DataType) -> bool:
    return kind in (pa.float32(), pa.float64())


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or _is_real(kind) or pa.types.is_decimal128(kind))


def _same(values: Sequence[Value]) -> bool:
    return all(v.kind == values[0].kind for v in values)


def _bounds(kind: pa.DataType) -> tuple[int, int]:
    """Return the least and the greatest value of an integer type, or of truth as a number."""
    if kind == pa.bool_():
        return 0, 1
    if pa.types.is_signed_integer(kind):
        return -(1 << (kind.bit_width - 1)), (1 << (kind.bit_width - 1)) - 1
    return 0, (1 << kind.bit_width) - 1


def _contains(to: pa.DataType, given: pa.DataType) -> bool:
    (low, high), (least, most) = _bounds(to), _bounds(given)
    return low <= least and most <= high
