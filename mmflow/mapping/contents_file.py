"""The contents of a compressed file as an open file: windows of its text, of any range.

    window of the text  ──▶  sections that cover it  ──▶  windows of the compressed file  ──▶  decompressed at once

All that reads plain files reads these: shards, the boundary check, rows by number. The path is that of the compressed
file, so what tells its contents from it is the identity (`FileIdentity.of_contents`).

Invariant: offsets are those of the text. A window is what decompressing the file from its start gives, or an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import pyarrow as pa

from mmflow.errors import EngineError, SourceError
from mmflow.kernels import kernels
from mmflow.mapping.access_policy import Access, Io
from mmflow.mapping.file import MappedFile
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.sections import Sections, distrust_sections, sections_of
from mmflow.mapping.window import Window

__all__ = ["ContentsFile"]

#: Bytes of a scan's windows, which are memory: two for each task.
_WINDOW = 4 << 20
#: Bytes behind a shard that come with it: most records end there.
_BEYOND = 64 << 10


class ContentsFile(MappedFile):
    """Text of a compressed file whose sections are known. Offsets are those in the text."""

    decompressed = True
    _sections: Sections
    _kept: tuple[int, pa.Buffer] = 0, pa.py_buffer(b"")
    _random = False
    _partly = -1  # section of which only a part was inflated last

    @classmethod
    def open_contents(
        cls,
        path: str,
        *,
        io: Io = "auto",
        budget: int | None = None,
        access: Access = "sequential",
        expected: FileIdentity,
    ) -> Self:
        """Open the text of a file that has the identity `expected`, as `MappedFile.open`.

        Raises:
            SourceError: The file can't be read, or has no sections.
            SourceChangedError: It is not the one that was planned with.
            EngineError: The process is out of file descriptors.
        """
        opened = cls.open(path, io=io, budget=budget, access=access, expected=expected.file)
        try:
            found = sections_of(path, opened.identity)
            if found is None or found.size != expected.size:
                raise SourceError(
                    f"can't read {path}: its sections are not those that were planned with", path=path
                )
        except BaseException:
            opened.close()
            raise
        opened.whole = False
        opened.identity = expected
        opened._sections = found
        opened._random = access == "random" and bool(found.checkpoints)
        return opened

    def _window(self, offset: int, length: int, populate: bool, lease: object = None) -> Window:
        if not length:
            return Window(pa.py_buffer(b""), offset, 0, "pread", self.decision.reason)
        begin, held = self._kept
        if not begin <= offset or offset + length > begin + held.size:
            begin, held = self._read(offset, offset + length, begin, held)
            self._kept = begin, held
        return Window(held.slice(offset - begin, length), offset, length, "pread", self.decision.reason)

    def _read(self, begin: int, end: int, kept: int, held: pa.Buffer) -> tuple[int, pa.Buffer]:
        """Return the text of the sections that cover a range, and where it begins.

        What was read last is copied, since a window begins where the last record of the one before it does.
        """
        texts = self._sections.texts
        first, last = self._sections.covering(begin, end)
        have, boundary = 0, int(texts[self._sections.at(kept + held.size)])
        if kept <= begin < boundary:
            first, have = self._sections.at(boundary), boundary - begin
        start, stop = begin if have else int(texts[first]), int(texts[last])
        if self._random and last - 1 != self._partly:
            # Of a long section that one row is in, no more than up to it; of one that more are in, all.
            self._partly = last - 1
            stop = end
        elif (
            self._sections.checkpoints
            and first < last - 1
            and (end - texts[last - 1]) * 4 < stop - texts[last - 1]
        ):
            stop = end  # a shard ends with a record that reaches into this section
        history, slack = kernels().INFLATE_HISTORY, kernels().INFLATE_SLACK
        size = stop - start
        try:
            memory: Any = pa.allocate_buffer(history + size + slack)
        except MemoryError as error:  # pa.ArrowMemoryError is one
            raise EngineError(
                f"no memory for {size:,} bytes of {self.path}, decompressed; lower --workers", path=self.path
            ) from error
        self._decompress(first, last, stop, memory, history + have)
        if have:  # afterwards: memory before the text is written to, too
            before = memoryview(held).cast("B")[begin - kept : boundary - kept]
            memoryview(memory).cast("B")[history : history + have] = before
        return start, memory.slice(history, size)

    def _decompress(self, first: int, last: int, stop: int, memory: pa.Buffer, at: int) -> None:
        """Decompress sections, up to `stop` in the text, to a place in memory that has room before and behind them.

        Raises:
            SourceError: They are damaged.
        """
        offsets, texts = self._sections.offsets, self._sections.texts
        begin, wanted = int(offsets[first]), int(texts[last] - texts[first])
        states = self._sections.checkpoints
        # The last bits of a section may be in the first byte of the next one.
        end = int(offsets[last]) + (1 if states and last < len(texts) - 1 and states[last - 1].bit else 0)
        data = super()._window(begin, end - begin, True).buffer
        if self._sections.compression == "gzip":
            self._inflate(first, last, stop, data, memory.address + at)
            return
        try:
            if self._sections.compression == "xz":
                text = self._decompress_xz(data, wanted)
            else:
                text = pa.decompress(data, wanted, self._sections.compression)
        except (pa.ArrowInvalid, EOFError, OSError) as error:
            self.check_unchanged()  # which may be why
            where = int(self._sections.members[first]) + 1
            raise self._damaged(str(error), begin, int(texts[first]), where) from error
        memoryview(memory).cast("B")[at : at + wanted] = memoryview(text).cast("B")

    def _decompress_xz(self, data: pa.Buffer, wanted: int) -> bytes:
        """Return the text of whole blocks, whose checks are checked, behind the header of their stream.

        Raises:
            EOFError: They are damaged.
        """
        import lzma  # noqa: PLC0415  (not every build of Python has it)

        header = super()._window(0, int(self._sections.offsets[0]), True).buffer
        reader = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        try:
            reader.decompress(memoryview(header))
            text = reader.decompress(memoryview(data), wanted + 1)
        except lzma.LZMAError as error:
            raise EOFError(str(error)) from error
        if len(text) != wanted:
            raise EOFError("lengths of text other than stated")
        return text

    def _inflate(self, first: int, last: int, stop: int, data: pa.Buffer, address: int) -> None:
        """Inflate the bytes of sections.

        Raises:
            SourceError: They are damaged.
        """
        offsets, texts = self._sections.offsets, self._sections.texts
        begin, wanted = int(offsets[first]), stop - int(texts[first])
        inflater = kernels().Inflater(kernels().simd_used())
        states = self._sections.checkpoints
        if first and states:
            state = states[first - 1]
            history = pa.decompress(state.history, state.reach, "zstd") if state.reach else b""
            inflater.resume(state.bit, state.checksum, state.length, state.members, bytes(history))
        # What follows is no part of the file's last section: at its end there is the state of the next one.
        following = states[last - 1] if states and last < len(texts) - 1 else None
        partly = stop < texts[last]
        if following is not None and not partly:
            inflater.stop_after(wanted)
        final = following is None
        problem, ended, consumed, produced = inflater.inflate(data.address, data.size, final, address, wanted)
        if partly and problem is None and produced >= wanted:
            return
        if problem is None and produced == wanted and not ended and inflater.checkpoint() is None:
            # What follows has no text: the end of the last block, a checksum, members without text.
            rest = data.slice(consumed)
            spare: Any = pa.allocate_buffer(kernels().INFLATE_HISTORY + 1 + kernels().INFLATE_SLACK)
            at = spare.address + kernels().INFLATE_HISTORY
            problem, ended, more, excess = inflater.inflate(rest.address, rest.size, final, at, 1)
            consumed, produced = consumed + more, produced + excess
        if following is None:
            fits = ended
        else:
            found = inflater.checkpoint()
            fits = found is not None and found[:4] == following.numbers
        if problem is None and not (fits and produced == wanted):
            problem = "lengths of text other than stated"
        if problem is not None:
            self.check_unchanged()  # which may be why
            distrust_sections(self.path, self.identity.file)
            raise self._damaged(
                problem,
                begin + consumed,
                int(texts[first]) + produced,
                int(self._sections.members[first]) + inflater.members,
            )

    def _damaged(self, problem: str, offset: int, text_offset: int, member: int) -> SourceError:
        return SourceError(
            f"can't decompress {self.path}: {problem} at byte {offset:,}, where the text is at {text_offset:,} "
            f"(member {member:,}); its first bytes say {self._sections.compression}, and it is damaged or cut short",
            path=self.path,
            byte_offset=offset,
        )

    def _compressed(self, begin: int, end: int) -> tuple[int, int]:
        """Return the range of the compressed file that holds a range of the text."""
        if begin >= min(end, self.size):
            return 0, 0
        first, last = self._sections.covering(begin, min(end, self.size))
        return int(self._sections.offsets[first]), int(self._sections.offsets[last])

    def resident(self, begin: int, end: int) -> int:
        """Return about how many bytes of a range of the text the page cache holds, compressed."""
        low, high = self._compressed(begin, end)
        return super().resident(low, high) * (end - begin) // max(1, high - low)

    def prefetch(self, offset: int, length: int) -> None:
        """Do nothing: the kernel reads ahead."""

    def prefetch_parts(self, parts: Sequence[tuple[int, int]]) -> None:
        """Do nothing, as `prefetch`."""

    def load(self, begin: int, end: int) -> None:
        self._loader().load(*self._compressed(begin, end))

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = memoryview(self.window(offset, len(view)).buffer).cast("B")

    def window_sizes(self, most: int) -> Iterator[int]:
        return itertools.repeat(min(most, _WINDOW))

    def beyond(self, window_bytes: int) -> int:
        return min(window_bytes, _BEYOND)

    def evict_behind(self, offset: int, length: int) -> None:
        low, high = self._compressed(offset, offset + length)
        super().evict_behind(low, high - low)

    def close(self) -> None:
        super().close()
        self._kept = 0, pa.py_buffer(b"")
