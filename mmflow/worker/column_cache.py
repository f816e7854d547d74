"""Columns of text files that are kept as they are converted, and read instead of the text by later scans.

    shard, wanted columns -> all kept      zones that may match, decoded
                          -> noted before  read from the text, all its rows, and kept     ("eager": at once)
                          -> else          read from the text; the columns are noted

An entry is one column of one shard. It holds what the report of its scan said, so that the boundary check treats a
shard from the cache as any other: an entry whose first record was guessed wrong is found out as such a scan is.

Invariant: a shard comes from the cache only where a scan of its text would give the same rows and the same report,
without bad records. Whatever goes wrong here costs the cache only: the text is read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.cache.entry import EntryKey
from mmflow.cache.store import CacheStore, open_store
from mmflow.errors import MmflowError
from mmflow.formats import VIRTUAL_COLUMNS, Comparison, Scan, ScanReport, ScanRequest
from mmflow.formats.columns.encoding import (
    ZONE_ROWS,
    CodeRange,
    ColumnEncoder,
    EncodedColumn,
    can_encode,
    decode,
)
from mmflow.formats.compression import file_compression
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.parquet.statistics import may_match
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.remote.options import RemoteOptions
from mmflow.shards import Shard
from mmflow.storage.facts import optional, parse_object
from mmflow.storage.format_versions import COLUMNS

__all__ = ["CachedScan", "ColumnCache", "ShardColumns"]

_ALIGN = 64
#: Most columns of a scan: each is an entry for each shard.
_MOST_COLUMNS = 256
_HEAD = {
    "first": int,
    "next": int,
    "records": int,
    "lines": int,
    "fresh": bool,
    "known_start": optional(int),
}
_NOTE = {"columns": dict, "raw": [str], "bad": bool}


class ColumnCache:
    """Columns of the files of one scan.

    Args:
        form: Format of the files.
        options: Where the cache is, and whether columns are kept (`RemoteOptions.columns`).
        run: Name of the run, since the first one of `auto` only notes columns.
        memory: Bytes that columns may take before they are kept.

    Attributes:
        run: The same.
    """

    def __init__(self, form: ScannedFormat, options: RemoteOptions, run: str, memory: int) -> None:
        self._form = form
        self.run = run
        self._memory = memory
        self._eager = options.columns == "eager"
        self._store = open_store(options.cache_dir, options.cache_size, options.spill_dir)
        spec = {k: v for k, v in form.spec().items() if k != "schema"}
        # By their text: options may be of any type that prints what it is.
        decides = repr(sorted(spec.items(), key=str)) + form.schema.to_string(show_field_metadata=True)
        digest = hashlib.blake2b(decides.encode(), digest_size=16).hexdigest()
        self._facts = {"version": COLUMNS.version, "format": form.name, "options": digest}

    def of(self, file: MappedFile, shard: Shard, columns: Sequence[str]) -> ShardColumns | None:
        """Return the wanted columns of a shard in the cache; None where these are never kept."""
        if (
            self._store is None
            or type(file) is not MappedFile
            or file.whole
            or file.in_archive
            or not 0 < len(columns) <= _MOST_COLUMNS
            or not VIRTUAL_COLUMNS.keys().isdisjoint(columns)
            or self._form.encoding.stateful
            or not all(can_encode(self._form.schema.field(name).type) for name in columns)
            or file_compression(file) is not None
        ):
            return None
        return ShardColumns(
            self._store, self._form.schema, self._facts, file, shard, columns, self.run, self._memory,
            eager=self._eager,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Note:
    """Notes of a file: columns with the run that read them first, and those that are not kept."""

    columns: dict[str, str]
    raw: list[str]
    bad: bool

    @classmethod
    def parse(cls, text: bytes) -> _Note:
        found = parse_object(text, _NOTE)
        return cls(found["columns"], found["raw"], found["bad"])

    def text(self) -> bytes:
        return json.dumps({"columns": self.columns, "raw": self.raw, "bad": self.bad}).encode()


class ShardColumns:
    """Wanted columns of one shard in the cache. Made by `ColumnCache.of`."""

    def __init__(
        self,
        store: CacheStore,
        schema: pa.Schema,
        facts: dict[str, object],
        file: MappedFile,
        shard: Shard,
        columns: Sequence[str],
        run: str,
        memory: int,
        *,
        eager: bool,
    ) -> None:
        self._store = store
        self._schema = schema
        self._facts = facts
        self._file = file
        self._shard = shard
        self._columns = tuple(columns)
        self._run = run
        self._memory = memory
        self._eager = eager
        self._missing = self._columns

    def scan(self, request: ScanRequest) -> CachedScan | None:
        """Return a scan of the kept columns; None: one is missing."""
        found = {name: self._load(name) for name in self._columns}
        known = {name: pair for name, pair in found.items() if pair is not None}
        reports = [report for report, _ in known.values()]
        if any(report != reports[0] for report in reports):
            known = {}  # one of them is of a guess that was wrong
        self._missing = tuple(name for name in self._columns if name not in known)
        if self._missing:
            return None
        report, columns = reports[0], {name: column for name, (_, column) in known.items()}
        prune = [c for c in request.prune if c.column in columns]
        made = ScanReport(report["first"], report["next"], report["records"], report["lines"])
        return CachedScan(made, columns, prune)

    def _load(self, name: str) -> tuple[dict[str, int], EncodedColumn] | None:
        key = self._key(name)
        try:
            entry = self._store.open(key)
            if entry is None:
                return None
            body = pa.py_buffer(entry.view())
            length = int.from_bytes(body[:8], "little")
            head = parse_object(body[8 : 8 + length].to_pybytes(), _HEAD)
            if not self._fits(head):
                return None
            begin = _aligned(8 + length)
            column = decode(body.slice(begin), self._schema.field(name).type)
            if column.rows != head["records"]:
                raise ValueError("it has other rows than its report")
        except (ValueError, OSError, pa.ArrowException, MmflowError):
            self._store.drop(key)
            return None
        return {k: head[k] for k in ("first", "next", "records", "lines")}, column

    def _fits(self, head: dict[str, int]) -> bool:
        """Return whether a scan of the shard would begin where that of an entry did, or may guess its start."""
        shard = self._shard
        if head["fresh"] != shard.fresh:
            return False
        if head["known_start"] == shard.known_start:
            return True
        # A start that was guessed is compared by the boundary check; one that is known must be the entry's.
        return not shard.fresh and shard.known_start in (None, head["first"])

    def keeping(self) -> bool:
        """Return whether the scan of the text that follows should keep its columns, which it notes otherwise."""
        if FileIdentity.settled(self._file.path, time.time_ns()) != self._file.identity:
            return False  # another change may not show in its identity
        note = self._note()
        if note.bad or not set(note.raw).isdisjoint(self._columns):
            return False
        if self._eager or all(note.columns.get(c, self._run) != self._run for c in self._columns):
            return True
        if any(c not in note.columns for c in self._columns):
            self._write_note(replace(note, columns=dict.fromkeys(self._columns, self._run) | note.columns))
        return False

    def keep(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the batches of the whole shard, in which no row is left out, and keep their columns."""
        encoders = {name: ColumnEncoder(self._schema.field(name).type) for name in self._missing}
        raw: set[str] = set()
        for batch in scan:
            for name in list(encoders):
                if not encoders[name].add(batch.column(name)):
                    raw.add(name)
                    del encoders[name]
            if raw or sum(e.nbytes for e in encoders.values()) > self._memory:
                encoders.clear()  # a query that reads one of its columns from the text gains nothing by the others
            yield batch
        found = scan.report
        if raw or found.bad or found.repaired or found.error is not None:
            note = self._note()
            bad = not raw
            self._write_note(replace(note, raw=sorted({*note.raw, *raw}), bad=note.bad or bad))
            return
        if found.records == 0:
            return
        try:
            self._file.check_unchanged()
        except MmflowError:
            return  # its reader finds it out, too
        for name, encoder in encoders.items():
            self._save(name, encoder, found)

    def _save(self, name: str, encoder: ColumnEncoder, report: ScanReport) -> None:
        shard = self._shard
        head = json.dumps(
            {
                "first": report.first,
                "next": report.next,
                "records": report.records,
                "lines": report.lines,
                "fresh": shard.fresh,
                "known_start": shard.known_start,
            }
        ).encode()
        start = len(head).to_bytes(8, "little") + head
        with self._store.write(self._key(name)) as writer:
            writer.write(start.ljust(_aligned(len(start)), b"\0"))
            writer.write(memoryview(encoder.finish()))

    def _key(self, column: str | None) -> EntryKey:
        facts = dict(self._facts)
        if column is None:
            facts["note"] = True
        else:
            facts |= {"column": column, "begin": self._shard.begin, "end": self._shard.end}
        return EntryKey("columns", self._file.path, self._file.identity, facts)

    def _note(self) -> _Note:
        try:
            entry = self._store.open(self._key(None))
            if entry is not None:
                return _Note.parse(bytes(entry.view()))
        except (ValueError, OSError):
            self._store.drop(self._key(None))
        return _Note({}, [], bad=False)

    def _write_note(self, note: _Note) -> None:
        with self._store.write(self._key(None)) as writer:
            writer.write(note.text())


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


class CachedScan:
    """Scan of the columns of a shard in the cache (`formats.Scan`).

    Attributes:
        report: What the scan of the text reported; no bytes of the file are read.
        columns: Names of the columns.
        nbytes: Bytes of the columns as they are kept.
    """

    def __init__(
        self, report: ScanReport, columns: dict[str, EncodedColumn], prune: Sequence[Comparison]
    ) -> None:
        self.report = report
        self.columns = tuple(columns)
        self.nbytes = sum(column.nbytes for column in columns.values())
        self._columns = columns
        self._prune = prune

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        columns = self._columns
        zones = len(next(iter(columns.values())).zones)
        ranges = [found for c in self._prune if (found := columns[c.column].code_range(c)) is not None]
        few: list[npt.NDArray[np.int64]] = []  # rows of zones that hold few wanted ones
        for number in range(zones):
            if not all(may_match(c, columns[c.column].zones[number]) for c in self._prune):
                self.report.pruned += 1
                continue
            rows = _matching(ranges, number)
            if rows is None:
                if few:
                    yield self._taken(few)
                    few = []
                yield self._batch([column.zone(number) for column in columns.values()])
            else:
                few.append(rows)
                if sum(map(len, few)) >= ZONE_ROWS:
                    yield self._taken(few)
                    few = []
        if few:
            yield self._taken(few)

    def _taken(self, few: list[npt.NDArray[np.int64]]) -> pa.RecordBatch:
        rows = np.concatenate(few)
        return self._batch([column.take(rows) for column in self._columns.values()])

    def _batch(self, arrays: list[pa.Array]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(arrays, names=list(self._columns))


def _matching(ranges: Sequence[CodeRange], number: int) -> npt.NDArray[np.int64] | None:
    """Return the numbers of the rows of a zone that may satisfy all comparisons; None: so many that all are decoded."""
    mask: npt.NDArray[np.bool_] | None = None
    for one in ranges:
        found = one.mask(number)
        if found is not None:
            mask = found if mask is None else mask & found
    if mask is None or 2 * np.count_nonzero(mask) > len(mask):
        return None
    return np.flatnonzero(mask) + number * ZONE_ROWS
