"""Text of Arrow files as views, by a kernel that validates it in the same pass.

What `validate(full=True)` and a cast give, in a fraction of their time; whatever the kernel stumbles over is left
to these two, so that errors stay pyarrow's own.
"""

from __future__ import annotations

import pyarrow as pa

from mmflow.kernels import kernels

__all__ = ["text_views"]

# Views count in int32: longer text is cut into pieces of a GiB, each a buffer that reaches a GiB further, so that a
# value which begins in a piece ends in its buffer.
_PIECE = 30


def text_views(array: pa.Array, piece: int = _PIECE) -> pa.Array | None:
    """Return unvalidated `string` or `large_string` as valid views over its own bytes.

    Args:
        array: Array of a file: places and lengths of its buffers are valid, their content is not checked.
        piece: Bits of an offset within a view's buffer.

    Returns:
        None: Empty, of another type, or damaged; pyarrow must check it.
    """
    kind, count = array.type, len(array)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or not count or array.offset:
        return None
    validity, offsets, data = array.buffers()
    width = 4 if pa.types.is_string(kind) else 8
    if offsets is None or offsets.size < (count + 1) * width:
        return None
    if validity is not None and validity.size < -(-count // 8):
        return None
    views = pa.allocate_buffer(count * 16)
    address, size = (0, 0) if data is None else (data.address, data.size)
    bits = 0 if validity is None else validity.address
    if kernels().text_views(offsets.address, width, address, size, bits, count, piece, views.address):
        return None
    cut = range(0, size, 1 << piece)
    buffers = [data] if len(cut) == 1 else [data.slice(at, min(2 << piece, size - at)) for at in cut]
    made = pa.Array.from_buffers(pa.string_view(), count, [validity, views, *buffers])
    # As the file says it, the number of nulls would be believed too.
    return made if made.null_count == array.null_count else None
