"""Columns of the files of a source: which files say the schema, and how the others may differ.

    options            schema= "union", missing_columns, extra_columns         ColumnOptions
    files looked at    the first; spread over the list for "union"; all for extra_columns="keep"
    schema             their columns by name, types widened (`widening`)        merge_schemas
    policy             what a file may have more or less than that              FileColumns, which formats carry

Invariant: a column that the schema lacks is never dropped, and one that a file lacks is never null, unless an option
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import field, replace
from typing import Any, Literal, TypeVar

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.schemas.arrow_types import is_supported, tags
from mmflow.formats.schemas.schema import public_type, type_text
from mmflow.formats.schemas.widening import widened
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage.url import is_url

__all__ = [
    "COLUMN_OPTIONS",
    "DECLARED",
    "UNION",
    "ColumnOptions",
    "FileColumns",
    "merge_schemas",
    "read_each",
    "with_nulls",
]

#: The value of `schema=` that asks for the columns of all files.
UNION = "union"
#: Options of all formats whose files have columns, and their values.
COLUMN_OPTIONS = {"missing_columns": ("error", "null"), "extra_columns": ("error", "ignore", "keep")}

#: Files that `union` looks at, spread over the list.
_MOST = 256
#: Remote files that are asked for their schema at once.
_REQUESTS = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FileColumns:
    """Policy for files whose columns differ from those of their source.

    Attributes:
        missing: A column that a file lacks is an error, or null in all its rows.
        extra: A column that the schema lacks is an error, or ignored.
        origin: File that the schema was taken from; empty: it was declared.
        looked_at: Files whose columns were merged into the schema; 0: it is that of `origin`, or declared.
        texts: Columns declared as text: values of files that hold numbers, dates or booleans are written as text.
    """

    missing: Literal["error", "null"] = "error"
    extra: Literal["error", "ignore"] = "ignore"
    origin: str = field(default="", compare=False)
    looked_at: int = field(default=0, compare=False)
    texts: tuple[str, ...] = field(default=(), compare=False)

    def check(
        self, path: str, names: Sequence[str], wanted: Sequence[str], *, declarable: bool = True
    ) -> None:
        """Check that a file has the columns of the schema, and no others, as far as the policy asks for it.

        With a declared schema, whoever reads a column that the file lacks says so.

        Args:
            path: Path of the file.
            names: Its columns.
            wanted: Columns of the schema.
            declarable: The format takes `schema=`.

        Raises:
            SourceError: It has a column more, or lacks one; names both files.
        """
        if names == wanted or (not self.origin and self.extra == "ignore"):
            return
        # In order of the file, and each looked up once: there may be thousands.
        if self.extra == "error":
            known = set(wanted)
            more = next((name for name in names if name not in known), None)
            if more is not None:
                raise self._extra(path, more, declarable=declarable)
        if self.origin and self.missing == "error":
            there = set(names)
            less = next((name for name in wanted if name not in there), None)
            if less is not None:
                raise SourceError(
                    f"{self.origin} has a column {less!r}, which {path} lacks; set missing_columns='null' to read it "
                    f"as null there, {_advice(declarable)}",
                    path=path,
                    column=less,
                )

    def _extra(self, path: str, name: str, *, declarable: bool) -> SourceError:
        if not self.origin:
            lacking, advice = "schema= lacks", "name it there, or set extra_columns='ignore' or 'keep'"
        elif self.looked_at:
            lacking = f"the {self.looked_at:,} files that schema='union' looked at lack"
            advice = "set extra_columns='keep' to look at all files, or 'ignore' to leave the column out"
        else:
            lacking = f"{self.origin} lacks"
            advice = (
                "set schema='union' to read the columns of all files, extra_columns='ignore' to leave this one "
                f"out, {_advice(declarable)}"
            )
        return SourceError(f"{path} has a column {name!r}, which {lacking}; {advice}", path=path, column=name)

    def lacking(self, names: Sequence[str], wanted: Sequence[str]) -> frozenset[str]:
        """Return the columns of the schema that are null in a file with these columns."""
        if self.missing == "error" or names == wanted:
            return frozenset()
        return frozenset(wanted).difference(names)

    def spec(self) -> dict[str, Any]:
        """Return the options that are not `error` (`Format.spec`)."""
        given = {"missing_columns": self.missing, "extra_columns": self.extra}
        return {name: value for name, value in given.items() if value != "error"}


#: Policy of a source with a declared schema and no option.
DECLARED = FileColumns()


def _advice(declarable: bool) -> str:
    if not declarable:
        return "or read these files apart"
    return "give schema= with the columns to read, or read these files apart"


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """Options that say what a source's schema is taken from, as they were given.

    Attributes:
        union: The columns of all files, of types that hold those of each.
        missing: `missing_columns`; empty: not given.
        extra: `extra_columns`; empty: not given.
    """

    union: bool = False
    missing: str = ""
    extra: str = ""

    @classmethod
    def taken(cls, options: dict[str, Any], *, union: bool = False) -> ColumnOptions:
        """Take these options out of those of a format, which were checked."""
        return cls(union, options.pop("missing_columns", ""), options.pop("extra_columns", ""))

    @property
    def merges(self) -> bool:
        """True where the columns of several files are merged."""
        return self.union or self.extra == "keep"

    def looked_at(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return the files whose columns are merged: all for `keep`, else spread over the list, both ends included.

        >>> len(ColumnOptions(union=True).looked_at([str(i) for i in range(100_000)]))
        256
        """
        count = len(paths)
        if not self.merges:
            return (paths[0],)
        if self.extra == "keep" or count <= _MOST:
            return tuple(paths)
        return tuple(paths[i * (count - 1) // (_MOST - 1)] for i in range(_MOST))

    def declared(self, schema: pa.Schema) -> FileColumns:
        """Return the policy of a source with a declared schema."""
        text = tuple(f.name for f in schema if public_type(f.type) == pa.string())
        missing: Any = self.missing or "error"
        return FileColumns(missing, "error" if self.extra == "error" else "ignore", texts=text)

    def inferred(self, origin: str, looked_at: int) -> FileColumns:
        """Return the policy of a source whose schema was taken from files."""
        missing: Any = self.missing or ("null" if self.merges else "error")
        extra: Literal["error", "ignore"] = "ignore" if self.extra == "ignore" else "error"
        return FileColumns(missing, extra, origin, looked_at if self.merges else 0)

    def kept(
        self, policy: FileColumns, declared: pa.Schema, merged: pa.Schema
    ) -> tuple[pa.Schema, FileColumns]:
        """Return a declared schema with the further columns of all files, and its policy."""
        names = set(declared.names)
        more = [f for f in merged if f.name not in names]
        return pa.schema([*declared, *more]), replace(policy, missing=self.missing or "null")  # type: ignore[arg-type]


def with_nulls(schema: pa.Schema, columns: Sequence[str]) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Return what makes batches of `columns` from batches that lack some: null in all rows, of the schema's types."""
    longest: dict[str, pa.Array] = {}

    def nulls(name: str, rows: int) -> pa.Array:
        if name not in longest or len(longest[name]) < rows:
            longest[name] = pa.nulls(rows, schema.field(name).type)
        return longest[name].slice(0, rows)

    def complete(batch: pa.RecordBatch) -> pa.RecordBatch:
        there = dict(zip(batch.schema.names, batch.columns, strict=True))
        rows = batch.num_rows
        arrays = [there[name] if name in there else nulls(name, rows) for name in columns]
        return pa.RecordBatch.from_arrays(arrays, names=list(columns)) if arrays else batch

    return complete


def read_each(paths: Sequence[str], read: Callable[[str], _T]) -> list[_T]:
    """Call a function with each path, several at once where they are remote. Raises what it raises."""
    if len(paths) < 2 or not is_url(paths[0]):
        return [read(path) for path in paths]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (slow: it imports logging)

    with ThreadPoolExecutor(_REQUESTS) as pool:
        # The options of remote files are a context variable.
        return list(
            pool.map(lambda path, context: context.run(read, path), paths, [copy_context() for _ in paths])
        )


def merge_schemas(
    schemas: Sequence[tuple[str, pa.Schema]],
    advice: Callable[[str], str],
    known: Mapping[str, Any] | None = None,
) -> pa.Schema:
    """Return the columns of all files, in order of first appearance, of types that hold those of each file exactly.

    Args:
        schemas: Paths and schemas, which may be of type null where no value was seen.
        advice: Returns what to do about a column of types that no type holds.
        known: Columns whose types don't matter, as they are declared.

    Raises:
        SourceError: No type holds those of two files; names both.
    """
    merged: dict[str, pa.Field] = {}
    origins: dict[str, tuple[str, pa.DataType]] = {}
    previous: pa.Schema | None = None
    for path, schema in schemas:
        if schema is previous or (previous is not None and schema.equals(previous, check_metadata=True)):
            continue
        previous = schema
        for each in schema:
            before = merged.get(each.name)
            if before is None:
                merged[each.name] = each
                origins[each.name] = path, each.type
                continue
            if before.type == each.type and tags(before) == tags(each):
                continue
            if (known is not None and each.name in known) or not is_supported(before):
                continue
            if not is_supported(each):
                merged[each.name] = each
                continue
            kind = widened(before.type, each.type)
            if kind is None:
                other, was = origins[each.name]
                raise SourceError(
                    f"column {each.name!r} is {_shown(was)} in {other}, but {_shown(each.type)} in {path}, and no "
                    f"type holds the values of both exactly; {advice(each.name)}",
                    path=path,
                    column=each.name,
                )
            if kind != before.type or pa.types.is_null(before.type):
                origins[each.name] = path, each.type
            merged[each.name] = pa.field(each.name, kind)
    return pa.schema(list(merged.values()))


def _shown(kind: pa.DataType) -> str:
    return type_text(public_type(kind))
