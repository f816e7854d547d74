"""Filters that programs don't know in full: what they require drops rows before, and the rows are DataFusion's own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import datafusion
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.plan.stages import FragmentStep, ProgramStep
from tests.plan.test_plan_literal_prefilter import ATOMS, QUANTIFIERS

_TEXTS = ["ab", "a/b", "abba ab", "é. ", "*(", "aab", "b" * 20 + "a/", "", None, "ab\nba"]
_TABLE = pa.table(
    {
        "s": pa.array(_TEXTS * 3, pa.string_view()),
        "k": pa.array([*range(14), None] * 2, pa.int64()),
        "f": pa.array([i / 4 for i in range(30)], pa.float64()),
    }
)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mf.Dataset]:
    path = tmp_path_factory.mktemp("prefilter") / "t.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in _TABLE.to_pylist()))
    with mf.Session(shard_size=256) as session:
        yield session.read_ndjson(str(path), schema=_TABLE.schema.set(0, pa.field("s", pa.string())))


def _steps(query: str, frame: mf.Dataset) -> list[type]:
    return [type(step) for step in mf.sql(query, t=frame)._plan().stages[0].steps]


def _rows(query: str, frame: mf.Dataset) -> list[dict[str, object]]:
    return list(mf.sql(query, t=frame).to_arrow().to_pylist())


def _peers(query: str) -> list[dict[str, object]]:
    context = datafusion.SessionContext()
    context.from_arrow(_TABLE, "t")
    return list(context.sql(query).to_arrow_table().to_pylist())


@pytest.mark.parametrize(
    "query",
    [
        "SELECT s, k FROM t WHERE regexp_like(s, 'a.*/[^a]') ORDER BY s, k",
        "SELECT s, f FROM t WHERE k > 3 AND s ~ 'a[ab]' ORDER BY s, f",
        "SELECT count(*) AS n, max(k) AS m FROM t WHERE s ~ 'b.?a' AND f < 6",
        "SELECT upper(s) AS u, count(*) AS n FROM t WHERE s ~ 'b.?a' GROUP BY 1 ORDER BY 1",
    ],
)
def test_the_rows_are_those_of_datafusion(query: str, frame: mf.Dataset) -> None:
    assert _steps(query, frame)[:2] == [ProgramStep, FragmentStep]
    assert _rows(query, frame) == _peers(query) != []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT s FROM t WHERE s ~ 'a.b' AND 10 / k > 1",  # a row that is dropped would not fail
        "SELECT s FROM t WHERE s ~* 'a.b'",
        "SELECT s FROM t WHERE s ~ '[ab]a?'",  # requires nothing
        "SELECT s FROM t WHERE s !~ 'a.b'",
    ],
)
def test_filters_that_may_fail_or_require_nothing_have_none(query: str, frame: mf.Dataset) -> None:
    assert _steps(query, frame) == [FragmentStep]


def test_explain_says_prefilter(frame: mf.Dataset) -> None:
    assert "native  prefilter\n" in mf.sql("SELECT s FROM t WHERE s ~ 'a.b'", t=frame).explain()


@given(parts=st.lists(st.tuples(ATOMS, QUANTIFIERS), min_size=1, max_size=5))
@example(parts=[("a", "+"), ("b", "")])
def test_any_expression(frame: mf.Dataset, parts: list[tuple[str, str]]) -> None:
    pattern = "".join(atom + ("" if atom in "^$" else quantifier) for atom, quantifier in parts)
    query = f"SELECT s, k FROM t WHERE s ~ '{pattern}' ORDER BY s, k"
    assert _rows(query, frame) == _peers(query)
