"""Checkpoints of gzip files: a pass over a file leaves places from which on it can be inflated.

    first pass   ── inflated from its start ──▶ text, and a checkpoint about each 4 MiB ──▶ kept at the end of the file
    later        ── from a checkpoint on ─────▶ any range of the text (`mapping.contents_file`)

Invariant: only a pass that came to the end of the file, with all checksums right, leaves checkpoints. A section that is
read later must end in the state in which the next one begins.
"""

from __future__ import annotations

import time

import numpy as np

from mmflow.formats.inflating import GzipContents
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.sections import Sections, is_distrusted, keep_sections, kept_sections

__all__ = ["LEAST", "SPACING", "keep_checkpoints", "known_checkpoints"]

#: Bytes of text between checkpoints, about: of the longest history, 32 KiB, this is less than 1%.
SPACING = 4 << 20
#: Bytes of the smallest file of which checkpoints are made.
LEAST = 1 << 20


def keep_checkpoints(file: MappedFile, contents: GzipContents) -> None:
    """Keep the checkpoints of a file that was read to its end. Does nothing where it was not, or is being written."""
    whole = contents.whole
    if whole is None or not contents.checkpoints or whole[0] != file.size:
        return
    if FileIdentity.settled(file.path, time.time_ns()) != file.identity:
        return
    offsets, texts, states = zip(*contents.checkpoints, strict=True)
    keep_sections(
        file.path,
        file.identity,
        Sections(
            "gzip",
            "checkpoint",
            len(states),
            np.array([0, *offsets, file.size], np.int64),
            np.array([0, *texts, whole[1]], np.int64),
            np.zeros(len(states) + 1, np.int64),
            states,
        ),
    )


def known_checkpoints(path: str, identity: FileIdentity) -> Sections | None:
    """Return the sections between the checkpoints of a file; None: it has none that fit it."""
    return None if is_distrusted(path, identity) else kept_sections(path, identity)
