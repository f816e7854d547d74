"""Patches of libraries: what they refuse, and that the libraries still need them."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable
from operator import and_, eq, ge, gt, le, lt, ne, or_
from typing import Any

import pyarrow as pa
import pytest
from datafusion import Expr
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow import col, lit
from mmflow import functions as F  # noqa: N812  (as users write it)

ROWS = [{"a": a, "b": b} for a in (1, 2, 5, 8, 9, None) for b in (4, 5, None)]


@pytest.mark.parametrize(
    "condition",
    [
        lambda a, b: (a == 1) and (b == 4),
        lambda a, b: (a == 1) or (b == 4),
        lambda a, b: not (a < b),
        lambda a, b: 5 < a < 9,
        lambda a, b: a == b == lit(4),
        lambda a, b: b if a else a,
        lambda a, b: a in [b, lit(4)],
        lambda a, b: sorted([a, b]),
        max,
        lambda a, b: all([a == 1, b == 4]),
        lambda a, b: [a, b] == [b, a],
    ],
)
def test_truth_of_an_expression_is_a_type_error_with_advice(condition: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"`&`, `\|` and `~`.*between"):
        condition(col("a"), col("b"))


@pytest.mark.parametrize("use", [lambda e: 4 in e, list, tuple, any, sum])
def test_an_expression_is_no_container(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"not iterable|not a container"):
        use(col("a"))


def test_the_advice_gives_the_rows_that_were_meant() -> None:
    ds = mf.from_arrow(pa.Table.from_pylist(ROWS))

    def rows(condition: Expr) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ds.filter(condition).to_arrow().to_pylist()
        return found

    assert rows((col("a") == 1) & (col("b") == 4)) == [{"a": 1, "b": 4}]
    assert {r["a"] for r in rows((col("a") > 5) & (col("a") < 9))} == {8}
    assert {r["a"] for r in rows(col("a").between(5, 9))} == {5, 8, 9}
    assert {r["a"] for r in rows(F.in_list(col("a"), [lit(1), lit(2)]))} == {1, 2}


_Test = tuple[Callable[[Any, Any], Any], str, int]
_TESTS = st.tuples(st.sampled_from([lt, le, gt, ge]), st.sampled_from(["a", "b"]), st.integers(0, 10))


@given(_TESTS, _TESTS, st.sampled_from([and_, or_]))
def test_conditions_joined_by_operators_keep_both(
    left: _Test, right: _Test, join: Callable[[Any, Any], Any]
) -> None:
    def holds(row: dict[str, Any], test: _Test) -> bool | None:
        return None if row[test[1]] is None else test[0](row[test[1]], test[2])

    def joined(row: dict[str, Any]) -> bool:
        sides = [holds(row, left), holds(row, right)]
        return all(sides) if join is and_ else any(sides)

    made = [operator(col(name), lit(value)) for operator, name, value in (left, right)]
    found = mf.from_arrow(pa.Table.from_pylist(ROWS)).filter(join(*made)).to_arrow().to_pylist()
    assert found == [row for row in ROWS if joined(row)]


#: Their arguments are plain flags or a dict, whose truth an expression given in their place does not have.
_FLAGS = {"array_sort", "list_sort", "with_metadata"}


def test_functions_and_methods_work_without_the_truth_of_expressions() -> None:
    """Each is called with expressions in all numbers: what it makes of them must not be a matter of truth."""
    refused = set()
    methods = [(n, getattr(col("a"), n)) for n in dir(Expr) if not n.startswith("__")]
    functions = [(n, getattr(F, n)) for n in dir(F)]
    for name, function in [*functions, *methods]:
        if not callable(function) or inspect.isclass(function):
            continue
        for count in range(5):
            for arguments in ([col("a")] * count, [[col("a")], *[col("a")] * (count - 1)]):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        function(*arguments)
                except Exception as error:  # wrong numbers and kinds of arguments: not asked here
                    if "neither true nor false" in str(error):
                        refused.add(name)
    assert refused == _FLAGS


def test_datafusion_still_needs_the_patch() -> None:
    """Once this fails, DataFusion says by itself what an expression's truth is: take the patch out, or its part."""
    script = "from datafusion import Expr; print({'__bool__', '__iter__', '__contains__'} & set(dir(Expr)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**38 - 1])
@pytest.mark.parametrize("kind", [pa.uint64(), pa.int64(), pa.decimal128(38, 0)])
def test_integers_beyond_int64_compare_with_every_integer_column(value: int, kind: pa.DataType) -> None:
    rows = [v for v in (0, 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**38 - 1) if _holds(v, kind)]
    ds = mf.from_arrow(pa.table({"u": pa.array(rows, kind)}))
    for operator in (eq, ne, lt, le, gt, ge):
        found = [int(v) for v in ds.filter(operator(col("u"), value)).to_arrow().column(0).to_pylist()]
        assert found == [v for v in rows if operator(v, value)], operator.__name__


def _holds(value: int, kind: pa.DataType) -> bool:
    try:
        pa.scalar(value, kind)
    except (OverflowError, pa.ArrowInvalid):
        return False
    return True


def test_integers_that_no_type_holds_are_refused() -> None:
    with pytest.raises(mf.PlanError, match="38 digits"):
        eq(col("u"), 10**38)
    with pytest.raises(mf.PlanError, match="38 digits"):
        lit(-(10**4000))


def test_datafusion_still_refuses_integers_beyond_int64() -> None:
    """Once this fails, DataFusion takes them by itself: take the patch out."""
    script = (
        "from datafusion import col\n"
        "try: col('u') == 2**64 - 1\n"
        "except OverflowError as error: print(type(error).__name__)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "OverflowError\n"
