"""regexp_match gives every group its place; the other functions of regular expressions are as Python's."""

from __future__ import annotations

import re
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

import mmflow as mf
from mmflow import col, functions
from mmflow.errors import PlanError
from mmflow.plan.functions.patterns import captured_one_by_one

TEXTS = ["", "a", "b", "ab", "ba", "aab", "abab", "c(a", "[b]", "cab", None]


def _one(query: str, table: pa.Table) -> list[Any]:
    with mf.Session() as session:
        return list(session.sql(f"select {query} r from t", t=table).to_arrow()["r"].to_pylist())


def _patterns() -> st.SearchStrategy[str]:
    """Patterns in whose dialect Rust and Python agree: no group is repeated, since they keep other rounds of it."""
    atoms = st.sampled_from(["a", "b", "[ab]", "[(b]", r"\(", r"\[", ".", "[^]a]"])
    repeated = st.tuples(atoms, st.sampled_from(["", "", "?", "*", "+", "*?", "{1,2}"])).map("".join)

    def grouped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        opening = st.sampled_from(["(", "(", "(?:"])
        group = st.tuples(opening, inner, st.just(")"), st.sampled_from(["", "?", "??"])).map("".join)
        joined = st.lists(st.one_of(inner, group), min_size=1, max_size=3).map("".join)
        return st.one_of(group, joined, st.tuples(inner, group).map("|".join))

    return st.recursive(repeated, grouped, max_leaves=6)


@settings(max_examples=max(20, settings().max_examples // 2))
@given(pattern=_patterns())
def test_regular_expressions_are_as_pythons(pattern: str) -> None:
    table = pa.table({"s": TEXTS})
    compiled = re.compile(pattern)

    def matched(text: str) -> list[str | None] | None:
        found = compiled.search(text)
        if found is None:
            return None
        return list(found.groups()) if compiled.groups else [found[0]]

    def found_at(text: str) -> int:
        found = compiled.search(text)
        return found.start() + 1 if found else 0

    literal = "'" + pattern + "'"
    with mf.Session() as session:
        made = session.sql(
            f"""select regexp_match(s, {literal}) m, regexp_like(s, {literal}) l, regexp_instr(s, {literal}) i,
            regexp_replace(s, {literal}, '<$1\\1>') r from t""",
            t=table,
        ).to_arrow()
    first = r"<$1\1>" if compiled.groups else "<$1>"
    known = [t for t in TEXTS if t is not None]
    assert made["m"].to_pylist() == [*map(matched, known), None]
    assert made["l"].to_pylist() == [*(compiled.search(t) is not None for t in known), None]
    assert made["i"].to_pylist() == [*map(found_at, known), None]
    assert made["r"].to_pylist() == [*(compiled.sub(first, t, count=1) for t in known), None]


def test_groups_that_took_no_part_are_null() -> None:
    table = pa.table({"s": ["by", "bxy", "no", None]})
    assert _one("regexp_match(s, '(b)(x)?(y)')", table) == [["b", None, "y"], ["b", "x", "y"], None, None]
    assert _one("regexp_match(s, '(B)(X)?(?<last>Y)', 'i')", table) == [
        ["b", None, "y"],
        ["b", "x", "y"],
        None,
        None,
    ]
    assert _one("regexp_match('by', '(b)(x)?(y)')", table.slice(0, 1)) == [["b", None, "y"]]
    assert _one("regexp_replace(upper('b'), '(B)', '$1x')", table.slice(0, 1)) == ["$1x"]
    with mf.Session() as session:
        dataset = session.from_arrow(table).select(
            functions.regexp_match(col("s"), mf.lit("(x)?y")).alias("m")
        )
        assert dataset.to_arrow()["m"].to_pylist() == [[None], ["x"], None, None]


def test_patterns_of_a_column_are_checked_as_they_come() -> None:
    assert _one("regexp_match(s, p)", pa.table({"s": ["by", "ab"], "p": ["(b)(y)", "b"]})) == [
        ["b", "y"],
        ["b"],
    ]
    with pytest.raises(PlanError, match=r"groups of '\(b\)\(x\)\?\(y\)' may take no part"):
        _one("regexp_match(s, p)", pa.table({"s": ["by"], "p": ["(b)(x)?(y)"]}))


def test_a_dollar_in_a_replacement_is_a_dollar() -> None:
    table = pa.table({"s": ["abc"], "r": [r"$1x\1"]})
    assert _one(r"regexp_replace(s, '(b)', '$1x\1')", table) == ["a$1xbc"]
    assert _one("regexp_replace(s, '(b)', r)", table) == ["a$1xbc"]


def test_groups_are_distinguished_from_other_parentheses() -> None:
    assert captured_one_by_one(r"\((?P<n>a)?[(](?i:b)") == [r"\((?P<n>a)?[(](?i:b)"]
    assert captured_one_by_one("[]()](a)|(?<m>[^](])") == ["[]()](a)|(?:[^](])", "[]()](?:a)|(?<m>[^](])"]
    assert captured_one_by_one("(a)(?:b)?") == ["(a)(?:b)?"]
    assert captured_one_by_one("(a)[b|]") == []
    with pytest.raises(PlanError, match="comments"):
        captured_one_by_one("(?x)(a)? # (no group)")
