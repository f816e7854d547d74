"""The kernel of text lines behind `RecordDecoder`; lines that are not plain go to the reference decoder."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.base import Comparison
from mmflow.formats.decoder import Decoded, RecordDecoder
from mmflow.formats.native import ReferencePart, imported, locate
from mmflow.kernels import kernels

__all__ = ["NativeTextDecoder", "needle_of"]

_SCHEMA = pa.schema([("line", pa.string_view())])


def needle_of(prune: Sequence[Comparison]) -> bytes:
    """Bytes that every line of interest holds; empty where there are none."""
    texts = [
        c.value
        for c in prune
        if c.column == "line" and c.op in ("contains", "eq") and isinstance(c.value, str)
    ]
    needles = [t.encode() for t in texts]
    # Longer ones are rarer; one with a line break is never found, and left to the query's own filter.
    return max((n for n in needles if b"\n" not in n and b"\r" not in n), key=len, default=b"")


class NativeTextDecoder:
    """A `RecordDecoder` for lines by the kernel.

    Args:
        reference: Reads what the kernel stops at: lines that are not UTF-8, or begin with a NUL.
        needle: Lines without these bytes may be left out.
    """

    skips_nuls = True

    def __init__(self, reference: RecordDecoder, needle: bytes) -> None:
        self.columns = reference.columns
        self._odd = ReferencePart(reference)
        wanted = bool(reference.columns)
        self._readers = {located: kernels().LinesReader(wanted, located, needle) for located in (False, True)}

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        """See `RecordDecoder.decode`."""
        status, consumed, records, rows, lines, capsule, offsets = self._readers[located].decode(
            data.address, data.size, stop, final, data
        )
        if not consumed and status:
            return self._odd.decode(data, stop, final=final, located=located)
        self._odd.progressed(consumed)
        batch = imported(_SCHEMA if self.columns else pa.schema([]), capsule, rows)
        decoded = Decoded(batch, consumed, records, lines)
        if located:
            locate(decoded, data, offsets)
        return decoded
