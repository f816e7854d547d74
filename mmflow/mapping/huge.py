"""Huge pages (2 MiB on most machines) under mappings: fewer page faults, and fewer misses of the TLB.

    files on disk     the kernel reads large folios ahead, and maps those that lie so; with `on` it reads whole huge
                      pages at the first touch
    /dev/shm          small pages, unless its mount says otherwise; with `on` they are collapsed into huge ones, once,
                      for all who map them, which copies every byte

Invariant: whatever the system refuses costs speed, no more, and is told.
"""

from __future__ import annotations

import os
from typing import Literal

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.mapping.system import PageAdvice, system
from mmflow.mapping.window import Mapping

__all__ = ["HUGE", "HugePages", "advise_huge", "check_huge_pages", "whole_file"]

HugePages = Literal["auto", "on", "off"]
#: Bytes of a huge page. (With pages of 16 and 64 KiB they are larger; alignment for speed only.)
HUGE = 2 << 20


def check_huge_pages(value: str) -> None:
    """Is this a choice?

    Raises:
        ConfigError: It isn't.
    """
    if value not in ("auto", "on", "off"):
        raise ConfigError(f"huge_pages {value!r} must be auto, on or off")


def advise_huge(address: int, length: int, wanted: HugePages, *, collapse: bool = False) -> str:
    """Have a mapped range use huge pages, or never.

    Args:
        address: Of the range; a page begins there.
        length: Its bytes.
        wanted: `auto` leaves it to the system.
        collapse: With `on`, make huge what is in memory already.

    Returns:
        Why the system does not; "": it does.
    """
    if wanted == "auto" or (wanted == "on" and length < HUGE):
        return ""
    advice: list[PageAdvice] = ["small"] if wanted == "off" else ["huge"]
    if wanted == "on" and collapse:
        advice.append("collapse")
    for one in advice:
        try:
            system.advise(address, length // system.PAGE_SIZE * system.PAGE_SIZE, one)
        except OSError as error:
            return f"the system refuses huge pages ({one}): {error.strerror}"
    return ""


def whole_file(fd: int, wanted: HugePages = "auto", *, collapse: bool = False) -> tuple[pa.Buffer, str]:
    """All bytes of an open file, mapped where huge pages can lie; and why there are none, as `advise_huge` says.

    Raises:
        OSError: As the system says.
    """
    size = os.fstat(fd).st_size
    if not size:
        return pa.py_buffer(b""), ""
    own = system.reopen(fd)  # a mapping would keep alive what `fd` is an opening of, and its lock with it
    try:
        address = system.map_file(own, 0, size, align=HUGE if size >= HUGE else 0)
    finally:
        os.close(own)
    mapping = Mapping(address, size, 0, None)
    return pa.foreign_buffer(address, size, base=mapping), advise_huge(
        address, size, wanted, collapse=collapse
    )
