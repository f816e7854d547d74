"""Datasets run the functions that they were built with, whatever other functions have their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import Accumulator

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)
from tests.mixed_work import together


def times(factor: int, name: str = "f") -> Any:
    @mf.udf("int64", "int64", name=name)
    def multiply(values: pa.Array) -> pa.Array:
        return pc.multiply(values, factor)

    return multiply


def largest(factor: int) -> Any:
    class Largest(Accumulator):
        def __init__(self) -> None:
            self._value = 0

        def update(self, values: pa.Array) -> None:
            self._value = max(self._value, (pc.max(values).as_py() or 0) * factor)

        def merge(self, states: list[pa.Array]) -> None:
            self.update(states[0])

        def state(self) -> list[pa.Scalar]:
            return [pa.scalar(self._value // factor)]

        def evaluate(self) -> pa.Scalar:
            return pa.scalar(self._value)

    return mf.udaf("int64", "int64", ["int64"], name="largest")(Largest)


def rows(dataset: mf.Dataset) -> list[Any]:
    return list(dataset.to_arrow()[0].to_pylist())


def test_a_function_that_is_defined_again() -> None:
    with mf.Session(workers=1) as session:
        ds = session.from_arrow({"v": [1, 2]})
        made = [ds.select(times(n)(col("v"))) for n in (2, 3)]
        assert [rows(d) for d in made] == [[2, 4], [3, 6]]
        assert [d.columns for d in made] == [["v"], ["v"]]
        assert rows(ds.sort(times(-1)(col("v")))) == [2, 1]
        assert rows(
            ds.group_by(times(2)(col("v")).alias("k")).agg(F.count(col("v")).alias("n")).sort("k")
        ) == [2, 4]
        both = ds.select((times(2)(col("v")) + times(5)(col("v"))).alias("s")).filter(times(7)(col("s")) > 50)
        assert rows(both) == [14]
        assert [rows(ds.agg(largest(n)(col("v")))) for n in (1, 10)] == [[2], [20]]


def test_sql_calls_the_function_that_was_registered_last() -> None:
    with mf.Session(workers=1) as session:
        ds = session.from_arrow({"v": [1, 2]})
        made = []
        for factor in (2, 3):
            session.register_udf(times(factor))
            made.append(session.sql("SELECT f(v), 'f(v)' AS t, F (v) + \"f\"(1) AS s FROM t -- f(v)", t=ds))
            # DataFusion runs it as SQL, in one task.
            whole = "SELECT f(v), first_value(v) IGNORE NULLS OVER (ORDER BY v) FROM t ORDER BY v"
            made.append(session.sql(whole, t=ds))
        assert [rows(d) for d in made] == [[2, 4], [2, 4], [3, 6], [3, 6]]
        assert made[2].to_arrow()["s"].to_pylist() == [6, 9]
        assert made[0].schema.names == made[2].schema.names == ["f(v)", "t", "s"]


def test_sessions_and_threads() -> None:
    def work(factor: int) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            with mf.Session(workers=1) as session:
                function = times(factor)
                session.register_udf(function)
                ds = session.from_arrow({"v": [1, 2]})
                return [rows(ds.select(function(col("v")))), rows(session.sql("SELECT f(v) FROM t", t=ds))]

        return run

    assert together([work(n) for n in range(8)]) == [[[n, 2 * n]] * 2 for n in range(8)]


def test_a_function_named_as_one_of_datafusion() -> None:
    with mf.Session(workers=1) as session:
        ds = session.from_arrow({"v": [-1, 2]})
        own = times(10, name="abs")
        assert rows(ds.select(own(col("v")))) == [-10, 20]
        assert rows(ds.select(F.abs(col("v")))) == [1, 2]
        assert rows(session.sql("SELECT abs(v) FROM t", t=ds)) == [1, 2]
        session.register_udf(own)
        assert rows(session.sql("SELECT abs(v) FROM t", t=ds)) == [-10, 20]


def test_plans_carry_only_the_functions_that_they_call() -> None:
    with mf.Session(workers=1) as session:
        chosen = [times(n, name="some_name") for n in range(5)][3]
        plan = session.from_arrow({"v": [1]}).select(chosen(col("v")))._plan()
        carried = {f.name for f in plan.functions.all}
        assert chosen.name in carried
        assert "some_name_3" not in carried
