"""`inspect`: facts about a source, without a run."""

from __future__ import annotations

import json

from mmflow.api.source_info import MAX_SHARDS
from mmflow.cli.options import read_source, session_of
from mmflow.cli.parsing import Options
from mmflow.formats.schemas.schema import name_text

__all__ = ["inspect"]


def inspect(options: Options) -> int:
    """Print the format, schema, shards and page-cache residency of a source, and how it would be mapped."""
    info = read_source(session_of(options), options.path, options.opt).source_info()
    if options.json:
        print(json.dumps(info.as_dict()))
        return 0
    shards = f"{info.shards:,}" if info.shards < MAX_SHARDS else f"more than {info.shards:,}"
    cached = "(empty file)" if info.in_page_cache is None else f"{info.in_page_cache:.0%} of the first file"
    compressed = "" if info.compression is None else f" compressed by {info.compression}"
    files = f"{info.files:,} file{'s' * (info.files != 1)}"
    print(f"{options.path}: {info.format}{compressed}, {files}, {info.bytes:,} bytes")
    print(f"  options     {', '.join(f'{k}={v!r}' for k, v in info.options.items()) or '(none)'}")
    print(f"  shards      {shards} of up to {info.shard_size:,} bytes")
    print(f"  page cache  {cached}")
    if info.in_cache is not None:
        print(f"  fetched     {info.in_cache:,} bytes of the first file are in the cache")
    print(f"  reads by    {info.reads_by}: {info.reason}")
    print(f"  columns     {len(info.schema)}")
    for name, kind in info.schema.items():
        print(f"    {name_text(name)}: {kind}")
    return 0
