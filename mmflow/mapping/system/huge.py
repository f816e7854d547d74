"""Huge pages (2 MiB on most machines) under mappings: fewer page faults, and fewer misses of the TLB.

    files on disk     the kernel reads large folios ahead, and maps those that lie so; with `on` it reads whole huge
                      pages at the first touch
    /dev/shm          small pages, unless its mount says otherwise; with `on` they are collapsed into huge ones, once,
                      for every process that maps them, which copies every byte

Invariant: a refusal of the system costs only speed, and is reported.
"""

from __future__ import annotations

import os
from typing import Literal

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.mapping.system import PageAdvice, system
from mmflow.mapping.window import Mapping

__all__ = ["HUGE", "HugePages", "advise_huge", "check_huge_pages", "map_whole_file"]

HugePages = Literal["auto", "on", "off"]
#: Bytes of a huge page. (With pages of 16 and 64 KiB they are larger; alignment for speed only.)
HUGE = 2 << 20


def check_huge_pages(value: str) -> None:
    """Check the setting `huge_pages`.

    Raises:
        ConfigError: It is not auto, on or off.
    """
    if value not in ("auto", "on", "off"):
        raise ConfigError(f"huge_pages {value!r} must be auto, on or off")


def advise_huge(address: int, length: int, wanted: HugePages, *, collapse: bool = False) -> str:
    """Make a mapped range use huge pages, or never use them.

    Args:
        address: Address of the range, where a page begins.
        length: Length of the range, in bytes.
        wanted: Setting; `auto` leaves it to the system.
        collapse: Whether, with `on`, pages in memory become huge now.

    Returns:
        The reason why the system refuses; "": it does not.
    """
    if wanted == "auto" or (wanted == "on" and length < HUGE):
        return ""
    advice: list[PageAdvice] = ["small"] if wanted == "off" else ["huge"]
    if wanted == "on" and collapse:
        advice.append("collapse")
    for one in advice:
        try:
            system.advise(address, length // system.page_size * system.page_size, one)
        except OSError as error:
            return f"the system refuses huge pages ({one}): {error.strerror}"
    return ""


def map_whole_file(fd: int, wanted: HugePages = "auto", *, collapse: bool = False) -> tuple[pa.Buffer, str]:
    """Map an open file as a whole, aligned for huge pages; return its bytes, and `advise_huge`'s result.

    Raises:
        OSError: The file can't be opened again or mapped.
    """
    size = os.fstat(fd).st_size
    if not size:
        return pa.py_buffer(b""), ""
    own = system.reopen(fd)  # a mapping would keep the description of `fd` open, and its lock
    try:
        address = system.map_file(own, 0, size, align=HUGE if size >= HUGE else 0)
    finally:
        os.close(own)
    mapping = Mapping(address, size, 0, None)
    return pa.foreign_buffer(address, size, base=mapping), advise_huge(
        address, size, wanted, collapse=collapse
    )
