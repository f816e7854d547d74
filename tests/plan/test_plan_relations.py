"""The planner knows of relations, without asking DataFusion, what DataFusion says of them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from substrait.algebra_pb2 import Rel
from substrait.plan_pb2 import Plan as SubstraitPlan

import mmflow as mf
from mmflow.plan import substrait
from mmflow.plan.operators import projections
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import filter_branches
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
