"""Functions for expressions: DataFusion's, by their names (`F.avg`, `F.upper`, `F.split_part`, ...), as in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datafusion import functions as _functions

from mmflow.api.expressions import Expr, call_function, columns_of, lit
from mmflow.api.expressions import col as _col
from mmflow.usercode.tracebacks import near, public

__all__ = ["count"]

#: What expressions have as methods, or as functions of mmflow: these build DataFusion's own objects.
_ELSEWHERE = {
    "alias": "Expr.alias()", "case": "mf.when()", "cast_to_type": "Expr.cast()", "lambda_": "SQL", "lambda_var": "SQL",
    "try_cast_to_type": "Expr.cast(..., strict=False)", "when": "mf.when()", "spark": "SQL",
}  # fmt: skip


@public
def count(*expressions: Expr, **options: Any) -> Expr:
    """Count the rows where all expressions are not null; without an expression, all rows.

    Parameters
    ----------
    *expressions
        Expressions to look at.
    **options
        `distinct` and `filter`, as of `datafusion.functions.count`.

    Returns
    -------
    Expr
        Aggregate, for `agg`.

    Examples
    --------
    >>> import mmflow as mf
    >>> from mmflow import functions as F
    >>> ds = mf.from_arrow({"a": [1, None]})
    >>> ds.agg(F.count().alias("rows"), F.count(mf.col("a")).alias("a")).to_arrow().to_pylist()
    [{'rows': 2, 'a': 1}]
    """
    return call_function("count", _functions.count, (list(expressions) or [lit(1)],), options)


@public
def __getattr__(name: str) -> Callable[..., Expr]:
    if name == "col":
        return _col
    if name in _ELSEWHERE:
        raise AttributeError(f"functions.{name}: write {_ELSEWHERE[name]}")
    function = getattr(_functions, name) if name in _functions.__all__ else None
    if function is None:
        hint = "" if name.startswith("_") else near(name, __dir__())
        raise AttributeError(f"mmflow.functions has no function {name!r}{hint}", name=name, obj=None)

    @public
    def call(*arguments: Any, **options: Any) -> Expr:
        # DataFusion takes a name as SQL's, so that "Id" would be id.
        keys = {
            n: columns_of([options[n]]) for n in ("order_by", "partition_by") if options.get(n) is not None
        }
        return call_function(name, function, arguments, {**options, **keys})

    call.__name__ = call.__qualname__ = name
    call.__doc__ = function.__doc__
    return call


def __dir__() -> list[str]:
    return sorted({*__all__, *_functions.__all__} - set(_ELSEWHERE))
