"""Facts about the files of a dataset, found without reading them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmflow.config import Settings
from mmflow.formats.compression import file_compression
from mmflow.formats.decoding.scan import ScannedFormat, contents_entry, is_splittable
from mmflow.formats.registry import FORMATS
from mmflow.formats.schemas.schema import public_schema, type_text
from mmflow.formats.sniffing import Proposal
from mmflow.formats.sniffing.files import other_options, sniff_file
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.sections import sections_of
from mmflow.plan.stages import Source
from mmflow.remote.opening import open_file
from mmflow.shards import FileEntry, default_shard_size, identify_files, plan_shards
from mmflow.streams import stream_of

__all__ = ["MAX_SHARDS", "SourceInfo", "proposal_of", "source_info"]

#: Number of shards beyond which they are not counted.
MAX_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Facts about the files of a dataset. `Dataset.source_info` returns it.

    Attributes
    ----------
    path
        Path, URL or pattern that was read.
    format
        Name of the format.
    compression
        Name of the compression of the first file. None: it is not compressed.
    sections
        Parts of the first file, which is compressed, and the bytes of its text. Decompression can begin at them, so all
        workers read the file. None: it is not compressed, or can only be decompressed from its start.
    options
        Options of the format, without empty ones.
    files
        Number of files.
    bytes
        Bytes of all files.
    shards
        Number of shards that a run would read, counted up to 100,000.
    shard_size
        Largest size of a shard, in bytes.
    in_page_cache
        Share of the first file that is in the page cache. None: the file is empty.
    in_cache
        Bytes of the first file in the cache of remote files. None: the file is local.
    reads_by
        Way in which windows of the first file are filled: `mmap` or `pread`.
    reason
        Reason of this choice.
    schema
        Types of the columns, as text.
    sniffed
        Options that `dialect="auto"` found, and how sure that is, as text. None: it was not asked for.
    proposal
        Options that the contents of the first file suggest instead of those that are used: a dict of `options` (all
        that differ from the defaults), `confidence` in [0, 1], and `reasons`. None: they suggest the same ones.

    Examples
    --------
    >>> import mmflow as mf
    >>> from pathlib import Path
    >>> _ = Path("t.csv").write_text("a,b\\n1,x\\n")
    >>> info = mf.read_csv("t.csv").source_info()
    >>> info.format, info.files, info.bytes, info.schema
    ('csv', 1, 8, {'a': 'int64', 'b': 'string'})
    """

    path: str
    format: str
    compression: str | None
    sections: str | None
    options: dict[str, Any]
    files: int
    bytes: int
    shards: int
    shard_size: int
    in_page_cache: float | None
    in_cache: int | None
    reads_by: str
    reason: str
    schema: dict[str, str]
    sniffed: str | None = None
    proposal: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, for JSON."""
        return dataclasses.asdict(self)


def source_info(source: Source, settings: Settings) -> SourceInfo:
    """Return facts about a source, of which only the first file is opened.

    Raises:
        SourceError: A file is missing or can't be opened.
    """
    form, listed = source.format, identify_files(source.files, source.storage)
    files = [contents_entry(form, entry, settings.remote_options) for entry in listed]
    text = sum(e.identity.size for e in files)
    shard_size = settings.shard_size or default_shard_size(text, settings.workers)
    shards = itertools.chain.from_iterable(
        plan_shards(
            e,
            n,
            shard_size=shard_size,
            splittable=is_splittable(form, e, shard_size, settings.remote_options),
            skips_holes=form.skips_holes,
        )
        for n, e in enumerate(files)
    )
    first = listed[0]
    remote_options = replace(settings.remote_options, storage=first.storage)
    with open_file(
        first.path, io=settings.io, expected=first.identity, remote_options=remote_options
    ) as file:
        resident = file.resident(0, first.identity.size)
        stream = stream_of(first.path)
        compression = file_compression(file) if isinstance(form, ScannedFormat) else None
        if stream is not None:
            compression = stream.compression
        decision, cached = file.decision, file.cached_bytes()
    return SourceInfo(
        path=source.label,
        format=form.name,
        compression=compression,
        sections=_sections_text(files[0]),
        options={
            k: v for k, v in form.spec().items() if k not in ("schema", "format") and v not in ("", None)
        },
        files=len(files),
        bytes=sum(e.identity.size for e in listed),
        shards=sum(1 for _ in itertools.islice(shards, MAX_SHARDS)),
        shard_size=shard_size,
        in_page_cache=round(resident / first.identity.size, 4) if first.identity.size else None,
        in_cache=cached,
        reads_by=decision.kind,
        reason=decision.reason,
        schema={f.name: type_text(f.type) for f in public_schema(source.schema)},
        sniffed=source.sniffed or None,
        proposal=None if source.sniffed or form.name != "csv" else _other_proposal(first.path, form.spec()),
    )


def _sections_text(entry: FileEntry) -> str | None:
    if not entry.identity.is_contents:
        return None
    path, identity = entry.path, entry.identity.file
    found = sections_of(path, identity)
    return None if found is None else f"{found.count:,} {found.kind}s, {found.size:,} bytes of text"


def proposal_of(path: str) -> dict[str, Any] | None:
    """Return what the contents of a CSV file suggest, as `SourceInfo.proposal`; None: nothing.

    Raises:
        SourceError: It can't be read.
    """
    found = sniff_file(path, FORMATS["csv"])
    return _plain(found[0]) if found else None


def _other_proposal(path: str, spec: Mapping[str, Any]) -> dict[str, Any] | None:
    found = sniff_file(path, FORMATS["csv"])
    return _plain(found[0]) if found and other_options(found[0], spec) else None


def _plain(proposal: Proposal) -> dict[str, Any]:
    return {
        "options": dict(proposal.options),
        "confidence": proposal.confidence,
        "reasons": list(proposal.reasons),
    }
