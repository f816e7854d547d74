"""The planner knows of relations, without asking DataFusion, what DataFusion says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from substrait.algebra_pb2 import Rel
from substrait.plan_pb2 import Plan as SubstraitPlan

import mmflow as mf
from mmflow.plan import substrait
from mmflow.plan.operators import joins, projections
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import extend_branches, filter_branches
from mmflow.plan.pipeline import Pipeline
from mmflow.plan.substrait import RelationBuilder

TYPES = [
    *(pa.bool_(), pa.int8(), pa.int64(), pa.uint16(), pa.uint64(), pa.float32(), pa.float64()),
    *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary_view(), pa.binary(4)),
    *(
        pa.decimal128(12, 2),
        pa.decimal256(50, 3),
        pa.date32(),
        pa.date64(),
        pa.time64("us"),
        pa.duration("ns"),
    ),
    *(pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "Asia/Tokyo"), pa.list_(pa.int8())),
    pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]),
]


def _builder() -> RelationBuilder:
    return RelationBuilder(SubstraitPlan(), lambda _: None)


@pytest.mark.parametrize("types", [[], TYPES, *([t] for t in TYPES)], ids=str)
def test_tables_are_those_of_datafusion(types: list[pa.DataType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substrait, "_FLAT_TYPES", {})
    asked, schema = _builder().table("t1", types)
    builder = _builder()
    known, same = builder.table("t1", types)
    assert known == asked
    assert same == schema
    assert builder.schema(known).types == types
    assert [builder.types_of([t])[0] for t in types] == list(asked.read.base_schema.struct.types)[
        : len(types)
    ]


def test_a_table_that_is_known_has_the_same_names_as_one_that_is_asked_for() -> None:
    """Plans of equal queries are equal in every process, whatever it planned before."""
    first, second = _builder(), _builder()
    first.types_of([pa.int8(), pa.list_(pa.int8())])
    assert first.name() == second.name()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, b FROM t WHERE a > 1 AND b LIKE 'x%'",
        "SELECT count(*) AS n FROM t WHERE a > 1",
        "SELECT b, sum(a) AS s FROM t WHERE a > 1 GROUP BY b HAVING sum(a) > 2",
        "SELECT s.n FROM (SELECT a * 2 AS n FROM t WHERE a > 0 LIMIT 9) s WHERE s.n > 1",
        "SELECT u.a FROM t LEFT JOIN t AS u ON t.a = u.a WHERE coalesce(u.a, 0) + t.a > 1",
        "SELECT l FROM t WHERE a > 1 AND b = 'x'",
        "SELECT a FROM (SELECT a FROM t UNION ALL SELECT a + 1 FROM t) WHERE a > 1",
    ],
)
def test_filters_have_the_schemas_of_datafusion(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[pa.Schema, pa.Schema]] = []

    def watched(context: PlanContext, rel: Rel, child: Pipeline) -> Pipeline:
        made = filter_branches(context, rel, child)
        seen.append((made.schema, context.rels.schema(made.branches[0].rel)))
        return made

    monkeypatch.setattr(projections, "filter_branches", watched)
    mf.sql(query, t={"a": [1, 2], "b": ["x", "y"], "l": [[1], None]})
    assert seen
    for made, asked in seen:
        assert made.types == asked.types
        assert made.names == asked.names


@pytest.mark.parametrize(
    "how", ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"]
)
@pytest.mark.parametrize("settings", [{}, {"broadcast": 0, "partitions": 2}], ids=["broadcast", "exchange"])
def test_joins_and_selections_have_the_schemas_of_datafusion(
    how: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[bool] = []

    def watched(plan: Callable[..., Pipeline]) -> Callable[..., Pipeline]:
        def planned(context: PlanContext, *args: Any) -> Pipeline:
            made = plan(context, *args)
            computed.append(made.branches[0].unseen)
            asked = context.rels.schema(made.branches[0].rel)
            assert made.schema.types == asked.types
            assert made.schema.names == asked.names
            return made

        return planned

    monkeypatch.setattr(joins, "_joined", watched(joins._joined))
    monkeypatch.setattr(projections, "extend_branches", watched(extend_branches))
    flat = {f"c{n}": pa.nulls(1, t) for n, t in enumerate(TYPES) if not pa.types.is_nested(t)}
    table = {"k": pa.array([1]), "w": pa.array([2]), **flat}
    columns = ", ".join(f"t.{name}" for name in (*flat, "w"))
    other = "" if "SEMI" in how or "ANTI" in how else ", u.w + 1 AS x, u.c3"
    query = f"SELECT {columns}{other} FROM t {how} u ON t.k = u.k AND t.w < u.w"
    mf.Session(workers=2, **settings).sql(f"{query} UNION ALL {query}", t=table, u=table)
    assert any(computed)
