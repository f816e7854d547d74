"""Scan of many small files at once: their records, joined, are decoded by one call.

    files     k,v | 1,2        k,v | 3,4 (no line break)      k,v | 5,6
    joined          1,2\n           3,4\n                           5,6\n

A file has to begin with the bytes that precede the first record of the first one, and then to be plain: the record of
each file must begin where the file does, and no record may be bad. Else nothing is said of the files, and they are read
one by one, which says what is wrong with which.

Invariant: rows and reports are those of the files one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.base import ScanReport, ScanRequest
from mmflow.formats.compression import detect_compression
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.small_files import read_small

__all__ = ["scan_joined"]

_MOST_BYTES = 1 << 20
_PROBED = 512
#: Bytes at the begin of a file that may be no part of its first record.
_BLANK = (b"\n", b"\r", b" ", b"\t")


def scan_joined(
    form: ScannedFormat, file: MappedFile, others: Iterable[tuple[str, FileIdentity]], request: ScanRequest
) -> tuple[list[pa.RecordBatch], list[ScanReport]] | None:
    """Read a small file and those behind it that are like it.

    Args:
        form: Format of the files.
        file: First one, open.
        others: Paths and identities of the next ones.
        request: Columns, without virtual ones; no rows are left out by its conditions.

    Returns:
        The rows, and the reports of all files that they are of; None where the first one is to be read alone.

    Raises:
        SourceChangedError: A file changed while it was read.
    """
    head = form.shared_head(file)
    if head is None:
        return None
    texts = [file.window(0, file.size).buffer.to_pybytes()]
    nbytes = file.size
    for path, identity in others:
        nbytes += identity.size
        text = read_small(path, identity, file.identity.device) if nbytes <= _MOST_BYTES else None
        if text is None or not text.startswith(head) or detect_compression(text[:_PROBED], "") is not None:
            break
        texts.append(text)
    if len(texts) == 1:
        return None
    file.check_unchanged()
    return _decoded(form, file, texts, len(head), request)


def _decoded(
    form: ScannedFormat, file: MappedFile, texts: Sequence[bytes], begins: int, request: ScanRequest
) -> tuple[list[pa.RecordBatch], list[ScanReport]] | None:
    bodies = [text[begins:] for text in texts]
    if any(body.startswith(_BLANK) or body.endswith(b"\r") for body in bodies):
        return None
    ended = [body if body.endswith(b"\n") or not body else body + b"\n" for body in bodies]
    data = b"".join(ended)
    if b"\0" in data:
        return None
    starts = np.array([0, *itertools.accumulate(map(len, ended))], np.int64)
    decoder = form.decoder_of(file, request)
    joined, done = pa.py_buffer(data), 0
    batches: list[pa.RecordBatch] = []
    places = [np.empty(0, np.int64)]
    while done < len(data):
        decoded = decoder.decode(joined.slice(done), len(data) - done, final=True, located=True)
        if decoded.bad or decoded.broken is not None or decoded.repaired or not decoded.consumed:
            return None
        if decoded.offsets is None or decoded.records != len(decoded.offsets):
            return None
        batches.append(decoded.batch)
        places.append(decoded.offsets + done)
        done += decoded.consumed
    rows = np.concatenate(places)
    # Where each file begins among the rows, and whether a row begins there.
    first = np.searchsorted(rows, starts)
    begun = np.append(rows, len(data))[first] == starts
    if not begun.all():
        return None
    reports = [
        ScanReport(begins, len(text), count, text.count(b"\n"), len(text) - begins)
        for text, count in zip(texts, np.diff(first).tolist(), strict=True)
    ]
    return batches, reports
