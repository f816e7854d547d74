"""Queries and tables that Hypothesis makes, in the SQL that DataFusion and DuckDB read alike.

Both tables, t and u, have the columns a and b (integers), f (quarters), s (text), d (dates) and p (truth), nulls among them.
"""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from hypothesis import strategies as st

SCHEMA = pa.schema(
    {"a": pa.int64(), "b": pa.int64(), "f": pa.float64(), "s": pa.string(), "d": pa.date32(), "p": pa.bool_()}
)
#: Few, so that keys meet; quarters add up exactly in any order.
VALUES: dict[str, list[Any]] = {
    "a": [*range(-2, 4), None],
    "b": [*range(10), None],
    "f": [*(n / 4 for n in range(-8, 9)), None],
    "s": ["a", "b", "ab", "Ba", "x%", "é", None],
    "d": [*(dt.date(2020, 1, 31) + dt.timedelta(days=n) for n in range(3)), None],
    "p": [True, False, None],
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table of few rows."""
    some = {name: st.sampled_from(values) for name, values in VALUES.items()}
    return pa.Table.from_pylist(draw(st.lists(st.fixed_dictionaries(some), max_size=14)), SCHEMA)


@dataclass(frozen=True)
class Layout:
    """Layout of a table in files: rows of files and of row groups, and the order of their names."""

    form: str
    file_rows: int
    group_rows: int
    backwards: bool


LAYOUTS = st.builds(
    Layout,
    st.sampled_from(["parquet", "csv"]),
    st.sampled_from([3, 5, 20]),
    st.sampled_from([1, 2, 20]),
    st.booleans(),
)


def write(table: pa.Table, folder: Path, layout: Layout) -> list[str]:
    """Write a table in files and give their paths."""
    folder.mkdir()
    paths = []
    for number, start in enumerate(range(0, max(1, table.num_rows), layout.file_rows)):
        path = folder / f"{number}.{layout.form}"
        part = table.slice(start, layout.file_rows)
        if layout.form == "parquet":
            pq.write_table(part, path, row_group_size=layout.group_rows)
        else:
            pacsv.write_csv(part, path)
        paths.append(str(path))
    return paths[::-1] if layout.backwards else paths


def settings() -> st.SearchStrategy[dict[str, Any]]:
    """Settings that must make no difference to the rows."""
    return st.fixed_dictionaries(
        {
            "partitions": st.sampled_from([0, 1, 3]),
            "broadcast": st.sampled_from([0, 1 << 20]),
            "shard_size": st.sampled_from([4096, 1 << 20]),
            "memory": st.sampled_from(["64MiB", "1GiB"]),
            "workers": st.sampled_from([1, 2]),
        }
    )


class Grammar:
    """Text of queries, by the choices of `rng`: strategies within strategies would take longer than the queries."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def of(self, *some: str) -> str:
        return self.rng.choice(some)

    def column(self, kind: str, aliases: str) -> str:
        names = {"int": "ab", "float": "f", "text": "s", "date": "d", "bool": "p"}[kind]
        return f"{self.rng.choice(aliases)}.{self.rng.choice(names)}"

    def value(self, kind: str, aliases: str, depth: int = 1) -> str:
        """Return an expression of a kind over the columns of the aliases."""
        if depth == 0 or self.rng.random() < 0.3:
            return self.column(kind, aliases)
        inner, other = (self.value(kind, aliases, depth - 1) for _ in range(2))
        some = [
            f"coalesce({inner}, {other})",
            f"nullif({inner}, {other})",
            f"CASE WHEN {self.simple(aliases, depth - 1)} THEN {inner} ELSE {other} END",
            f"CASE {self.column('int', aliases)} WHEN 1 THEN {inner} WHEN 2 THEN {other} END",
        ]
        match kind:
            case "int":
                some += [
                    f"({inner} {self.of('+', '-', '*')} {other})",
                    str(self.rng.randint(-3, 3)),
                    f"abs({inner})",
                ]
                some.append(f"length({self.value('text', aliases, depth - 1)})")
            case "float":
                some += [f"({inner} {self.of('+', '-', '*')} {other})"]
                some.append(f"CAST({self.value('int', aliases, depth - 1)} AS DOUBLE)")
            case "text":
                some += ["'a'", f"({inner} || {other})", f"upper({inner})", f"substr({inner}, 2)"]
            case "date":
                some.append("DATE '2020-02-01'")
        return self.of(*some)

    def simple(self, aliases: str, depth: int = 1) -> str:
        """Return a condition without subqueries."""
        kind = self.of("int", "float", "text", "date")
        one, two = (self.value(kind, aliases, depth) for _ in range(2))
        number, text = self.value("int", aliases, depth), self.value("text", aliases, depth)
        return self.of(
            self.column("bool", aliases),
            f"({one} {self.of('=', '<>', '<', '>=', 'IS DISTINCT FROM')} {two})",
            f"({number} BETWEEN {self.rng.randint(-2, 2)} AND {self.rng.randint(0, 6)})",
            f"({number} {self.of('IN', 'NOT IN')} (0, 1, {self.of('2', 'NULL')}))",
            f"({text} {self.of('LIKE', 'NOT LIKE')} {self.of(repr('%a%'), repr('_'), repr('B%'))})",
            f"({one} IS {self.of('NULL', 'NOT NULL')})",
        )

    def condition(self, aliases: str, *, subqueries: bool = True, depth: int = 2) -> str:
        """Return a condition, with `subqueries` also on the rows of u."""
        if depth and self.rng.random() < 0.5:
            one, two = (self.condition(aliases, subqueries=subqueries, depth=depth - 1) for _ in range(2))
            return self.of(f"({one} AND {two})", f"({one} OR {two})", f"(NOT {one})", f"({one} IS NOT TRUE)")
        if not subqueries or self.rng.random() < 0.5:
            return self.simple(aliases)
        outer, within = self.column("int", aliases), self.simple("q", 0)
        if self.rng.random() < 0.3:
            within += f" AND q.b {self.of('=', '<')} {self.column('int', aliases)}"
            return self.of(
                f"({outer} {self.of('IN', 'NOT IN')} (SELECT q.a FROM u q WHERE {within}))",
                f"({self.of('', 'NOT ')}EXISTS (SELECT 1 FROM u q WHERE {within}))",
            )
        return self.of(
            f"({outer} {self.of('IN', 'NOT IN')} (SELECT q.a FROM u q WHERE {within}))",
            f"({self.of('', 'NOT ')}EXISTS (SELECT 1 FROM u q WHERE q.a = {outer} AND {within}))",
            f"({outer} {self.of('> ALL', '<= ANY', '= ANY', '<> ALL')} (SELECT q.b FROM u q WHERE {within}))",
            f"({outer} > (SELECT max(q.a) FROM u q WHERE {within}))",
        )

    def source(self) -> tuple[str, str]:
        """Return a FROM clause and its aliases."""
        one = self.of("t", "t", "(SELECT DISTINCT a, b, f, s, d, p FROM t)")
        if self.rng.random() < 0.5:
            return f"{one} x", "x"
        on = self.of(
            "x.a = y.a", "x.a = y.b AND x.s = y.s", "x.s = y.s AND x.f < y.f", "x.d = y.d OR x.a = y.a"
        )
        how = self.of("JOIN", "LEFT JOIN", *(() if " OR " in on else ("RIGHT JOIN", "FULL JOIN")))
        return f"{one} x {how} {self.of('t', 'u')} y ON {on}", "xy"

    def where(self, aliases: str) -> str:
        return f" WHERE {self.condition(aliases)}" if self.rng.random() < 0.6 else ""

    def plain(self) -> str:
        source, aliases = self.source()
        chosen = [self.value(kind, aliases) for kind in ("int", "float", "text")]
        if self.rng.random() < 0.25:
            over = self.of("", "PARTITION BY x.a", "PARTITION BY x.s, x.a", "PARTITION BY x.f")
            function = self.of("count(*)", "sum({})", "min({})", "max({})", "count({})")
            chosen[0] = f"{function.format(self.column('int', aliases))} OVER ({over})"
        columns = ", ".join(f"{c} AS c{i}" for i, c in enumerate(chosen))
        return f"SELECT {self.of('', '', 'DISTINCT ')}{columns} FROM {source}{self.where(aliases)}"

    def grouped(self) -> str:
        source, aliases = self.source()
        keys = [self.value(self.of("int", "text", "float"), aliases) for _ in range(self.rng.randint(0, 2))]
        number, text = self.value("int", aliases), self.column("text", aliases)
        measures = self.rng.sample(
            [
                "count(*)",
                f"sum({number})",
                f"count({text})",
                f"min({text})",
                f"max({number})",
                f"avg({number})",
                "bool_or(x.p)",
                f"sum({number}) FILTER (WHERE x.p)",
                f"count(DISTINCT {text})",
                f"count(DISTINCT {number})",
                f"sum({self.value('float', aliases)})",
            ],
            self.rng.randint(1, 3),
        )
        columns = ", ".join(f"{c} AS c{i}" for i, c in enumerate([*keys, *measures]))
        made = f"SELECT {columns} FROM {source}{self.where(aliases)}"
        if keys:
            made += " GROUP BY " + ", ".join(str(n + 1) for n in range(len(keys)))
            made += self.of("", "", " HAVING count(*) > 1", f" HAVING max({number}) IS NOT NULL")
        return made

    def ordered(self) -> str:
        terms = [f"c{n} {self.of('ASC', 'DESC')} NULLS {self.of('FIRST', 'LAST')}" for n in range(3)]
        limits = f"LIMIT {self.rng.randint(0, 6)} OFFSET {self.rng.randint(0, 3)}"
        return f"SELECT * FROM ({self.plain()}) z ORDER BY {', '.join(terms)} {self.of('', limits)}"

    def combined(self) -> str:
        how = self.of("UNION ALL", "UNION", "INTERSECT", "EXCEPT")
        return f"{self.plain()} {how} {self.plain()}"

    def query(self) -> str:
        """Return a query in which ORDER BY and LIMIT determine the rows."""
        return self.rng.choice([self.plain, self.grouped, self.ordered, self.combined])()
