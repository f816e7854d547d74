"""Bounded channel of record batches from one process to another of the same host.

    sender, receiver = channel(capacity=64 << 20)
    Process(target=produce, args=(sender,)).start(); sender.close()      what the other process got is its own now
    for batch in receiver: ...                                           zero-copy, in order

    sender  --- batch: a descriptor of sealed memory (`blocks.memfd`) --->  receiver, which maps it
            <--- its size: it was received ------------------------------

Batches are in memory without a name, so whatever dies, and when, nothing is left behind: the kernel drops what no
process has any more. Each side notices the other's death (`shm.link`): by then a batch was sent whole, or not at
all.

Invariant: bytes that were sent and not yet received are at most `capacity` (or one batch, if it is larger). A receiver
gets all that was sent, and then either the sender's word that this was all, or an error: never just an end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import weakref
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from mmflow.blocks.memfd import map_block, write_block
from mmflow.blocks.memory import compacted_views
from mmflow.blocks.streams import write_stream
from mmflow.errors import ConfigError, EngineError
from mmflow.shm.link import Link, pair
from mmflow.usercode.tracebacks import PublicApi, public

__all__ = ["Receiver", "Sender", "channel"]

_BATCH, _END, _FAILED = b"B", b"E", b"F"
_SIZE = struct.Struct("<Q")
#: Batches that may be under way, however small they are: each is a descriptor, and a message in the socket's buffer.
_MOST = 64


@public
def channel(capacity: int = 64 << 20) -> tuple[Sender, Receiver]:
    """Open a channel of one producer and one consumer.

    Either end can be given to another process: as an argument of `multiprocessing` (fork or spawn), or, to any child,
    as a descriptor (`fileno`, `pass_fds`, `Sender.of(number)`). Close it here then, as with pipes: until the other
    process uses its end, a copy here is all that is known of it.

    Parameters
    ----------
    capacity
        Bytes that may be sent and not yet received. Beyond them `send` waits.

    Returns
    -------
    tuple of Sender and Receiver
        Both ends.

    Raises
    ------
    ConfigError
        `capacity` is not above 0.
    EngineError
        Descriptors have run out.

    Examples
    --------
    >>> import threading
    >>> import mmflow as mf
    >>> import pyarrow as pa
    >>> sender, receiver = mf.channel()
    >>> def produce():
    ...     with sender:
    ...         sender.send(pa.table({"x": [1, 2]}))
    >>> thread = threading.Thread(target=produce)
    >>> thread.start()
    >>> [batch.num_rows for batch in receiver]
    [2]
    >>> thread.join()
    """
    if capacity <= 0:
        raise ConfigError(f"channel: capacity must be above 0, not {capacity}")
    ours, theirs = pair()
    sender, receiver = Sender(ours, capacity), Receiver(theirs)
    sender._other, receiver._other = weakref.ref(receiver), weakref.ref(sender)
    return sender, receiver


class _End(PublicApi):
    """End of a channel. It belongs to the process that uses it first."""

    _PEER = ""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._linked: Link | None = None
        self._made = os.getpid()
        self._given = False
        self._other: weakref.ref[_End] | None = None

    def fileno(self) -> int:
        """Return the descriptor, to be given to a child process."""
        return self._end.fileno()

    @property
    def _link(self) -> Link:
        if self._linked is None:
            if self._end.fileno() < 0:
                raise EngineError("this end of the channel is closed here")
            self._linked = Link(self._end, self._PEER)
            # Who waits for a process must not itself be what keeps that process's end open.
            other = self._other() if self._other is not None else None
            if other is not None and (other._given or other._made != os.getpid()):
                other.close()
        if self._linked.process != os.getpid():
            raise EngineError(
                f"this end of the channel is process {self._linked.process}'s, which used it first"
            )
        return self._linked

    def _parts(self) -> tuple[Any, ...]:
        """Return the arguments that build this end in another process."""
        return (self._end,)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "an end of a channel goes to another process as an argument of multiprocessing, or as a descriptor"
        )

    def __enter__(self) -> Self:
        _ = self._link
        return self

    def close(self) -> None:
        """End the channel; of an end that was not used here, close only this process's copy. Idempotent."""
        if self._linked is not None:
            self._linked.close()
        self._end.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it was never made
            _End.close(self)


class Sender(_End):
    """Producer's end of a channel. One thread at a time may use it.

    As a context manager it ends the channel: with an error, if the block raises.
    """

    _PEER = "receiver"

    def __init__(self, end: socket.socket, capacity: int) -> None:
        super().__init__(end)
        self._capacity = capacity
        self._bytes = 0
        self._batches = 0

    @classmethod
    def of(cls, fd: int, capacity: int = 64 << 20) -> Self:
        """Return the end that was given to this process as a descriptor.

        Raises:
            ConfigError: The descriptor is not that of a channel.
        """
        sender = cls(_socket(fd), capacity)
        _ = sender._link
        return sender

    def _parts(self) -> tuple[Any, ...]:
        return self._end, self._capacity

    def send(self, data: pa.RecordBatch | pa.Table) -> None:
        """Send a batch, or those of a table. Waits while the channel is full.

        Raises:
            PeerLostError: The receiver is gone.
            EngineError: No memory or descriptors left.
        """
        for batch in data.to_batches() if isinstance(data, pa.Table) else [data]:
            self._send(compacted_views(batch))

    def _send(self, batch: pa.RecordBatch) -> None:
        need = _size(batch)
        while self._received(wait=self._full(need)):
            pass
        fd, _ = write_block([batch], batch.schema)
        try:
            self._link.send(_BATCH + _SIZE.pack(need), [fd])
        finally:
            os.close(fd)
        self._bytes += need
        self._batches += 1

    def _full(self, need: int) -> bool:
        return self._batches >= _MOST or (self._batches > 0 and self._bytes + need > self._capacity)

    def _received(self, *, wait: bool) -> bool:
        """Return whether a batch was received since, and count it."""
        message = self._link.receive() if wait else self._link.look()
        if message is None:
            return False
        self._bytes -= _SIZE.unpack(message[0])[0]
        self._batches -= 1
        return True

    def close(self) -> None:
        """End the channel: the receiver gets what was sent, and then its end. Idempotent.

        Of an end that was not used here (no `with`, nothing sent), only this process's copy is closed.
        """
        self._say(_END)

    def fail(self, why: str) -> None:
        """End the channel with an error, which the receiver raises after the batches that were sent."""
        _ = self._link
        self._say(_FAILED + why.encode())

    def _say(self, word: bytes) -> None:
        if self._linked is not None and self._end.fileno() >= 0 and self._linked.process == os.getpid():
            self._linked.tell(word)
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.fail(f"{kind.__name__}: {error}")


class Receiver(_End):
    """Consumer's end of a channel, an iterable of its batches. One thread at a time may use it."""

    _PEER = "sender"

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end)
        self._ended = False

    @classmethod
    def of(cls, fd: int) -> Self:
        """Return the end that was given to this process as a descriptor.

        Raises:
            ConfigError: The descriptor is not that of a channel.
        """
        receiver = cls(_socket(fd))
        _ = receiver._link
        return receiver

    def receive(self) -> pa.RecordBatch | None:
        """Return the next batch, over its mapping, which it holds. None: the channel has ended.

        Waits for the sender.

        Raises:
            PeerLostError: The sender died, or closed its end without ending the channel.
            EngineError: The sender ended the channel with an error; descriptors or mappings have run out.
        """
        if self._ended:
            return None
        word, fds = self._link.receive()
        if word[:1] == _BATCH:
            (batch,) = map_block(fds[0])
            self._link.tell(word[1:])  # it may have sent its last, and be gone
            return batch
        self._ended = True
        self.close()
        if word[:1] == _FAILED:
            raise EngineError(f"the sender failed: {word[1:].decode()}")
        return None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while (batch := self.receive()) is not None:
            yield batch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _given(end: _End) -> tuple[Any, ...]:
    """Reduce an end for multiprocessing, which can pass sockets."""
    if end._linked is not None:
        raise EngineError("this end of the channel is in use here: give it away before it is used")
    end._given = True
    return _arrived, (type(end), *end._parts())


ForkingPickler.register(Sender, _given)
ForkingPickler.register(Receiver, _given)


def _arrived(kind: Any, *parts: Any) -> Any:
    """Return an end that came to this process, which it belongs to from now on."""
    end = kind(*parts)
    _ = end._link
    return end


def _socket(fd: int) -> socket.socket:
    try:
        end = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"descriptor {fd} is no end of a channel: {error.strerror}") from error
    if (end.family, end.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.detach()
        raise ConfigError(f"descriptor {fd} is no end of a channel: it is another kind of socket")
    end.set_inheritable(False)
    return end


def _size(batch: pa.RecordBatch) -> int:
    """Return the size of a batch as a stream, in bytes."""
    sink = pa.MockOutputStream()
    write_stream(sink, batch.schema, [batch])
    return int(sink.size())
