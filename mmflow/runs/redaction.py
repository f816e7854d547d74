"""Removal of secrets from everything that is stored or printed about a run.

Secrets are the values of environment variables and parameters with such names, and credentials and signatures in URLs.
A secret of a parameter is removed wherever it appears.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmflow.lazy.patterns import lazy_regex
from mmflow.storage.url import SECRET_NAMES

__all__ = ["HIDDEN", "Redactor"]

HIDDEN = "***"
#: Shorter values are words like "true" or "none", which must not be replaced everywhere.
_MIN_SECRET_LENGTH = 6
_URL_SECRETS = (
    lazy_regex(r"(?<=://)[^/@\s:'\"]*:[^/@\s'\"]+(?=@)"),
    lazy_regex(
        r"(?i)(?<=[?&;])((?:x-amz-(?:signature|credential|security-token)|sig|signature|token|password|secret|key)=)[^&\s'\"]+"
    ),
)


class Redactor:
    """Remover of secrets from text and plain data.

    Args:
        environment: Environment variables; None: those of this process.
        parameters: Parameters of a job.

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
        values = {v for n, v in env.items() if _is_secret(n) and not _is_path(v)}
        for name, value in (parameters or {}).items():
            values |= {s for text in _texts(value) for s in _secrets(name, text)}
        values = {v for v in values if len(v) >= _MIN_SECRET_LENGTH and v != HIDDEN}
        # Also as JSON and Python quote them. The longest first, since one may be part of another.
        values |= {q(v)[1:-1] for v in values for q in (json.dumps, repr)}
        ordered = sorted(values, key=lambda v: (-len(v), v))
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        if "://" in text or "=" in text:
            text = _URL_SECRETS[0].sub(HIDDEN, text)
            text = _URL_SECRETS[1].sub(lambda m: m[1] + HIDDEN, text)
        return text

    def data(self, value: Any) -> Any:
        """Return mappings, sequences and text without secrets; other values unchanged."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case Mapping():
                return {
                    k: self._hide(v) if self._is_secret_name(k) else self.data(v) for k, v in value.items()
                }
            case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
                return [self.data(v) for v in value]
        return value

    def _is_secret_name(self, key: Any) -> bool:
        return isinstance(key, str) and _is_secret(key)

    def _hide(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._hide(v) for v in value]
        return HIDDEN if isinstance(value, str) else self.data(value)

    def error(self, error: BaseException) -> None:
        """Remove secrets from the texts of an error and of its causes."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            error.args = tuple(self.text(a) if isinstance(a, str) else a for a in error.args)
            for name in ("message", "filename", "filename2", "strerror"):
                if isinstance(value := getattr(error, name, None), str):
                    setattr(error, name, self.text(value))
            error = error.__cause__ or error.__context__  # type: ignore[assignment]  # the loop ends at None


@functools.lru_cache(1024)
def _is_secret(name: str) -> bool:
    """Return whether the name says that its value is a secret. Names are few, and looked at for each run and event."""
    return bool(SECRET_NAMES.search(name))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _secrets(name: str, text: str) -> Iterator[str]:
    """Yield the secret parts of a parameter: all of it, or the password and the signature of a URL."""
    if _is_secret(name):
        yield text
    for match in _URL_SECRETS[0].finditer(text):
        yield match[0].partition(":")[2]
    for match in _URL_SECRETS[1].finditer(text):
        yield match[0][len(match[1]) :]


def _is_path(value: str) -> bool:
    """Return whether the value is an existing path: variables such as SSH_AUTH_SOCK name a file, which is no secret."""
    return value.startswith("/") and os.path.exists(value)
