"""Statements: what precedes a query, and queries that begin with FROM.

EXPLAIN ANALYZE FROM 'x' WHERE a > 1
'-- kind ------' '-- SELECT * FROM 'x' WHERE a > 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mmflow.errors import PlanError
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tokens import Token, closing, replaced, tokens

__all__ = ["Kind", "in_datafusions_words", "statement", "with_positions", "with_select"]

Kind = Literal["select", "explain", "analyze", "describe", "summarize"]
_KINDS: dict[str, Kind] = {
    "EXPLAIN": "explain",
    "DESCRIBE": "describe",
    "DESC": "describe",
    "SUMMARIZE": "summarize",
}
_SAMPLE, _LAMBDA = (
    "use Dataset.sample",
    "write a function of Python (mf.udf), or unnest the list and aggregate",
)
#: Clauses that DataFusion 55 doesn't parse, parses and leaves out, or computes wrongly, and what to write. "'" is any
#: text, and "…" any token.
_REFUSED: dict[tuple[str, ...], str] = {
    ("TABLESAMPLE",): _SAMPLE,
    ("SAMPLE", "("): _SAMPLE,
    ("USING", "SAMPLE"): _SAMPLE,
    ("PREWHERE",): "write WHERE",
    ("CONNECT", "BY"): "write WITH RECURSIVE",
    ("WITH", "ROLLUP"): "write GROUP BY ROLLUP (…)",
    ("WITH", "CUBE"): "write GROUP BY CUBE (…)",
    ("WITH", "TOTALS"): "write GROUP BY ROLLUP (…)",
    ("WITH", "ORDINALITY"): "number rows by row_number() OVER ()",
    ("WITH", "("): "files have no locks and no indexes",
    ("FOR", "UPDATE"): "files have no locks",
    ("FOR", "SHARE"): "files have no locks",
    ("FOR", "SYSTEM_TIME"): "files have one version",
    ("FOR", "JSON"): "use Dataset.to_dicts, or write_ndjson",
    ("FOR", "XML"): "use Dataset.to_dicts",
    ("FOR", "BROWSE"): "files have no locks",
    ("SETTINGS", "…", "="): "give settings to mf.Session",
    ("PARTITION", "("): "write a condition",
    ("EXCEPT", "ALL"): "number equal rows by row_number(), and write EXCEPT",
    ("INTERSECT", "ALL"): "number equal rows by row_number(), and write INTERSECT",
    ("*", "LIKE", "'"): "name the columns",
    ("*", "ILIKE"): "name the columns",
    ("*", "RENAME"): "write * EXCLUDE (old), old AS new",
    ("COLUMNS", "("): "name the columns, or use Dataset.select with mf.selectors",
    ("SELECT", "FROM"): "name columns, or write SELECT * FROM",
    ("SELECT", "TOP"): "write LIMIT",
    ("FETCH", "FIRST"): "write LIMIT",
    ("FETCH", "NEXT"): "write LIMIT",
    ("LIMIT", "…", "BY"): "write QUALIFY row_number() OVER (PARTITION BY …) <= n",
    ("LIMIT", "…", "PERCENT"): "write a number of rows",
    ("CLUSTER", "BY"): "write ORDER BY",
    ("SORT", "BY"): "write ORDER BY",
    ("DISTRIBUTE", "BY"): "use Dataset.repartition",
    ("LATERAL", "VIEW"): "write unnest(list) in SELECT",
    ("PIVOT", "("): "use Dataset.pivot",
    ("UNPIVOT", "("): "use Dataset.unpivot",
    ("(", "PIVOT", "…", "ON"): "use Dataset.pivot",
    ("(", "UNPIVOT", "…", "ON"): "use Dataset.unpivot",
    ("MATCH_RECOGNIZE", "("): "write window functions",
    ("ASOF", "JOIN"): "use Dataset.join_asof",
    ("ASOF", "LEFT"): "use Dataset.join_asof",
    ("ASOF", "INNER"): "use Dataset.join_asof",
    ("POSITIONAL", "JOIN"): "number the rows of both sides by Dataset.with_row_index, and join on that",
    ("TIMESTAMPTZ", "'"): "write TIMESTAMP '…' AT TIME ZONE 'UTC'; an offset in the text counts",
    ("::", "TIMESTAMPTZ"): "write x::TIMESTAMP AT TIME ZONE 'UTC'; an offset in the text counts",
    ("AS", "TIMESTAMPTZ", ")"): "write CAST(x AS TIMESTAMP) AT TIME ZONE 'UTC'; an offset in the text counts",
    ("WITH", "TIME", "ZONE"): "write CAST(x AS TIMESTAMP) AT TIME ZONE 'UTC'; an offset in the text counts",
    ("?",): "parameters have names: write $x, and give x=value",
    ("^", "@"): "write starts_with(text, prefix)",
    ("FOR", "…", "IN", "["): _LAMBDA,
    ("IN", "["): "write IN (1, 2), or array_has(list, value)",
    ("/", "/"): "a / b of integers is an integer; floor(a / b) is that of floats",
    ("*", "*"): "write power(a, b)",
    ("LAMBDA", "…", ":"): _LAMBDA,
    ("-", ">"): f"for a lambda, {_LAMBDA}; for JSON, write a key, a path or the number of an item behind it",
    ("GLOB", "'"): "write LIKE, or ~ with a regular expression",
    ("EXCLUDE", "CURRENT", "ROW"): "subtract the row's own value",
    ("EXCLUDE", "TIES"): "write a frame of ROWS",
    ("EXCLUDE", "GROUP"): "write a frame of ROWS",
}  # fmt: skip
#: What to do instead of statements that do not select.
_STATEMENTS = {
    "COPY": "Dataset.write_parquet, write_csv and the like write files, and mmflow sql --output does",
    "CREATE": "give a name to a dataset in Python, t = mf.sql(…), or write WITH t AS (…); methods write files",
    "INSERT": "Dataset.write_parquet and the like write files",
    "PIVOT": "use Dataset.pivot",
    "UNPIVOT": "use Dataset.unpivot",
    "SHOW": "tables are variables, [sources.NAME] of the settings file, and files; DESCRIBE t lists the columns of one",
    "PRAGMA": "DESCRIBE t lists columns, and mf.Session takes settings",
    "SET": "mf.Session takes settings, and mf.sql the values of $name",
    "USE": "mf.Session takes settings",
    "ATTACH": "write FROM 'path' for a file",
    "INSTALL": "formats and file systems need no extension",
    "LOAD": "formats and file systems need no extension",
    "TABLE": "write FROM",
}
_QUERIES = ("SELECT", "FROM", "WITH", "VALUES")
_SET_OPERATORS = ("UNION", "EXCEPT", "INTERSECT")
_AFTER_FROM = (
    "SELECT",
    "WHERE",
    "GROUP",
    "HAVING",
    "WINDOW",
    "QUALIFY",
    "ORDER",
    "LIMIT",
    "OFFSET",
    *_SET_OPERATORS,
)


def statement(query: str) -> tuple[Kind, str]:
    """Return the kind of a statement, and its query. A table that is named alone is all of it.

    Raises:
        PlanError: It is no statement that mmflow runs, or has a clause that would be left out.
    """
    listed = tokens(query)
    _refuse_clauses(listed)
    if not listed:
        raise PlanError("SQL: the query is empty")
    word = listed[0].text.upper()
    if word in _QUERIES or word == "(":
        return "select", query
    if word not in _KINDS:
        written = ", ".join(k for k in (*_QUERIES, *_KINDS) if k != "DESC")
        known = f"write {written}; methods of datasets and --output write files"
        raise PlanError(f"SQL: {word} is no statement of mmflow: {_STATEMENTS.get(word, known)}")
    kind, rest = _KINDS[word], listed[1:]
    if kind == "explain" and rest and rest[0].is_word("ANALYZE"):
        kind, rest = "analyze", rest[1:]
    if not rest:
        raise PlanError(f"SQL: {word} needs a query, or a table")
    if kind in ("explain", "analyze") and not _begins_query(rest):
        raise PlanError(
            f"SQL: EXPLAIN takes no {rest[0].text.upper()}: write EXPLAIN query, or EXPLAIN ANALYZE query"
        )
    text = query[rest[0].start :]
    if rest[0].is_word(*_QUERIES) or rest[0].text == "(" or kind in ("explain", "analyze"):
        return kind, text
    return kind, f"SELECT * FROM {text}"


def _begins_query(listed: Sequence[Token]) -> bool:
    first = next((t for t in listed if t.text != "("), None)
    return first is not None and first.is_word(*_QUERIES)


def _refuse_clauses(listed: Sequence[Token]) -> None:
    words = [
        "'" if t.kind == "text" else t.text.upper() if t.kind in ("word", "sign") else "" for t in listed
    ]
    present = {*words, "…"}
    for clause, advice in _REFUSED.items():
        for number in range(len(words) - len(clause) + 1) if present.issuperset(clause) else ():
            if _is_clause(clause, listed[number : number + len(clause)], words[number:]):
                shown = " ".join(clause).removesuffix(" (").removesuffix(" '").removeprefix("( ")
                shown = "WITH (…)" if shown == "WITH" else shown
                signs = not any(word.isalpha() for word in clause)
                shown = shown.replace(" ", "") if signs else shown
                raise PlanError(f"SQL: {shown} is not supported: {advice}")
    _require_conditions(listed)
    if words[-2:-1] == ["FORMAT"] and listed[-1].is_word("JSON", "CSV", "TSV", "PARQUET", "ARROW", "NULL"):
        raise PlanError("SQL: FORMAT is not supported: methods of datasets and --output write files")


def _is_clause(clause: tuple[str, ...], found: Sequence[Token], words: Sequence[str]) -> bool:
    if any(wanted not in (word, "…") for wanted, word in zip(clause, words, strict=False)):
        return False
    if words[len(clause) : len(clause) + 1] == ["AS"]:  # WITH cube AS (…) names a query
        return False
    # An operator is one, and not two signs: -> but not - >.
    return any(word.isalpha() for word in clause) or found[0].end == found[-1].start or len(found) == 1


def _require_conditions(listed: Sequence[Token]) -> None:
    """Raise PlanError for a JOIN without ON or USING, which DataFusion takes for CROSS JOIN."""
    missing = [0]  # conditions, in each bracket that is open
    for number, token in enumerate(listed):
        before = [t.text.upper() for t in listed[max(0, number - 3) : number]]
        if token.is_word("JOIN"):
            missing[-1] += not {"CROSS", "NATURAL"}.intersection(before)
        elif token.is_word("ON", "USING"):
            missing[-1] = max(0, missing[-1] - 1)
        elif missing[-1] and (token.text in (",", ")") or token.is_word(*_AFTER_FROM)):
            break
        if token.text == "(":
            missing.append(0)
        elif token.text == ")" and len(missing) > 1:
            missing.pop()
    if missing[-1]:
        raise PlanError("SQL: JOIN needs ON or USING: write CROSS JOIN for all pairs of rows")


def with_positions(query: str, width: Callable[[str], int]) -> str:
    """Return a query whose ORDER BY ALL, which DataFusion lacks, names the columns by their positions.

    Args:
        query: SQL.
        width: Function that returns the number of columns of a query.

    Raises:
        PlanError: It stands in a subquery.
    """
    listed = tokens(query)
    depth = 0
    for number, token in enumerate(listed):
        depth += (token.text == "(") - (token.text == ")")
        words = [t.text.upper() for t in listed[number : number + 6]]
        # A column that is called `all` is in quotes.
        if words[:3] != ["ORDER", "BY", "ALL"] or token.kind != "word" or listed[number + 2].kind != "word":
            continue
        if depth:
            raise PlanError(
                "SQL: ORDER BY ALL is not supported in brackets: name the columns, or write ORDER BY 1, 2"
            )
        direction = words[3:4] if words[3:4] in (["ASC"], ["DESC"]) else []
        nulls = words[3 + len(direction) :][:2]
        nulls = nulls if nulls[:1] == ["NULLS"] else []
        end = listed[number + 2 + len(direction) + len(nulls)].end
        plain = replaced(query, [(token.start, end, "")])
        each = " ".join(["", *direction, *nulls])
        keys = ", ".join(f"{n}{each}" for n in range(1, width(plain) + 1))
        return replaced(query, [(token.start, end, f"ORDER BY {keys}")])
    return query


def in_datafusions_words(query: str) -> str:
    """Return a query with clauses that DataFusion writes otherwise: WITH t AS MATERIALIZED, SEMI JOIN, FROM VALUES."""
    listed = tokens(query)
    parts: list[tuple[int, int, str]] = []
    for number in range(1, len(listed) - 1):
        before, token, after = listed[number - 1 : number + 2]
        if token.is_word("MATERIALIZED") and before.is_word("AS", "NOT") and after.text == "(":
            start = before.start if before.is_word("NOT") else token.start
            parts.append((start, token.end, ""))
        elif token.is_word("SEMI", "ANTI") and after.is_word("JOIN") and not before.is_word("LEFT", "RIGHT"):
            parts.append((token.start, token.start, "LEFT "))
        elif token.is_word("VALUES") and before.is_word("FROM") and after.text == "(":
            end = closing(listed, number + 1)
            while end is not None and [t.text for t in listed[end + 1 : end + 3]] == [",", "("]:
                end = closing(listed, end + 2)
            if end is not None:
                parts += [(token.start, token.start, "("), (listed[end].end, listed[end].end, ")")]
    return replaced(query, sorted(parts))


@dataclass(slots=True)
class _Block:
    """Query within one pair of brackets, as far as it was read.

    Attributes:
        fresh: Whether a query may begin here: nothing stands before, but for a set operator.
        names: Whether its WITH gives names to queries, and what it selects comes behind one of them.
        selects: Whether a SELECT came.
        begins_with_from: Position of a FROM that began it.
    """

    fresh: bool = True
    names: bool = False
    selects: bool = False
    begins_with_from: int | None = None


def with_select(query: str) -> str:
    """Return a query with SELECT * before each FROM that begins a query without a SELECT."""
    found: list[int] = []
    blocks = [_Block()]
    before: Token | None = None

    def end(block: _Block) -> None:
        if block.begins_with_from is not None and not block.selects:
            found.append(block.begins_with_from)
        block.begins_with_from, block.selects = None, False

    for token in tokens(query):
        block = blocks[-1]
        fresh, block.fresh = block.fresh, False
        if token.text == "(":
            # trim(FROM x) is no query.
            blocks.append(_Block(fresh=before is None or not before.is_word("TRIM")))
        elif token.text == ")" and len(blocks) > 1:
            end(blocks.pop())
        elif token.is_word("WITH") and fresh:
            block.names = True
        elif token.is_word("SELECT") and before is not None and before.text == ">":
            pass  # |> SELECT
        elif token.is_word("SELECT", "VALUES"):
            block.selects, block.names = True, False
        elif token.is_word(*_SET_OPERATORS):
            end(block)
            block.fresh = True
        elif token.is_word("ALL", "DISTINCT", "BY", "NAME"):
            block.fresh = fresh  # UNION ALL BY NAME
        elif token.is_word("FROM") and (fresh or (block.names and before is not None and before.text == ")")):
            block.begins_with_from, block.names = token.start, False
        before = token
    for block in blocks:
        end(block)
    return replaced(query, [(at, at, "SELECT * ") for at in sorted(found)])
