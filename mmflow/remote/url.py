"""URLs of files, from their text alone.

Invariant: what `shown` gives holds no secret: messages name URLs by it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["CHAINED", "SECRET_NAMES", "URL", "file_name", "is_url", "refused_secret", "scheme_of", "shown"]

URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
CHAINED = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*::.*://")
#: Names of settings and variables that hold secrets.
SECRET_NAMES = re.compile(
    r"(secret|token|passw(or)?d|passphrase|credential|api_?key|access_?key|private_?key|auth|signature|(^|_)sas(_|$)|(^|_)pwd$)",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]+(?=@)")
_QUERY = re.compile(r"\?.*$", re.DOTALL)
_WEB = frozenset({"http", "https"})


def is_url(path: str) -> bool:
    """True for what is no local path; `file://` is one.

    >>> is_url("s3://bucket/out"), is_url("/data/out"), is_url("file:///data/out")
    (True, False, False)
    """
    return CHAINED.match(path) is not None or (
        URL.match(path) is not None and not path.lower().startswith("file://")
    )


def scheme_of(url: str) -> str:
    """The part before `://`, in lower case."""
    match = URL.match(url)
    return "" if match is None else match[1].lower()


def file_name(path: str) -> str:
    """A path by which a file's kind can be told: without the query of a web address.

    >>> file_name("https://host/a.csv.gz?sig=x"), file_name("s3://bucket/what?.csv")
    ('https://host/a.csv.gz', 's3://bucket/what?.csv')
    """
    return unquote(_QUERY.sub("", path)) if scheme_of(path) in _WEB else path


def shown(url: str) -> str:
    """A URL for messages: what may be secret of a web address is left out.

    >>> shown("https://me:pass@host/a.csv?X-Amz-Signature=abc"), shown("s3://bucket/a.csv")
    ('https://***@host/a.csv?***', 's3://bucket/a.csv')
    """
    if scheme_of(url) not in _WEB:
        return url
    return _QUERY.sub("?***", _USER.sub("***", url))


def refused_secret(url: str) -> bool:
    """Does a URL hold credentials? A signed web address does too, but is the only way to give them.

    A secret may itself hold a slash, so a colon in front of the first one is enough. Access points (arn:…), ports and
    abfs://container@account have one or the other, and no secret.

    >>> [refused_secret(u) for u in ("s3://key:secret@bucket/a", "abfs://c@account/a", "https://host:8080/a?sig=x")]
    [True, False, False]
    """
    match = URL.match(url)
    if match is None:
        return False
    host = url[match.end() :].partition("/")[0]
    if host.startswith("arn:"):
        return False
    return ":" in host and ("@" in url[match.end() :] or re.search(r":\d*$", host) is None)
