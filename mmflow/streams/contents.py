"""The contents of a compressed file as a stream: one thread decompresses them, and all workers decode its blocks.

    file ── decompressed ──▶ text, cut behind its last line break ──▶ block      what is behind the cut begins the next

Invariant: that of `Stream`. Blocks share the memory that the inflater wrote.
"""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa

from mmflow.errors import MmflowError, SourceError
from mmflow.formats.compression import Contents, file_compression, open_decompressed
from mmflow.formats.decoding.ahead import read_text
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.streams import keep_tagged
from mmflow.streams.polled_reader import StoppedReading
from mmflow.streams.stream import Block, Stream

__all__ = ["WRITTEN_BLOCK", "ContentsStream"]

#: Bytes of blocks whose tasks write files, each its own.
WRITTEN_BLOCK = 64 << 20

_numbers = itertools.count(1)
_NEWLINE = 10
_LOOKED_BACK = 64 << 10


class ContentsStream(Stream):
    """Stream of the contents of a compressed file, for one run.

    Args:
        path: Path of the file, which is local.
        expected: Its identity.
        grows: Whether blocks are small at first, so that rows come soon.
    """

    reason = "compressed: one thread decompresses it, and all workers decode its blocks"

    def __init__(self, path: str, expected: FileIdentity, *, grows: bool) -> None:
        super().__init__(path, next(_numbers), None)
        self._grows = grows
        self._expected = expected
        keep_tagged(self)

    def _serve(self) -> None:
        try:
            with MappedFile.open(self.path, expected=self._expected) as file:
                self.compression = file_compression(file)
                with open_decompressed(file, file.size) as contents:
                    rest = self._read_blocks(contents)
                file.check_unchanged()
            self._add(rest, at_end=True)
        except StoppedReading:
            return
        except MmflowError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  (tasks would wait for what never comes)
            self._fail(SourceError(f"can't read {self.path}: {error!r}", path=self.path))

    def _read_blocks(self, contents: Contents) -> pa.Buffer:
        """Cut all texts into blocks but what is behind the last line break, and return that."""
        held = pa.py_buffer(b"")
        while True:
            self._wait_until_wanted()
            text = read_text(contents, self._block)
            if not text.size:
                return held
            held = text.behind(held)
            # A record without a line break in it is cut, too: its scan reads on.
            cut = _behind_line(held) or held.size
            self._add(held.slice(0, cut))
            held = held.slice(cut)

    def _add(self, data: pa.Buffer, *, at_end: bool = False) -> None:
        """Add a block, and note whether it is the last one."""
        with self._changed:
            if self._closed:
                raise StoppedReading
            if data.size:
                block = Block(self._begin, data)
                self._kept.append(block)
                self._ready.append(block)
                self._begin += data.size
            if self._limits is not None:
                most = self._limits.block
                self._block = min(2 * self._block, most) if self._grows else most
            self._at_end = at_end
            self._changed.notify_all()


def _behind_line(text: pa.Buffer) -> int:
    """Return the length of a text up to its last line break; 0: it has none."""
    values = np.frombuffer(text, np.uint8)
    end = len(values)
    while end > 0:
        begin = max(0, end - _LOOKED_BACK)
        found = np.flatnonzero(values[begin:end] == _NEWLINE)
        if len(found):
            return begin + int(found[-1]) + 1
        end = begin
    return 0
