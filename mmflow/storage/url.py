"""URLs of files, from their text alone.

Invariant: what `redact_url` gives holds no secret: messages name URLs by it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from mmflow.errors import ConfigError
from mmflow.lazy.patterns import lazy_regex

__all__ = [
    "AZURE",
    "GCS",
    "S3",
    "SECRET_NAMES",
    "URL",
    "WEB",
    "check_url",
    "file_name",
    "holds_secret",
    "is_url",
    "redact_url",
    "url_scheme",
]

URL = lazy_regex(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAINED = lazy_regex(r"^[A-Za-z][A-Za-z0-9+.-]*::.*://")
#: Names of settings and variables that hold secrets.
SECRET_NAMES = lazy_regex(
    r"(secret|token|passw(or)?d|passphrase|credential|api_?key|access_?key|private_?key|auth|signature|(^|_)sas(_|$)|(^|_)pwd$)",
    re.IGNORECASE,
)
_USER = lazy_regex(r"(?<=://)[^/@\s]*:[^/@\s]+(?=@)")
_SECRET_PARAMETER = lazy_regex(r"[?&](sig|token|secret)=", re.IGNORECASE)
_QUERY = lazy_regex(r"\?.*$", re.DOTALL)
#: Schemes of web servers, S3, Google Cloud Storage and Azure.
#: Suffix of archives whose members are files.
ARCHIVE_SUFFIX = ".zip"
WEB = frozenset({"http", "https"})
S3 = frozenset({"s3", "s3a"})
GCS = frozenset({"gs", "gcs"})
AZURE = frozenset({"abfs", "abfss", "az"})


def is_url(path: str) -> bool:
    """Return whether a path is not local; `file://` is local.

    >>> is_url("s3://bucket/out"), is_url("/data/out"), is_url("file:///data/out")
    (True, False, False)
    """
    return _CHAINED.match(path) is not None or (
        URL.match(path) is not None and not path.lower().startswith("file://")
    )


def may_be_member(path: str) -> bool:
    """Return whether a path may stand for a member of an archive, by its text alone.

    >>> may_be_member("data.zip/a.csv"), may_be_member("data.zip")
    (True, False)
    """
    return f"{ARCHIVE_SUFFIX}/" in path.lower()


def url_scheme(url: str) -> str:
    """Return the part before `://`, in lower case."""
    match = URL.match(url)
    return "" if match is None else match[1].lower()


def file_name(path: str) -> str:
    """Return a path that shows a file's kind: without the query of a web address.

    >>> file_name("https://host/a.csv.gz?sig=x"), file_name("s3://bucket/what?.csv")
    ('https://host/a.csv.gz', 's3://bucket/what?.csv')
    """
    return unquote(_QUERY.sub("", path)) if url_scheme(path) in WEB else path


def redact_url(url: str) -> str:
    """Return a URL for messages, without what may be secret in a web address.

    >>> redact_url("https://me:pass@host/a.csv?X-Amz-Signature=abc"), redact_url("s3://bucket/a.csv")
    ('https://***@host/a.csv?***', 's3://bucket/a.csv')
    """
    if url_scheme(url) not in WEB:
        return url
    return _QUERY.sub("?***", _USER.sub("***", url))


def holds_secret(url: str) -> bool:
    """Return whether a URL holds credentials. A signed web address does too, but is the only way to give them.

    A secret may itself hold a slash, so a colon in front of the first one is enough. Access points (arn:…), ports and
    abfs://container@account have one or the other, and no secret.

    >>> [holds_secret(u) for u in ("s3://key:secret@bucket/a", "abfs://c@account/a", "https://host:8080/a?sig=x")]
    [True, False, False]
    """
    match = URL.match(url)
    if match is None:
        return False
    rest = url[match.end() :]
    host = rest.partition("/")[0]
    if ":" in host and not host.startswith("arn:") and ("@" in rest or re.search(r":\d*$", host) is None):
        return True
    return match[1].lower() not in WEB and _SECRET_PARAMETER.search(rest) is not None


def check_url(url: str, action: str) -> None:
    """Check that a URL is that of a file itself, and holds no credentials.

    Raises:
        ConfigError: It isn't, or does; says what can't be done (`action`).
    """
    if _CHAINED.match(url):
        raise ConfigError(f"can't {action} {url}: give the URL of the file or store itself, without `::`")
    if holds_secret(url):
        raise ConfigError(
            f"a {url_scheme(url)}:// URL with credentials in it would end in logs and journals; give them by the "
            "environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …) or by fsspec's configuration (~/.config/fsspec/*.json)"
        )
