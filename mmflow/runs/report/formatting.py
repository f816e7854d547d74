"""Formatting of sizes, counts, times and text from data, for people."""

from __future__ import annotations

import math

__all__ = ["clipped", "clock", "count", "duration", "plural", "size", "visible"]

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNTS = ("", "k", "M", "G", "T")


def size(nbytes: float) -> str:
    """Return bytes in three digits.

    >>> size(0), size(1023), size(1536), size(7 << 40)
    ('0 bytes', '1,023 bytes', '1.50 KiB', '7.00 TiB')
    """
    if nbytes < 1024:
        return f"{nbytes:,.0f} bytes"
    power = min(int(math.log(nbytes, 1024)), len(_SIZES) - 1)
    return f"{_three(nbytes / 1024**power)} {_SIZES[power]}"


def count(number: float) -> str:
    """Return a count, exact below a million.

    >>> count(950), count(123456), count(15_596_159)
    ('950', '123,456', '15.6 M')
    """
    if number < 10**6:
        return f"{number:,.0f}"
    power = min(int(math.log10(number) / 3), len(_COUNTS) - 1)
    return f"{_three(number / 1000**power)} {_COUNTS[power]}"


def _three(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Return a duration in the two largest units.

    >>> duration(0.0042), duration(12.34), duration(185), duration(8040), duration(200_000)
    ('4 ms', '12.3 s', '3 min 5 s', '2 h 14 min', '2 d 7 h')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, large_name, small_name in (
        (60, 1, "min", "s"),
        (3600, 60, "h", "min"),
        (86400, 3600, "d", "h"),
    ):
        if whole < large * (60 if large == 60 else 24) or large == 86400:
            first, rest = divmod(whole, large)
            return (
                f"{first} {large_name} {rest // small} {small_name}"
                if rest >= small
                else f"{first} {large_name}"
            )
    raise AssertionError


def clock(seconds: float) -> str:
    """Return a point on an axis that begins at 0.

    >>> clock(0), clock(0.25), clock(45), clock(90), clock(3720)
    ('0', '0.25 s', '45 s', '1:30', '1:02:00')
    """
    if seconds < 60:
        return f"{seconds:g} s" if seconds else "0"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(number: int, one: str, many: str = "") -> str:
    """Return a count with its noun.

    >>> plural(1, "task"), plural(2000, "task"), plural(0, "retry", "retries")
    ('1 task', '2,000 tasks', '0 retries')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def clipped(text: str, most: int) -> str:
    """Return the beginning of a long text, to be used as a name.

    >>> clipped("scan lineitem.csv, filter, project", 20), clipped("sort", 20)
    ('scan lineitem.csv, …', 'sort')
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def visible(text: str, most: int = 2000) -> str:
    r"""Return text from data with escapes for everything that moves cursors, reverses letters or can't be encoded.

    >>> print(visible("a\x1b[31m\u202eb\ud800\n"), visible("abcdef", 3))
    a\x1b[31m\u202eb\ud800
     abc… (3 more characters)
    """
    cut = text[:most] + (f"… ({len(text) - most:,} more characters)" if len(text) > most else "")
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in cut)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
