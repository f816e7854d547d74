"""Choice of the reader of a Parquet file: DataFusion's own, or pyarrow, which is the reference.

DataFusion 55 leaves out row groups, pages and values that a query does not need, and decodes text to views. It checks
less than pyarrow does (`format.py`): no checksums of pages, no digits of decimals. So it gets files whose footers show
that both give the same rows, and pyarrow reads all others.

Invariant: a file that is chosen for DataFusion has the same rows by both readers, unless it is damaged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.last_results import LastResults
from mmflow.formats.parquet.footer import Chunk, FooterError, has_checksum
from mmflow.formats.parquet.format import Footer, column_number, read_footer, wanted_ranges
from mmflow.formats.parquet.statistics import Bounds, bounds_of
from mmflow.formats.schemas.arrow_types import plan_type
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile

__all__ = ["Direct", "choose_reader"]

#: Paths that DataFusion 55 takes as they are: it has its own meaning for *, ?, [ and %.
_PATH = re.compile(r"[A-Za-z0-9_./+,=@-]+")
#: Codecs that both know: none, snappy, gzip, brotli, zstd, lz4_raw.
_CODECS = frozenset({0, 1, 2, 4, 6, 7})
_INT96 = 3
#: Header of a page, unless it has long statistics.
_HEADER_BYTES = 4096
#: Choices that are kept.
_CHOICES = 64
#: Text bounds of fewer bytes are never cut short.
_CUT = 16


@dataclass(frozen=True, slots=True)
class Direct:
    """A file that DataFusion reads.

    Attributes:
        rows: Number of its rows.
        statistics: Whether DataFusion may use its statistics as they are.
        largest: Largest absolute value of each wanted column, where it holds decimals; None: not known.
        group_bytes: Bytes of the wanted columns in its largest row group.
    """

    rows: int
    statistics: bool
    largest: tuple[Fraction | None, ...]
    group_bytes: int


def choose_reader(file: MappedFile, columns: Sequence[str], schema: pa.Schema) -> Direct | str:
    """Return how DataFusion reads columns of a file, or why pyarrow must.

    Args:
        file: The file, which is local.
        columns: Wanted columns.
        schema: Schema of the source, with the types that plans have.
    """
    if not _PATH.fullmatch(file.path):
        return "its path has characters that DataFusion takes for a pattern"
    key = (file.path, file.identity, tuple(columns), schema)
    try:
        return _choices.get(key, lambda: _choose(file, read_footer(file), columns, schema))
    except SourceError as error:  # pyarrow's scan says it better
        return f"its footer: {error.message}"


#: Choices for files of the last queries, as footers are kept (`format.py`).
_choices: LastResults[tuple[str, FileIdentity, tuple[str, ...], pa.Schema], Direct | str] = LastResults(
    _CHOICES
)


def _choose(file: MappedFile, footer: Footer, columns: Sequence[str], schema: pa.Schema) -> Direct | str:
    if not columns:
        return "no columns are read, rows are counted in its footer"
    leaves = []
    for name in columns:
        number = column_number(file.path, footer, name)
        found, wanted = footer.schema.field(number).type, schema.field(name).type
        if not _is_plain(found):
            return f"column {name!r} is {found}"
        if plan_type(found) != wanted:
            return f"column {name!r} is {found} there and {wanted} in the schema"
        leaves.append(footer.leaves[number][0])
    groups = footer.layout.groups
    if any(c.encrypted or c.elsewhere or c.physical < 0 for g in groups for c in g.chunks):
        return "some of its columns are encrypted, or in other files"
    if not _ascending(footer):
        return "its row groups are not in order"
    trusted, group_bytes = True, 0
    largest = [Fraction(0) if pa.types.is_decimal(schema.field(name).type) else None for name in columns]
    for number, group in enumerate(groups):
        group_bytes = max(group_bytes, sum(n for _, n in wanted_ranges(file, footer, number, leaves)))
        for place, (leaf, name) in enumerate(zip(leaves, columns, strict=True)):
            chunk, kind = group.chunks[leaf], footer.schema.field(name).type
            ordered = any(footer.layout.ordered[leaf : leaf + 1])
            bounds = bounds_of(chunk, kind, group.rows, ordered=ordered)
            why = _odd(chunk, kind, bounds)
            if why is not None:
                return f"column {name!r} {why}"
            known = largest[place]
            if known is not None and bounds.low is not None:
                largest[place] = max(known, abs(Fraction(bounds.low)), abs(Fraction(bounds.high)))
            trusted &= ordered and not pa.types.is_floating(kind)
    first = next((g for g in groups if g.rows), None)
    if first is not None and any(_has_checksum(file, first.chunks[leaf]) for leaf in leaves):
        return "its pages have checksums, which DataFusion does not check"
    return Direct(sum(g.rows for g in groups), trusted, tuple(largest), group_bytes)


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether both readers give the same values of a type, whatever the bytes."""
    types = pa.types
    exact = (
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_date32,
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_decimal128,
    )
    if types.is_timestamp(kind):
        return kind.tz is None
    return not types.is_float16(kind) and any(test(kind) for test in exact)


def _ascending(footer: Footer) -> bool:
    return all(a < b for a, b in zip(footer.starts, footer.starts[1:], strict=False))


def _odd(chunk: Chunk, kind: pa.DataType, bounds: Bounds) -> str | None:
    """Return why DataFusion may not read a column chunk; None: it may."""
    if chunk.physical == _INT96:
        return "has INT96 timestamps, which DataFusion wraps"
    if chunk.codec not in _CODECS:
        return "is compressed by a codec that DataFusion does not know"
    if pa.types.is_decimal(kind) and bounds.nulls != bounds.rows:
        most = 10 ** (kind.precision - kind.scale)
        if bounds.low is None or not -most < bounds.low <= bounds.high < most:
            return "has no statistics that show that its decimals fit their type"
    if isinstance(bounds.low, bytes) and bounds.low == bounds.high and len(bounds.low) >= _CUT:
        return "has statistics that may be cut short"
    return None


def _has_checksum(file: MappedFile, chunk: Chunk) -> bool:
    """Return whether the first page of a chunk has a checksum, or may have one: a writer gives it to all or none."""
    head = file.window(chunk.begin, min(chunk.size, _HEADER_BYTES)).buffer.to_pybytes()
    try:
        return has_checksum(head)
    except FooterError:
        return True
