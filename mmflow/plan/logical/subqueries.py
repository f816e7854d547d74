"""IN (SELECT …) where DataFusion 55 forgets its nulls, written as = ANY, where it does not.

SQL's `x IN (SELECT y …)` is null where x is null or a y is null and none is equal. DataFusion plans it as a semi join,
a null-aware anti join or a *mark join*, whose mark is true or false, never null:

    WHERE x IN (…) OR p              semi or mark join   right: null and false drop a row alike
    WHERE x NOT IN (…) AND p         null-aware join     right (`null_aware`), unless the subquery is correlated
    WHERE x NOT IN (…) OR p          mark join           wrong: NOT null is true
    WHERE (x IN (…)) IS NULL, CASE   mark join           wrong

`= ANY (SELECT …)` and `<> ALL (SELECT …)` mean the same, and DataFusion plans them by three joins, with nulls: slower,
and right, if the subquery's columns can't be taken for those outside: `x = ANY (SELECT x FROM t …)` over the same t
compares x with itself (every row passes), so such subqueries get a name of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from datafusion import LogicalPlan

from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["forgotten_nulls", "name_read_twice", "with_any", "with_functions", "with_own_names"]

# How DataFusion 55 shows them.
_SUBQUERY = "(<subquery>)"
_IN_SHOWN = f" IN {_SUBQUERY}"
_LITERAL = lazy_regex(r'(?<=\()"(?:[^"]|"(?!\)))*"(?=\))')
_BARE_TEST = lazy_regex(
    r"(?P<outer>NOT )?(?!NOT |CASE )(?P<value>.*?)(?P<not> NOT)? IN \(<subquery>\)", re.DOTALL
)
_COMPARES = lazy_regex(r" (?:[=<>!]+|IS|IN|LIKE|ILIKE|SIMILAR|BETWEEN) ")

# What stands between the tokens that matter is passed over: text, quoted names, comments.
_PASSED = r"""
    [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
"""
_SUBQUERY_AHEAD = r"\s*(?=\([\s(]*(?:SELECT|WITH|VALUES)\b)"
_FLAGS = re.IGNORECASE | re.DOTALL | re.VERBOSE
_TOKENS = lazy_regex(rf"{_PASSED} | (?P<test>\b(?P<not>NOT\s+)?IN{_SUBQUERY_AHEAD})", _FLAGS)
_QUANTIFIERS = lazy_regex(
    rf"{_PASSED} | (?P<test>[=<>]\s*(?:ANY|SOME|ALL){_SUBQUERY_AHEAD}) | (?P<open>\() | (?P<close>\))", _FLAGS
)

_CALLS = lazy_regex(
    rf"(?P<quoted>\"(?:[^\"]|\"\")*\"(?=\s*\()) | {_PASSED} | (?P<name>\b[a-z_]\w*(?=\s*\())", _FLAGS
)


def with_functions(query: str, names: Mapping[str, str], spelled: Mapping[str, str]) -> str:
    """Call functions of a query by their names in plans.

    Args:
        query: SQL.
        names: Names in plans by names in SQL, which are in lower case where the query does not quote them.
        spelled: Names in plans by names as the query writes them, which come first.
    """

    if not names and not spelled:
        return query

    def replaced(token: re.Match[str]) -> str:
        quoted, plain = token["quoted"], token["name"] or ""
        written = quoted[1:-1].replace('""', '"') if quoted else plain
        called = written if quoted else plain.lower()
        name = spelled[written] if written in spelled else names.get(called, called)
        return token[0] if name == called else f'"{name}"'

    return _CALLS.sub(replaced, query)


def forgotten_nulls(plan: LogicalPlan) -> int:
    """Count the IN (SELECT …) of a plan, not optimized yet, whose nulls DataFusion would take for false."""
    text = str(plan.display_indent())
    written = text.count(_IN_SHOWN)
    return written - _right(text.splitlines()) if written else 0


def with_any(query: str, forgotten: Callable[[str], int]) -> str:
    """Write those IN (SELECT …) of a query as = ANY (SELECT …) that DataFusion would get wrong, and no others.

    Args:
        query: SQL.
        forgotten: Counts the wrong ones of a query.
    """
    left = forgotten(query)
    number = 0
    while left and (tests := [m for m in _TOKENS.finditer(query) if m["test"]])[number:]:
        test = tests[number]
        written = "<> ALL " if test["not"] else "= ANY "
        tried = query[: test.start()] + written + query[test.end() :]
        remain = forgotten(tried)
        if remain < left:
            query, left = tried, remain  # the next test has this one's number now
        else:
            number += 1
    return query


def with_own_names(query: str) -> str:
    """Rename the subquery of each = ANY, > ALL and the like, so that its columns are no others'."""
    if not any(word in query.upper() for word in ("ANY", "SOME", "ALL")):
        return query
    made: list[str] = []
    closing: list[str] = []  # what stands before the closing bracket of each that is open
    quantified, number, at = False, 0, 0
    for token in _QUANTIFIERS.finditer(query):
        made.append(query[at : token.start()])
        at = token.end()
        if token["open"]:
            number += quantified
            closing.append(f') AS "mmflow_quantified_{number}"' if quantified else "")
            made.append("(SELECT * FROM (" if quantified else "(")
            quantified = False
        elif token["close"]:
            made.append(f"{closing.pop() if closing else ''})")
        else:
            quantified = token["test"] is not None
            made.append(token[0])
    return "".join([*made, query[at:]])


def name_read_twice(plan: LogicalPlan) -> str | None:
    """Return a name under which a subquery of a plan, not optimized yet, reads a table as the rows around it do.

    What is within derived tables, and within other subqueries, is not seen from there.
    """
    lines = str(plan.display_indent()).splitlines()
    seen: dict[tuple[int, ...], set[str]] = {}
    for number, line in enumerate(lines):
        above = list(_ancestors(lines, number))
        subqueries = tuple(n for n in above if lines[n].strip() == _SUBQUERY_NODE)
        own = above[: above.index(subqueries[0])] if subqueries else above
        if line.lstrip().startswith(_ALIAS) and not any(lines[n].lstrip().startswith(_ALIAS) for n in own):
            seen.setdefault(subqueries, set()).add(line.lstrip().removeprefix(_ALIAS))
    for scope, names in seen.items():
        around = [seen.get(scope[number:], set()) for number in range(1, len(scope) + 1)]
        shared = names & set().union(*around)
        if shared:
            return min(shared)
    return None


_ALIAS, _SUBQUERY_NODE = "SubqueryAlias: ", "Subquery:"


def _ancestors(lines: list[str], number: int) -> Iterator[int]:
    """Return the line numbers of the nodes above a node, from the nearest on."""
    depth = _depth(lines[number])
    for above in range(number - 1, -1, -1):
        if _depth(lines[above]) < depth:
            depth = _depth(lines[above])
            yield above


def _right(lines: list[str]) -> int:
    """Count the IN (SELECT …) that are certainly planned right: those in a filter, below AND and OR alone."""
    found = 0
    for number, line in enumerate(lines):
        text = line.lstrip()
        if not text.startswith("Filter: ") or _IN_SHOWN not in text:
            continue
        correlated = _correlated(lines, number)
        predicate = _LITERAL.sub("''", text.removeprefix("Filter: "))
        found += sum(_planned_right(test, correlated) for test in _tests(predicate, conjunct=True))
    return found


@dataclass(frozen=True, slots=True)
class _Test:
    """Part of a filter that is one IN (SELECT …). `subqueries` counts those of the filter before it."""

    negated: bool
    conjunct: bool
    subqueries: int


def _planned_right(test: _Test, correlated: list[bool]) -> bool:
    return not test.negated or (test.conjunct and not any(correlated[test.subqueries : test.subqueries + 1]))


def _correlated(lines: list[str], number: int) -> list[bool]:
    """Return whether each subquery of a node refers to the rows outside of it, in the order of the node's text."""
    inside = _depth(lines[number]) + 2
    found: list[bool] = []
    for line in lines[number + 1 :]:
        if _depth(line) < inside:
            break
        if _depth(line) == inside:
            if line.strip() != "Subquery:":
                break
            found.append(False)
        elif found:
            found[-1] = found[-1] or "outer_ref(" in line
    return found


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _tests(predicate: str, *, conjunct: bool, before: int = 0) -> Iterator[_Test]:
    """Return the parts of a predicate, joined by AND and OR alone, that are a bare IN (SELECT …)."""
    while _wrapped(predicate):
        predicate = predicate[1:-1]
    for word in (" OR ", " AND "):
        parts = _split(predicate, word)
        if len(parts) > 1:
            for part in parts:
                yield from _tests(part, conjunct=conjunct and word == " AND ", before=before)
                before += part.count(_SUBQUERY)
            return
    bare = _BARE_TEST.fullmatch(predicate)
    if bare is not None and not _COMPARES.search(bare["value"]) and _SUBQUERY not in bare["value"]:
        yield _Test((bare["not"] is None) != (bare["outer"] is None), conjunct, before)


def _levels(text: str) -> Iterator[tuple[int, int]]:
    level = 0
    for index, character in enumerate(text):
        level += (character == "(") - (character == ")")
        yield index, level


def _wrapped(text: str) -> bool:
    """Return whether the first and the last character of a text open and close the same bracket."""
    if not text.startswith("("):
        return False
    return next((index for index, level in _levels(text) if level == 0), -1) == len(text) - 1


def _split(text: str, word: str) -> list[str]:
    """Split a text at a word outside of brackets."""
    cuts = [i for i, level in _levels(text) if level == 0 and text.startswith(word, i)]
    starts = [0, *(i + len(word) for i in cuts)]
    return [text[start:stop] for start, stop in zip(starts, [*cuts, len(text)], strict=True)]
