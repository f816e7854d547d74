"""The native aggregator gives what plain Python and DataFusion give, however its rows were cut and merged."""

from __future__ import annotations

import collections
import itertools
import math
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext
from hypothesis import given, settings

from mmflow.errors import EngineError, PlanError
from mmflow.plan.native_aggregate import (
    FUNCTIONS,
    AggregateStep,
    Measure,
    distinct_states,
    is_known,
    result_type,
    state_type,
)
from mmflow.worker.aggregation import Aggregator, merge_states, partial_states
from tests.kernels.aggregate_reference import bits, nearest_float, plain_rows, reference_rows, scaled

FLOATS = st.one_of(
    st.floats(),
    st.floats(width=32),
    st.sampled_from(
        [0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan, 5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308,
         -1.7976931348623157e308, 1.0, 1e-30, 1e30, 0.1, -0.1, 2.0**53, 1 + 2.0**-52]
    ),
)  # fmt: skip
TEXT = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["", "a", "ab", "twelve bytes", "thirteen byte", "thirteen bytf", "twelve byte\0"]),
    st.text(min_size=10, max_size=40),
)


def whole(kind: pa.DataType) -> st.SearchStrategy[int]:
    unsigned = pa.types.is_unsigned_integer(kind)
    low, high = (
        (0, 2**kind.bit_width - 1)
        if unsigned
        else (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    )
    return st.one_of(st.integers(max(low, -3), 3), st.integers(low, high), st.sampled_from([low, high]))


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.one_of(st.integers(-most, most), st.integers(-99, 99)).map(lambda n: scaled(n, -scale))


INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    **{kind: whole(kind) for kind in INTEGERS},
    pa.bool_(): st.booleans(),
    pa.float32(): FLOATS,
    pa.float64(): FLOATS,
    pa.decimal128(12, 2): _decimals(12, 2),
    pa.decimal128(38, 3): _decimals(38, 3),
    pa.date32(): whole(pa.int32()),
    pa.time32("s"): st.integers(0, 86_399),
    pa.time64("us"): st.integers(0, 86_399_999_999),
    pa.timestamp("ns"): whole(pa.int64()),
    pa.timestamp("ms", "Asia/Tokyo"): st.integers(-(2**40), 2**40),
    pa.duration("us"): whole(pa.int64()),
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.binary(): st.binary(max_size=20),
}


def _array(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if pa.types.is_temporal(kind):
        ints = pa.int32() if kind.bit_width == 32 else pa.int64()
        return pa.array(values, ints).view(kind)
    if pa.types.is_float32(kind):
        with np.errstate(over="ignore"):
            values = [None if v is None else float(np.float32(v)) for v in values]
    return pa.array(values, kind)


def step_of(
    rows: pa.Schema, keys: tuple[int, ...], measures: tuple[Measure, ...], phase: Any = "final"
) -> AggregateStep:
    kinds = rows.types
    made_keys = [pa.field(f"k{n}", kinds[k]) for n, k in enumerate(keys)]

    def kind(m: Measure) -> pa.DataType | None:
        return None if m.column is None else kinds[m.column]

    states = [
        pa.field(f"s{n}", state_type(m.function, kind(m))) for n, m in enumerate(distinct_states(measures))
    ]
    results = [pa.field(f"r{n}", result_type(m.function, kind(m))) for n, m in enumerate(measures)]
    return AggregateStep(
        keys, measures, phase, rows, pa.schema([*made_keys, *states]), pa.schema([*made_keys, *results])
    )


def aggregated(step: AggregateStep, batches: list[pa.RecordBatch]) -> pa.Table:
    aggregator = Aggregator(step)
    for batch in batches:
        aggregator.update(batch)
    return pa.Table.from_batches(aggregator.results(), step.results)


def merged(step: AggregateStep, tasks: list[list[pa.RecordBatch]], memory: int = 1 << 30) -> pa.Table:
    states = [b for batches in tasks for b in partial_states(step, batches, memory)]
    for batch in states:
        batch.validate(full=True)
    return pa.Table.from_batches(merge_states(step, lambda: states, 1 << 30), step.results)


def functions_of(kind: pa.DataType) -> list[str]:
    return [n for n in FUNCTIONS if result_type(n, kind) is not None]


@st.composite
def aggregations(draw: Callable[..., Any]) -> tuple[AggregateStep, pa.Table]:
    """Return a step and rows for it: keys, arguments and filters of any type, with nulls."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    size = draw(st.integers(0, 30))
    arrays = []
    for kind in kinds:
        few = draw(st.lists(VALUES[kind], min_size=1, max_size=4))
        values = st.sampled_from(few) if draw(st.booleans()) else VALUES[kind]
        some = st.one_of(st.none(), values) if draw(st.booleans()) else values
        arrays.append(_array(kind, draw(st.lists(some, min_size=size, max_size=size))))
    flags = draw(st.lists(st.sampled_from([True, False, None]), min_size=size, max_size=size))
    table = pa.table(
        [*arrays, pa.array(flags, pa.bool_())], names=[*(f"c{i}" for i in range(len(kinds))), "f"]
    )
    keys = tuple(draw(st.lists(st.integers(0, len(kinds) - 1), max_size=3, unique=True)))
    measures = [Measure("count")]
    for column, kind in enumerate(kinds):
        names = draw(st.lists(st.sampled_from(functions_of(kind)), max_size=3))
        measures += [Measure(name, column, draw(st.sampled_from([None, len(kinds)]))) for name in names]
    return step_of(table.schema, keys, tuple(measures)), table


def _fits(step: AggregateStep, rows: list[tuple[Any, ...]]) -> bool:
    for row in rows:
        for kind, value in zip(step.results.types, row, strict=True):
            try:
                if value is not None and not isinstance(value, bytes) and not pa.types.is_temporal(kind):
                    pa.scalar(value, kind)
                if value is not None and pa.types.is_duration(kind):
                    pa.scalar(value, pa.int64())
            except (pa.ArrowInvalid, OverflowError):
                return False
    return True


def cut(data: st.DataObject, table: pa.Table) -> list[list[pa.RecordBatch]]:
    """Cut rows into tasks of batches, which are slices."""
    places = sorted(data.draw(st.lists(st.integers(0, table.num_rows), max_size=5)))
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    pieces = [batch.slice(a, b - a) for a, b in itertools.pairwise([0, *places, table.num_rows])]
    order = data.draw(st.permutations(range(len(pieces))))
    tasks: list[list[pa.RecordBatch]] = [[] for _ in range(data.draw(st.integers(1, 3)))]
    for number in order:
        tasks[number % len(tasks)].append(pieces[number])
    return tasks


@given(made=aggregations(), data=st.data())
def test_aggregations_equal_the_reference(made: tuple[AggregateStep, pa.Table], data: st.DataObject) -> None:
    step, table = made
    wanted = reference_rows(step, table)
    tasks = cut(data, table)
    runs: list[Callable[[], pa.Table]] = [
        lambda: aggregated(step, list(itertools.chain.from_iterable(tasks))),
        lambda: merged(step, tasks),
        lambda: merged(step, tasks, memory=1),
    ]
    if not _fits(step, wanted):
        for run in runs:
            with pytest.raises(PlanError, match=r"overflow: (sum|avg) of"):
                run()
        return
    for run in runs:
        results = run()
        results.validate(full=True)
        assert collections.Counter(plain_rows(results)) == collections.Counter(wanted)


@given(values=st.lists(FLOATS, max_size=60), data=st.data())
def test_sums_of_floats_are_exact_and_rounded_once(values: list[float], data: st.DataObject) -> None:
    table = pa.table({"x": pa.array(values, pa.float64())})
    step = step_of(table.schema, (), (Measure("sum", 0), Measure("avg", 0)))
    (row,) = plain_rows(merged(step, cut(data, table)))
    assert [row] == reference_rows(step, table)
    finite = [v for v in values if math.isfinite(v)]
    if finite == values and values:
        try:
            assert row[0] == bits(math.fsum(values) + 0.0)
        except OverflowError:  # of intermediate sums
            assert row[0] == bits(nearest_float(sum(map(Fraction, values), Fraction(0))))


@st.composite
def measures_of_doubles(draw: Callable[..., Any]) -> tuple[AggregateStep, pa.Table]:
    """Return measures of two columns of doubles, in any order and with filters, by more groups than large sums are made for."""
    size = draw(st.integers(100, 300))
    rng = random.Random(draw(st.integers(0, 2**32)))
    special = [*draw(st.lists(FLOATS, max_size=8)), None]
    nulls = draw(st.booleans())

    def doubles() -> pa.Array:
        usual = [round(rng.uniform(-99, 99), 1) for _ in range(size)]
        return pa.array(
            [rng.choice(special) if nulls and rng.random() < 0.1 else v for v in usual], pa.float64()
        )

    flags = [rng.choice([True, True, False, None]) for _ in range(size)]
    keys = pa.array(rng.randrange(40) for _ in range(size))
    table = pa.table({"k": keys, "x": doubles(), "y": doubles(), "f": pa.array(flags, pa.bool_())})
    of = st.tuples(
        st.sampled_from(["count", "sum", "avg", "min", "max"]),
        st.sampled_from([1, 2]),
        st.sampled_from([None, 3]),
    )
    measures = tuple(Measure(*m) for m in draw(st.lists(of, min_size=2, max_size=8)))
    return step_of(table.schema, (0,), measures), table


@settings(max_examples=15)
@given(made=measures_of_doubles(), data=st.data())
def test_measures_of_one_column_are_taken_together(
    made: tuple[AggregateStep, pa.Table], data: st.DataObject
) -> None:
    step, table = made
    wanted = collections.Counter(reference_rows(step, table))
    tasks = cut(data, table)
    for results in (aggregated(step, list(itertools.chain.from_iterable(tasks))), merged(step, tasks)):
        assert collections.Counter(plain_rows(results)) == wanted


def test_a_mean_that_rounds_to_zero_has_no_sign() -> None:
    table = pa.table({"x": [0.0, -5e-324]})
    step = step_of(table.schema, (), (Measure("avg", 0),))
    assert plain_rows(aggregated(step, table.to_batches())) == reference_rows(step, table) == [(bits(0.0),)]


@pytest.mark.parametrize("spread", [0, 30, 80, 600])
@pytest.mark.parametrize("groups", [1, 3, 500])
def test_sums_of_many_floats_do_not_depend_on_their_order(spread: int, groups: int) -> None:
    rng = np.random.default_rng(spread + groups)
    n = 20_000
    values = rng.normal(size=n) * np.exp2(rng.integers(-spread, spread + 1, n))
    values[rng.random(n) < 0.1] = 0.0
    keys = rng.integers(0, groups, n)
    step = step_of(pa.schema({"k": pa.int64(), "x": pa.float64()}), (0,), (Measure("sum", 1),))
    seen = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(n)
        table = pa.table({"k": keys[order], "x": values[order]})
        batches = table.to_batches(max_chunksize=1 + 977 * seed if seed else n)
        parts = [batches[i::3] for i in range(3)]
        rows = merged(step, parts, memory=1 << 30 if seed else 1).sort_by("k0").to_pydict()
        seen.append([bits(v) for v in rows["r0"]])
    wanted = [bits(math.fsum(values[keys == k])) for k in np.unique(keys)]
    assert seen[0] == seen[1] == seen[2] == wanted


@given(made=aggregations())
@settings(max_examples=60)
def test_types_and_values_are_datafusions(made: tuple[AggregateStep, pa.Table]) -> None:
    step, table = made
    context = SessionContext(SessionConfig().with_target_partitions(1))
    batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    context.register_record_batches("t", [batches])
    names = table.schema.names
    calls = []
    for measure in step.measures:
        call = f"{measure.function}({'*' if measure.column is None else names[measure.column]})"
        calls.append(call + ("" if measure.filter is None else f" filter (where {names[measure.filter]})"))
    keys = [names[k] for k in step.keys]
    query = f"select {', '.join([*keys, *(f'{c} as r{n}' for n, c in enumerate(calls))])} from t"
    frame = context.sql(query + (f" group by {', '.join(keys)}" if keys else ""))
    assert frame.schema().types == step.results.types
    # DataFusion wraps sums, takes NaN by their bits, and rounds after each addition.
    exact = [n for n, m in enumerate(step.measures) if m.function == "count" or _same_in_datafusion(table, m)]
    if any(pa.types.is_floating(table.schema.field(k).type) for k in step.keys) or not _fits(
        step, reference_rows(step, table)
    ):
        return
    wanted = plain_rows(frame.to_arrow_table().select([*range(len(keys)), *(len(keys) + n for n in exact)]))
    got = plain_rows(aggregated(step, batches).select([*range(len(keys)), *(len(keys) + n for n in exact)]))
    assert collections.Counter(got) == collections.Counter(wanted)


def _same_in_datafusion(table: pa.Table, measure: Measure) -> bool:
    assert measure.column is not None
    kind = table.schema.field(measure.column).type
    if pa.types.is_floating(kind) or (measure.function == "avg" and pa.types.is_integer(kind)):
        return False
    # avg of large decimals and durations overflows in DataFusion where the exact result does not.
    return not (measure.function == "avg" and (pa.types.is_duration(kind) or pa.types.is_decimal(kind)))


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.string(), pa.string_view(), pa.decimal128(25, 2), pa.float64()]
)
@pytest.mark.parametrize("memory", [1 << 30, 200_000])
def test_many_groups_fit_into_little_memory(kind: pa.DataType, memory: int) -> None:
    n = 30_000
    numbers = list(range(n // 3)) * 3
    random.Random(1).shuffle(numbers)
    texts = [f"key number {i}" for i in numbers]
    keys = pa.array(texts, kind) if kind in (pa.string(), pa.string_view()) else pa.array(numbers).cast(kind)
    table = pa.table({"k": keys, "x": pa.array([i / 7 for i in numbers]), "n": pa.array(numbers)})
    step = step_of(table.schema, (0,), (Measure("count"), Measure("sum", 1), Measure("max", 2)))
    states = list(partial_states(step, table.to_batches(max_chunksize=1000), memory))
    assert (len(states) > 3) == (memory < 1 << 30)
    results = pa.Table.from_batches(merge_states(step, lambda: states, memory), step.results)
    assert results["r0"].to_pylist() == [3] * (n // 3)
    assert sorted(results["r2"].to_pylist()) == list(range(n // 3))
    by_number = dict(zip(results["r2"].to_pylist(), results["r1"].to_pylist(), strict=True))
    assert all(by_number[i] == math.fsum([i / 7] * 3) for i in range(n // 3))


@pytest.mark.parametrize("distinct", [3, 30, 40])
def test_keys_of_few_values_are_found_again(distinct: int) -> None:
    n = 5000
    rng = np.random.default_rng(distinct)
    late = n // 2  # only then come nulls and long texts
    flags = [None if v == 2 and i > late else v == 1 for i, v in enumerate(rng.integers(0, 3, n))]
    names = [f"{v}" * (1 + (i > late) * (v // 5)) for i, v in enumerate(rng.integers(0, distinct, n))]
    columns = [
        pa.array(flags, pa.bool_()),
        pa.array(names, pa.string_view()),
        pa.array(rng.integers(0, 9, n)),
    ]
    table = pa.table(columns, names=["b", "t", "x"])
    step = step_of(table.schema, (0, 1), (Measure("count"), Measure("sum", 2)))
    got = plain_rows(aggregated(step, table.to_batches(max_chunksize=700)))
    assert collections.Counter(got) == collections.Counter(reference_rows(step, table))


@pytest.mark.parametrize("late", [None, "x" * 25, "a new one"])
@pytest.mark.parametrize("distinct", [40, 1500, 3000])
def test_texts_of_any_length_are_found_again(distinct: int, late: str | None) -> None:
    """Texts of one letter, whose words are the same at many lengths, and of one length that differ in one byte."""
    draw = random.Random(distinct)
    texts = ["a" * n for n in range(25)]
    texts += [f"{'b' * (n % 19)}{n}"[::-1] if n % 2 else f"{n}{'c' * (n % 19)}" for n in range(distinct - 25)]
    texts += [t[:n] + "?" + t[n + 1 :] for t in ("thirteen byte", "d" * 24) for n in range(len(t))]
    rows: list[str | None] = [draw.choice(texts) for _ in range(6000)]
    table = pa.table({"t": pa.array([*rows, late, *rows], pa.string_view()), "x": range(12_001)})
    step = step_of(table.schema, (0,), (Measure("count"), Measure("sum", 1)))
    got = plain_rows(aggregated(step, table.slice(5).to_batches(max_chunksize=900)))
    assert collections.Counter(got) == collections.Counter(reference_rows(step, table.slice(5)))


@pytest.mark.parametrize("size", [4_095, 4_097, 9_000, 70_000, (1 << 20) + 1])
def test_texts_that_are_longer_than_a_block_are_kept_whole(size: int) -> None:
    """A text between the size of the next block and the largest one was written beyond the block."""
    texts = ["short", *(letter * size for letter in "abc"), "short", "a" * size]
    table = pa.table({"t": pa.array(texts, pa.string_view()), "x": range(6)})
    step = step_of(table.schema, (0,), (Measure("count"), Measure("max", 0)))
    got = plain_rows(aggregated(step, table.to_batches()))
    assert collections.Counter(got) == collections.Counter(reference_rows(step, table))


def test_few_keys_of_both_layouts_of_text_are_found_again() -> None:
    draw = random.Random(3)
    texts = ["", "a", "twelve bytes", "thirteen byte", "thirteen bytf"]
    rows = [(draw.choice(texts), draw.choice(texts), draw.choice([True, False])) for _ in range(4000)]
    rows[1000:] = [(v, t if i % 900 else t * 9, b) for i, (v, t, b) in enumerate(rows[1000:])]
    kinds = (pa.string_view(), pa.string(), pa.bool_(), pa.int64())
    for kept in (rows, [r for r in rows if len(r[0]) == 1]):
        columns = [*zip(*kept, strict=True), range(len(kept))]
        arrays = [pa.array(c, t) for c, t in zip(columns, kinds, strict=True)]
        table = pa.table(arrays, names=["v", "t", "b", "x"])
        for keys in ((0, 1), (1, 0, 2)):
            step = step_of(table.schema, keys, (Measure("count"), Measure("sum", 3)))
            got = plain_rows(aggregated(step, table.to_batches(max_chunksize=700)))
            assert collections.Counter(got) == collections.Counter(reference_rows(step, table))


def test_groups_beyond_any_part_of_memory_are_an_error() -> None:
    table = pa.table({"k": list(range(1000))})
    step = step_of(table.schema, (0,), (Measure("count"),))
    states = list(partial_states(step, table.to_batches(), 1 << 30))
    with pytest.raises(EngineError, match="raise --memory"):
        list(merge_states(step, lambda: states, 100))


def test_no_keys_are_one_group_even_of_no_rows() -> None:
    rows = pa.schema({"x": pa.float64(), "s": pa.string()})
    step = step_of(rows, (), (Measure("count"), Measure("sum", 0), Measure("max", 1), Measure("count", 1)))
    assert merged(step, [[], []]).to_pylist() == [{"r0": 0, "r1": None, "r2": None, "r3": 0}]
    counted = step_of(pa.schema([]), (), (Measure("count"),))
    batch = pa.RecordBatch.from_struct_array(pa.array([{}] * 5, pa.struct([])))
    assert aggregated(counted, [batch, batch]).to_pylist() == [{"r0": 10}]


def test_rows_of_other_types_are_refused() -> None:
    step = step_of(pa.schema({"x": pa.int64()}), (0,), (Measure("count"),))
    kernel = Aggregator(step)._kernel
    other = pa.record_batch({"x": pa.array([1.0])})
    with pytest.raises(ValueError, match="other types"):
        kernel.update(*other.__arrow_c_array__())
    damaged = step_of(pa.schema({"x": pa.float64()}), (), (Measure("sum", 0),))
    for state in (
        b"",
        b"\0" * 9,
        b"\0" * 8 + b"\x01" + b"\xff" * 18,
        b"\0" * 8 + b"\x03" + b"\xff" * 9,
        b"\0" * 8 + b"\x09" * 9,
    ):
        for step in (damaged, step_of(damaged.rows, (), (Measure("var", 0),))):
            with pytest.raises(ValueError, match="damaged"):
                Aggregator(step).merge(pa.RecordBatch.from_arrays([pa.array([state])], schema=step.states))


def test_types_that_are_known_can_be_keys() -> None:
    for kind in VALUES:
        assert is_known(kind)
        step = step_of(pa.schema({"x": kind}), (0,), (Measure("count"), Measure("max", 0)))
        assert aggregated(step, [pa.record_batch({"x": pa.nulls(2, kind)})]).num_rows == 1
    for kind in (
        pa.float16(),
        pa.list_(pa.int64()),
        pa.decimal256(50, 2),
        pa.month_day_nano_interval(),
        pa.null(),
    ):
        assert not is_known(kind)
