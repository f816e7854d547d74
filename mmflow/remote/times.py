"""Times as stores tell them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["nanoseconds"]


def nanoseconds(when: Any) -> int:
    """Return a time in ns since 1970; 0: not told, or not understood.

    Args:
        when: A datetime, seconds since 1970, or text (ISO 8601, or as in HTTP).
    """
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            try:
                when = parsedate_to_datetime(when)
            except ValueError:
                return 0
    if isinstance(when, datetime):
        since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        seconds: int = since.days * 86_400 + since.seconds
        return seconds * 1_000_000_000 + since.microseconds * 1000
    return int(float(when) * 1e9) if isinstance(when, int | float) else 0
