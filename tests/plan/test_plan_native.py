"""Row-wise steps that mmflow's own kernel computes give what DataFusion gives: rows, types, errors."""

from __future__ import annotations

import collections
import functools
import math
import os
import random
import struct
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow import _kernels
from mmflow.errors import MmflowError, PlanError
from mmflow.plan.stages import FragmentStep, ProgramStep
from tests.plan.made_expressions import COLUMNS, TABLES, Expressions, table_of
from tests.plan.native_steps import by_datafusion, by_program, given, planned, program_step, rows_of

_FEW = hypothesis_settings(
    max_examples=15 if os.environ.get("HYPOTHESIS_PROFILE", "ci") == "ci" else 3000, deadline=None
)
#: Conditions and values that a program must know.
KNOWN = r"""
k > 5
3 <= k
k between 3 and 6
k in (1, 2, null)
k not in (1, 2, 3)
s in ('a', 'é', 'abcdefghijkl')
s = 'a text that is longer than twelve bytes'
s <> 'abcdefghijkl'
s < 'ab'
s = s2
s like 'a%'
s like '%text%twelve%'
s like '%_é%'
s like 'x\%y'
s2 like '%\\%'
s not like '%a%'
starts_with(s, 'a')
contains(s, 'longer')
ends_with(s, 'x')
not b
b and b2
b or k > 3
b is not true
b is null
f64 > 1
f64 = 0
f64 >= k
f32 <> 0
f64 is distinct from 0.1
k is not distinct from 3
dec > dec2
dec2 * (1 - dec2)
dec + 1
dec2 / 3
-dec
k + 1
k * 2 - 1
k / 3
k % 2
f64 + f32
f64 / k
-f64
cast(k as int)
cast(k as double)
try_cast(i64 as int)
try_cast(f64 as bigint)
cast(dec2 as double)
cast(dec2 as bigint)
cast(dec2 as decimal(10,2))
try_cast(f64 as decimal(10,2))
cast(k as decimal(12,2))
cast(d as timestamp)
d < date '2000-01-01'
ts >= timestamp '1970-01-01'
tz is null
case when k > 5 then k else 0 end
case when b then s when k > 2 then 'other' end
case when k > 3 then 'a' else 'a text that is longer than twelve bytes' end
case k when 1 then 'one' when 2 then s end
case when k > 0 then 100 / k else 0 end
coalesce(k, i64, 0)
coalesce(s, s2, '')
nullif(k, 3)
nanvl(f64, 0.5)
nanvl(f64, f32)
nanvl(0.5, f64)
"""


@functools.cache
def large() -> pa.Table:
    return table_of(random.Random(7), 20_000, 0.2)


@pytest.mark.parametrize("expression", KNOWN.strip().splitlines())
def test_a_known_expression_is_computed_by_its_program(expression: str) -> None:
    stage, functions = planned(f"select {expression} as x from t", large())
    step = program_step(stage)
    assert step is not None
    got = by_program(step, given(stage))
    wanted = by_datafusion(step, functions, given(stage))
    assert got is not None
    assert rows_of(got, step.schema) == rows_of(wanted, step.schema)


@_FEW
@hypothesis_given(
    rng=st.integers(0, 2**64).map(random.Random),
    table=TABLES,
    simd=st.sampled_from(_kernels.simd_available()),
)
def test_programs_give_datafusions_rows(rng: random.Random, table: pa.Table, simd: str) -> None:
    query = Expressions(rng).query()
    note(query)
    try:
        stage, functions = planned(query, table)
    except PlanError:
        return  # types that DataFusion does not compare
    step = program_step(stage) if len(stage.steps) == 1 else None
    if step is None:
        return
    before = _kernels.simd_used()
    _kernels.simd_use(simd)
    try:
        got = by_program(step, given(stage))
    finally:
        _kernels.simd_use(before)
    try:
        wanted = by_datafusion(step, functions, given(stage))
    except MmflowError:
        assert got is None
        return
    if got is not None:
        assert rows_of(got, step.schema) == rows_of(wanted, step.schema)


def test_most_made_expressions_are_known_and_need_no_fallback() -> None:
    rng = random.Random(3)
    seen: collections.Counter[str] = collections.Counter()
    table = table_of(rng, 30, 0.2)
    for _ in range(40):
        try:
            stage, _ = planned(Expressions(rng).query(), table)
        except PlanError:
            continue
        step = program_step(stage) if len(stage.steps) == 1 else None
        made = None if step is None else by_program(step, given(stage))
        seen["unknown" if step is None else "fallback" if made is None else "computed"] += 1
    assert seen["computed"] > 10
    assert seen["unknown"] < 15


@pytest.mark.parametrize("size", [1, 20_000])
@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_conjuncts_narrow_slices_whatever_their_order(size: int, nulls: float) -> None:
    table = table_of(random.Random(size), size, nulls)
    conditions = [
        "k > -3",
        "s <> 'a'",
        "b",
        "f64 < 2",
        "dec2 > 0",
        "s2 like '%a%' or i8 = 5",
        "u8 in (0, 255)",
    ]
    for count in (0, 2, len(conditions)):
        for turned in (conditions, conditions[::-1]):
            where = " and ".join(turned[:count]) or "k is null or k is not null"
            stage, functions = planned(
                f"select s, k + 1 as n, b, tz, tm, dec, d, coalesce(s2, 'none') as c from t where {where}",
                table,
            )
            step = program_step(stage)
            assert step is not None
            got = by_program(step, given(stage))
            assert got is not None
            assert rows_of(got, step.schema) == rows_of(
                by_datafusion(step, functions, given(stage)), step.schema
            )


@pytest.mark.parametrize(
    "query",
    [
        "select k / z as x from t",
        "select k % z as x from t",
        "select i64 + 1 as x from t",
        "select -i64 as x from t",
        "select cast(i64 as int) as x from t",
        "select cast(f64 as bigint) as x from t",
        "select cast(dec as decimal(5,2)) as x from t",
        "select wide * wide as x from t",
        "select k from t where z > 5 and 10 / z > 1",
        "select k from t where z <> 1 and cast(i64 as int) * 2 > 1",
        "select case when z > 0 then 1 / z else 1 / z end as x from t",
    ],
)
def test_a_failing_value_is_datafusions_error(query: str) -> None:
    values = {
        "k": [0, 1, 5, None],
        "z": [1, 2, 0, 6],
        "i64": [-(2**63), None, 2**63 - 1, 0],
        "f64": [1.5, None, math.inf, 2.0],
        "dec": [Decimal("1.25"), None, Decimal("9999999999999.99"), Decimal("0.00")],
        "wide": [Decimal(10**34), None, Decimal(1), Decimal(2)],
    }
    table = pa.table(
        {n: pa.array(v, COLUMNS[n][0] if n in COLUMNS else pa.int64()) for n, v in values.items()}
    )
    stage, functions = planned(query, table)
    step = program_step(stage)
    assert step is not None
    assert by_program(step, given(stage)) is None
    with pytest.raises(PlanError) as wanted:
        by_datafusion(step, functions, given(stage))
    with mf.Session() as session, pytest.raises(PlanError) as got:
        session.sql(query, t=session.from_arrow(table)).to_arrow()
    assert str(got.value) == str(wanted.value)


def test_case_guards_and_the_fallback_answers_what_datafusion_does() -> None:
    table = pa.table({"z": [0, 1, 2, None] * 5000})
    with mf.Session() as session:
        t = session.from_arrow(table)
        guarded = session.sql("select case when z > 0 then 10 / z else -1 end as x from t", t=t)
        assert guarded.to_arrow()["x"].to_pylist() == [-1, 10, 5, -1] * 5000
        # DataFusion evaluates the second condition only for rows that the first leaves, if these are few.
        few = session.sql(
            "select z from t where z = 2 and 10 / z > 1", t=session.from_arrow(table.slice(0, 4))
        )
        stage = few._plan().stages[0]
        step = program_step(stage)
        assert step is not None
        try:
            wanted: list[int] | None = [2]
            by_datafusion(step, few._plan().functions, given(stage))
        except PlanError:
            wanted = None
        if wanted is None:
            with pytest.raises(PlanError, match="zero"):
                few.to_arrow()
        else:
            assert few.to_arrow()["z"].to_pylist() == wanted


def test_floats_have_one_order_in_programs_too() -> None:
    odd = [
        struct.unpack("<d", struct.pack("<Q", bits))[0]
        for bits in (0xFFF8 << 48, 0x7FF8 << 48, 0x7FF8 << 48 | 1)
    ]
    table = pa.table({"x": [*odd, -0.0, 0.0, math.inf, -math.inf, 1.0, None]})
    for condition in (
        "x > 1",
        "x = x + 0",
        "x >= 'NaN'::double",
        "x in (0, 1)",
        "x < 0",
        "x <> 0",
        "nullif(x, 0) is null",
    ):
        stage, functions = planned(f"select x, {condition} as c from t where {condition} is not false", table)
        step = program_step(stage)
        assert step is not None, condition
        got = by_program(step, given(stage))
        assert got is not None
        assert rows_of(got, step.schema) == rows_of(by_datafusion(step, functions, given(stage)), step.schema)
    with mf.Session() as session:
        larger = session.sql("select x from t where x > 1", t=session.from_arrow(table)).to_arrow()
    assert larger.num_rows == 4


def test_errors_of_a_projection_do_not_come_for_rows_that_a_filter_drops() -> None:
    table = pa.table({"k": [1, 0, 2], "n": [10, 20, 30]})
    query = "select q from (select n / k as q, k from t) where k > 0"
    stage, functions = planned(query, table)
    step = program_step(stage)
    assert step is not None
    got = by_program(step, given(stage))
    assert got is not None
    assert rows_of(got, step.schema) == rows_of(by_datafusion(step, functions, given(stage)), step.schema)


def test_more_than_row_wise_is_left_to_datafusion() -> None:
    table = pa.table({"k": [1, 0, 2], "n": [10, 20, 30]})
    for query in (
        "select median(n) from t",
        "select k from t order by n limit 1",
        "select abs(k) as x from t",
    ):
        with mf.Session() as session:
            plan = session.sql(query, t=session.from_arrow(table))._plan()
        steps = [step for stage in plan.stages for step in stage.steps]
        assert any(isinstance(step, FragmentStep) for step in steps)
        assert not any(isinstance(step, ProgramStep) for step in steps)


def test_programs_keep_functions_and_shipped_plans_whole() -> None:
    table = pa.table({"k": [2**63 - 1, 0], "n": [1, 20]})
    stage, functions = planned("select k - n as x from t", table)
    step = program_step(stage)
    assert step is not None
    assert [f.name for f in functions.all] == ["mmflow_subtract_int64"]
    got = by_program(replace(step), given(stage))
    assert got is not None
    assert got[0].column(0).to_pylist() == [2**63 - 2, -20]


def test_functions_that_a_plan_does_not_call_are_not_shipped_with_it() -> None:
    @mf.udf("int64", "int64", name="o")
    def o(values: pa.Array) -> pa.Array:
        return values

    with mf.Session() as session:
        t = session.from_arrow(pa.table({"k": [2, 0], "not_o": [1, 20]}))
        called = [
            session.sql(query, t=t)._plan().functions.all
            for query in ("select o(k) from t", "select k from t")
        ]
    assert [[f.name for f in functions] for functions in called] == [["o"], []]


def test_explain_says_what_is_native() -> None:
    table = pa.table({"k": [1], "s": ["a"]})
    with mf.Session() as session:
        t = session.from_arrow(table)
        assert (
            "native  filter, projection"
            in session.sql("select k + 1 as x from t where s = 'a'", t=t).explain()
        )
        assert "native  filter\n" in session.sql("select k from t where s = 'a'", t=t).explain()
        assert "native" not in session.sql("select abs(k) as x from t", t=t).explain()
        assert (
            "native  filter, aggregate\n"
            in session.sql("select k, sum(k) from t where s = 'a' group by k", t=t).explain()
        )
