"""Bytes that the TCP connections of this process have carried, as the kernel counts them (Linux).

Who reads from a socket leaves no trace in /proc/self/io, and may use no thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

__all__ = ["carried_bytes"]

#: Where `struct tcp_info` (linux/tcp.h) has tcpi_bytes_acked and tcpi_bytes_received, since Linux 4.1.
_COUNTS = struct.Struct("=120xQQ")
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_FOLDER = "/proc/self/fd"


def carried_bytes() -> dict[str, int]:
    """Return the bytes that came, and those that the peer confirmed, by connection; none where that is not known."""
    found: dict[str, int] = {}
    if _TCP_INFO is None:
        return found
    for name in os.listdir(_FOLDER) if os.path.isdir(_FOLDER) else ():
        with contextlib.suppress(OSError):  # it was closed meanwhile, or is none
            connection = os.readlink(f"{_FOLDER}/{name}")
            if not connection.startswith("socket:"):
                continue
            # Its owner's descriptor is never closed here.
            with socket.socket(fileno=os.dup(int(name))) as seen:
                info = seen.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _COUNTS.size)
            if len(info) == _COUNTS.size:
                found[connection] = sum(_COUNTS.unpack(info))
    return found
