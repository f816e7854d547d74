"""Tables of a query: which rows each name stands for.

given by the call    sql(query, t=dataset)
of the session       [sources.NAME] of its settings file
variables            of the code that called mmflow
files                FROM 'path'
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from datafusion import DataFrame

from mmflow.api.dataset import Dataset
from mmflow.api.run_context import RunContext
from mmflow.api.sql.table_functions import Call
from mmflow.api.sql.variables import describe_type, is_table
from mmflow.errors import ConfigError, MmflowError, PlanError, plain_text
from mmflow.formats import VIRTUAL_COLUMNS
from mmflow.lazy import difflib
from mmflow.mapping.streams import is_stream_path
from mmflow.plan.tokens import Token, tokens

__all__ = ["Opener", "QueryTables"]


class Opener(Protocol):
    """Session, as far as a query needs it."""

    context: RunContext

    def read(self, path: Any, format: str | None = None) -> Dataset:
        """Open files."""

    def source(self, name: str) -> Dataset:
        """Open a named source."""

    def from_arrow(self, data: Any) -> Dataset:
        """Open rows in memory."""


class QueryTables:
    """Tables of one query: frames by the names that DataFusion asks for, which are in lower case if not quoted.

    Attributes:
        found: What stood for a table in the text, a name or a call, and the frame that this was.
        opened: Datasets that were given or found, as they were read; None for what is no files.
    """

    def __init__(
        self, session: Opener, query: str, given: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> None:
        self.found: list[tuple[str | Call, DataFrame]] = []
        self.opened: list[Dataset | None] = []
        self._session = session
        self._given = given
        self._variables = variables
        self._virtual = _virtual(query)
        self._spelled = _spelled(query)

    def given(self) -> dict[str, DataFrame]:
        """Return the frames that the call gave."""
        return {name: self._frame(name, value) for name, value in self._given.items()}

    def read(self, call: Call) -> DataFrame:
        """Return the frame of a table function.

        Raises:
            PlanError: An argument is wrong.
        """
        options = call.options_of(getattr(self._session, call.reader))
        options["path"] = _mapped(options["path"], self._as_written)
        try:
            dataset: Dataset = getattr(self._session, call.reader)(**options)
        except TypeError as error:  # of an argument
            raise PlanError(f"SQL: {error}") from error
        return self._found(call, self._opened(dataset))

    def files(self, text: str) -> dict[str, DataFrame]:
        """Return the frames of `FROM 'path'`, as far as there are such files: DataFusion need not ask for them first.

        Text behind a FROM may be something else (`IS DISTINCT FROM 'a'`), so nothing is raised here.
        """
        found: dict[str, DataFrame] = {}
        listed = tokens(text)
        for first, before, token in zip(listed, listed[1:], listed[2:], strict=False):
            if not before.is_word("FROM", "JOIN") or first.is_word("DISTINCT"):
                continue
            if token.kind == "text" and os.path.isfile(token.name):
                with contextlib.suppress(MmflowError):
                    frame = self.resolve(token.name)
                    found |= {} if frame is None else {token.name: frame}
        return found

    def _as_written(self, text: str) -> str:
        """Return a text of the query with the bytes that messages do not show."""
        return self._spelled[text][0].name if text in self._spelled else text

    def resolve(self, name: str) -> DataFrame | None:
        """Return the frame of a table that the call did not give under exactly this name.

        Raises:
            PlanError: No table has this name, or what has it is no table.
        """
        spelled = self._spelled.get(name, [])
        bare = dict.fromkeys(t.name for t in spelled if t.kind != "text")
        found = [n for n in bare if n in self._given or n in self._variables]
        sources = self._session.context.sources
        for scope in (self._given, sources, self._variables):
            tables = {n: scope[n] for n in bare if n in scope and is_table(scope[n])}
            if len({id(v) for v in tables.values()}) > 1:
                raise PlanError(
                    f"SQL: {' and '.join(tables)} are one name in SQL: write them as quoted names"
                )
            for spelling, value in tables.items():
                opened = self._session.source(spelling) if scope is sources else value
                return self._found(name, self._frame(spelling, opened))
        path = next((t.name for t in spelled if t.kind == "text"), spelled[0].name if spelled else name)
        if re.search(r"[./*\\]", path) or os.path.exists(path) or is_stream_path(path):
            return self._found(name, self._opened(self._session.read(path)))
        if found:
            value = self._variables[found[0]]
            raise PlanError(
                f"SQL: {found[0]} is {describe_type(value)}, which is no table: a table is a dataset, a dict of "
                "columns, or what gives Arrow data, such as frames of pandas and Polars"
            )
        known = {
            n.lower(): n for n, v in {**self._variables, **sources, **self._given}.items() if is_table(v)
        }
        close = difflib.get_close_matches(name.lower(), known, 1)
        hint = (
            f"did you mean {known[close[0]]!r}?"
            if close
            else "give it by name, or write FROM 'path' for a file"
        )
        raise PlanError(f"SQL: there is no table {name!r}; {hint}", code="MMF-PLN-006")

    def _frame(self, name: str, value: Any) -> DataFrame:
        if isinstance(value, Dataset):
            return self._opened(value)
        try:
            self.opened.append(None)
            return self._session.from_arrow(value).with_virtual(self._virtual)
        except ConfigError as error:
            raise PlanError(f"SQL: {name} is {describe_type(value)}, which is no table: {error}") from error

    def _opened(self, dataset: Dataset) -> DataFrame:
        self.opened.append(dataset)
        return dataset.with_virtual(self._virtual)

    def _found(self, what: str | Call, frame: DataFrame) -> DataFrame:
        self.found.append((what, frame))
        return frame


@functools.lru_cache(maxsize=64)
def _spelled(query: str) -> Mapping[str, Sequence[Token]]:
    """Return the tokens of a query that may be names, by what messages and plans make of them."""
    found: dict[str, list[Token]] = {}
    for token in tokens(query):
        if token.kind in ("word", "quoted", "text"):
            name = plain_text(token.name)  # of files that are not UTF-8, too
            found.setdefault(name.lower() if token.kind == "word" else name, []).append(token)
    return found


@functools.lru_cache(maxsize=64)
def _virtual(query: str) -> tuple[str, ...]:
    """Return the virtual columns that a query may name."""
    named = {t.name.lower() for t in tokens(query) if t.kind in ("word", "quoted")}
    return tuple(name for name in VIRTUAL_COLUMNS if name in named)


def _mapped(value: Any, function: Callable[[str], str]) -> Any:
    return [function(v) for v in value] if isinstance(value, list) else function(value)
