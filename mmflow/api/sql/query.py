"""Queries of a session: which rows each name stands for.

given by the call    sql(query, t=dataset)
of the session       [sources.NAME] of its settings file
variables            of the code that called mmflow
files                FROM 'path'

Functions are found in the same order, without files (`called_functions`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
from datafusion import DataFrame

from mmflow.api.dataset import Dataset
from mmflow.api.run_context import RunContext
from mmflow.api.sql.called_functions import called_functions, explain_missing_function
from mmflow.api.sql.json_calls import json_functions, with_json_calls
from mmflow.api.sql.literals import with_literals
from mmflow.api.sql.parameters import bound
from mmflow.api.sql.statements import in_datafusions_words, statement, with_positions, with_select
from mmflow.api.sql.table_functions import Call, with_table_functions
from mmflow.api.sql.variables import describe_type, is_table
from mmflow.api.udf import Udf
from mmflow.errors import ConfigError, MmflowError, PlanError, plain_text
from mmflow.formats import VIRTUAL_COLUMNS
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy import difflib
from mmflow.mapping.streams import is_stream_path
from mmflow.plan.planner import why_not_split
from mmflow.plan.stages import Function
from mmflow.plan.tokens import Token, parameters_of, tokens

__all__ = ["Opener", "context_of", "plan_query"]


class Opener(Protocol):
    """Session, as far as a query needs it."""

    context: RunContext

    def read(self, path: Any, format: str | None = None) -> Dataset:
        """Open files."""

    def source(self, name: str) -> Dataset:
        """Open a named source."""

    def from_arrow(self, data: Any) -> Dataset:
        """Open rows in memory."""


def plan_query(
    session: Opener, query: str, values: Mapping[str, Any], variables: Mapping[str, Any] | None = None
) -> Dataset:
    """Plan a SELECT.

    Args:
        session: Session that runs it, and opens its tables.
        query: SQL.
        values: Tables and values of parameters, by name.
        variables: Variables that may be tables. None: there are none.

    Raises:
        PlanError: The query is wrong, or a name or value in it.
        SourceError: A path in it can't be read.
    """
    variables = variables or {}
    catalog = session.context.catalog
    own = {*catalog.sql_names, *(n for n, v in {**variables, **values}.items() if isinstance(v, Udf))}
    kind, text = statement(with_json_calls(plain_text(query), own))
    parameters = parameters_of(text)
    given = {n: v for n, v in values.items() if n not in parameters and is_table(v)}
    udfs = {n: v for n, v in values.items() if n not in parameters and isinstance(v, Udf)}
    functions: dict[str, Function] = {
        **{n: f for n, f in json_functions(text).items() if n.lower() not in catalog.sql_names},
        **called_functions(text, udfs, catalog.sql_names, catalog.function_names, variables),
    }
    text, scalars = bound(
        with_select(in_datafusions_words(text)),
        {n: v for n, v in values.items() if n not in given and n not in udfs},
    )
    names = _Tables(session, query, given, variables)
    text, calls = with_table_functions(text, lambda value: catalog.constant(value, scalars))
    text = with_literals(text, scalars, lambda value: catalog.constant(value, scalars))
    scalars = {n: scalars[n] for n in parameters_of(text)}
    frames = names.given() | {call.text: names.read(call) for call in calls}
    frames = names.files(text) | frames
    unsplit = partial(why_not_split, catalog=catalog, settings=session.context.settings)

    def width(query: str) -> int:
        made = catalog.sql(query, frames, names.resolve, parameters=scalars, functions=functions)
        return len(made.schema().names)

    try:
        text = with_positions(text, width)
        frame = catalog.sql(text, frames, names.resolve, unsplit, scalars, functions)
    except PlanError as error:
        raise explain_missing_function(text, variables, error) from error
    dataset = Dataset(session.context, frame)
    match kind:
        case "describe":
            return session.from_arrow(_description(dataset))
        case "summarize":
            from mmflow.api.sql.summarize import summarized  # noqa: PLC0415  (slow)

            return summarized(dataset)
        case "explain" | "analyze":
            text = dataset.explain() if kind == "explain" else dataset.profile()
            return session.from_arrow(pa.table([pa.array(text.splitlines(), pa.string())], ["plan"]))
        case "select":
            return dataset


def _description(dataset: Dataset) -> pa.Table:
    """Return the columns of a dataset as rows, as DuckDB's DESCRIBE does."""
    fields = list(dataset.schema)
    columns = [[f.name for f in fields], [type_text(f.type) for f in fields], ["YES" for _ in fields]]
    return pa.table([pa.array(c, pa.string()) for c in columns], ["column_name", "column_type", "null"])


class _Tables:
    """Tables of one query: frames by the names that DataFusion asks for, which are in lower case if not quoted."""

    def __init__(
        self, session: Opener, query: str, given: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> None:
        self._session = session
        self._given = given
        self._variables = variables
        named = {t.name.lower() for t in tokens(query) if t.kind in ("word", "quoted")}
        self._virtual = tuple(name for name in VIRTUAL_COLUMNS if name in named)
        # Names of files that are not UTF-8 stand in the query as messages show them.
        self._spelled: dict[str, list[Token]] = {}
        for token in tokens(query):
            if token.kind in ("word", "quoted", "text"):
                name = plain_text(token.name)
                self._spelled.setdefault(name.lower() if token.kind == "word" else name, []).append(token)

    def given(self) -> dict[str, DataFrame]:
        """Return the frames that the call gave."""
        return {name: self._frame(name, value) for name, value in self._given.items()}

    def read(self, call: Call) -> DataFrame:
        """Return the frame of a table function.

        Raises:
            PlanError: An argument is wrong.
        """
        options = call.options_of(getattr(self._session, call.reader))
        options["path"] = _mapped(
            options["path"], lambda path: self._spelled.get(path, [Token("word", path, 0)])[0].name
        )
        try:
            dataset: Dataset = getattr(self._session, call.reader)(**options)
        except TypeError as error:  # of an argument
            raise PlanError(f"SQL: {error}") from error
        return dataset.with_virtual(self._virtual)

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
                return self._frame(spelling, opened)
        path = next((t.name for t in spelled if t.kind == "text"), spelled[0].name if spelled else name)
        if re.search(r"[./*\\]", path) or os.path.exists(path) or is_stream_path(path):
            return self._session.read(path).with_virtual(self._virtual)
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
        raise PlanError(f"SQL: there is no table {name!r}; {hint}")

    def _frame(self, name: str, value: Any) -> DataFrame:
        if isinstance(value, Dataset):
            return value.with_virtual(self._virtual)
        try:
            return self._session.from_arrow(value).with_virtual(self._virtual)
        except ConfigError as error:
            raise PlanError(f"SQL: {name} is {describe_type(value)}, which is no table: {error}") from error


def _mapped(value: Any, function: Callable[[str], str]) -> Any:
    return [function(v) for v in value] if isinstance(value, list) else function(value)


def context_of(query: str, values: Mapping[str, Any], variables: Mapping[str, Any]) -> RunContext | None:
    """Return the run context of the first dataset among the tables of a query. None: it has none."""
    for value in (*values.values(), *(variables.get(n) for n in _tables(tokens(query)) if n not in values)):
        if isinstance(value, Dataset):
            return value.context
    return None


def _tables(listed: Sequence[Token]) -> list[str]:
    """Return the names that stand where tables do, and some others."""
    pairs = itertools.pairwise(listed)
    return [name.name for before, name in pairs if before.is_word("FROM", "JOIN") or before.text == ","]
