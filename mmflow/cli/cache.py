"""`cache show`, `cache clear` and `cache verify`: what is kept of files between queries, and its removal."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
from collections import defaultdict
from typing import Any

from mmflow.cache.store import CacheStore, EntryInfo, open_store
from mmflow.cli.options import flags_of
from mmflow.cli.parsing import Options
from mmflow.config import Settings
from mmflow.runs.report.formatting import clipped, plural, size, visible

__all__ = ["clear", "show", "verify"]

_LEAST_SOURCE = 20


def _store(options: Options) -> CacheStore | None:
    chosen = Settings.load(flags_of(options), file=options.config).remote_options
    store = open_store(chosen.cache_dir, chosen.cache_size, chosen.spill_dir)
    if store is None and not options.json:
        print(
            "there is no cache: cache_size is 0, or its folder can't be used (it must be yours alone, on a local disk)",
            file=sys.stderr,
        )
    return store


# ---- show -------------------------------------------------------------------------------------------------


def show(options: Options) -> int:
    """Print the entries of the cache, those of each file and kind together."""
    store = _store(options)
    entries = [] if store is None else sorted(store.entries(), key=lambda e: (-e.used, e.path))
    total = sum(entry.nbytes for entry in entries)
    if options.json:
        made = {
            "folder": None if store is None else store.folder,
            "limit": None if store is None else store.limit,
            "bytes": total,
            "entries": [_facts(entry) for entry in entries],
        }
        print(json.dumps(made))
        return 0
    if store is None:
        return 0
    if entries:
        print("\n".join(_table(entries)))
    print(
        f"{plural(len(entries), 'entry', 'entries')}, {size(total)} of {size(store.limit)} in {store.folder}",
        file=sys.stderr,
    )
    return 0


def _facts(entry: EntryInfo) -> dict[str, Any]:
    return {
        "kind": entry.key.kind,
        "source": entry.key.source,
        "bytes": entry.nbytes,
        "used": dt.datetime.fromtimestamp(entry.used, dt.UTC).isoformat(timespec="seconds"),
        "in_use": entry.pinned,
        "facts": dict(entry.key.facts),
    }


def _table(entries: list[EntryInfo]) -> list[str]:
    """Return the lines of a table of files; the end of a long path is shown."""
    groups: defaultdict[tuple[str, str], list[EntryInfo]] = defaultdict(list)
    for entry in entries:
        groups[entry.key.source, entry.key.kind].append(entry)
    rows = [("FILE", "KIND", "ENTRIES", "SIZE", "USED")]
    for (source, kind), found in groups.items():
        used = (
            dt.datetime.fromtimestamp(max(entry.used for entry in found), dt.UTC)
            .astimezone()
            .strftime("%Y-%m-%d %H:%M")
        )
        rows.append(
            (visible(source), kind, f"{len(found):,}", size(sum(entry.nbytes for entry in found)), used)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths[1:]) - 2 * 4
        widths[0] = min(widths[0], max(_LEAST_SOURCE, room))
    lines = []
    for source, kind, count, nbytes, used in rows:
        name = source if len(source) <= widths[0] else clipped(source[::-1], widths[0])[::-1]
        cells = (
            name.ljust(widths[0]), kind.ljust(widths[1]), count.rjust(widths[2]), nbytes.rjust(widths[3]), used,
        )  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    return lines


# ---- clear and verify -------------------------------------------------------------------------------------


def clear(options: Options) -> int:
    """Remove all entries that no process uses now."""
    store = _store(options)
    count, nbytes = (0, 0) if store is None else store.clear()
    if options.json:
        print(json.dumps({"removed": count, "bytes": nbytes}))
    elif store is not None:
        print(
            f"removed {plural(count, 'entry', 'entries')} and freed {size(nbytes)} in {store.folder}",
            file=sys.stderr,
        )
    return 0


def verify(options: Options) -> int:
    """Compare all entries with their checksums and their files, and remove those that are wrong."""
    store = _store(options)
    found = None if store is None else store.verify()
    if options.json:
        names = ("damaged", "stale", "unfinished")
        made: dict[str, Any] = {"right": 0 if found is None else len(found.right)}
        made |= {name: [] if found is None else list(getattr(found, name)) for name in names}
        print(json.dumps(made))
        return 0
    if store is None or found is None:
        return 0
    removed = (
        (found.damaged, "damaged"),
        (found.stale, "of files that changed or are gone"),
        (found.unfinished, "left by programs that were killed"),
    )
    for paths, reason in removed:
        for path in paths:
            print(f"removed {os.path.relpath(path, store.folder)}: {reason}")
    count = sum(len(paths) for paths, _ in removed)
    print(
        f"{plural(len(found.right), 'entry is', 'entries are')} right, {count:,} removed, in {store.folder}",
        file=sys.stderr,
    )
    return 0
