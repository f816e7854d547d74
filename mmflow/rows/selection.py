"""Columns of a source that rows are picked from."""

from __future__ import annotations

import pyarrow as pa

from mmflow.formats import VIRTUAL_COLUMNS
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.formats.schemas.schema import public_schema
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.plan.stages import Source

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Columns of a source, by their names in the result.

    Attributes:
        source: Files and format.
        columns: Pairs of name in the result and name in the source (or of a virtual column).
    """

    source: Source
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def all(cls, source: Source) -> Selection:
        """Return a selection of all columns of a source, without virtual ones."""
        return cls(source, tuple((n, n) for n in source.schema.names))

    def renamed(self, columns: tuple[tuple[str, str], ...]) -> Selection:
        """Return a selection of other columns: name in the result, name in this result (or of a virtual column)."""
        inner = dict(self.columns)
        return Selection(self.source, tuple((new, inner.get(old, old)) for new, old in columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Columns to read, each once."""
        return tuple(dict.fromkeys(name for _, name in self.columns))

    @property
    def file_columns(self) -> tuple[str, ...]:
        """Columns among `names` that the files hold, virtual ones included."""
        hive = self.source.hive
        return self.names if hive is None else hive.inside(self.names)

    def columns_in(self, file: MappedFile) -> tuple[str, ...]:
        """Return those of `file_columns` that a file has: the others are null in all its rows."""
        lacks = self.source.format.lacks(file)
        return tuple(name for name in self.file_columns if name not in lacks) if lacks else self.file_columns

    def complete(self, path: str, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Return batches of `columns_in` of a file as batches of `names`, with public types."""
        hive, inside = self.source.hive, self.file_columns
        if not batches:
            return batches
        if len(batches[0].schema.names) < len(inside):
            from mmflow.formats.schemas.file_columns import with_nulls  # noqa: PLC0415  (slow)

            batches = [public_batch(b) for b in map(with_nulls(self.source.format.schema, inside), batches)]
        if hive is None or len(inside) == len(self.names):
            return batches
        return [public_batch(batch) for batch in map(hive.added(path, self.names), batches)]

    @property
    def schema(self) -> pa.Schema:
        """Schema of the result, as in `to_arrow`."""
        fields = {n: pa.field(n, t) for n, t in VIRTUAL_COLUMNS.items()} | {
            f.name: f for f in self.source.schema
        }
        return public_schema(pa.schema([fields[name].with_name(new) for new, name in self.columns]))

    def table(self, batches: list[pa.RecordBatch]) -> pa.Table:
        """Return batches of `names` as a table of `schema`."""
        schema = self.schema
        converted = [
            public_batch(
                pa.RecordBatch.from_arrays([b.column(name) for _, name in self.columns], names=schema.names),
                schema,
            )
            for b in batches
        ]
        return pa.Table.from_batches(converted, schema=schema)
