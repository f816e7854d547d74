"""Methods of lists, `col("l").list`, and of structs, `col("s").struct`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family
from mmflow.api.expressions.methods.core import Core
from mmflow.api.expressions.methods.items import evaluated
from mmflow.api.expressions.methods.namespace import Namespace
from mmflow.api.expressions.methods.windows import check_count
from mmflow.api.expressions.tree.called import called
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw, missing_column
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError
from mmflow.plan.functions.lists import ListFunction

if TYPE_CHECKING:
    from mmflow.api.expressions.expr import Expr

__all__ = ["ListNamespace", "StructNamespace"]

#: Families whose values have an order.
_ORDERED = ("number", "text", "bytes", "time", "zoned time", "duration", "bool", "time32", "time64")


class ListNamespace(Namespace):
    """Methods of lists."""

    __slots__ = ()

    _label = "list"
    _families = ("list", "large_list", "fixed_size_list")

    def _call(
        self,
        method: str,
        operation: str,
        result: Callable[[Resolved], pa.DataType],
        *options: Any,
        items: Sequence[str] = _ORDERED,
    ) -> Expr:
        """Return a call of a `ListFunction` of lists alone, whose items are of one of these families."""

        def build(operand: Resolved) -> Raw:
            if types.is_null(operand.type):
                return operand.raw
            if items and family(operand.type.value_type) not in (*items, "null"):
                wanted = "" if items is _ORDERED else f"; its items must be {' or '.join(items)}"
                raise PlanError(
                    f"list.{method}() does not take {operand.shown()}{wanted}", code="MMF-PLN-004"
                )
            function = ListFunction(operation, (operand.type,), result(operand), options)
            made: Raw = called(function)(operand.raw)
            return made

        return self._apply(method, build)

    # ---- items ---------------------------------------------------------------------------------------------

    def len(self) -> Expr:
        """Return the number of values, nulls among them.

        >>> import mmflow as mf
        >>> mf.from_arrow({"l": [[1, None], []]}).select(mf.col("l").list.len()).to_arrow().to_pydict()
        {'l': [2, 0]}
        """
        return self._apply("len", lambda e: F.array_length(e.raw).cast(pa.int64()))

    def get(self, index: int | Expr, *, null_on_oob: bool = False) -> Expr:
        """Return the value at a place, from 0; negative ones count from the end.

        Parameters
        ----------
        index
            Place: an integer, or an expression of integers.
        null_on_oob
            Whether a list without such a place gives null; otherwise it fails the run.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"l": [[1, 2], []]})
        >>> ds.select(mf.col("l").list.get(-1, null_on_oob=True)).to_arrow().to_pydict()
        {'l': [2, None]}
        """
        if isinstance(index, bool) or not isinstance(index, int | Core):
            raise ConfigError(f"list.get({index!r}): takes an integer or an expression")

        def build(operand: Resolved, place: Resolved) -> Raw:
            if types.is_null(operand.type):
                return operand.raw
            if not types.is_integer(place.type):
                raise PlanError(f"list.get() takes an integer, but not {place.shown()}")
            kinds = operand.type, pa.int64()
            function = ListFunction("get", kinds, operand.type.value_type, (null_on_oob,))
            made: Raw = called(function)(operand.raw, place.raw.cast(pa.int64()))
            return made

        return self._apply("get", build, index)

    def first(self) -> Expr:
        """Return the first value; null of an empty list."""
        return self.get(0, null_on_oob=True)

    def last(self) -> Expr:
        """Return the last value; null of an empty list."""
        return self.get(-1, null_on_oob=True)

    def contains(self, item: Any) -> Expr:
        """Return whether a list holds a value: a literal or an expression.

        >>> import mmflow as mf
        >>> mf.from_arrow({"l": [[1, 2], []]}).select(mf.col("l").list.contains(2)).to_arrow().to_pydict()
        {'l': [True, False]}
        """

        def build(operand: Resolved, value: Resolved) -> Raw:
            kind = operand.type.value_type
            if family(kind) != family(value.type):
                raise PlanError(
                    f"list.contains() of {operand.shown()} does not take {value.shown()}", code="MMF-PLN-004"
                )
            found = F.array_has(operand.raw, value.raw)
            # DataFusion answers null for an empty list.
            return F.when(operand.raw.is_not_null(), F.coalesce(found, literal(False))).end()

        return self._apply("contains", build, item)

    def join(self, separator: str) -> Expr:
        """Return the texts of a list as one text, nulls left out.

        >>> import mmflow as mf
        >>> mf.from_arrow({"l": [["a", "b"]]}).select(mf.col("l").list.join("-")).to_arrow().to_pydict()
        {'l': ['a-b']}
        """

        def build(operand: Resolved) -> Raw:
            if family(operand.type.value_type) not in ("text", "null"):
                raise PlanError(f"list.join() takes lists of text, but not {operand.shown()}")
            return F.array_to_string(operand.raw, literal(separator))

        return self._apply("join", build)

    # ---- aggregates of a list ------------------------------------------------------------------------------

    def sum(self) -> Expr:
        """Return the sum of a list; 0 of an empty one. Nulls are left out.

        >>> import mmflow as mf
        >>> mf.from_arrow({"l": [[1, 2], [], None]}).select(mf.col("l").list.sum()).to_arrow().to_pydict()
        {'l': [3, 0, None]}
        """
        return self._call("sum", "sum", _sum_type, items=("number", "bool", "duration"))

    def mean(self) -> Expr:
        """Return the mean of a list as a float; null where it has no value. Nulls are left out."""
        return self._call("mean", "mean", lambda _: pa.float64(), items=("number", "bool"))

    def min(self) -> Expr:
        """Return the least value of a list; null where it has none. NaN is above all numbers."""
        return self._call("min", "extreme", _item_type, False)

    def max(self) -> Expr:
        """Return the greatest value of a list; null where it has none. NaN is above all numbers."""
        return self._call("max", "extreme", _item_type, True)

    def n_unique(self) -> Expr:
        """Return the number of different values of a list; null is one of them."""
        return self._call("n_unique", "n_unique", lambda _: pa.int64())

    def any(self) -> Expr:
        """Return whether a list holds a true value; false of an empty one. Nulls are left out."""
        return self._call("any", "any", lambda _: pa.bool_(), items=("bool",))

    def all(self) -> Expr:
        """Return whether all values of a list are true; true of an empty one. Nulls are left out."""
        return self._call("all", "all", lambda _: pa.bool_(), items=("bool",))

    # ---- other lists ---------------------------------------------------------------------------------------

    def sort(self, *, descending: bool = False, nulls_last: bool = False) -> Expr:
        """Return the values of each list in order. NaN is above all numbers.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"l": [[3, None, 1]]})
        >>> ds.select(mf.col("l").list.sort(descending=True)).to_arrow().to_pydict()
        {'l': [[None, 3, 1]]}
        """
        return self._call("sort", "sort", _own_type, bool(descending), bool(nulls_last))

    def unique(self) -> Expr:
        """Return the different values of each list, in the order in which they come first. Null is a value.

        >>> import mmflow as mf
        >>> mf.from_arrow({"l": [[2, 1, 2]]}).select(mf.col("l").list.unique()).to_arrow().to_pydict()
        {'l': [[2, 1]]}
        """
        return self._call("unique", "unique", _own_type)

    def reverse(self) -> Expr:
        """Return the values of each list in the opposite order."""
        return self._call("reverse", "reverse", _own_type, items=())

    def slice(self, offset: int, length: int | None = None) -> Expr:
        """Return `length` values from a place on (from the end, if it is negative), as far as there are any.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"l": [[1, 2, 3], [4]]})
        >>> ds.select(mf.col("l").list.slice(-2, 1)).to_arrow().to_pydict()
        {'l': [[2], []]}
        """
        check_count("list.slice", offset, None)
        if length is not None:
            check_count("list.slice", length, 0)
        return self._call("slice", "part", _own_type, offset, length, items=())

    def head(self, n: int = 5) -> Expr:
        """Return the first values of each list."""
        check_count("list.head", n, 0)
        return self._call("head", "part", _own_type, 0, n, items=())

    def tail(self, n: int = 5) -> Expr:
        """Return the last values of each list."""
        check_count("list.tail", n, 0)
        return self._call("tail", "part", _own_type, -n if n else 0, n, items=())

    def concat(self, *others: Any) -> Expr:
        """Return each list with the values of others behind its own; null where one of them is null.

        Parameters
        ----------
        others
            Expressions of lists, and lists of Python values.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [[1], []], "b": [[2, 3], [4]]})
        >>> ds.select(mf.col("a").list.concat(mf.col("b"), [9])).to_arrow().to_pydict()
        {'a': [[1, 2, 3, 9], [4, 9]]}
        """
        return self._apply("concat", _concat, *others)

    def eval(self, expression: Expr) -> Expr:
        """Return lists of what an expression makes of each item, `mf.element()`.

        Parameters
        ----------
        expression
            Expression of `mf.element()`, literals and functions. It sees one item at a time, and no column.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"l": [["a", "bc"], None]})
        >>> ds.select(mf.col("l").list.eval(mf.element().str.len_chars() > 1)).to_arrow().to_pydict()
        {'l': [[False, True], None]}
        """
        if not isinstance(expression, Core):
            raise TypeError(
                f"list.eval() takes an expression of mf.element(), not {type(expression).__name__}"
            )
        return self._apply("eval", lambda e: evaluated(e, expression._node))

    def explode(self, *, empty_as_null: bool = False, keep_nulls: bool = True) -> Expr:
        """Return a row for each value of lists. Only `select` takes it, where all of its columns explode.

        Parameters
        ----------
        empty_as_null
            Whether an empty list gives one row with null; else it gives none.
        keep_nulls
            Whether a null gives one row with null; else it gives none.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"l": [[1, 2], [], [3]]}).select(mf.col("l").list.explode()).to_arrow().to_pydict()
        {'l': [1, 2, 3]}
        """
        made = self._apply("explode", _exploded)
        node = replace(made._node, explosion=(bool(empty_as_null), bool(keep_nulls)))
        return made._made(node)


def _exploded(_: Resolved) -> NoReturn:
    raise PlanError(
        "list.explode() changes the number of rows: only select() takes it, at the end of each of its columns; "
        "dataset.explode('column') keeps the other columns"
    )


def _own_type(operand: Resolved) -> pa.DataType:
    return operand.type


def _item_type(operand: Resolved) -> pa.DataType:
    return operand.type.value_type


def _sum_type(operand: Resolved) -> pa.DataType:
    kind = operand.type.value_type
    if types.is_decimal(kind):
        return pa.decimal128(38, kind.scale)
    if types.is_floating(kind):
        return pa.float64()
    if types.is_duration(kind):
        return kind
    return pa.uint64() if types.is_unsigned_integer(kind) else pa.int64()


def _concat(operand: Resolved, *others: Resolved) -> Raw:
    kinds = [operand.type]
    for other in others:
        if types.is_null(other.type) or types.is_null(operand.type):
            return F.nullif(operand.raw, operand.raw)
        if family(other.type) not in ListNamespace._families:
            raise PlanError(f"list.concat() takes lists, but not {other.shown()}")
        same = family(other.type.value_type) in (family(operand.type.value_type), "null")
        if not same and not types.is_null(operand.type.value_type):
            raise PlanError(
                f"list.concat() of {operand.shown()} does not take {other.shown()}; cast one of them",
                code="MMF-PLN-004",
            )
        kinds.append(other.type)
    kind = next((k for k in kinds if not types.is_null(k.value_type)), operand.type)
    function = ListFunction("concat", (kind,) * len(kinds), kind)
    made: Raw = called(function)(*(o.raw if o.type == kind else o.raw.cast(kind) for o in (operand, *others)))
    return made


class StructNamespace(Namespace):
    """Methods of structs."""

    __slots__ = ()

    _label = "struct"
    _families = ("struct",)

    def field(self, name: str) -> Expr:
        """Return a field of structs, under its own name.

        >>> import mmflow as mf
        >>> mf.from_arrow({"s": [{"x": 1}]}).select(mf.col("s").struct.field("x")).to_arrow().to_pydict()
        {'x': [1]}
        """

        def build(operand: Resolved) -> Raw:
            names = [f.name for f in operand.type]
            if name not in names:
                message = missing_column(name, names, names)
                raise PlanError(
                    f"{operand.shown()}: {message.replace('column', 'field')}", code="MMF-PLN-002"
                )
            return F.get_field(operand.raw, literal(name))

        return self._apply("field", build, name=name)
