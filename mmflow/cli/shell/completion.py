"""Candidates at the cursor: keywords, functions, tables, files, columns of the tables of the statement, commands."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from datafusion import SessionConfig, SessionContext

from mmflow.api.sql.table_functions import READERS
from mmflow.cli.shell.columns import ColumnCache, Columns
from mmflow.cli.shell.dot_commands import COMMANDS, MODES
from mmflow.cli.shell.statements import is_command, unterminated
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.tokens import Token, closing, quoted, tokens

if TYPE_CHECKING:
    from mmflow.cli.shell.shell import Shell

__all__ = ["Candidate", "Completer", "table_queries"]

_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "OFFSET", "QUALIFY", "WINDOW", "WITH", "AS",
    "DISTINCT", "ALL", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN", "SEMI JOIN", "ANTI JOIN", "ON",
    "USING", "UNION ALL", "UNION", "EXCEPT", "INTERSECT", "EXCLUDE", "VALUES", "AND", "OR", "NOT", "IN", "LIKE",
    "ILIKE", "BETWEEN", "IS NULL", "IS NOT NULL", "EXISTS", "CASE", "WHEN", "THEN", "ELSE", "END", "CAST", "TRY_CAST",
    "OVER", "PARTITION BY", "ROWS BETWEEN", "PRECEDING", "FOLLOWING", "UNBOUNDED", "CURRENT ROW", "FILTER", "ASC",
    "DESC", "NULLS FIRST", "NULLS LAST", "NULL", "TRUE", "FALSE", "DATE", "TIMESTAMP", "INTERVAL", "DESCRIBE",
    "SUMMARIZE", "EXPLAIN", "EXPLAIN ANALYZE",
)  # fmt: skip
_BEGINNINGS = ("SELECT", "FROM", "WITH", "VALUES", "DESCRIBE", "SUMMARIZE", "EXPLAIN", "EXPLAIN ANALYZE")
#: Words behind a table that are no alias.
_RESERVED = {word for keyword in _KEYWORDS for word in keyword.split()} | {
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "NATURAL",
}
#: Functions of DataFusion that mmflow does not run, or that are for its own plans.
_HIDDEN = {
    "arrow_metadata",
    "file_row_index",
    "input_file_name",
    "with_metadata",
    "cast_to_type",
    "try_cast_to_type",
}
_DATA_SUFFIXES = lazy_regex(
    r"\.(csv|tsv|json|jsonl|ndjson|parquet|arrow|arrows|feather|npy|txt|log|bin)(\.(gz|bz2|xz|zst|lz4))?$",
    re.IGNORECASE,
)
_MOST = 200
_MOST_FILES = 5000
_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """Text that may stand in the place of what precedes the cursor.

    Attributes:
        text: Text to insert.
        length: Number of characters before the cursor that it replaces.
        shown: Text in the list.
        kind: Type of a column, or kind of a name.
    """

    text: str
    length: int
    shown: str
    kind: str


class Completer:
    """Candidates for the text of a shell."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._columns = ColumnCache(self._planned)
        self._functions: list[str] = []

    def _planned(self, query: str) -> Columns:
        return tuple((f.name, type_text(f.type)) for f in self._shell.plan(query).schema)

    def forget(self) -> None:
        """Forget the columns of tables, whose names may stand for others now."""
        self._columns.clear()

    def close(self) -> None:
        """End the thread that plans."""
        self._columns.close()

    def candidates(self, text: str, cursor: int) -> Iterator[Candidate]:
        """Yield what may stand at the cursor, at most a few hundred, what fits best first."""
        seen = set()
        for each in itertools.islice(self._candidates(text, cursor), _MOST):
            if each.text not in seen:
                seen.add(each.text)
                yield each

    def _candidates(self, text: str, cursor: int) -> Iterator[Candidate]:
        before = text[:cursor]
        if is_command(text):
            yield from self._of_command(before.lstrip())
            return
        start, end = _statement_at(text, cursor)
        statement, before = text[start:end], text[start:cursor]
        listed = tokens(before)
        open_at = next((n for n, t in enumerate(listed) if unterminated(t)), None)
        if open_at is not None:
            inside = before[listed[open_at].end :]
            if listed[open_at].text == "'":
                yield from _files(inside, closing_quote="'")
            elif listed[open_at].text == '"':
                yield from self._quoted(statement, inside)
            return
        prefix = re.search(r"[^\W\d]?\w*$", before)
        word = "" if prefix is None else prefix[0]
        previous = [t for t in listed if t.end <= len(before) - len(word)]
        last = previous[-1] if previous else None
        if word and listed and listed[-1].text != word:  # in a number, text, parameter or comment
            return
        if last is not None and last.text == ".":
            yield from self._of_alias(statement, previous[-2].name if len(previous) > 1 else "", word)
        elif last is not None and _expects_table(previous):
            yield from _matching(word, self._tables(statement))
            yield from _local_files(word)
            yield from _matching(word, ((f"{name}(", name, "reads files") for name in READERS))
        elif last is None:
            yield from _matching(word, _keywords(_BEGINNINGS, word))
        else:
            queries = table_queries(statement)
            yield from _matching(word, self._named_columns(queries.values()))
            if word:  # else there are too many
                yield from _matching(word, ((a, a, "table") for a in queries if a.isidentifier()))
                yield from _matching(word, self._called())
                yield from _matching(word, _keywords(_KEYWORDS, word))

    # ---- names ----------------------------------------------------------------------------------

    def _tables(self, statement: str) -> Iterator[tuple[str, str, str]]:
        own = _common_tables(tokens(statement))
        given = {name: table.path for name, table in self._shell.tables.items()}
        sources = {name: str(s["path"]) for name, s in self._shell.session.context.sources.items()}
        for name, what in {**dict.fromkeys(own, "of WITH"), **sources, **given}.items():
            yield _as_written(name), name, what

    def _named_columns(self, queries: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        for query in queries:
            for name, kind in self._columns.get(query, _WAIT_SECONDS):
                yield _as_written(name), name, kind

    def _of_alias(self, statement: str, alias: str, word: str) -> Iterator[Candidate]:
        queries = {name.lower(): query for name, query in table_queries(statement).items()}
        if alias.lower() in queries:
            yield from _matching(word, self._named_columns([queries[alias.lower()]]))

    def _quoted(self, statement: str, inside: str) -> Iterator[Candidate]:
        """Yield names of columns and tables behind an open quote."""
        names = {name: kind for _, name, kind in self._named_columns(table_queries(statement).values())}
        for name, kind in {**names, **{n: w for _, n, w in self._tables(statement)}}.items():
            if name.lower().startswith(inside.lower()):
                yield Candidate(quoted(name)[1:], len(inside), name, kind)

    def _called(self) -> Iterator[tuple[str, str, str]]:
        for name in self._shell.session.context.catalog.sql_names:
            yield f"{name}(", name, "function of Python"
        if not self._functions:
            context = SessionContext(SessionConfig().with_information_schema(True))
            query = "SELECT DISTINCT routine_name FROM information_schema.routines ORDER BY 1"
            found = context.sql(query).to_arrow_table().column(0).to_pylist()
            self._functions = [name for name in found if name not in _HIDDEN]
        for name in self._functions:
            yield f"{name}(", name, "function"

    # ---- commands -------------------------------------------------------------------------------

    def _of_command(self, before: str) -> Iterator[Candidate]:
        name, space, rest = before.partition(" ")
        if not space:
            yield from _matching(name, ((n, n, c.arguments) for n, c in COMMANDS.items()))
            return
        number, word = rest.count(" "), rest.rpartition(" ")[2]
        if name == ".schema" and number == 0:
            yield from _matching(word, ((n, n, what) for _, n, what in self._tables("")))
            yield from _files(word)
        elif name == ".mode" and number == 0:
            yield from _matching(word, ((mode, mode, "") for mode in MODES))
        elif name == ".timing" and number == 0:
            yield from _matching(word, ((each, each, "") for each in ("on", "off")))
        elif number == {".read": 0, ".output": 0, ".table": 1}.get(name):
            yield from _files(word)


# ---- what a statement reads ----------------------------------------------------------------------


def table_queries(statement: str) -> dict[str, str]:
    """Return a query for the rows of each table of a statement, by its alias or name.

    >>> table_queries("SELECT  FROM 'x.csv' AS x JOIN (SELECT 1 AS n) y ON true")
    {'x': "SELECT * FROM 'x.csv'", 'y': 'SELECT * FROM (SELECT 1 AS n)'}
    """
    listed = tokens(statement)
    common = _common_tables(listed)
    head = f"{statement[: listed[max(common.values())].end]} " if common else ""
    found: dict[str, str] = {}
    at = 0
    while at < len(listed):
        if listed[at].is_word("FROM", "JOIN", "SUMMARIZE", "DESCRIBE"):
            at += 1
            while at < len(listed) and (table := _table(listed, at)) is not None:
                alias, last, following = table
                found[alias] = f"{head}SELECT * FROM {statement[listed[at].start : listed[last].end]}"
                # A subquery has tables of its own.
                if listed[at].text == "(":
                    found = {**table_queries(statement[listed[at].end : listed[last].start]), **found}
                at = following
                if at >= len(listed) or listed[at].text != ",":
                    break
                at += 1
        else:
            at += 1
    return found


def _table(listed: Sequence[Token], at: int) -> tuple[str, int, int] | None:
    """Return the alias of a table, the number of its last token, and that of the token behind its alias."""
    first, last = listed[at], at
    if first.text == "(" or (first.kind == "word" and at + 1 < len(listed) and listed[at + 1].text == "("):
        end = closing(listed, at if first.text == "(" else at + 1)
        if end is None:
            return None
        last = end
    elif first.kind not in ("word", "quoted", "text") or first.text.upper() in _RESERVED:
        return None
    alias, following = first.name, last + 1
    if following < len(listed) and listed[following].is_word("AS"):
        following += 1
    if following < len(listed) and listed[following].kind in ("word", "quoted"):
        token = listed[following]
        if token.kind == "quoted" or token.text.upper() not in _RESERVED:
            return token.name, last, following + 1
    return alias, last, following


def _common_tables(listed: Sequence[Token]) -> dict[str, int]:
    """Return the names of WITH at the beginning of a statement, with the number of the last token of each."""
    found: dict[str, int] = {}
    if not listed or not listed[0].is_word("WITH"):
        return found
    at = 1
    while at < len(listed):
        name = listed[at]
        opening = next((n for n in range(at, len(listed) - 1) if listed[n].is_word("AS")), None)
        if opening is None or listed[opening + 1].text != "(":
            break
        end = closing(listed, opening + 1)
        if end is None:
            break
        found[name.name] = end
        if end + 1 >= len(listed) or listed[end + 1].text != ",":
            break
        at = end + 2
    return found


def _statement_at(text: str, cursor: int) -> tuple[int, int]:
    """Return where the statement at the cursor begins and ends."""
    ends = [t for t in tokens(text) if t.text == ";" and t.kind == "sign"]
    start = max((t.end for t in ends if t.end <= cursor), default=0)
    return start, min((t.start for t in ends if t.start >= cursor), default=len(text))


def _expects_table(previous: Sequence[Token]) -> bool:
    """Return whether a table stands behind these tokens."""
    if previous[-1].is_word("FROM", "JOIN", "SUMMARIZE", "DESCRIBE", "DESC"):
        return not previous[-1].is_word("DESC") or len(previous) == 1
    if previous[-1].text != ",":
        return False
    for number in range(len(previous) - 1, -1, -1):
        if previous[number].is_word("FROM"):
            found = _table(previous, number + 1) if number + 1 < len(previous) else None
            while found is not None and found[2] < len(previous) - 1 and previous[found[2]].text == ",":
                found = _table(previous, found[2] + 1)
            return found is not None and found[2] == len(previous) - 1
    return False


# ---- matching ------------------------------------------------------------------------------------


def _matching(word: str, names: Iterable[tuple[str, str, str]]) -> Iterator[Candidate]:
    """Yield the names that begin as the word does, in whichever case. Each is its text, its name, and its kind."""
    for text, name, kind in names:
        if name.lower().startswith(word.lower()):
            yield Candidate(text, len(word), name, kind)


def _keywords(words: Iterable[str], word: str) -> Iterator[tuple[str, str, str]]:
    case: Callable[[str], str] = str.lower if word.islower() else str.upper
    for each in words:
        yield case(each), case(each), ""


def _as_written(name: str) -> str:
    """Return a name as SQL takes it: DataFusion reads bare names in lower case."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) is not None
    return name if plain and name.upper() not in _RESERVED else quoted(name)


def _files(prefix: str, closing_quote: str = "") -> Iterator[Candidate]:
    """Yield the files and folders whose path begins with a text."""
    folder, base = os.path.split(prefix)
    if "://" in prefix:
        return
    for name, is_folder in _entries(folder or "."):
        if name.startswith(base) and (base or not name.startswith(".")):
            escaped = name.replace("'", "''") if closing_quote else name
            yield Candidate(
                f"{escaped}/" if is_folder else f"{escaped}{closing_quote}",
                len(base),
                f"{name}/" if is_folder else name,
                "",
            )


def _local_files(word: str) -> Iterator[Candidate]:
    """Yield files of the working folder in quotes."""
    for name, is_folder in _entries("."):
        if (
            not is_folder
            and name.startswith(word)
            and _DATA_SUFFIXES.search(name)
            and not name.startswith(".")
        ):
            escaped = name.replace("'", "''")
            yield Candidate(f"'{escaped}'", len(word), f"'{name}'", "file")


def _entries(folder: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as found:
            return sorted((e.name, e.is_dir()) for e in itertools.islice(found, _MOST_FILES))
    except OSError:
        return []
