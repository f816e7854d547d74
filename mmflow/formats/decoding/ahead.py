"""Texts of a stream, decompressed by a thread of its own while those before them are decoded.

    file ── decompressed ──▶ [text][text][text] ──▶ decoded        at most `count` wait, or are being made

Invariant: texts, and the error that ends them, come in order. A thread ends before `read_ahead` does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator

import pyarrow as pa

from mmflow.formats.compression import Contents
from mmflow.formats.inflating import GzipContents, Text

__all__ = ["read_ahead", "read_text"]

#: Bytes of the first text, which may be all of a small file, and of others.
_FIRST, _TEXT = 256 << 10, 1 << 20
#: Bytes of the smallest texts, whatever the memory.
_LEAST = 64 << 10
#: Bytes before a text, where the record goes that begins in the text before it.
_BEFORE = 32 << 10
#: Texts ahead of the one that is decoded.
_COUNT = 4
#: Seconds after which a waiting thread looks around: signals that other threads were given don't wake it.
_LOOK = 0.1


def read_ahead(contents: Contents, budget: int) -> Generator[Text, None, None]:
    """Read texts of a stream, up to its end. A thread reads ahead of the caller, unless the stream is short.

    Args:
        contents: The stream.
        budget: Bytes that texts may have which wait.

    Raises:
        Exception: Whatever reading the contents raises.
    """
    size = max(_LEAST, min(_TEXT, budget // (_COUNT + 1)))
    first = min(size, _FIRST)
    text = read_text(contents, first)
    if text.size < first:
        while text.size:
            yield text
            text = read_text(contents, size)
        return
    ahead = _Ahead(lambda: read_text(contents, size))
    try:
        while text.size:
            yield text
            text = ahead.take()
    finally:
        ahead.close()


def read_text(contents: Contents, size: int) -> Text:
    """Return the next text of about `size` bytes; none at the end."""
    if isinstance(contents, GzipContents):
        return contents.read_text(size)
    memory = pa.allocate_buffer(_BEFORE + size)
    return Text(memory, _BEFORE, contents.readinto(memoryview(memory).cast("B")[_BEFORE:]))


class _Ahead:
    """Thread that reads texts, and those that it has read.

    Args:
        read: Returns the next text; an empty one at the end.
    """

    def __init__(self, read: Callable[[], Text]) -> None:
        self._read = read
        self._changed = threading.Condition()
        self._texts: deque[Text] = deque()
        self._error: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="mmflow-decompress", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        ended = False
        while not ended:
            with self._changed:
                while len(self._texts) >= _COUNT and not self._closed:
                    self._changed.wait(_LOOK)
                if self._closed:
                    return
            try:
                text = self._read()
            except BaseException as error:  # noqa: BLE001  (raised where texts are taken)
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            ended = not text.size
            with self._changed:
                self._texts.append(text)
                self._changed.notify_all()

    def take(self) -> Text:
        """Return the next text; an empty one at the end.

        Raises:
            Exception: What reading it raised.
        """
        with self._changed:
            while not self._texts:
                if self._error is not None:
                    raise self._error
                self._changed.wait(_LOOK)
            text = self._texts.popleft()
            self._changed.notify_all()
            return text

    def close(self) -> None:
        """End the thread, once it has read the text that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(_LOOK)
        self._texts.clear()
