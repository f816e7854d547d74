"""The kernel of text lines behind `RecordDecoder`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.base import Comparison
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.kernel_types import KernelDecoder, kernel_type
from mmflow.kernels import kernels

__all__ = ["needle_of", "text_decoder"]

_SCHEMA = pa.schema([("line", pa.string_view())])


def needle_of(prune: Sequence[Comparison]) -> bytes:
    """Return the bytes that every line of interest holds; empty where there are none."""
    texts = [
        c.value
        for c in prune
        if c.column == "line" and c.op in ("contains", "eq") and isinstance(c.value, str)
    ]
    needles = [t.encode() for t in texts]
    # Longer ones are rarer; one with a line break is never found, and left to the query's own filter.
    return max((n for n in needles if b"\n" not in n and b"\r" not in n), key=len, default=b"")


def text_decoder(reference: RecordDecoder, prune: Sequence[Comparison]) -> RecordDecoder:
    """Return a decoder for lines by the kernel.

    Args:
        reference: Reads what the kernel stops at: lines that are not UTF-8, or begin with a NUL.
        prune: Lines that don't meet these conditions may be left out.
    """
    needle = needle_of(prune)
    schema = _SCHEMA if reference.columns else pa.schema([])
    targets = [(0, kernel_type(f.type)) for f in schema]
    return KernelDecoder(
        reference,
        schema,
        lambda located: kernels().LinesReader(targets, located, needle),
    )
