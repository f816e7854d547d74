"""Secrets are taken out of whatever is kept of a run, or printed of it.

What counts as one: the values of environment variables whose names say so, credentials and signatures in URLs, and
parameters that are named so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["HIDDEN", "Redactor"]

HIDDEN = "***"
_NAMES = re.compile(
    r"(secret|token|passw(or)?d|passphrase|credential|api_?key|access_?key|private_?key|auth|signature|(^|_)sas(_|$)|(^|_)pwd$)",
    re.IGNORECASE,
)
#: Shorter values are words like "true" or "none": replacing them would garble everything.
_SHORTEST = 6
_IN_URL = (
    re.compile(r"(?<=://)[^/@\s:'\"]*:[^/@\s'\"]+(?=@)"),
    re.compile(
        r"(?i)(?<=[?&;])((?:x-amz-(?:signature|credential|security-token)|sig|signature|token|password|secret|key)=)[^&\s'\"]+"
    ),
)


class Redactor:
    """Takes secrets out of text and plain data.

    Args:
        environment: Where secrets stand; None: this process's.

    >>> hide = Redactor({"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "HOME": "/home/ada"})
    >>> hide.text("403 for key wJalrXUtnFEMI at s3://me:pass@host/b?X-Amz-Signature=abc&v=1")
    '403 for key *** at s3://***@host/b?X-Amz-Signature=***&v=1'
    >>> hide.data({"path": "a.csv", "db_password": "x", "n": 3})
    {'path': 'a.csv', 'db_password': '***', 'n': 3}
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        env = os.environ if environment is None else environment
        values = {v for n, v in env.items() if _NAMES.search(n) and len(v) >= _SHORTEST and not _is_path(v)}
        # The longest first: one may be part of another.
        ordered = sorted(values, key=lambda v: (-len(v), v))
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        if "://" in text or "=" in text:
            text = _IN_URL[0].sub(HIDDEN, text)
            text = _IN_URL[1].sub(lambda m: m[1] + HIDDEN, text)
        return text

    def data(self, value: Any) -> Any:
        """Mappings, sequences and text without secrets; all else as it is."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {k: HIDDEN if self._named(k, v) else self.data(v) for k, v in value.items()}
            case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
                return [self.data(v) for v in value]
        return value

    def _named(self, key: Any, value: Any) -> bool:
        return isinstance(key, str) and isinstance(value, str) and bool(_NAMES.search(key))


def _is_path(value: str) -> bool:
    """Variables such as SSH_AUTH_SOCK name a file, which is no secret."""
    return value.startswith("/") and os.path.exists(value)
