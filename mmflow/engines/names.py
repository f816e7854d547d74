"""Names of hosts, looked up in bounded time."""

from __future__ import annotations

import queue
import socket
import threading

__all__ = ["resolved"]


def resolved(host: str, port: int | None, seconds: float) -> list[str]:
    """Return the numeric addresses of a host.

    A thread asks, which is left to itself when it takes too long: `getaddrinfo` has no limit of its own.

    Raises:
        OSError: It is not known, or no answer comes in time.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[4][0]) for address in found)))
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:  # of a label that is too long, say
            answers.put(OSError(str(error)))

    threading.Thread(target=ask, name="mmflow-names", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the name {host} can't be looked up: no answer in {seconds:g} seconds") from None
    if isinstance(answer, OSError):
        raise ConnectionError(f"the name {host} can't be looked up: {answer.strerror or answer}") from answer
    return answer
