"""Messages between two processes of a host, with descriptors; each side notices at once when the other one dies.

A link is one end of a pair of Unix sockets that keep messages whole (SOCK_SEQPACKET). Why not a ring in shared memory
with robust mutexes: a process that dies there leaves a state that the other side has to repair, and mutexes need C.
Here all that both sides share is in the kernel: a message was sent or it was not, and there is no lock to die with.

The end of a socket alone doesn't tell of a death: a forked child, or whoever made the pair, may have the dead side's
end too. So the first message of each side is a descriptor of its process (pidfd), which the other side waits for along
with the socket. Where the kernel has none of these (`host.open_own_process`), the socket's end has to do.

Invariant: what was sent before a side died is received, whole and in order, before the death is reported.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Sequence

from mmflow.errors import EngineError, PeerLostError
from mmflow.mapping.system.host import open_own_process

__all__ = ["Link", "pair"]

_HELLO, _PLAIN, _LONG = b"H", b"P", b"L"
#: Longer messages go as memory of their own: a socket's buffer is about 200 KiB.
_INLINE = 32 << 10
_MOST_FDS = 2
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
#: Time that a process that closed its socket may take to end, for the sake of the message.
_DYING_MS = 200
#: Interval at which a wait checks that there is still something to wait for.
_CHECK_MS = 1000


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new socket, which no process owns yet.

    Raises:
        EngineError: Out of descriptors.
    """
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise EngineError(f"can't make a channel: {error.strerror}") from error


class Link:
    """This process's end. Says hello when it is made; used by one thread at a time.

    Args:
        end: Socket of `pair`, which the link owns from now on.
        peer: Name of the other side in messages.
    """

    def __init__(self, end: socket.socket, peer: str) -> None:
        self._end = end
        self._peer = peer
        self._watched = -1  # a pidfd of the peer's process, once it has said hello
        self._dead = False
        self.process = os.getpid()
        me = open_own_process()
        try:
            self._put(_HELLO, () if me is None else (me,))
        finally:
            if me is not None:
                os.close(me)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._end.fileno()

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message, and with it at most one descriptor, which stays the caller's too.

        Raises:
            PeerLostError: The other side is gone.
            EngineError: The system refuses.
        """
        if not self.tell(message, fds):
            raise self._lost()

    def tell(self, message: bytes, fds: Sequence[int] = ()) -> bool:
        """Call `send`, if the other end is still there; return whether it is."""
        if len(message) <= _INLINE:
            return self._put(_PLAIN + message, fds)
        memory = os.memfd_create("mmflow-message", os.MFD_CLOEXEC)
        try:
            with os.fdopen(memory, "wb", closefd=False) as file:
                file.write(message)
            return self._put(_LONG, (memory, *fds))
        finally:
            os.close(memory)

    def _put(self, data: bytes, fds: Sequence[int]) -> bool:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            # A copy of the peer's end, in a process that doesn't read it, would take it all the same.
            if self._wait(0, 0):
                return False
            try:
                self._end.sendmsg([data], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                return True
            except BlockingIOError:
                self._wait(select.POLLOUT, _CHECK_MS)
            except (BrokenPipeError, ConnectionResetError):
                return False
            except OSError as error:
                if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EBADF):
                    raise
                raise EngineError(f"can't send to the {self._peer}: {error.strerror}") from error

    def receive(self, check: Callable[[], None] | None = None) -> tuple[bytes, list[int]]:
        """Wait for the next message; return it and its descriptors, which the caller closes.

        Args:
            check: Function that is called once a second while nothing comes; what it raises ends the wait.

        Raises:
            PeerLostError: The other side is gone, and all that it sent was received.
            EngineError: Out of descriptors: the message is lost.
        """
        message = self._next(wait=True, check=check)
        assert message is not None  # it waited
        return message

    def look(self) -> tuple[bytes, list[int]] | None:
        """Call `receive` if a message is there; None: there is none."""
        return self._next(wait=False)

    def _next(self, *, wait: bool, check: Callable[[], None] | None = None) -> tuple[bytes, list[int]] | None:
        while True:
            dead = self._dead
            taken = self._take()
            if taken is None:
                if dead:
                    raise self._lost()
                dead = self._wait(select.POLLIN, _CHECK_MS if wait else 0)
                if not wait and not dead:
                    return None
                if wait and check is not None:
                    check()
                continue
            kind, data, fds = taken
            if kind == _HELLO:
                self._meet(fds)
            elif kind == _PLAIN:
                return data, fds
            else:
                with os.fdopen(fds.pop(0), "rb") as file:
                    file.seek(0)
                    return file.read(), fds

    def _take(self) -> tuple[bytes, bytes, list[int]] | None:
        while True:
            try:
                data, ancillary, flags, _ = self._end.recvmsg(
                    _INLINE + 1, socket.CMSG_SPACE(4 * _MOST_FDS), _FLAGS
                )
                break
            except BlockingIOError:
                return None
            except ConnectionResetError:  # said once; what was sent before is still there
                self._dead = True
            except OSError as error:
                raise EngineError(f"can't receive from the {self._peer}: {error.strerror}") from error
        fds = array.array("i")
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise EngineError("out of file descriptors: raise the limit (ulimit -n), or hold fewer tables")
        if not data:
            raise self._lost()
        return data[:1], data[1:], list(fds)

    def _meet(self, fds: list[int]) -> None:
        if self._watched >= 0:
            for fd in fds:
                os.close(fd)
            raise EngineError(f"two processes use the same end of a channel: it has one {self._peer}")
        if fds:
            self._watched = fds[0]

    def _wait(self, events: int, timeout: int) -> bool:
        """Wait for the socket; whether the other side's process has ended (its messages may be there still)."""
        poll = select.poll()
        if events:
            poll.register(self._end, events)
        if self._watched >= 0:
            poll.register(self._watched, select.POLLIN)
        if any(fd == self._watched for fd, _ in poll.poll(timeout)):
            self._dead = True
        return self._dead

    def _lost(self) -> PeerLostError:
        ended = self._watched >= 0 and self._wait(0, _DYING_MS)
        why = "its process ended" if ended else "it closed its end"
        return PeerLostError(f"the {self._peer} is gone: {why}")

    def close(self) -> None:
        """End the link, for copies of the socket in other processes too. What was sent stays there. Idempotent."""
        if self._end.fileno() >= 0:
            with contextlib.suppress(OSError):
                if self.process == os.getpid():  # not a forked child's to end
                    self._end.shutdown(socket.SHUT_RDWR)
            self._end.close()
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it was never made
            self.close()
