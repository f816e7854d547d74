"""Interface of decoders: one window's bytes in, batches out.

A decoder is stateless between calls: each begins at a record's first byte. The reference decoders
are numpy and pyarrow; the C++ kernels take the same call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Protocol

import numpy as np
import pyarrow as pa

from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = ["I64", "BadValue", "Decoded", "RecordDecoder"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BadValue:
    """Record that does not fit.

    Attributes:
        offset: Offset of the record's first byte in the decoded bytes.
        length: Length of the record in bytes, without its terminator.
        record: Its number among the records decoded by this call, from 0.
        line: Physical lines before it in the decoded bytes; None: the format has no lines.
        column: Column whose value did not fit; None where the structure is broken.
        value: Value that did not fit.
        reason: Reason, as text.
        dropped: The record is not among the rows; else it is, with nulls.
        not_text: The record holds bytes that are no text of its encoding.
        excerpt: First bytes of the record as they are shown, where those of the file are not readable.
    """

    offset: int
    length: int
    record: int
    line: int | None
    column: str | None
    value: str | None
    reason: str
    dropped: bool = True
    not_text: bool = False
    excerpt: bytes | None = None


@dataclass(slots=True)
class Decoded:
    """Result of one call of a decoder.

    Attributes:
        batch: Rows of the wanted columns (no virtual ones), canonical types; without columns, just a row count.
        consumed: Bytes up to the first record that was not decoded.
        records: Records decoded, bad ones included.
        lines: Newlines within `consumed`.
        offsets: Offset of each row's record in the decoded bytes, shape (rows,); None unless asked for.
        located_lines: Physical lines before each row's record in the decoded bytes, likewise; or what counts them.
        bad: Bad records in order. Under `error` the first only, and the batch ends before it.
        broken: Place behind which nothing can be read: an error whatever the policy, behind the rows and `bad`.
        repaired: Number of repairs of records that are among the rows.
        repairs: The first of them, in order; each is described when it is asked for: that costs more than to decode it.
    """

    batch: pa.RecordBatch
    consumed: int
    records: int
    lines: int
    offsets: I64 | None = None
    located_lines: I64 | Callable[[], I64] | None = None
    bad: list[BadValue] = field(default_factory=list)
    broken: BadValue | None = None
    repaired: int = 0
    repairs: Iterable[BadValue] = ()

    @property
    def line_numbers(self) -> I64 | None:
        """Physical lines before each row's record in the decoded bytes, shape (rows,); None unless asked for."""
        return self.located_lines() if callable(self.located_lines) else self.located_lines


class RecordDecoder(Protocol):
    """Decodes records from bytes that begin with one.

    Attributes:
        columns: Wanted columns.
        skips_nuls: NULs where a record would begin are blank.
    """

    columns: tuple[str, ...]
    skips_nuls: bool

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        """Decode the complete records whose first byte lies before `stop`.

        Args:
            data: Bytes; the first one begins a record (or blanks before one).
            stop: Records that begin here or later are left.
            final: The file ends where `data` does, so an unterminated last record is complete.
            located: Also give `offsets` and `line_numbers`.
        """
        ...
