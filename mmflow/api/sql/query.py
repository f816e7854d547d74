"""Queries of a session: SQL to a dataset. One that comes again over the same files is not planned again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

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
from mmflow.api.sql.tables import Opener, QueryTables
from mmflow.api.sql.variables import is_table
from mmflow.api.udf import Udf
from mmflow.api.verbs.core import files_of
from mmflow.errors import MmflowError, PlanError, plain_text
from mmflow.formats.schemas.schema import type_text
from mmflow.plan.plan_cache import (
    CachedQuery,
    cache_key,
    cached_queries,
    is_repeatable,
    keep_plan,
    settled_files,
    unchanged,
)
from mmflow.plan.planner import why_not_split
from mmflow.plan.stages import Function
from mmflow.plan.tokens import Token, parameters_of, tokens

__all__ = ["context_of", "plan_query"]


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
    began = time.time_ns()
    repeated = _Repeated.of(session, query, values, variables)
    if repeated is not None and (known := repeated.known()) is not None:
        return Dataset(session.context, known)
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
    tables = QueryTables(session, query, given, variables)
    text, calls = with_table_functions(text, lambda value: catalog.constant(value, scalars))
    text = with_literals(text, scalars, lambda value: catalog.constant(value, scalars))
    scalars = {n: scalars[n] for n in parameters_of(text)}
    frames = tables.given() | {call.text: tables.read(call) for call in calls}
    frames = tables.files(text) | frames
    unsplit = partial(why_not_split, catalog=catalog, settings=session.context.settings)

    def width(query: str) -> int:
        made = catalog.sql(query, frames, tables.resolve, parameters=scalars, functions=functions)
        return len(made.schema().names)

    try:
        text = with_positions(text, width)
        frame = catalog.sql(text, frames, tables.resolve, unsplit, scalars, functions)
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
            if repeated is not None and not functions:
                repeated.keep(frame, tables, began)
            return dataset


class _Repeated:
    """Query that may be planned already (`plan.plan_cache`).

    Args:
        session: Session that opens its tables.
        query: SQL.
        given: Tables that the call gives, by name.
        variables: Variables that may be tables.
        key: Key of all else that it depends on.
    """

    def __init__(
        self,
        session: Opener,
        query: str,
        given: Mapping[str, Dataset],
        variables: Mapping[str, Any],
        key: Hashable,
    ) -> None:
        self._settings = session.context.settings
        self._tables = QueryTables(session, query, given, variables)
        self._given = self._tables.given()
        self._key = (key, tuple((name, id(frame)) for name, frame in self._given.items()))

    @classmethod
    def of(
        cls, session: Opener, query: str, values: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> _Repeated | None:
        """Return the query; None: of such ones nothing is kept, since more than files decides what they mean."""
        context = session.context
        catalog = context.catalog
        named = {t.name for t in tokens(query)}
        if (
            context.recorder is not None
            or context.sources
            or catalog.sql_names
            or catalog.environment
            or not is_repeatable(query)
            or any(name.lower() in catalog.function_names for name in named)
            or any(isinstance(variables.get(name), Udf) for name in named)
        ):
            return None
        given = {n: v for n, v in values.items() if isinstance(v, Dataset)}
        others = {n: v for n, v in values.items() if n not in given}
        if any(map(is_table, others.values())):
            return None
        try:
            key = query, repr(context.settings), cache_key(others)
        except TypeError:
            return None
        return cls(session, query, given, variables, key)

    def known(self) -> DataFrame | None:
        """Return the frame of the query, if it is planned, and each name in it stands for what it did."""
        cached = cached_queries.known(self._key)
        if cached is None or not unchanged(cached.files):
            return None
        try:
            same = all(self._frame(what) is frame for what, frame in cached.found)
        except MmflowError:
            return None
        return cached.frame if same else None

    def _frame(self, what: str | Call) -> DataFrame | None:
        return self._tables.resolve(what) if isinstance(what, str) else self._tables.read(what)

    def keep(self, frame: DataFrame, tables: QueryTables, began: int) -> None:
        """Keep the frame of the query, if it reads files alone, which nobody has changed since some time before.

        Args:
            frame: The frame.
            tables: Tables with which it was planned.
            began: Time at which that began (`time.time_ns`).
        """
        opened = [None if dataset is None else files_of(dataset) for dataset in tables.opened]
        paths = dict.fromkeys(itertools.chain.from_iterable(paths or () for paths in opened))
        files = None if None in opened or not paths else settled_files(paths, began)
        if files is not None:
            given, found = tuple(self._given.values()), tuple(tables.found)
            cached_queries.put(self._key, CachedQuery(frame, given, found, files))
            keep_plan(frame, self._settings, files)


def _description(dataset: Dataset) -> pa.Table:
    """Return the columns of a dataset as rows, as DuckDB's DESCRIBE does."""
    fields = list(dataset.schema)
    columns = [[f.name for f in fields], [type_text(f.type) for f in fields], ["YES" for _ in fields]]
    return pa.table([pa.array(c, pa.string()) for c in columns], ["column_name", "column_type", "null"])


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
