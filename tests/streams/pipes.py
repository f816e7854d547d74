"""Pipes that a thread writes to, as a process before `|` would."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator

__all__ = ["Producer", "produced"]


class Producer:
    """Thread that writes pieces into a pipe. `path` is what readers open; `written` counts bytes.

    `ended`: how it ended: all was written (None), or nobody reads any more.
    """

    def __init__(self, pieces: Iterable[bytes], *, pause: float = 0.0) -> None:
        self._read, self._write = os.pipe()
        self._pieces = pieces
        self._pause = pause
        self.path = f"/dev/fd/{self._read}"
        self.written = 0
        self.ended: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                rest = memoryview(piece)
                while rest:
                    done = os.write(self._write, rest)
                    self.written += done
                    rest = rest[done:]
                if self._pause:
                    time.sleep(self._pause)
        except BrokenPipeError as error:
            self.ended = error
        finally:
            os.close(self._write)

    def close(self) -> None:
        os.close(self._read)
        self.thread.join(5)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def produced(pieces: Iterable[bytes] | bytes, *, pause: float = 0.0) -> Iterator[Producer]:
    """Give a producer of pieces, which writes from now on."""
    made = Producer([pieces] if isinstance(pieces, bytes) else pieces, pause=pause)
    made.thread.start()
    try:
        yield made
    finally:
        made.close()
