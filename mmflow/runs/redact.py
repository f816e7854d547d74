"""Secrets are taken out of whatever is kept of a run, or printed of it.

What counts as one: the values of environment variables whose names say so, credentials and signatures in URLs, and
parameters that are named so. What a parameter holds of these is one wherever it appears.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmflow.remote.url import SECRET_NAMES

__all__ = ["HIDDEN", "Redactor"]

HIDDEN = "***"
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
        parameters: Of a job: more of them.

    >>> hide = Redactor({"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "HOME": "/home/ada"})
    >>> hide.text("403 for key wJalrXUtnFEMI at s3://me:pass@host/b?X-Amz-Signature=abc&v=1")
    '403 for key *** at s3://***@host/b?X-Amz-Signature=***&v=1'
    >>> hide.data({"path": "a.csv", "db_password": "x", "n": 3})
    {'path': 'a.csv', 'db_password': '***', 'n': 3}
    >>> Redactor({}, {"db_password": "hunter2"}).text("can't log in with hunter2")
    "can't log in with ***"
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, parameters: Mapping[str, Any] | None = None
    ) -> None:
        env = os.environ if environment is None else environment
        values = {v for n, v in env.items() if SECRET_NAMES.search(n) and not _is_path(v)}
        for name, value in (parameters or {}).items():
            values |= {s for text in _texts(value) for s in _secrets(name, text)}
        values = {v for v in values if len(v) >= _SHORTEST and v != HIDDEN}
        # As JSON and Python quote them, too. The longest first: one may be part of another.
        values |= {q(v)[1:-1] for v in values for q in (json.dumps, repr)}
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
                return {k: self._hidden(v) if self._named(k) else self.data(v) for k, v in value.items()}
            case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
                return [self.data(v) for v in value]
        return value

    def _named(self, key: Any) -> bool:
        return isinstance(key, str) and bool(SECRET_NAMES.search(key))

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._hidden(v) for v in value]
        return HIDDEN if isinstance(value, str) else self.data(value)

    def error(self, error: BaseException) -> None:
        """Take secrets out of an error's texts, and out of those of the errors that led to it."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            error.args = tuple(self.text(a) if isinstance(a, str) else a for a in error.args)
            for name in ("message", "filename", "filename2", "strerror"):
                if isinstance(value := getattr(error, name, None), str):
                    setattr(error, name, self.text(value))
            error = error.__cause__ or error.__context__  # type: ignore[assignment]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _secrets(name: str, text: str) -> Iterator[str]:
    """What of a parameter is secret: all of it, or the password and the signature of a URL."""
    if SECRET_NAMES.search(name):
        yield text
    for match in _IN_URL[0].finditer(text):
        yield match[0].partition(":")[2]
    for match in _IN_URL[1].finditer(text):
        yield match[0][len(match[1]) :]


def _is_path(value: str) -> bool:
    """Variables such as SSH_AUTH_SOCK name a file, which is no secret."""
    return value.startswith("/") and os.path.exists(value)
