"""ORC, read by pyarrow, stripe by stripe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import pyarrow as pa

from mmflow.formats.library_format import LibraryFormat, TableReader
from mmflow.formats.row_groups import (
    check_names,
    group_row,
    group_source,
    make_batch,
    owned_evenly,
    translate_read_errors,
)
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile, as_arrow_file
from mmflow.shards import Shard

__all__ = ["OrcFormat", "open_orc"]

_KIND = "ORC"


@dataclass(frozen=True, slots=True)
class OrcFormat(LibraryFormat):
    """ORC files of one schema."""

    name: str = "orc"
    kind: ClassVar[str] = _KIND

    def open_reader(self, file: MappedFile) -> TableReader:
        return _OrcReader(file)


def open_orc(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> OrcFormat:
    """Open ORC files as one source.

    Args:
        paths: Paths in reading order. The schema is that of the first; columns of others are found by name.
        options: `columns`: how those of the files may differ.
        schema: Declared columns, by name; types may be wider than the files'.

    Raises:
        SourceError: Missing, empty, damaged, not ORC, or with columns that can't be computed with.
        ConfigError: `schema` is no schema.
    """
    found, columns = group_source(paths, _KIND, schema, lambda file: _OrcReader(file).schema, options)
    return OrcFormat(found, columns=columns)


class _OrcReader:
    def __init__(self, file: MappedFile) -> None:
        from pyarrow import orc  # noqa: PLC0415  (a library of its own)

        self._file = file
        with translate_read_errors(file.path, _KIND):
            self._orc = orc.ORCFile(as_arrow_file(file))
            self.schema = self._orc.schema
            check_names(self.schema)

    def owned(self, shard: Shard) -> tuple[int, int]:
        return owned_evenly(self._orc.nstripes, shard, self._file.size)

    def read(
        self, first: int, behind: int, columns: Sequence[int]
    ) -> Iterator[tuple[int, pa.RecordBatch, int]]:
        # A stripe without columns has no rows in pyarrow 26: the first one says how many.
        wanted = [self.schema.names[n] for n in columns]
        read = wanted or self.schema.names[:1]
        # A dot in a name means an inner field to pyarrow.
        some = None if any("." in name for name in read) else list(dict.fromkeys(read))
        for stripe in range(first, behind):
            batch = self._orc.read_stripe(stripe, columns=some)
            arrays = [batch.column(name) for name in wanted]
            yield (
                group_row(stripe),
                make_batch(arrays, wanted, batch.num_rows),
                batch.get_total_buffer_size(),
            )
