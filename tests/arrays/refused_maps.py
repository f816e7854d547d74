"""Script that changes an array while the kernel refuses to map files for writing, with a chosen error (seccomp).

    python refused_maps.py PATH ERRNO

Prints what `fallback` says, and what a private mapping gives.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

import mmflow as mf

MMAP = {"x86_64": 9, "aarch64": 222}
NUMBER, PROT, FD = 0, 16 + 8 * 2, 16 + 8 * 4  # where these are in what the filter is given
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2


def refuse(number: int) -> None:
    """Make mmap(PROT_READ | PROT_WRITE) of a file fail from here on."""
    steps = [
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 5, MMAP[platform.machine()]),
        (LOAD, 0, 0, PROT),
        (EQUAL, 0, 3, 3),
        (LOAD, 0, 0, FD),
        (EQUAL, 1, 0, 0xFFFFFFFF),  # no file
        (RETURN, 0, 0, ERRNO | number),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for what in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, program, 0, 0)):
        if libc.prctl(*what) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def main(path: str, name: str) -> None:
    session = mf.Session(workers=2)
    session.map_array(path, lambda rows: rows, in_place=True)  # its libraries are mapped
    with mf.open_array(path, "r+") as array:
        array[0] = 1
        assert not array.fallback
        refuse(getattr(errno, name))
        array[5:] = 7
        array.flush()
        array[:] = 9
        array.roll_back()
        print(array.fallback)
    try:
        mf.open_array(path, "c")
    except mf.SinkError as error:
        print(error)
    session.map_array(path, lambda rows: rows + 1, in_place=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
