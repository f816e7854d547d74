"""Whole numbers never wrap: the exact result, as Python computes it, or an error that names operation and types."""

from __future__ import annotations

import datetime as dt
import itertools
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from datafusion import SessionContext
from datafusion.substrait import Producer
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from substrait.plan_pb2 import Plan as SubstraitPlan

import mmflow as mf
from mmflow.errors import PlanError
from mmflow.plan.functions.checked_arithmetic import bounds
from mmflow.plan.stages import FragmentStep, ProgramStep
from mmflow.plan.substrait import messages

SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
KINDS = SIGNED + UNSIGNED
GREATEST = 2**63 - 1
OPTIONS = [{}, {"partitions": 3, "broadcast": 0, "shard_size": 4096}]


def _numbers(kind: pa.DataType) -> st.SearchStrategy[int]:
    low, high = bounds(kind)
    near = [low, low + 1, -1, 0, 1, 2, high // 2, high // 2 + 1, high - 1, high]
    return st.one_of(st.sampled_from([n for n in near if low <= n <= high]), st.integers(low, high))


def _run(query: str, table: pa.Table, **options: Any) -> pa.Table:
    with mf.Session(**options) as session:
        return session.sql(query, t=table).to_arrow()


def _shifted(a: int, b: int) -> int:
    return a << b if 0 <= b < 64 else 2**64  # more fits no type


OPERATIONS: dict[str, tuple[Callable[..., int], list[pa.DataType]]] = {
    "a + b": (operator.add, KINDS),
    "a - b": (operator.sub, KINDS),
    "a * b": (operator.mul, KINDS),
    "-a": (lambda a, b: -a, SIGNED),
    "a << b": (_shifted, [pa.int64(), pa.uint64()]),
}


@given(data=st.data(), text=st.sampled_from(sorted(OPERATIONS)))
def test_arithmetic_is_exact_or_an_error(data: st.DataObject, text: str) -> None:
    compute, kinds = OPERATIONS[text]
    kind = data.draw(st.sampled_from(kinds))
    second = st.integers(0, 66) if "<<" in text else _numbers(kind)
    rows = data.draw(
        st.lists(st.tuples(st.one_of(st.none(), _numbers(kind)), second), min_size=1, max_size=4)
    )
    wanted = [None if a is None else compute(a, b) for a, b in rows]
    table = pa.table({n: pa.array(c, kind) for n, c in zip("ab", zip(*rows, strict=True), strict=True)})
    low, high = bounds(kind)
    if all(w is None or low <= w <= high for w in wanted):
        made = _run(f"select {text} from t", table)
        assert made.column(0).to_pylist() == wanted
        assert made.schema.types[0] == kind
    else:
        with pytest.raises(PlanError, match=f"overflow: .*{kind}.* does not fit {kind}"):
            _run(f"select {text} from t", table)


@given(
    data=st.data(),
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from(
        ["sum(a)", "sum(a) filter (where a is not null)", "sum(distinct a)", "sum(a) over ()"]
    ),
    median=st.booleans(),
    options=st.sampled_from(OPTIONS),
)
def test_sums_are_exact_or_an_error(
    data: st.DataObject, kind: pa.DataType, shape: str, median: bool, options: dict[str, Any]
) -> None:
    rows = data.draw(st.lists(st.one_of(st.none(), _numbers(kind)), min_size=1, max_size=8))
    known = [a for a in rows if a is not None]
    total = sum(set(known) if "distinct" in shape else known) if known else None
    # The median can't be merged, so neither is the sum beside it.
    query = (
        f"select {shape} s" + (", median(a) m" if median and "over" not in shape else "") + " from t limit 1"
    )
    wide = pa.int64() if pa.types.is_signed_integer(kind) else pa.uint64()
    low, high = bounds(wide)
    # In two branches, so that partial sums of several tasks are merged.
    half = len(rows) // 2
    with mf.Session(**options) as session:
        parts = [session.from_arrow(pa.table({"a": pa.array(p, kind)})) for p in (rows[:half], rows[half:])]
        dataset = session.sql(
            query, t=session.sql("select * from x union all select * from y", x=parts[0], y=parts[1])
        )
        if total is None or low <= total <= high:
            made = dataset.to_arrow()
            assert made["s"].to_pylist() == [total]
            assert made["s"].type == wide
        else:
            with pytest.raises(PlanError, match=rf"sum of {wide} does not fit {wide}: {total}"):
                dataset.to_arrow()


@pytest.mark.parametrize("options", OPTIONS, ids=["defaults", "exchanges"])
def test_sums_of_groups_are_checked(options: dict[str, Any]) -> None:
    table = pa.table({"k": [1, 2, 1, 2], "a": [GREATEST, 5, -GREATEST, 6]})
    made = _run("select k, sum(a) s, max(a) m from t group by k order by k", table, **options)
    assert made.to_pylist() == [{"k": 1, "s": 0, "m": GREATEST}, {"k": 2, "s": 11, "m": 6}]
    made = _run("select k, sum(a) s from t group by rollup(k) order by k", table, **options)
    assert made["s"].to_pylist() == [0, 11, 11]
    with pytest.raises(PlanError, match="sum of int64 does not fit int64: 9223372036854775808"):
        _run("select k, sum(a) s from t group by k", pa.table({"k": [1, 1], "a": [GREATEST, 1]}), **options)


def test_running_sums_are_checked() -> None:
    table = pa.table({"i": [1, 2, 3], "a": [GREATEST, 1, -1]})
    with pytest.raises(PlanError, match="sum of int64 does not fit int64"):
        _run("select sum(a) over (order by i) s from t", table)
    made = _run("select i, sum(a) over (order by i rows between current row and current row) s from t", table)
    assert made["s"].to_pylist() == [GREATEST, 1, -1]


def test_sums_of_decimals_beyond_38_digits_are_an_error() -> None:
    most = Decimal("9" * 36 + ".99")
    table = pa.table({"d": pa.array([most, Decimal("1.00"), most.copy_negate()], pa.decimal128(38, 2))})
    assert _run("select sum(d) s from t", table)["s"].to_pylist() == [Decimal("1.00")]
    many = pa.table({"d": pa.array([most] * 4, pa.decimal128(38, 2))})
    for query in ("select sum(d) s from t", "select sum(d) over () s from t"):
        with pytest.raises(PlanError, match=r"sum of decimal128\(38, 2\) does not fit"):
            _run(query, many)


def test_sums_and_averages_of_durations_do_not_wrap() -> None:
    long = dt.timedelta(days=300 * 365)
    table = pa.table({"d": pa.array([long, dt.timedelta(days=1)], pa.duration("us"))})
    assert _run("select sum(d) s from t", table)["s"].to_pylist() == [long + dt.timedelta(days=1)]
    wide = pa.table({"d": pa.array([GREATEST, GREATEST - 2], pa.duration("ns"))})
    assert _run("select avg(d) a from t", wide)["a"].cast(pa.int64()).to_pylist() == [GREATEST - 1]
    with pytest.raises(PlanError, match="sum of int64 does not fit int64"):
        _run("select sum(d) s from t", wide)


@pytest.mark.parametrize(
    "more", ["", ", null z"]
)  # DataFusion declares the type of such a null beside functions
@pytest.mark.parametrize(
    "query",
    [
        "select a + 1 x from t",
        "select a x from t where a + 1 > 0",
        "select count(*) x from t group by a + 1",
        "select 1 x from t order by a + 1",
        "select max(a + 1) x from t",
        "select t.a x from t join t u on t.a + 1 = u.a",
        "select case when a > 0 then a + 1 end x from t",
        "select sum(1) over (partition by a + 1) x from t",
        "select sum(1) filter (where a + 1 > 0) x from t",
        "select (a + 1) in (1, 2) x from t",
    ],
)
def test_every_operator_checks_its_expressions(query: str, more: str) -> None:
    with pytest.raises(PlanError, match="int64 \\+ int64 does not fit int64: 9223372036854775807 \\+ 1"):
        _run(query.replace(" x from", f" x{more} from"), pa.table({"a": [0, GREATEST]}))


def test_arithmetic_without_overflow_is_left_to_datafusion() -> None:
    with mf.Session() as session:
        t = session.from_arrow(pa.table({"a": pa.array([1], pa.int32()), "b": [1]}))
        assert not _calls(session.sql("select cast(a as bigint) * 100 + 7, b % 3, b / 2 from t", t=t))
        assert _calls(session.sql("select b + 1 from t", t=t))


def _calls(dataset: mf.Dataset) -> bool:
    steps = itertools.chain.from_iterable(s.steps for s in dataset._plan().stages)
    fragments = (s.fallback if isinstance(s, ProgramStep) else s for s in steps)
    return any(isinstance(s, FragmentStep) and b"mmflow_" in s.plan for s in fragments)


def test_protobuf_classes_know_all_of_a_plan_but_groupings() -> None:
    """The planner can't rewrite fields that the classes don't know: they would run unchanged."""
    context = SessionContext()
    context.register_record_batches("t", [[pa.record_batch({"a": [1.0], "b": [1]})]])
    query = """select a, count(distinct a), rank() over (order by max(b)) r, case a when 1 then 2 end from t
        where a in (1, 2, 3, 4) and b not in (select b from t) group by a having max(b) > 1 order by r limit 3"""
    plan = SubstraitPlan()
    encoded = Producer.to_substrait_plan(context.sql(query).optimized_logical_plan(), context).encode()
    plan.ParseFromString(encoded)
    unknown = {type(m).__name__ for m in messages(plan.relations[0]) if len(UnknownFieldSet(m))}
    assert unknown == {"Grouping"}


@pytest.mark.parametrize(
    "query",
    [
        "select 9223372036854775807 + 1 x",
        "select 9223372036854775807 + (2 - 1) x from t",
        "select a from t where a < 9223372036854775807 * 2",
        "select -(-9223372036854775807 - 1) x",
        "select 1 << 63 x",
        "select cast(127 as tinyint) + cast(1 as tinyint) x",
        "select a from t where a > (select max(a) from t where a < 9223372036854775807 + 1)",
        "select sum(1) filter (where 9223372036854775807 + 1 > a) x from t",
        "select case when a > 5 then 9223372036854775807 + 1 end x from t",
    ],
)
def test_literals_do_not_wrap(query: str) -> None:
    with pytest.raises(PlanError, match=r"overflow: .* does not fit"):
        _run(query, pa.table({"a": [1]}))


def test_literals_that_fit_are_computed() -> None:
    query = (
        "select 9223372036854775806 + 1 x, a + 60 * 60 * 24 y, 1 << 62 z, -(-9223372036854775807) n from t"
    )
    assert _run(query, pa.table({"a": [1]})).to_pylist() == [
        {"x": GREATEST, "y": 86401, "z": 1 << 62, "n": GREATEST}
    ]
