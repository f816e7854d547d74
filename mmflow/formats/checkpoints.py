"""Checkpoints of gzip files: a pass over a file leaves places from which on it can be inflated.

    first pass   ── inflated from its start ──▶ text, and a checkpoint about each 4 MiB ──▶ kept at the end of the file
    later        ── from a checkpoint on ─────▶ any range of the text (`mapping.contents_file`)

Invariant: only a pass that came to the end of the file, with all checksums right, leaves checkpoints. A section that is
read later must end in the state in which the next one begins.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np

from mmflow.cache.entry import DamagedEntryError, EntryKey
from mmflow.cache.store import CacheStore, open_store
from mmflow.formats.inflating import GzipContents
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.sections import Checkpoint, Sections, is_distrusted, keep_sections, kept_sections
from mmflow.remote.options import RemoteOptions

__all__ = [
    "LEAST",
    "SPACING",
    "decode_checkpoints",
    "encode_checkpoints",
    "keep_checkpoints",
    "known_checkpoints",
]

#: Bytes of text between checkpoints, about: of the longest history, 32 KiB, this is less than 1%.
SPACING = 4 << 20
#: Bytes of the smallest file of which checkpoints are made.
LEAST = 1 << 20


#: One checkpoint, and the end of the file, in an entry of the cache. Histories follow, one behind another.
_ROW = np.dtype(
    [
        ("offset", "<i8"),
        ("text", "<i8"),
        ("length", "<i8"),
        ("members", "<i8"),
        ("checksum", "<u4"),
        ("history", "<u4"),
        ("reach", "<u4"),
        ("bit", "<u4"),
    ]
)
#: The largest history.
_REACH = 32 << 10
_BITS = 8
#: All but the file that decides what an entry holds; another way of making checkpoints gets another number.
_FACTS = {"decoder": "inflate 1"}
#: Files that are about to be read, and where their checkpoints go.
_storing: dict[tuple[str, FileIdentity], tuple[CacheStore, EntryKey]] = {}
_MOST_STORING = 1024
_lock = threading.Lock()


def keep_checkpoints(file: MappedFile, contents: GzipContents) -> None:
    """Keep the checkpoints of a file that was read to its end. Does nothing where it was not, or is being written."""
    whole = contents.whole
    if whole is None or not contents.checkpoints or whole[0] != file.size:
        return
    if FileIdentity.settled(file.path, time.time_ns()) != file.identity:
        return
    offsets, texts, states = zip(*contents.checkpoints, strict=True)
    found = _sections([0, *offsets, file.size], [0, *texts, whole[1]], states)
    if keep_sections(file.path, file.identity, found):
        with _lock:
            place = _storing.pop((file.path, file.identity), None)
        if place is not None:
            store, key = place
            with store.write(key) as writer:
                writer.write(encode_checkpoints(found))


def known_checkpoints(
    path: str, identity: FileIdentity, cache: RemoteOptions | None = None
) -> Sections | None:
    """Return the sections between the checkpoints of a file; None: it has none that fit it.

    Args:
        path: Path of the file.
        identity: Its identity.
        cache: Settings of the cache where they are looked for, and where the next pass over the file puts them; None:
            they are those of this process only.
    """
    distrusted = is_distrusted(path, identity)
    found = None if distrusted else kept_sections(path, identity)
    if found is not None or cache is None:
        return found
    store = open_store(cache.cache_dir, cache.cache_size, cache.spill_dir)
    if store is None:
        return None
    key = EntryKey("checkpoints", os.path.abspath(path), identity, _FACTS)
    if distrusted:
        store.drop(key)
    else:
        found = _stored(store, key)
        if found is not None and keep_sections(path, identity, found):
            return found
    with _lock:
        if len(_storing) >= _MOST_STORING:
            _storing.clear()
        _storing[path, identity] = store, key
    return None


def _stored(store: CacheStore, key: EntryKey) -> Sections | None:
    """Return the checkpoints in the cache; an entry that can't be of the file is dropped."""
    entry = store.open(key)
    if entry is None:
        return None
    try:
        data = bytes(entry.view())
    except DamagedEntryError:
        return None
    found = decode_checkpoints(data, key.identity.size)
    if found is None:
        store.drop(key)
    return found


def _sections(offsets: list[int], texts: list[int], states: tuple[Checkpoint, ...]) -> Sections:
    places = [np.array(column, np.int64) for column in (offsets, texts)]
    return Sections(
        "gzip", "checkpoint", len(states), places[0], places[1], np.zeros(len(offsets) - 1, np.int64), states
    )


def encode_checkpoints(sections: Sections) -> bytes:
    """Return checkpoints as bytes."""
    states = sections.checkpoints
    rows = np.zeros(len(states) + 1, _ROW)
    rows["offset"], rows["text"] = sections.offsets[1:], sections.texts[1:]
    for row, state in zip(rows, states, strict=False):
        row["length"], row["members"], row["checksum"] = state.length, state.members, state.checksum
        row["history"], row["reach"], row["bit"] = len(state.history), state.reach, state.bit
    return b"".join((rows.size.to_bytes(8, "little"), rows.tobytes(), *(state.history for state in states)))


def decode_checkpoints(data: bytes, size: int) -> Sections | None:
    """Return the checkpoints that bytes are of; None: they are those of no file of `size` bytes."""
    count = int.from_bytes(data[:8], "little")
    begin = 8 + count * _ROW.itemsize
    if not 2 <= count <= size or len(data) < begin:
        return None
    rows = np.frombuffer(data, _ROW, count, 8)
    ends = begin + np.cumsum(rows["history"], dtype=np.int64)
    places = [np.concatenate(([0], rows[name].astype(np.int64))) for name in ("offset", "text")]
    if (
        ends[-1] != len(data)
        or places[0][-1] != size
        or any((np.diff(place) <= 0).any() for place in places)
        or (rows["reach"] > _REACH).any()
        or (rows["bit"] >= _BITS).any()
        or (rows["members"] < 0).any()
        or (rows["length"] < 0).any()
        or rows["history"][-1]
    ):
        return None
    states = tuple(
        Checkpoint(
            int(row["bit"]),
            int(row["checksum"]),
            int(row["length"]),
            int(row["members"]),
            int(row["reach"]),
            data[int(end) - int(row["history"]) : int(end)],
        )
        for row, end in zip(rows[:-1], ends, strict=False)
    )
    return _sections(places[0].tolist(), places[1].tolist(), states)
