"""Cache of plans: a query that comes again over files that are the same ones is not planned again.

    files, format, options             --> source and its frames     (`api.readers`)
    text, parameters, given frames     --> frame                     (`api.sql.query`)
    frame of the line above            --> stages                    (`plan.planner`)

A process keeps the last ones, whichever session asked. Only queries over local files alone are kept: rows in memory
would outlive their owner, and Python functions, streams and URLs may be other ones next time without any sign.

Invariant: what is kept is used where planning anew would give the same. Each file is looked at whenever a query comes:
it must be the same one, which its identity tells from the time when it had not been modified for some seconds.
"""

from __future__ import annotations

import datetime as dt
import os
import time
import weakref
from collections.abc import Hashable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
from datafusion import DataFrame

from mmflow.config import Settings
from mmflow.formats.last_results import LastResults
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity
from mmflow.mapping.streams import descriptor_of
from mmflow.mapping.system.forks import require_threads
from mmflow.plan.stages import Plan
from mmflow.plan.tokens import tokens

__all__ = ["CachedQuery", "Identities", "cache_key", "cached_queries", "is_repeatable", "keep_plan", "kept_plan",
           "settled_files", "unchanged"]  # fmt: skip

#: Paths of files, and their identities.
Identities = tuple[tuple[str, FileIdentity], ...]

_MOST_QUERIES = 64
#: Looking at more files, one by one, would take as long as planning.
_MOST_FILES = 64
#: Text whose plan is small, whatever it says.
_LONGEST = 1 << 16

#: Words of SQL whose value is found at planning, and differs from one time to the next. DataFusion 55 also says so of
#: its table functions.
_CLOCKS = frozenset(
    (
        *("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now", "today"),
        *("rand", "random", "uuid", "input_file_name", "file_row_index", "generate_series", "range"),
    )
)
_PLAIN = frozenset((str, bytes, bool, int, type(None)))
#: Equal values of these may differ in their digits, sign or time zone, which `repr` shows.
_SHOWN = frozenset((float, Decimal, dt.date, dt.datetime, dt.time, dt.timedelta))


@dataclass(frozen=True, slots=True)
class CachedQuery:
    """Query that was planned.

    Attributes:
        frame: Rows of the query.
        given: Frames that the key names by their `id`.
        found: Names and calls in the text that stood for tables, and the frames that these were.
        files: All files that it reads, as they were.
    """

    frame: DataFrame
    given: tuple[DataFrame, ...]
    found: tuple[tuple[Any, DataFrame], ...]
    files: Identities


cached_queries: LastResults[Hashable, CachedQuery] = LastResults(_MOST_QUERIES)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Stages of a frame; None: they are not planned yet."""

    files: Identities
    settings: Settings
    plan: Plan | None = None


_kept: weakref.WeakKeyDictionary[DataFrame, _Kept] = weakref.WeakKeyDictionary()


def cache_key(value: Any) -> Hashable:
    """Return a key that is equal for values that are the same, of the same types.

    Raises:
        TypeError: There is none for such a value.

    >>> cache_key({"a": 1}) == cache_key({"a": 1}), cache_key(1) == cache_key(1.0), cache_key(0.0) == cache_key(-0.0)
    (True, False, False)
    """
    if isinstance(value, pa.Schema):
        return "schema", value.serialize().to_pybytes()
    if isinstance(value, Mapping):
        return "mapping", tuple((cache_key(k), cache_key(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(cache_key, value))
    if isinstance(value, pa.DataType):
        return "type", str(value), value
    if type(value) in _PLAIN:
        return type(value), value
    if type(value) in _SHOWN:
        return type(value), repr(value)
    raise TypeError(type(value))


def is_repeatable(query: str) -> bool:
    """Return whether a text means the same whenever it is planned.

    >>> is_repeatable("SELECT a FROM t"), is_repeatable("SELECT now() - a FROM t")
    (True, False)
    """
    return len(query) <= _LONGEST and not any(t.name.lower() in _CLOCKS for t in tokens(query))


def settled_files(paths: Iterable[str], now_ns: int | None = None) -> Identities | None:
    """Return the identities of local files; None: of some of them nothing can be kept.

    Args:
        paths: Paths of the files.
        now_ns: Time before which they must have been left alone for some seconds, by the clock of `time.time_ns`.
            None: now.
    """
    found: list[tuple[str, FileIdentity]] = []
    now_ns = time.time_ns() if now_ns is None else now_ns
    for path in paths:
        identity = FileIdentity.settled(path, now_ns)
        if identity is None or descriptor_of(path) is not None or len(found) == _MOST_FILES:
            return None
        found.append((path, identity))
    return tuple(found)


def unchanged(files: Identities) -> bool:
    """Return whether files are the same ones still."""
    try:
        return all(FileIdentity.from_stat(os.stat(path)) == identity for path, identity in files)
    except OSError:
        return False


def keep_plan(frame: DataFrame, settings: Settings, files: Identities, plan: Plan | None = None) -> None:
    """Keep the stages of a frame of files alone, or the place for them, as long as the frame lives."""
    _kept[frame] = _Kept(files, settings, plan)


def kept_plan(frame: DataFrame, settings: Settings) -> tuple[Identities, Plan | None] | None:
    """Return the files of a frame and its stages; None: nothing of it is kept, or it is that of other files."""
    kept = _kept.get(frame)
    if kept is None or kept.settings != settings or not unchanged(kept.files):
        return None
    require_threads()
    return kept.files, kept.plan
