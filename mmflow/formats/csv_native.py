"""The CSV kernel behind `RecordDecoder`: it reads what is plain, the reference decoder what is not."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, Comparison
from mmflow.formats.csv_decoder import CsvDecoder, CsvTypes
from mmflow.formats.csv_structure import Dialect
from mmflow.formats.decoder import Decoded, RecordDecoder
from mmflow.formats.native import ReferencePart, imported, kernel_filters, kernel_type, locate
from mmflow.kernels import kernels

__all__ = ["NativeCsvDecoder", "csv_decoder"]


def csv_decoder(
    columns: tuple[str, ...],
    types: CsvTypes,
    dialect: Dialect,
    policy: BadRecordPolicy,
    *,
    check_all: bool = False,
    prune: Sequence[Comparison] = (),
) -> RecordDecoder:
    """The fastest decoder for the given file: the kernel, but for escapes and types that it does not know.

    Args:
        columns: Wanted columns.
        types: Of the file.
        dialect: Of the file.
        policy: For bad records.
        check_all: Convert every column, so that a bad value is found whatever columns are wanted.
        prune: Rows that don't meet these conditions may be left out; where `check_all` or the policy ask for
            every record's values, none are.
    """
    reference = CsvDecoder(columns, types, dialect, policy, check_all=check_all)
    converted = tuple(types.types) if check_all else columns
    if dialect.escape is not None or any(kernel_type(types.types[c]) is None for c in converted):
        return reference
    if check_all or policy != "error":
        prune = ()
    return NativeCsvDecoder(reference, converted, types, dialect, prune)


class NativeCsvDecoder:
    """A `RecordDecoder` for CSV by the kernel.

    Args:
        reference: Reads what the kernel stops at.
        converted: Columns to convert: those of `reference`, and others only to check their values.
        types: Of the file.
        dialect: Of the file.
        prune: Conditions of the rows of interest.
    """

    skips_nuls = True

    def __init__(
        self,
        reference: CsvDecoder,
        converted: tuple[str, ...],
        types: CsvTypes,
        dialect: Dialect,
        prune: Sequence[Comparison],
    ) -> None:
        self.columns = reference.columns
        self._schema = pa.schema([(c, types.types[c]) for c in converted])
        number = {name: i for i, name in reversed(list(enumerate(types.names)))}
        targets = [(number[c], kernel_type(types.types[c])) for c in converted]
        schema = pa.schema(list(types.types.items()))
        filters = [(number[name], *rest) for name, *rest in kernel_filters(prune, schema)]
        nulls = [n.encode() for n in types.nulls]
        delimiter = dialect.delimiter[0]
        quote = dialect.quote[0] if dialect.quote else -1
        self._readers = {
            located: kernels().CsvReader(len(types.names), delimiter, quote, targets, filters, nulls, located)
            for located in (False, True)
        }
        self._odd = ReferencePart(reference)

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        """See `RecordDecoder.decode`."""
        status, consumed, records, rows, lines, first, capsule, offsets = self._readers[located].decode(
            data.address, data.size, stop, final, data
        )
        if not consumed and status:
            return self._odd.decode(data, stop, final=final, located=located)
        self._odd.progressed(consumed)
        batch = imported(self._schema, capsule, rows)
        if self.columns != tuple(self._schema.names):
            batch = batch.select(list(self.columns))
        decoded = Decoded(batch, consumed, records, lines, first=None if first < 0 else first)
        if located:
            locate(decoded, data, offsets)
        return decoded
