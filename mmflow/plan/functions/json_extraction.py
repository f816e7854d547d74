"""Values at a path of many texts of JSON at once, by the kernel of kernels/json/extract.h.

Invariant: a result is that of `functions.json_values`, which is also asked for the texts that the kernel leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.decoder import I64
from mmflow.kernels import kernels

__all__ = ["extract"]

#: JsonResult in kernels/json/extract.h, and the type of the results.
_RESULTS = {
    "json_extract": (0, pa.string_view()),
    "json_extract_string": (1, pa.string_view()),
    "json_type": (2, pa.string_view()),
    "json_array_length": (3, pa.int64()),
    "json_valid": (4, pa.bool_()),
}
_MOST_ITEMS = 1 << 62


def extract(name: str, texts: pa.Array, steps: Sequence[str | int]) -> tuple[pa.Array, I64] | None:
    """Return the results of a function for all texts, and the numbers of the texts for which it has to be asked itself.

    Args:
        name: Name of the function.
        texts: Texts, as string_view.
        steps: Path of the value.

    Returns:
        None where the kernel doesn't know the function, or the path.
    """
    if name not in _RESULTS or len(texts) == 0:
        return None
    result, kind = _RESULTS[name]
    extractor = _extractor(tuple(steps), result)
    if extractor is None:
        return None
    bits, views, *buffers = texts.buffers()
    values, side, validity, fallback = extractor.extract(
        views.address + 16 * texts.offset,
        [b.address for b in buffers],
        0 if bits is None else bits.address,
        texts.offset,
        len(texts),
    )
    given, beside, valid = (pa.foreign_buffer(*each) for each in (values, side, validity))
    parts = [given]
    if pa.types.is_string_view(kind):
        parts = [given, *buffers, beside]
    elif pa.types.is_boolean(kind):
        parts = [valid]  # what is asked is whether there is a value
    made = pa.Array.from_buffers(kind, len(texts), [valid, *parts])
    return made, np.frombuffer(fallback, np.int64)


@lru_cache(maxsize=256)
def _extractor(steps: tuple[str | int, ...], result: int) -> Any:
    if any(isinstance(step, int) and abs(step) > _MOST_ITEMS for step in steps):
        return None
    try:
        keys = [step.encode() if isinstance(step, str) else step for step in steps]
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return kernels().JsonExtractor(keys, result)
