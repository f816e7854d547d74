"""`inspect`: looking at a source, without running anything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from mmflow.cli.options import opened
from mmflow.formats.schema import name_text, public_schema, type_text
from mmflow.mapping import Io
from mmflow.remote.opening import open_file
from mmflow.session import Session
from mmflow.shards import default_shard_size, entries, plan_shards

__all__ = ["inspect"]

_MOST_SHARDS = 100_000


def inspect(session: Session, path: str, options: Sequence[str], *, as_json: bool) -> int:
    """Format, schema, shards, page-cache residency, and how the file would be mapped."""
    dataset = opened(session, path, options)
    assert dataset._selection is not None  # it was just read
    source = dataset._selection.source
    form, files = source.format, entries(source.files, source.storage)
    size = sum(e.identity.size for e in files)
    shard_size = session.settings.shard_size or default_shard_size(size, session.settings.workers)
    shards = itertools.chain.from_iterable(
        plan_shards(
            e,
            n,
            shard_size=shard_size,
            splittable=form.splittable,
            skips_holes=form.skips_holes,
        )
        for n, e in enumerate(files)
    )
    count = sum(1 for _ in itertools.islice(shards, _MOST_SHARDS))
    first_size = files[0].identity.size
    reach = replace(session.settings.reach, storage=files[0].storage)
    io = cast(Io, session.settings.io)
    with open_file(files[0].path, io=io, expected=files[0].identity, reach=reach) as first:
        decision, resident = first.decision, first.resident(0, first_size)
        kept = first.kept()
    spec = {k: v for k, v in form.spec().items() if k not in ("schema", "format") and v not in ("", None)}
    facts: dict[str, Any] = {
        "path": path,
        "format": form.name,
        "options": spec,
        "files": len(files),
        "bytes": size,
        "shards": count,
        "shard_size": shard_size,
        "in_page_cache": round(resident / first_size, 4) if first_size else None,
        "in_cache": kept,
        "reads_by": decision.kind,
        "reason": decision.reason,
        "schema": {f.name: type_text(f.type) for f in public_schema(source.schema)},
    }
    if as_json:
        print(json.dumps(facts, default=str))
        return 0
    more = f"{count:,}" if count < _MOST_SHARDS else f"more than {count:,}"
    cached = "" if facts["in_page_cache"] is None else f"{facts['in_page_cache']:.0%} of the first file"
    print(f"{path}: {form.name}, {len(files):,} file{'s' * (len(files) != 1)}, {size:,} bytes")
    print(f"  options     {', '.join(f'{k}={v!r}' for k, v in spec.items()) or '(none)'}")
    print(f"  shards      {more} of up to {shard_size:,} bytes")
    print(f"  page cache  {cached or '(empty file)'}")
    if kept is not None:
        print(f"  fetched     {kept:,} bytes of the first file are in the cache")
    print(f"  reads by    {decision.kind}: {decision.reason}")
    print(f"  columns     {len(source.schema)}")
    for name, kind in facts["schema"].items():
        print(f"    {name_text(name)}: {kind}")
    return 0
