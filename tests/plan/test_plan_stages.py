"""Structure of plans: which stages and exchanges a query is cut into. No data is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from datafusion import DataFrame

import mmflow as mf
from mmflow.config import Settings
from mmflow.errors import PlanError
from mmflow.formats import open_format
from mmflow.plan.catalog import Catalog, MapLeaf, SourceLeaf
from mmflow.plan.explain import explain
from mmflow.plan.planner import make_plan, why_not_split
from mmflow.plan.stages import (
    Broadcast,
    ExchangeInput,
    Forward,
    Hash,
    MapStep,
    Plan,
    ProgramStep,
    Range,
    Result,
    ScanInput,
    Source,
)

SCHEMA = {"k": "int64", "v": "float64", "s": "string", "d": "decimal128(15, 2)"}


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


def large(catalog: Catalog, folder: Path, name: str = "t") -> DataFrame:
    """Return a sparse CSV file of 1 GiB, which is too large for a broadcast or one partition."""
    path = folder / f"{name}.csv"
    if not path.exists():
        path.write_text("k,v,s,d\n")
        with path.open("r+b") as file:
            file.truncate(1 << 30)
    form = open_format("csv", [str(path)], schema=SCHEMA)
    return catalog.add(SourceLeaf(Source((str(path),), form, name)))


def plan_of(catalog: Catalog, query: str, **tables: DataFrame) -> Plan:
    settings = Settings.load()
    unsplit = partial(why_not_split, catalog=catalog, settings=settings)
    frame = catalog.sql(query, tables, unsplit=unsplit)
    return make_plan(frame, catalog, settings=settings, output=Result())


def test_scan_takes_the_needed_columns_and_conjuncts(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, "SELECT s FROM t WHERE k > 5 AND v IS NOT NULL", t=large(catalog, tmp_path))
    (stage,) = plan.stages
    scan = stage.inputs[0]
    assert isinstance(scan, ScanInput)
    assert set(scan.columns) == {"k", "v", "s"}
    assert {(c.column, c.op, c.value) for c in scan.prune} == {("k", "gt", 5), ("v", "is_not_null", None)}
    assert isinstance(stage.output, Result)
    step = stage.steps[0]
    assert isinstance(step, ProgramStep)
    assert step.streaming


def test_count_star_reads_no_column(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, "SELECT count(*) FROM t", t=large(catalog, tmp_path))
    scan = plan.stages[0].inputs[0]
    assert isinstance(scan, ScanInput)
    assert scan.columns == ()


def test_aggregate_is_partial_then_final(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, "SELECT s, sum(d), avg(d) FROM t GROUP BY s", t=large(catalog, tmp_path))
    partial, final = plan.stages
    assert isinstance(partial.output, Hash)
    assert partial.output.keys == (0,)
    assert partial.schema.types == [pa.string_view(), pa.binary(32)]
    assert final.inputs == (dataclasses.replace(final.inputs[0]),)
    assert final.schema.types == [pa.string_view(), pa.decimal128(25, 2), pa.decimal128(19, 6)]


def test_grouping_sets_are_grouped_where_the_rows_are(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, "SELECT s, k, count(*) FROM t GROUP BY CUBE (s, k)", t=large(catalog, tmp_path))
    partial, _ = plan.stages
    assert partial.title.endswith("copies for grouping sets, partial aggregate")
    assert isinstance(partial.output, Hash)
    assert partial.output.keys == (0, 1, 2)


def test_median_exchanges_rows(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, "SELECT s, median(v) FROM t GROUP BY s", t=large(catalog, tmp_path))
    assert isinstance(plan.stages[0].output, Hash)
    assert len(plan.stages[0].schema) == 2


def test_large_join_exchanges_both_sides(catalog: Catalog, tmp_path: Path) -> None:
    a, b = large(catalog, tmp_path, "a"), large(catalog, tmp_path, "b")
    plan = plan_of(catalog, "SELECT a.s, b.s FROM a JOIN b ON a.k = b.k", a=a, b=b)
    left, right, join = plan.stages
    assert isinstance(left.output, Hash)
    assert isinstance(right.output, Hash)
    assert left.output.partitions == right.output.partitions > 1
    assert [i.mode for i in join.inputs if isinstance(i, ExchangeInput)] == ["partition", "partition"]


def test_small_side_is_broadcast(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text("k,name\n1,x\n")
    form = open_format("csv", [str(path)], schema={"k": "int64", "name": "string"})
    small = catalog.add(SourceLeaf(Source((str(path),), form, "small")))
    plan = plan_of(
        catalog, "SELECT a.s, b.name FROM a LEFT JOIN b ON a.k = b.k", a=large(catalog, tmp_path), b=small
    )
    assert isinstance(plan.stages[0].output, Broadcast)
    scan, broadcast = plan.stages[1].inputs
    assert isinstance(scan, ScanInput)
    assert isinstance(broadcast, ExchangeInput)
    assert broadcast.mode == "all"


def test_sort_samples_and_ranges(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, "SELECT s FROM t ORDER BY v DESC, k", t=large(catalog, tmp_path))
    sample, ranged, _ = plan.stages
    assert isinstance(sample.output, Forward)
    assert [(k.descending, k.nulls_first) for k in sample.output.sample] == [(True, True), (False, False)]
    assert isinstance(ranged.output, Range)


def test_top_k_and_limit_stop_early(catalog: Catalog, tmp_path: Path) -> None:
    table = large(catalog, tmp_path)
    top = plan_of(catalog, "SELECT s FROM t ORDER BY v LIMIT 10 OFFSET 5", t=table)
    assert [s.limit for s in top.stages] == [None, None]
    assert "top 15" in explain(top)
    limit = plan_of(catalog, "SELECT s FROM t LIMIT 10 OFFSET 5", t=table)
    assert [s.limit for s in limit.stages] == [15, None]


def test_union_all_keeps_the_tasks_of_both(catalog: Catalog, tmp_path: Path) -> None:
    a, b = large(catalog, tmp_path, "a"), large(catalog, tmp_path, "b")
    plan = plan_of(
        catalog, "SELECT k, count(*) FROM (SELECT k FROM a UNION ALL SELECT k FROM b) GROUP BY k", a=a, b=b
    )
    first, second, final = plan.stages
    assert first.output == second.output
    source = final.inputs[0]
    assert isinstance(source, ExchangeInput)
    assert source.stages == (first.id, second.id)


def test_map_batches_is_a_step_between_fragments(catalog: Catalog, tmp_path: Path) -> None:
    def double(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch

    child = catalog.sql("SELECT k + 1 AS k FROM t", {"t": large(catalog, tmp_path)})
    mapped = catalog.add(MapLeaf(child, double, pa.schema([("k", pa.int64())])))
    plan = plan_of(catalog, "SELECT k FROM m WHERE k > 3", m=mapped)
    (stage,) = plan.stages
    assert [type(s) for s in stage.steps] == [ProgramStep, MapStep, ProgramStep]
    assert stage.steps[1].input.names == ["k"]  # type: ignore[union-attr]  # a MapStep, as asserted


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT DISTINCT unnest([1, 2]) FROM t", "can't carry"),
        ("SELECT first_value(v) IGNORE NULLS OVER (ORDER BY k) FROM t", "IGNORE NULLS"),
        ("SELECT sum(v) OVER (ORDER BY k RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t", "RANGE"),
        ("SELECT sum(v) FILTER (WHERE k > 1) OVER (ORDER BY k) FROM t", "FILTER"),
        ("SELECT count(DISTINCT v) OVER (PARTITION BY s) FROM t", "DISTINCT"),
    ],
)
def test_queries_beyond_substrait_are_gathered_with_a_reason(
    query: str, reason: str, catalog: Catalog, tmp_path: Path
) -> None:
    text = explain(plan_of(catalog, query, t=large(catalog, tmp_path)))
    assert "gather" in text
    assert reason in text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", r"expected an SQL statement, found SELEC \(line 1, column 1\)"),
        ("SELECT nope FROM t", "nope"),
        ("SELECT k FROM missing", "missing"),
        ("DROP TABLE t", "not supported"),
        ("CREATE TABLE x AS SELECT 1", "not supported"),
        ("SELECT k, k IN (SELECT k FROM u) FROM t", "outside of a WHERE"),
        ("SELECT k FROM t LIMIT (SELECT 3)", "LIMIT"),
    ],
)
def test_wrong_queries_are_plan_errors(query: str, words: str, catalog: Catalog, tmp_path: Path) -> None:
    t = large(catalog, tmp_path)
    with pytest.raises(PlanError, match=words):
        plan_of(catalog, query, t=t, u=large(catalog, tmp_path, "u"))


@pytest.mark.parametrize(
    "query",
    [
        lambda t: t.sort("i"),
        lambda t: t.group_by("s").agg(n=mf.len()).sort("s"),
        lambda t: t.group_by("s").agg(total=mf.col("i").sum()),
        lambda t: t.with_columns(number=mf.col("i").rank().over("s")),
        lambda t: t.select("s", before=mf.col("i").shift().over(order_by="i")),
        lambda t: t.with_columns(number=mf.col("i").rank().over("s")).sort("number"),
        lambda t: t.select(twice=mf.col("i") * 2).filter(mf.col("twice") > 2),
        lambda t: t.map_batches(lambda b: b).sort("s", "i").limit(3),
        lambda t: t.join(t.group_by("s").agg(n=mf.len()), "s").sort("i"),
    ],
)
def test_blocks_have_the_names_of_their_stage(
    query: Callable[[mf.Dataset], mf.Dataset], tmp_path: Path
) -> None:
    """Blocks are written with the schema of the stage, on clusters and where they are spilled."""
    path = tmp_path / "t.csv"
    path.write_text("i,s\n" + "".join(f"{n},s{n % 5}\n" for n in range(2000)))
    with mf.Session(shard_size="4KiB") as session:
        plan = query(session.read_csv(str(path)))._plan()
    for stage in plan.stages:
        if stage.steps:
            last = stage.steps[-1]
            assert last.schema == stage.schema, (stage.title, type(last).__name__)
