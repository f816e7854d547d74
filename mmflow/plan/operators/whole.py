"""Parts of a query that run whole, in one task on all cores, over Parquet files that DataFusion reads by itself.

    scan orders ──┐                                     one FragmentStep over two FilesInputs,
    scan lineitem ┴ join ── aggregate ── sort    -->    in as many partitions as there are workers

That saves all exchanges. It is done for an aggregation or a sort with all below it where the engine is local, where
nobody has set how work is cut, and where all that is read would fit into the memory of the run, so that no operator
can need more. All else is cut into stages over pyarrow's reader. Both run the same relations.

Invariant: the values of a part that runs whole don't depend on the order in which its rows come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from substrait.algebra_pb2 import Expression, Rel

from mmflow.errors import MmflowError
from mmflow.mapping.streams import stream_at
from mmflow.plan.catalog import Catalog, SourceLeaf, TableLeaf
from mmflow.plan.native_aggregate import FUNCTIONS, MOMENTS, SUMS
from mmflow.plan.operators.context import PlanContext, WholeFiles
from mmflow.plan.optimizer.estimates import scan_estimate
from mmflow.plan.pipeline import Pipeline
from mmflow.plan.rewrites.decimal_ranges import DecimalRanges
from mmflow.plan.stages import FilesInput
from mmflow.plan.substrait import (
    INPUT_FIELDS,
    field,
    field_index,
    has_window,
    inputs_of,
    kind,
    messages,
    table_name,
    wanted_columns,
    width_of_relation,
)
from mmflow.remote.opening import open_file
from mmflow.shards import FileEntry
from mmflow.storage.url import is_url

if TYPE_CHECKING:
    from mmflow.formats.parquet.direct import Direct

__all__ = ["NotWholeError", "check_no_float_sums", "decimal_ranges", "whole_files"]

#: Relations that may stand below the top of a part.
_BELOW = frozenset({"read", "filter", "project", "aggregate", "join", "cross"})
#: Footers that are read while a query is planned.
_MOST_FILES = 16
#: Memory of DataFusion 55 for each byte that it holds (`worker/fragment.py`).
_PER_BYTE = 3


class NotWholeError(Exception):
    """Signal that a part of a query can't run whole, found while it was planned so. Its text says why."""


def whole_files(context: PlanContext, rel: Rel) -> WholeFiles | str | None:
    """Return the files that a part of a query reads whole, or why it can't; None: it is no such part."""
    settings = context.settings
    if settings.engine != "local" or not any(map(_is_parquet, context.encoded.tables)):
        return None
    if not _is_top(context, rel):
        return None
    relations = list(_relations(context, rel))
    reads = [r for r in relations if kind(r) == "read" and table_name(r) is not None]
    if not any(_is_parquet(str(table_name(r))) for r in reads):
        return None
    leaves = [context.catalog.leaf(str(table_name(r))) for r in reads]
    if settings.shard_size is not None or settings.partitions is not None:
        return "shard_size or partitions is set"
    if _calls_functions(context, rel):
        return "it calls Python functions"
    why = next(filter(None, (_ordered(context, r, top=r is rel) for r in relations)), None)
    if why is not None:
        return why
    files: dict[tuple[str, tuple[str, ...]], FilesInput] = {}
    nbytes = 0
    for read, leaf in zip(reads, leaves, strict=True):
        match leaf:
            case TableLeaf():
                nbytes += leaf.table.nbytes
            case SourceLeaf():
                columns = tuple(leaf.schema.names[i] for i in wanted_columns(read, len(leaf.schema)))
                found = _files(leaf, columns, settings.memory, settings.workers)
                if isinstance(found, str):
                    return f"{leaf.source.label}: {found}"
                files[str(table_name(read)), columns] = found
                nbytes += scan_estimate(leaf.source, columns).nbytes
            case _:
                return "it reads what is no file"
    if nbytes * _PER_BYTE > settings.memory * 3 // 8:
        return "what it reads may not fit in memory"
    return files


def _is_parquet(name: str) -> bool:
    """Return whether a table of a plan is of Parquet files."""
    leaf = Catalog.leaf(name)
    return isinstance(leaf, SourceLeaf) and leaf.source.format.name == "parquet"


def _is_top(context: PlanContext, rel: Rel) -> bool:
    """Return whether the rows of a relation have an order of its own, or none, but not that of its files."""
    match kind(rel):
        case "aggregate":
            return True
        case "fetch":
            return kind(rel.fetch.input) == "sort" and _is_top(context, rel.fetch.input)
        case "sort":
            return any(kind(r) in ("aggregate", "join", "cross") for r in _relations(context, rel.sort.input))
    return False


def _relations(context: PlanContext, rel: Rel) -> Iterator[Rel]:
    """Yield a relation and all below it, those of subqueries too."""
    yield rel
    if context.encoded.has_subqueries or kind(rel) not in INPUT_FIELDS:
        for message in messages(rel):
            if isinstance(message, Rel) and message is not rel:
                yield message
    else:
        for below in inputs_of(rel):
            yield from _relations(context, below)


def _calls_functions(context: PlanContext, rel: Rel) -> bool:
    """Return whether a relation calls functions of the user, which may not be called by several threads."""
    anchors = {context.rels.anchors.get(f.name) for f in context.catalog.functions.all}
    calls = (m for m in messages(rel) if isinstance(m, Expression.ScalarFunction)) if anchors else ()
    return any(call.function_reference in anchors for call in calls)


def _ordered(context: PlanContext, rel: Rel, *, top: bool) -> str | None:
    """Return why the values of a relation depend on the order of rows, or can't be had from several threads."""
    name = kind(rel)
    if name in ("sort", "fetch"):
        return None if top or name == "sort" else "a limit below the top takes any rows"
    if name not in _BELOW:
        return f"it has a {name} relation"
    if context.encoded.has_windows and has_window(rel):
        return "it has a window function"
    if name == "aggregate":
        return _ordered_aggregate(context, rel)
    return None


def _ordered_aggregate(context: PlanContext, rel: Rel) -> str | None:
    names = context.rels.names
    for measure in rel.aggregate.measures:
        name = names.get(measure.measure.function_reference, "")
        if name not in FUNCTIONS or measure.measure.sorts:
            return f"the value of {name} depends on the order of rows"
        if name in ("min", "max") and not rel.aggregate.grouping_expressions:
            argument = measure.measure.arguments[0].value
            if not _is_aggregate(argument, rel.aggregate.input):
                return f"{name} without groups would come from statistics, whose bounds may be loose"
    return None


def _is_aggregate(e: Expression, rel: Rel) -> bool:
    """Return whether an expression over a relation is the value of an aggregate function below."""
    index = field_index(e)
    body = getattr(rel, kind(rel))
    if index is None:
        return False
    if body.common.HasField("emit"):
        index = body.common.emit.output_mapping[index]
    match kind(rel):
        case "filter":
            return _is_aggregate(field(index), body.input)
        case "project":
            width = width_of_relation(body.input)
            if width is None:
                return False
            inner = field(index) if index < width else body.expressions[index - width]
            return _is_aggregate(inner, body.input)
        case "aggregate":
            return index >= len(body.grouping_expressions)
    return False


def check_no_float_sums(context: PlanContext, rel: Rel, schema: pa.Schema) -> None:
    """Check that an aggregation in a part that runs whole adds up no floats.

    Args:
        context: Context of planning.
        rel: The aggregation.
        schema: Columns that it gives.

    Raises:
        NotWholeError: It does, so the part has to be cut into stages.
    """
    if not context.whole:
        return
    names = context.rels.names
    measures = rel.aggregate.measures
    for measure, given in zip(measures, schema.types[len(schema) - len(measures) :], strict=True):
        name = names.get(measure.measure.function_reference, "")
        if name in SUMS | MOMENTS and pa.types.is_floating(given):
            raise NotWholeError(f"the last digits of a {name} of floats depend on the order of rows")


def decimal_ranges(context: PlanContext, child: Pipeline) -> DecimalRanges:
    """Return the largest values of expressions over a pipeline, as far as files that are read whole show them."""
    branch = child.branches[0]
    tables = {i.name: i.largest for i in branch.inputs if isinstance(i, FilesInput) and not branch.steps}
    names = context.rels.names
    return DecimalRanges(branch.rel, names, tables)


def _files(leaf: SourceLeaf, columns: tuple[str, ...], memory: int, workers: int) -> FilesInput | str:
    """Return the files of a source as DataFusion reads them, or why it can't."""
    source = leaf.source
    if source.format.name != "parquet":
        return f"it is {source.format.name}"
    if any(c not in source.format.schema.names for c in columns) or source.hive is not None:
        return "it has columns that are not in its files"
    if source.skipped or any(is_url(p) or stream_at(p) is not None for p in source.files):
        return "it is remote, or some of its files can't be read"
    if not 0 < len(source.files) <= _MOST_FILES:
        return f"it has {len(source.files):,} files"
    entries: list[FileEntry] = []
    direct: list[Direct] = []
    from mmflow.formats.parquet.direct import Direct, choose_reader  # noqa: PLC0415  (slow: only Parquet needs it)

    for path in source.files:
        try:
            with open_file(path) as file:
                source.format.check(file)
                found = choose_reader(file, columns, source.format.schema)
                entries.append(FileEntry(path, file.identity, source.storage))
        except MmflowError as error:  # the scan says it better
            return error.message
        if not isinstance(found, Direct):
            return found
        if found.group_bytes * workers > memory // 8:
            return "its row groups are large"
        direct.append(found)
    rows, statistics = sum(d.rows for d in direct), all(d.statistics for d in direct)
    largest = tuple(
        None if None in values else max(v for v in values if v is not None)
        for values in zip(*(d.largest for d in direct), strict=True)
    )
    return FilesInput("", source, columns, tuple(entries), rows, statistics, largest, workers)
