"""Hash and range partitions: the properties on which exchanges rely."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmflow.plan.stages import SortKey
from mmflow.worker.hashing import hash_columns
from mmflow.worker.partition import Partitions, Places, hash_rows, place, place_by_hash
from mmflow.worker.range_partition import Sampler, _key_columns, _ranges, boundaries, place_by_range

VALUES: dict[pa.DataType, st.SearchStrategy[object]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.string_view(): st.text(max_size=20),
    pa.string(): st.text(max_size=20),
    pa.binary(): st.binary(max_size=20),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    pa.time64("us"): st.times(),
    pa.decimal128(20, 3): st.integers(-(10**17), 10**17).map(lambda i: Decimal(i).scaleb(-3)),
}
TYPES = list(VALUES)


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    rows = draw(st.integers(0, 40))
    arrays = [pa.array(draw(st.lists(st.none() | VALUES[t], min_size=rows, max_size=rows)), t) for t in types]
    arrays.append(pa.array(range(rows), pa.int64()))
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])


def _parts(batch: pa.RecordBatch, places: Places) -> dict[int, pa.RecordBatch]:
    parts = Partitions(batch.schema, len(places[1]) - 1)
    parts.add(batch, places)
    return _taken(parts)


def _taken(parts: Partitions) -> dict[int, pa.RecordBatch]:
    return {number: batch for number, (batch,) in parts.take()}


@given(batches(), st.integers(1, 5), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=4))
def test_the_kernel_collects_rows_as_pyarrow_does(
    batch: pa.RecordBatch, count: int, slices: list[tuple[int, int]]
) -> None:
    """Batches that begin anywhere, with nulls in some of them, and what is left behind between two takes."""
    views = [pa.string_view() if pa.types.is_string(t) else pa.binary_view() if t == pa.binary() else t
             for t in batch.schema.types]  # fmt: skip
    batch = pa.RecordBatch.from_arrays(
        [c.cast(t) for c, t in zip(batch.columns, views, strict=True)], names=batch.schema.names
    )
    native, reference = Partitions(batch.schema, count), Partitions(batch.schema, count)
    assert native._kernel is not None
    reference._kernel = None
    keys = [batch.num_columns - 1]
    for begin, length in [*slices, (0, batch.num_rows), (3, 5)]:
        some = batch.slice(min(begin, batch.num_rows), length)
        for parts in (native, reference):
            parts.add(some, place_by_hash(some, keys, count))
        if length == 7:
            _same(native, reference)
    _same(native, reference)
    assert native.nbytes == 0


def _same(native: Partitions, reference: Partitions) -> None:
    made, expected = _taken(native), _taken(reference)
    assert made.keys() == expected.keys()
    for number, part in made.items():
        part.validate(full=True)
        assert repr(part.to_pylist()) == repr(expected[number].to_pylist())  # NaN is not equal to itself
        assert part.schema == expected[number].schema


def test_partitions_of_types_that_the_kernel_does_not_know() -> None:
    batch = pa.record_batch({"l": [[1], None, [2, 3]], "d": pa.array(["a", "b", "a"]).dictionary_encode()})
    parts = _parts(batch, (np.array([2, 0, 1]), np.array([0, 1, 1, 3])))
    assert {n: p.to_pylist() for n, p in parts.items()} == {
        0: [{"l": [2, 3], "d": "a"}],
        2: [{"l": [1], "d": "a"}, {"l": None, "d": "b"}],
    }


def test_long_texts_of_partitions() -> None:
    """Text in several buffers, of batches whose windows are gone."""
    parts = Partitions(pa.schema([("t", pa.string_view())]), 2)
    for number in range(20):
        texts = [f"{number} {i} " + "x" * (i % 50) * 1000 for i in range(100)]
        made = pa.record_batch([pa.array(texts, pa.string_view())], names=["t"])
        parts.add(made, place_by_hash(made, [0], 2))
        del made
    taken = _taken(parts)
    assert min(len(t.column(0)) for t in taken.values()) > 500
    expected = {f"{n} {i} " + "x" * (i % 50) * 1000 for n in range(20) for i in range(100)}
    assert {t for part in taken.values() for t in part.column(0).to_pylist()} == expected


@given(batches(), st.integers(1, 7))
def test_hash_partitions_hold_every_row_once_in_order(batch: pa.RecordBatch, partitions: int) -> None:
    keys = list(range(batch.num_columns - 1))
    parts = _parts(batch, place_by_hash(batch, keys, partitions))
    numbers = [n for p in sorted(parts) for n in parts[p].column(batch.num_columns - 1).to_pylist()]
    assert sorted(numbers) == list(range(batch.num_rows))
    for part in parts.values():
        rows = part.column(batch.num_columns - 1).to_pylist()
        assert rows == sorted(rows)
        assert part.schema == batch.schema


@given(batches(), st.integers(0, 5))
def test_the_kernel_hashes_like_its_definition(batch: pa.RecordBatch, skipped: int) -> None:
    columns = batch.slice(min(skipped, batch.num_rows)).columns  # bits and values that begin anywhere
    assert hash_rows(columns).tolist() == hash_columns(columns).tolist()


def test_the_kernel_hashes_every_layout_of_text_alike() -> None:
    values = ["", "a", "twelve bytes", "thirteen byte", "x" * 100, None, "é"]
    types = (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    )
    hashes = [hash_rows([pa.array(values, t)]).tolist() for t in types]
    hashes.append(hash_rows([pa.array(values).dictionary_encode()]).tolist())
    assert all(h == hashes[0] for h in hashes)
    assert hash_rows([pa.array([-1], pa.int8())]) == hash_rows([pa.array([-1], pa.int64())])
    assert (
        hash_rows([pa.array([0.0, float("nan")])]).tolist()
        == hash_rows([pa.array([-0.0, -float("nan")], pa.float32())]).tolist()
    )


@given(st.sampled_from(TYPES).flatmap(lambda t: st.tuples(st.just(t), st.lists(st.none() | VALUES[t]))))
def test_hash_depends_on_the_value_alone(case: tuple[pa.DataType, list[object]]) -> None:
    data_type, values = case
    together = hash_columns([pa.array(values, data_type)]) if values else np.zeros(0, np.uint64)
    for index, value in enumerate(values):
        alone = hash_columns([pa.array([None, value, None], data_type).slice(1, 1)])
        assert alone[0] == together[index]


def test_hash_is_the_same_for_every_layout_of_text() -> None:
    values = ["", "a", "twelve bytes", "thirteen byte", "x" * 100, None, "é"]
    hashes = [
        hash_columns([pa.array(values, t)]).tolist()
        for t in (pa.string(), pa.large_string(), pa.string_view(), pa.binary())
    ]
    dictionary = hash_columns([pa.array(values).dictionary_encode()]).tolist()
    assert hashes[0] == hashes[1] == hashes[2] == hashes[3] == dictionary


def test_hash_of_equal_numbers_is_equal() -> None:
    zeros = hash_columns([pa.array([0.0, -0.0])])
    assert zeros[0] == zeros[1]
    nans = hash_columns([pa.array([float("nan"), -float("nan")])])
    assert nans[0] == nans[1]
    assert hash_columns([pa.array([-5], pa.int8())]) == hash_columns([pa.array([-5], pa.int64())])


def test_hash_never_changes_between_runs() -> None:
    """Golden values: a resumed run must find its partitions where they were."""
    assert [int(h) for h in hash_columns([pa.array([0, 1, -1, None], pa.int64())])] == GOLDEN_INT
    assert [int(h) for h in hash_columns([pa.array(["", "a", "mapped arrow view"])])] == GOLDEN_TEXT


GOLDEN_INT = [0, 8841707400507832957, 5476333178966447588, 16294208416658607535]
GOLDEN_TEXT = [0, 8687405705859325652, 14519461945800694984]


def test_hash_spreads_small_keys() -> None:
    batch = pa.record_batch({"k": pa.array(range(10_000))})
    parts = _parts(batch, place_by_hash(batch, [0], 8))
    assert min(p.num_rows for p in parts.values()) > 1_000


def _reference_order(batch: pa.RecordBatch, key: SortKey) -> list[Any]:
    """Sort keys of rows that Python compares as DataFusion orders: (null rank, NaN rank, value)."""

    def rank(value: Any) -> tuple[int, int, Any]:
        null = (0 if key.nulls_first else 1) if value is None else (1 if key.nulls_first else 0)
        nan = int(isinstance(value, float) and value != value)
        return null, nan, 0 if value is None or nan else value

    return [rank(v) for v in batch.column(key.column).to_pylist()]


def _before(low: tuple[int, int, Any], high: tuple[int, int, Any], *, descending: bool) -> bool:
    """Nulls stand where the key says, all else by value in its direction."""
    if low[0] != high[0]:
        return low[0] < high[0]
    return low[1:] > high[1:] if descending else low[1:] < high[1:]


@given(batches(), st.booleans(), st.booleans(), st.integers(1, 6))
def test_ranges_are_in_order_and_lose_nothing(
    batch: pa.RecordBatch, descending: bool, nulls_first: bool, parts: int
) -> None:
    key = SortKey(0, descending, nulls_first)
    sampler = Sampler([key])
    half = batch.num_rows // 2
    sampler.add(batch.slice(0, half))
    sampler.add(batch.slice(half))
    sample = sampler.sample()
    if sample is None:
        assert batch.num_rows == 0
        return
    cuts = boundaries([sample], [key], parts)
    assert cuts.num_rows < max(parts, 1)
    ranges = _parts(batch, place_by_range(batch, [key], cuts))
    numbers = [n for r in ranges.values() for n in r.column(batch.num_columns - 1).to_pylist()]
    assert sorted(numbers) == list(range(batch.num_rows))
    ordered = [ranges[r] for r in sorted(ranges)]
    for before, after in itertools.pairwise(ordered):
        for low in _reference_order(before, key):
            for high in _reference_order(after, key):
                assert _before(low, high, descending=descending)


@given(
    batches(), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=2), st.integers(2, 6)
)
@example(
    pa.record_batch({"k": [2**63 - 1, None, -(2**63), 7, None, 7], "n": [3, 1, 2, 9, 0, 8]}),
    [(False, False), (True, False)],
    5,
)
@example(
    pa.record_batch({"k": pa.array([None if i % 9 == 4 else Decimal(i - 9) * 10**19 for i in range(18)], pa.decimal128(38, 0)),
                     "n": range(18)}), [(True, True)], 6,
)  # fmt: skip
def test_ranges_by_codes_are_those_by_whole_keys(
    batch: pa.RecordBatch, directions: list[tuple[bool, bool]], parts: int
) -> None:
    keys = [SortKey(i, *direction) for i, direction in enumerate(directions[: batch.num_columns])]
    sampler = Sampler(keys)
    sampler.add(batch)
    sample = sampler.sample()
    if sample is None:
        return
    cuts = boundaries([sample], keys, parts)
    expected = place(_ranges(_key_columns(batch, keys), keys, cuts), cuts.num_rows + 1)
    for made, wanted in zip(place_by_range(batch, keys, cuts), expected, strict=True):
        assert made.tolist() == wanted.tolist()


def test_equal_keys_share_a_range_however_skewed() -> None:
    key = SortKey(0)
    batch = pa.record_batch({"k": pa.array([7] * 5_000 + list(range(10)))})
    sampler = Sampler([key])
    sampler.add(batch)
    sample = sampler.sample()
    assert sample is not None
    cuts = boundaries([sample], [key], 8)
    ranges = _parts(batch, place_by_range(batch, [key], cuts))
    holding = [r for r, rows in ranges.items() if 7 in rows.column(0).to_pylist()]
    assert len(holding) == 1


@settings(max_examples=20)
@given(
    st.sampled_from(["uniform", "normal", "exponential", "ascending"]), st.booleans(), st.integers(0, 2**32)
)
def test_ranges_of_keys_that_differ_are_balanced_within_a_fifth(
    shape: str, descending: bool, seed: int
) -> None:
    """Eight tasks and eight ranges: the standard error of a range is 2.6% of its size with 10,000 sampled rows."""
    rng = np.random.default_rng(seed)
    count = 160_000
    values = {
        "uniform": rng.random(count),
        "normal": rng.normal(size=count),
        "exponential": rng.exponential(size=count),
        "ascending": np.arange(count, dtype=float),
    }[shape]
    key = SortKey(0, descending)
    tasks = [pa.record_batch({"k": part}) for part in np.split(values, 8)]
    samples = []
    for task in tasks:
        sampler = Sampler([key])
        sampler.add(task)
        sample = sampler.sample()
        assert sample is not None
        samples.append(sample)
    cuts = boundaries(samples, [key], 8)
    places = [place_by_range(task, [key], cuts) for task in tasks]
    sizes = sum(
        np.array([_parts(t, p)[r].num_rows if r in _parts(t, p) else 0 for r in range(8)])
        for t, p in zip(tasks, places, strict=True)
    )
    assert np.abs(sizes / (count / 8) - 1).max() < 0.2, sizes


@pytest.mark.parametrize("rows", [0, 1, 5_000, 100_000])
def test_sampler_is_bounded_and_even(rows: int) -> None:
    sampler = Sampler([SortKey(0)])
    for start in range(0, rows, 700):
        sampler.add(pa.record_batch({"k": pa.array(range(start, min(rows, start + 700)))}))
    sample = sampler.sample()
    if rows == 0:
        assert sample is None
        return
    assert sample is not None
    assert sample.num_rows <= 2_048
    keys = sample.column(0).to_numpy()
    (weight,) = set(sample.column(1).to_pylist())
    blocks = keys // int(weight)
    assert len(set(blocks.tolist())) == len(blocks) >= rows // weight  # one row of each block


def test_sampler_is_not_misled_by_keys_that_repeat() -> None:
    """Every n-th row would hold one value of 64."""
    sampler = Sampler([SortKey(0)])
    for _ in range(200):
        sampler.add(pa.record_batch({"k": pa.array([*range(64)] * 10)}))
    sample = sampler.sample()
    assert sample is not None
    counts = np.bincount(sample.column(0).to_numpy(), minlength=64)
    expected = sample.num_rows / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi-square of 63: beyond in 2 of 100,000


def test_rows_without_keys_go_round_robin_across_batches() -> None:
    counts = np.zeros(4, np.int64)
    for number in range(40):
        _, bounds = place_by_hash(pa.record_batch({"k": [number]}), (), 4, number)
        counts += np.diff(bounds)
    assert counts.tolist() == [10, 10, 10, 10]
