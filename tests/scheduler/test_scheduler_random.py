"""The scheduler under every order of events: the same rows, the same first error, no block left."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.errors import BadRecordError
from mmflow.plan.stages import Broadcast, Forward, Hash, Plan, Range, Result, SortKey

from .toy import FakeEngine, Faults, ToyFile, ToyRecord, World, plan_of, read_exchange, scan, stage

KEY = (SortKey(0),)


@st.composite
def toy_files(draw: st.DrawFn, bad: bool = False) -> list[ToyFile]:
    files = []
    value = 0
    for number in range(draw(st.integers(1, 3))):
        records = []
        for _ in range(draw(st.integers(0, 12))):
            length = draw(st.integers(1, 20))
            inner = tuple(sorted(draw(st.sets(st.integers(1, length - 1), max_size=3)))) if length > 1 else ()
            value += 1
            is_bad = bad and draw(st.integers(0, 8)) == 0
            records.append(ToyRecord(value * 7 % 101, length, inner, is_bad))
        files.append(ToyFile(f"f{number}", tuple(records)))
    return files


def values(files: list[ToyFile]) -> list[int]:
    return [r.value for f in files for r in f.records]


faults = st.builds(
    Faults, lost=st.sampled_from([0, 0.2]), failed=st.sampled_from([0, 0.2]), late=st.just(0.5)
)
engines = st.tuples(st.integers(0, 2**32), st.integers(1, 6), faults)


def run(files: list[ToyFile], plan: Plan, how: tuple[int, int, Faults], reading: int = 99) -> list[int]:
    world = World(files)
    world.row_bytes = (8, 1 << 18)[how[0] % 2]
    paths = [f.path for f in files]
    engine = FakeEngine(world, how[0], how[1], how[2])
    size = (8, 16, 64)[how[0] % 3]
    sources = {s.id: world.source(paths, size) for s in plan.stages if s.inputs and s.inputs[0].name == "t"}
    try:
        return engine.new_scheduler(plan, sources, reading=reading).rows
    finally:
        assert world.blocks == {}, "every block is deleted, once"


def test_tasks_are_split() -> None:
    """Tasks are split, and so are parts: the tests below rely on it."""
    split, deepest = 0, 0
    for seed in range(150):
        world = World([ToyFile("f", tuple(ToyRecord(i, 3, (1,)) for i in range(30)))])
        engine = FakeEngine(world, seed, 4, Faults(lost=0.1, failed=0.1))
        rows = engine.new_scheduler(
            plan_of(stage(0, [scan(["f"])], Result())), {0: world.source(["f"], 45)}
        ).rows
        assert rows == list(range(30))
        split += engine.split
        deepest = max(deepest, *(len(task.part) for task in world.runs))
    assert split > 10
    assert deepest > 1


@given(toy_files(), engines, st.integers(1, 9))
@settings(max_examples=300)
def test_scan_gives_all_rows_in_order(
    files: list[ToyFile], how: tuple[int, int, Faults], reading: int
) -> None:
    plan = plan_of(stage(0, [scan([f.path for f in files])], Result()))
    assert run(files, plan, how, reading) == values(files)


@given(toy_files(), engines)
@settings(max_examples=200)
def test_lines_are_global(files: list[ToyFile], how: tuple[int, int, Faults]) -> None:
    plan = plan_of(stage(0, [scan([f.path for f in files], ("_line",))], Result()))
    expected = []
    for file in files:
        line = 1
        for record in file.records:
            expected.append(line)
            line += 1 + len(record.inner)
    assert run(files, plan, how) == expected


@given(toy_files(), engines, st.sampled_from([0, 1 << 20]))
@settings(max_examples=150)
def test_hash_exchange(files: list[ToyFile], how: tuple[int, int, Faults], target_bytes: int) -> None:
    plan = plan_of(
        stage(0, [scan([f.path for f in files])], Hash((0,), 5, target_bytes)),
        stage(1, [read_exchange("partition", 0)], Result()),
    )
    rows = values(files)
    assert run(files, plan, how) == [r for p in range(5) for r in rows if r % 5 == p]


@given(toy_files(), engines)
@settings(max_examples=150)
def test_range_exchange(files: list[ToyFile], how: tuple[int, int, Faults]) -> None:
    paths = [f.path for f in files]
    plan = plan_of(
        stage(0, [scan(paths)], Forward(KEY)),
        stage(1, [scan(paths)], Forward(KEY)),
        stage(2, [read_exchange("forward", 0, 1)], Range(KEY, 4, 64)),
        stage(3, [read_exchange("partition", 2)], Result()),
    )
    rows = run(files, plan, how)
    assert sorted(rows) == sorted(values(files) * 2)


@given(toy_files(), engines, st.integers(1, 5))
@settings(max_examples=150)
def test_union_of_a_broadcast_join(files: list[ToyFile], how: tuple[int, int, Faults], reading: int) -> None:
    paths = [f.path for f in files]
    plan = plan_of(
        stage(0, [scan(paths)], Broadcast()),
        stage(1, [scan(paths), read_exchange("all", 0)], Forward()),
        stage(2, [scan(paths)], Forward()),
        stage(3, [read_exchange("forward", 1, 2)], Result()),
    )
    rows = values(files)
    assert run(files, plan, how, reading) == [r + sum(rows) for r in rows] + rows


@given(toy_files(), engines, st.integers(0, 20))
@settings(max_examples=300)
def test_limit_takes_the_first_rows(files: list[ToyFile], how: tuple[int, int, Faults], limit: int) -> None:
    plan = plan_of(
        stage(0, [scan([f.path for f in files])], Broadcast(), limit=limit),
        stage(1, [read_exchange("all", 0)], Result()),
    )
    rows = run(files, plan, how)
    assert rows[:limit] == values(files)[:limit]


@given(toy_files(bad=True), engines, st.sampled_from(["n", "_line"]), st.sampled_from([None, 3, 10]))
@settings(max_examples=400)
def test_first_bad_record_is_the_error(
    files: list[ToyFile], how: tuple[int, int, Faults], column: str, limit: int | None
) -> None:
    """The error is the first bad record of the first file that has one, at its global place, whichever task ends first."""
    plan = plan_of(
        stage(0, [scan([f.path for f in files], (column,))], Broadcast(), limit=limit),
        stage(1, [read_exchange("all", 0)], Result()),
    )
    bad = [(f.path, i, r) for f in files for i, r in enumerate(f.records) if r.bad]
    good_before = 0
    for record in (r for f in files for r in f.records):
        if record.bad:
            break
        good_before += 1
    if not bad or (limit is not None and good_before >= limit):
        assert len(run(files, plan, how)) >= min(limit or 0, good_before)
        return
    path, number, _ = bad[0]
    records = next(f for f in files if f.path == path).records
    with pytest.raises(BadRecordError, match="bad") as caught:
        run(files, plan, how)
    assert caught.value.context["path"] == path
    assert caught.value.context["record"] == number
    assert caught.value.context["line"] == 1 + sum(1 + len(r.inner) for r in records[:number])
