"""Formats: bytes of a file in, record batches out.

Invariant: for any list of shards that tile a file, the concatenated batches equal those of
reading the file as one shard. Formats know nothing of plans, tasks or engines.

Two families implement `Format`:

- record formats (csv, ndjson, text, records): a record belongs to the shard in which its first
  byte lies; `formats/decoding/reader.py` walks windows, `RecordDecoder` decodes one window. A faster
  decoder (C++ kernels) drops in as another `RecordDecoder`.
- group formats (parquet, arrow_ipc, npy): whole row groups or batches belong to a shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Literal, Protocol

import pyarrow as pa

from mmflow.errors import BadRecordError, ConfigError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = [
    "PLACE",
    "VIRTUAL_COLUMNS",
    "BadRecordPolicy",
    "Comparison",
    "Format",
    "NativeEnd",
    "Reject",
    "Scan",
    "ScanReport",
    "ScanRequest",
    "checks_all",
]

BadRecordPolicy = Literal["error", "null", "skip", "quarantine"]

#: Columns that every record format offers beside its own, and their types.
VIRTUAL_COLUMNS: dict[str, pa.DataType] = {
    "_file": pa.string_view(),
    "_offset": pa.int64(),
    "_line": pa.int64(),
}

#: Column that every source can offer beside its own, of int64: a hash of the file's path and of where in it the row is,
#: the same for every shard size and engine. Samples pick by it; users don't see it.
PLACE = "_place"


def checks_all(options: Mapping[str, Any]) -> bool:
    """Return whether values of all columns are checked, whatever columns a query reads: the option `validate`.

    By default they are wherever bad records are not errors: else a record would be dropped by some queries and kept
    by others, and `count()` would not be the number of rows.

    Raises:
        ConfigError: `projected` is asked for where bad records are dropped.
    """
    policy = options.get("on_bad_record", "error")
    chosen = options.get("validate", "projected" if policy == "error" else "all")
    if chosen == "projected" and policy in ("skip", "quarantine"):
        raise ConfigError(
            f"validate = 'projected' can't go with on_bad_record = {policy!r}: which rows there are would depend on "
            "the columns that a query reads; leave validate out (all), or set on_bad_record to null or error"
        )
    return bool(chosen == "all")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`column op value`, one conjunct of a filter; used only to prune, never to filter.

    `op` is one of eq, ne, lt, le, gt, ge, in, is_null, is_not_null; `value` a Python scalar
    (for `in`: a tuple of them; for the null tests: None).
    """

    column: str
    op: str
    value: Any


@dataclass(slots=True)
class NativeEnd:
    """Native steps that end a scan: rows that they take are in the groups, and don't come as batches.

    A scan may give them records as it decodes these. It yields `empty` then, so that its caller sees how far it is.

    Attributes:
        schema: Names and types of the columns that they take.
        program: `RowProgram` of the kernels; None: the aggregator takes the columns themselves.
        group_bytes: Bytes of groups at which a scan yields, so that its caller can empty the aggregator.
        batch_bytes: Bytes of columns that are aggregated at once.
        empty: Batch without rows.
        aggregator: `Aggregator` of the kernels; the caller may replace it after each batch.
        rows: Rows that were taken.
        known: Of these, rows whose groups the decoder found (kernels/csv/known.h).
    """

    schema: pa.Schema
    program: Any
    group_bytes: int
    batch_bytes: int
    empty: pa.RecordBatch
    aggregator: Any = None
    rows: int = 0
    known: int = 0


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """Request to scan one shard.

    Attributes:
        columns: Wanted columns, in output order; may hold `VIRTUAL_COLUMNS`. May be empty: batches
            then have no columns but a row count.
        prune: Conjuncts that all rows of interest satisfy; a format may drop whole groups by their
            statistics, and must return every other row.
        window_bytes: Largest part of the file that is mapped at once, in bytes (a longer record may exceed it).
        batch_rows: Largest number of rows of a batch.
        piece_bytes: Record formats: a batch is of records that fit in so many bytes, or of one that does not; 0: of as
            many as the decoder reads well at once.
        batch_bytes: Record formats: bytes of a batch by which it ends, without the text that views point to.
        decoders: Decoders that serve several files, by what they depend on. Requests are of one thread.
        end: Native steps that may take rows; None: all come as batches.
    """

    columns: tuple[str, ...]
    prune: tuple[Comparison, ...] = ()
    window_bytes: int = 64 << 20
    batch_rows: int = 64 << 10
    piece_bytes: int = 0
    batch_bytes: int = 8 << 20
    decoders: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    end: NativeEnd | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reject:
    """Record that `skip` or `quarantine` dropped, or into which `null` put nulls.

    `line` (None: the format has none) and `record` are relative to the shard (0-based), `raw` the
    record's bytes without its terminator (kept by quarantine only, else empty).
    """

    byte_offset: int
    record: int
    line: int | None
    column: str | None
    reason: str
    raw: bytes = b""


@dataclass(slots=True)
class ScanReport:
    """Report of a scan of one shard; complete once its batches are exhausted.

    Of record formats it is true at each batch, too: of the shard up to `next`, behind the batch's last record.

    For record formats `first` is the byte offset of the first record that the shard owns and `next`
    that of the first record after its last one (end of file: the file's size), so that
    `next` of a shard equals `first` of the following one if both were read right: the boundary check.
    `next >= shard.end`, unless `error` ended the shard: blanks after the last record (empty lines, and NULs
    where `skips_holes`) are skipped up to the shard's end. For group formats they are group numbers, with
    the same rule for `first`.

    Attributes:
        records: Records owned by the shard, bad ones included.
        lines: Physical lines from `first` up to `next`; from the start, where that was known (byte 0, so a
            header counts; a `fresh` shard's begin; `Shard.known_start`).
        bytes_read: Bytes of the file that were looked at.
        bad: Number of bad records met (dropped or with values put to null).
        rejects: They, one by one (`null` and `skip`: the first 100 of a shard; quarantine: all).
        pruned: Groups that were dropped by statistics.
        repaired: Repairs of records (ragged and lenient CSV); the first 100 of a shard are among the rejects.
        row: Formats of groups: a number of the last batch's first row, by which no other row of the file is numbered.
    """

    first: int = 0
    next: int = 0
    records: int = 0
    lines: int = 0
    bytes_read: int = 0
    bad: int = 0
    rejects: list[Reject] = field(default_factory=list)
    pruned: int = 0
    row: int = 0
    repaired: int = 0
    error: BadRecordError | None = None


class Scan(Protocol):
    """Iteration over the batches of one shard, and its report.

    With policy `error`, a bad record ends the iteration: it is in `report.error`, with `record` and
    `line` relative to the shard, and is not raised, since the start of the shard may have
    been a wrong guess. I/O problems are raised (`SourceError`).
    """

    @property
    def report(self) -> ScanReport: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


class Format(Protocol):
    """Format with its options bound and its schema known, which is all that a worker needs.

    Attributes:
        name: csv, ndjson, text, records, arrow_ipc, npy, parquet.
        schema: Full schema, canonical types (`formats.schemas.schema.canonical_schema`), without
            `VIRTUAL_COLUMNS`; every field nullable.
        record_oriented: True for record formats: byte-range shards, boundary check, virtual columns.
        one_nan: True where every NaN that a scan gives has the same bits.
        splittable: False where every file must be one shard (IPC streams); of others see `is_splittable` of
            `formats/decoding/scan.py`.
        skips_holes: True where a run of NUL bytes at a record's start is blank (text formats).
    """

    name: str
    schema: pa.Schema
    record_oriented: bool
    one_nan: bool
    splittable: bool
    skips_holes: bool

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the records that `shard` owns.

        Raises:
            SourceError: The file can't be read, or is not of this format at all.
        """
        ...

    def check(self, file: MappedFile) -> None:
        """Check that a file has the columns of the schema; where that was taken from another file, just these.

        Formats that don't say their columns in one place (ndjson) or have the same ones always check nothing.

        Raises:
            SourceError: It has others.
        """
        ...

    def lacks(self, file: MappedFile) -> frozenset[str]:
        """Return the columns of the schema that a file lacks and that are null in all its rows (`missing_columns`).

        Scans of the file must not ask for them.

        Raises:
            SourceError: The file can't be read.
        """
        ...

    def spec(self) -> dict[str, Any]:
        """Return the format as plain data (JSON-able but for the Arrow schema); `formats.from_spec` is the inverse."""
        ...
