"""Text of JSON in SQL and expressions: what DuckDB says, but that numbers keep their digits."""

from __future__ import annotations

import json
import operator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.api.sql.json_calls import with_json_calls
from mmflow.errors import ConfigError, PlanError
from mmflow.plan.functions.json_values import JSON_FUNCTIONS

DOCS = ['{"a": [1, 2.5, {"b c": "x\\u00e9"}], "n": null, "k": {"z": 1, "y": []}}', "{}", "[1, 2]", '"s"', "-5", "18446744073709551616",
        "1.5", None, "true", "null", '{"a": {"a": [[7]]}}']  # fmt: skip
CALLS = ["doc -> '$.a[1]'", "doc ->> '$.a[2].\"b c\"'", "doc -> 'a' -> 2 ->> 'b c'", "json_extract(doc, '$.n')", "doc ->> 'n'",
         "json_type(doc)", "json_array_length(doc)", "json_array_length(doc, '$.a')", "json_keys(doc)", "JSON_KEYS(doc, '$.k')",
         "json_valid(doc)", "json_type(doc, '$.a')", "(doc -> 'k') ->> 'z' = '1'", "doc -> '$[-1]'", "t.doc -> 'a' ->> '$.a[0]'",
         "coalesce(doc, '[]') -> 0", "upper(doc ->> '$.k.z') || 'x'", "length(doc->>'a') > 3"]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_functions_are_those_of_duckdb(call: str) -> None:
    t = mf.from_arrow({"doc": DOCS})
    written = pa.table({"doc": DOCS})
    wanted = duckdb.sql(f"SELECT {call} AS v FROM (SELECT doc::json AS doc FROM written) AS t").fetchall()
    if call.startswith(("coalesce", "length", "upper")):
        wanted = duckdb.sql(f"SELECT {call} AS v FROM written AS t").fetchall()
    del written
    assert mf.sql(f"SELECT {call} AS v FROM t", t=t).to_arrow()["v"].to_pylist() == [v for (v,) in wanted]


def test_expressions_have_them_too() -> None:
    t = mf.from_arrow({"doc": ['{"a": ["x", 1.50]}', "[]"]})
    made = t.select(
        mf.col("doc").json.get("$.a[1]").alias("g"), mf.col("doc").json.get_string("$.a[0]").alias("s"), mf.col("doc").json.type().alias("t"),
        mf.col("doc").json.array_length("a").alias("n"), mf.col("doc").json.keys().alias("k"), mf.col("doc").json.valid().alias("v"),
    )  # fmt: skip
    assert made.to_dicts() == [
        {"g": "1.50", "s": "x", "t": "OBJECT", "n": 2, "k": ["a"], "v": True},
        {"g": None, "s": None, "t": "ARRAY", "n": None, "k": [], "v": True},
    ]
    with pytest.raises(ConfigError, match="no path of JSON"):
        mf.col("doc").json.get("$.")
    with pytest.raises(PlanError, match="takes text"):
        mf.from_arrow({"n": [1]}).select(mf.col("n").json.get("a")).to_arrow()


def test_what_is_no_json_is_an_error_with_the_value() -> None:
    t = mf.from_arrow({"doc": ["{}", "{x"]})
    with pytest.raises(PlanError, match=r"json_extract of '\{x'.*json_valid"):
        mf.sql("SELECT doc -> 'a' AS v FROM t", t=t).to_arrow()
    assert mf.sql("SELECT json_valid(doc) AS v FROM t", t=t).to_arrow()["v"].to_pylist() == [True, False]
    with pytest.raises(PlanError, match="for a lambda"):
        mf.sql("SELECT list_transform([1], x -> x + 1)")


def test_a_function_of_the_user_comes_first() -> None:
    json_type = mf.udf("string", "string")(lambda texts: texts)
    t = mf.from_arrow({"doc": ["x"]})
    assert mf.sql("SELECT json_type(doc) AS v FROM t", t=t, json_type=json_type).to_dicts() == [{"v": "x"}]


STEPS: dict[str, list[str | int]] = {
    "$.a": ["a"], "$[0]": [0], "$.b.a": ["b", "a"], '$["c d"][1]': ["c d", 1], "$.a[0].b": ["a", 0, "b"]
}  # fmt: skip
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.sampled_from('a"\\é{}[],: '), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.lists(_values, min_size=1, max_size=8),
    st.sampled_from(list(STEPS)),
    st.sampled_from([None, 2]),
)
@settings(max_examples=25, deadline=None)
def test_any_values(values: list[object], path: str, indent: int | None) -> None:
    docs = [json.dumps(v, indent=indent, ensure_ascii=False) for v in values]
    t = mf.from_arrow({"doc": docs})
    found = t.select(mf.col("doc").json.get(path)).to_arrow()["doc"].to_pylist()
    for value, text in zip(values, found, strict=True):
        wanted: Any = value
        for step in STEPS[path]:
            try:
                fits = isinstance(wanted, list if isinstance(step, int) else dict)
                wanted = operator.getitem(wanted, step) if fits else LookupError
            except (KeyError, IndexError):
                wanted = LookupError
        assert text == (
            None if wanted is LookupError else json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
        )


def test_queries_are_looked_at_for_the_prefix_of_all_functions_of_json() -> None:
    assert all(name.startswith("json_") for name in JSON_FUNCTIONS)
    query = "SELECT count(*) FROM 'a.csv'"
    assert with_json_calls(query) == query
    assert with_json_calls("SELECT JSON_TYPE(doc) FROM t") == "SELECT JSON_TYPE(doc, '$') FROM t"
