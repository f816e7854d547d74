"""SELECTs that make rows of values by `unnest`, found in a query's text, so that they need not run in one task.

DataFusion 55 can't write its Unnest as Substrait. A SELECT that makes its rows of one row of one table at a time
becomes a table of its own (`SqlLeaf.streaming`), which each task computes of its own rows, and the query around it is
planned over that:

    SELECT u, count(*) FROM (SELECT unnest(l) AS u FROM t WHERE k > 1) AS x GROUP BY u
    SELECT u, count(*) FROM (SELECT * FROM "mmflow_unnested_1") AS x GROUP BY u
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from datafusion import LogicalPlan
from datafusion.expr import SubqueryAlias

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tokens import Token, closing, replaced, tokens

__all__ = ["UnnestingSelect", "calls_unnest", "row_wise_table", "unnesting_selects", "with_order_columns"]

#: Last clauses of a SELECT that see all of its rows: they stay behind, as clauses over the rows of the new table.
_TAIL = ("ORDER", "LIMIT", "OFFSET", "FETCH")
_SET_OPERATORS = ("UNION", "EXCEPT", "INTERSECT")
#: Words of further queries, and of functions whose value is one for the whole query.
_WHOLE = (
    *("WITH", "VALUES", "NOW", "TODAY"),
    *("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"),
)
_ROW_WISE = {"Projection", "Filter", "Unnest", "SubqueryAlias"}


@dataclass(frozen=True, slots=True)
class UnnestingSelect:
    """SELECT with `unnest` in a query.

    Attributes:
        query: Query.
        start: Offset of its first character.
        end: Offset behind its last clause, without ORDER BY and LIMIT.
    """

    query: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """SELECT as it is written."""
        return self.query[self.start : self.end]

    def replaced(self, table: str) -> str:
        """Return the query with a table, a quoted name, in the place of the SELECT."""
        return replaced(self.query, [(self.start, self.end, f"SELECT * FROM {table}")])


def calls_unnest(query: str) -> bool:
    """Return whether a query may call `unnest`."""
    return any(t.is_word("UNNEST") for t in tokens(query))


def unnesting_selects(query: str) -> Iterator[UnnestingSelect]:
    """Yield the SELECTs of a query that call `unnest`, as far as their text says that they mean the same alone."""
    listed = tokens(query)
    shared = _names_of_with(listed)
    brackets: list[int] = []
    selects: list[tuple[int, int]] = []  # number of brackets around it, and of its token
    seen: set[int] = set()
    for number, token in enumerate(listed):
        if _is_sign(token, "([{"):
            brackets.append(number)
        elif _is_sign(token, ")]}") and brackets:
            brackets.pop()
            selects = [s for s in selects if s[0] <= len(brackets)]
        elif token.is_word(*_SET_OPERATORS):
            selects = [s for s in selects if s[0] < len(brackets)]
        elif token.is_word("SELECT"):
            selects.append((len(brackets), number))
        elif token.is_word("UNNEST") and selects and selects[-1][1] not in seen:
            first = selects[-1][1]
            seen.add(first)
            last = _end(listed, first)
            if any(_sees_more(listed, n, shared) for n in range(first + 1, last)):
                continue
            yield UnnestingSelect(query, listed[first].start, listed[last - 1].end)


def with_order_columns(query: str) -> str:
    """Return a query in which all that orders a SELECT with `unnest` is a column that it gives.

    DataFusion 55 resolves ORDER BY above its Unnest, which has the columns of the SELECT only, and refuses others:

        SELECT unnest(l) AS u FROM t ORDER BY k DESC LIMIT 3
        SELECT * EXCLUDE ("mmflow_order_1") FROM (SELECT unnest(l) AS u , k AS "mmflow_order_1" FROM t )
            AS "mmflow_ordered" ORDER BY "mmflow_order_1" DESC LIMIT 3
    """
    listed = tokens(query)
    seen: set[int] = set()
    for number, token in enumerate(listed):
        if not token.is_word("UNNEST"):
            continue
        first = _select_around(listed, number)
        if first is None or first in seen:
            continue
        seen.add(first)
        made = _with_order_columns(query, listed, first)
        if made is not None:
            return made
    return query


def _select_around(listed: Sequence[Token], number: int) -> int | None:
    """Return the number of the SELECT that a token belongs to; None: there is none."""
    depth = 0
    for at in range(number, -1, -1):
        if _is_sign(listed[at], ")]}"):
            depth += 1
        elif _is_sign(listed[at], "([{"):
            depth = max(0, depth - 1)
        elif depth == 0 and listed[at].is_word("SELECT"):
            return at
    return None


def _with_order_columns(query: str, listed: Sequence[Token], first: int) -> str | None:
    """Return a query with such columns of one SELECT; None: its ORDER BY names none, or it is none of these."""
    order = _end(listed, first)
    before, behind = listed[first - 1 : first], listed[first + 1 : first + 2]
    united = any(t.is_word(*_SET_OPERATORS, "ALL") for t in before) or any(
        t.is_word("DISTINCT") for t in behind
    )
    if (
        united
        or order + 1 >= len(listed)
        or not (listed[order].is_word("ORDER") and listed[order + 1].is_word("BY"))
    ):
        return None
    items, from_ = _split(listed, first + 1, ("FROM",))
    keys, _ = _split(listed, order + 2, ("LIMIT", "OFFSET", "FETCH", *_SET_OPERATORS))
    if from_ >= order or not listed[from_].is_word("FROM"):
        return None
    given = {name for item in items if (name := _name_of_item(listed[item[0] : item[1]])) is not None}
    names: list[str] = []
    columns: list[str] = []
    changes: list[tuple[int, int, str]] = []
    for begin, end in keys:
        last = end
        while last > begin + 1 and listed[last - 1].is_word("ASC", "DESC", "NULLS", "FIRST", "LAST"):
            last -= 1
        key = listed[begin:last]
        if not key or (len(key) == 1 and (key[0].kind == "number" or _name_of_item(key) in given)):
            continue
        names.append(f'"mmflow_order_{len(names) + 1}"')
        start, stop = key[0].start, key[-1].end
        columns.append(f", {query[start:stop]} AS {names[-1]} ")
        changes.append((start, stop, names[-1]))
    if not names:
        return None
    select, inserted = listed[first].start, listed[from_].start
    closes = listed[order].start
    return replaced(
        query,
        [
            (select, select, f"SELECT * EXCLUDE ({', '.join(names)}) FROM ("),
            (inserted, inserted, "".join(columns)),
            (closes, closes, ') AS "mmflow_ordered" '),
            *changes,
        ],
    )


def _split(listed: Sequence[Token], number: int, ends: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Return the items of a list with commas, as numbers of tokens, and the number of the token that ends it."""
    found: list[tuple[int, int]] = []
    begin = number
    while number < len(listed):
        token = listed[number]
        if _is_sign(token, "([{"):
            number = closing(listed, number) or len(listed)
        elif _is_sign(token, ")]};") or token.is_word(*ends):
            break
        elif token.text == ",":
            found.append((begin, number))
            begin = number + 1
        number += 1
    number = min(number, len(listed))
    return [*found, (begin, number)], number


def _name_of_item(item: Sequence[Token]) -> str | None:
    """Return the name that an item of a SELECT states: an alias, or the column that it is; None: it states none."""
    if not item or item[-1].kind not in ("word", "quoted"):
        return None
    if len(item) > 1 and item[-2].kind == "sign" and item[-2].text not in (")", "]", "."):
        return None
    last = item[-1]
    return last.name.lower() if last.kind == "word" else last.name


def row_wise_table(plan: LogicalPlan, tables: Container[str]) -> str | None:
    """Return the table of which a SELECT makes its rows, one row at a time; None: it needs more at once.

    Args:
        plan: Plan of the SELECT, not optimized yet.
        tables: Names of tables.
    """
    while True:
        variant = plan.to_variant()
        if type(variant).__name__ not in _ROW_WISE:
            return None
        if isinstance(variant, SubqueryAlias) and (name := str(variant.alias())) in tables:
            return name
        (plan,) = plan.inputs()


def _is_sign(token: Token, signs: str) -> bool:
    return token.kind == "sign" and token.text in signs


def _end(listed: Sequence[Token], first: int) -> int:
    """Return the number of the token behind a SELECT, without its ORDER BY and LIMIT."""
    number = first
    while number < len(listed):
        token = listed[number]
        if _is_sign(token, "([{"):
            number = closing(listed, number) or len(listed)
        elif _is_sign(token, ")]};") or token.is_word(*_SET_OPERATORS, *_TAIL):
            return number
        number += 1
    return len(listed)


def _is_derived(listed: Sequence[Token], select: int) -> bool:
    """Return whether a SELECT is a table of a FROM clause, whose plan shows all of it."""
    return select > 1 and listed[select - 1].text == "(" and listed[select - 2].is_word("FROM", "JOIN")


def _sees_more(listed: Sequence[Token], number: int, shared: Container[str]) -> bool:
    """Return whether a token of a SELECT stands for more than one row, or for a table of a WITH."""
    token = listed[number]
    if token.is_word("SELECT"):
        return not _is_derived(listed, number)
    return token.is_word(*_WHOLE) or (token.kind in ("word", "quoted") and token.name.lower() in shared)


def _names_of_with(listed: Sequence[Token]) -> set[str]:
    """Return the names that the WITH clauses of a query give to tables, in lower case."""
    found: set[str] = set()
    for number, token in enumerate(listed):
        at = number + 1 if token.is_word("WITH") else len(listed)
        while at < len(listed):
            if listed[at].is_word("RECURSIVE"):
                at += 1
                continue
            found.add(listed[at].name.lower())
            # Columns, AS MATERIALIZED, and the query, in one bracket or two.
            while at < len(listed) and not listed[at].is_word("AS"):
                at = (closing(listed, at) or len(listed)) + 1 if listed[at].text == "(" else at + 1
            while at < len(listed) and listed[at].text != "(":
                at += 1
            at = (closing(listed, at) or len(listed)) + 1 if at < len(listed) else at
            if at >= len(listed) or listed[at].text != ",":
                break
            at += 1
    return found
