"""Contents of gzip files, inflated by a kernel.

    compressed   windows of the source ── kernels/inflate ──▶   [history][text ....]   memory of one block

Invariant: texts come in order, and none is behind damage: the error of damage comes once all that precedes it was read.
"""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa

from mmflow.kernels import kernels
from mmflow.mapping.sections import Checkpoint

__all__ = ["CompressedSource", "GzipContents", "InflateError", "PipedSource", "Text"]

#: Bytes of the source that are inflated at once: at first few, as a sample of a file needs no more.
_FIRST, _MOST = 64 << 10, 1 << 20


class InflateError(EOFError):
    """Damage of a gzip file.

    Attributes:
        byte_offset: Offset of the first compressed byte that can't be inflated.
    """

    def __init__(self, problem: str, byte_offset: int, member: int, text_offset: int) -> None:
        self.byte_offset = byte_offset
        where = f"byte {byte_offset:,}, where the text is at {text_offset:,}"
        super().__init__(f"{problem} at {where}" + (f" (member {member:,})" if member > 1 else ""))


class CompressedSource(Protocol):
    """Compressed bytes, in order."""

    def read_buffer(self, nbytes: int) -> pa.Buffer:
        """Return some bytes, `nbytes` at most; none at the end."""
        ...

    def unread(self, rest: pa.Buffer) -> None:
        """Give back the last bytes that were read, which come again with those behind them."""
        ...


class PipedSource:
    """Source over what can only be read on.

    Args:
        file: Anything with `read_buffer`.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._rest = pa.py_buffer(b"")

    def read_buffer(self, nbytes: int) -> pa.Buffer:
        rest, more = self._rest, self._file.read_buffer(nbytes)
        self._rest = pa.py_buffer(b"")
        if rest.size and more.size:
            return pa.py_buffer(b"".join((memoryview(rest), memoryview(more))))
        return more if more.size else rest

    def unread(self, rest: pa.Buffer) -> None:
        self._rest = rest


class Text:
    """Part of the contents, with memory before it that may be overwritten.

    Attributes:
        memory: Memory that holds it.
        begin: Place of its first byte in the memory.
        size: Its bytes.
    """

    __slots__ = ("begin", "memory", "size")

    def __init__(self, memory: pa.Buffer, begin: int, size: int) -> None:
        self.memory, self.begin, self.size = memory, begin, size

    @property
    def buffer(self) -> pa.Buffer:
        return self.memory.slice(self.begin, self.size)

    def behind(self, held: pa.Buffer) -> pa.Buffer:
        """Return `held` and this text as one piece of memory; the text is not copied where there is room before it."""
        if not held.size:
            return self.buffer
        if held.size > self.begin:
            return pa.py_buffer(b"".join((memoryview(held), memoryview(self.buffer))))
        before = self.begin - held.size
        memoryview(self.memory).cast("B")[before : self.begin] = memoryview(held).cast("B")
        return self.memory.slice(before, held.size + self.size)


class GzipContents:
    """Contents of a gzip file or stream: members, one behind another.

    Args:
        source: The compressed bytes.
        spacing: Bytes of text between checkpoints, about; 0: none are made.

    Attributes:
        checkpoints: Offsets in the source and in the text, and state, of each checkpoint that was made.
    """

    def __init__(self, source: CompressedSource, spacing: int = 0) -> None:
        self._source = source
        self._inflater: Any = kernels().Inflater(kernels().simd_used())
        self._history, self._slack = kernels().INFLATE_HISTORY, kernels().INFLATE_SLACK
        self._input = pa.py_buffer(b"")
        self._offset = 0  # of the input in the source
        self._length = 0  # of the text that was returned
        self._piece = _FIRST
        self._source_ended = self._ended = False
        self._problem: str | None = None
        self._rest = memoryview(b"")  # inflated, but not read yet
        self._spacing = spacing
        self.checkpoints: list[tuple[int, int, Checkpoint]] = []
        if spacing:
            self._inflater.stop_after(spacing)

    @property
    def whole(self) -> tuple[int, int] | None:
        """Bytes of the source and of the text, once both are at their end and right."""
        return (self._offset, self._length) if self._ended and self._problem is None else None

    def read_text(self, size: int) -> Text:
        """Return the next bytes: about `size`, and as many unless the end or damage is near; none at the end.

        Raises:
            InflateError: They can't be inflated.
        """
        assert not self._rest  # one reads texts, or bytes
        memory = pa.allocate_buffer(self._history + size + self._slack)
        length = 0
        while length < size and not self._ended and self._problem is None:
            self._problem, self._ended, consumed, produced = self._inflater.inflate(
                self._input.address,
                self._input.size,
                self._source_ended,
                memory.address + self._history + length,
                size - length,
            )
            length += produced
            self._input = self._input.slice(consumed)
            self._offset += consumed
            if self._spacing and (state := self._inflater.checkpoint()) is not None:
                self._mark(self._length + length, state)
            elif length < size and not self._ended and self._problem is None:
                self._take_input()
        self._length += length
        if self._problem is not None and not length:
            raise InflateError(self._problem, self._offset, self._inflater.members, self._length)
        return Text(memory, self._history, length)

    def _mark(self, text: int, state: tuple[int, int, int, int, bytes]) -> None:
        """Make a checkpoint at a place in the text."""
        bit, checksum, length, members, history = state
        packed = bytes(pa.compress(history, "zstd", asbytes=True)) if history else b""
        self.checkpoints.append(
            (self._offset, text, Checkpoint(bit, checksum, length, members, len(history), packed))
        )
        self._inflater.stop_after(self._spacing)

    def _take_input(self) -> None:
        """Let the input go on, from what is left of it: a part of a symbol or of a header."""
        left = self._input.size
        if left:
            self._source.unread(self._input)
        self._input = self._source.read_buffer(max(self._piece, 2 * left))
        self._piece = min(4 * self._piece, _MOST)
        self._source_ended = self._input.size <= left

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end.

        Raises:
            InflateError: They can't be inflated.
        """
        found = []
        while size and (part := self._take(size)):
            found.append(bytes(part))
            size -= len(part)
        return b"".join(found)

    def readinto(self, target: memoryview) -> int:
        """Fill `target`, less of it only at the end, and return how much.

        Raises:
            InflateError: They can't be inflated.
        """
        done = 0
        while done < len(target) and (part := self._take(len(target) - done)):
            target[done : done + len(part)] = part
            done += len(part)
        return done

    def _take(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(self.read_text(size).buffer).cast("B")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
