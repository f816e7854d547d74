"""Destination URLs: which ones are allowed, decided from their text alone.

Invariant: a URL that `validate_url` accepts names an object store, holds no secret, and means the same to every file
system of fsspec: no wildcards, no `?` or `#`, no empty, `.` or `..` parts.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from mmflow.errors import ConfigError
from mmflow.storage.url import URL, check_url, redact_url

__all__ = ["local_path", "validate_url"]

#: fsspec has them, but a file is visible while it is written, and renames are not atomic everywhere.
_NO_STORES = frozenset(
    {"arrow_hdfs", "dask", "dbfs", "ftp", "hdfs", "jlab", "jupyter", "lakefs", "local", "sftp", "smb", "ssh"}
    | {"webhdfs"}
)
_READ_ONLY = frozenset(
    {"data", "gist", "git", "github", "http", "https", "libarchive", "reference", "tar", "zip"}
)


def local_path(path: str) -> str:
    """Return a local path as it is, or the path of a `file://` URL.

    Raises:
        ConfigError: The URL names another host.
    """
    if not path.lower().startswith("file://"):
        return path
    host, slash, rest = path[len("file://") :].partition("/")
    if host not in ("", "localhost") or not slash:
        raise ConfigError(
            f"can't write to {path}: a file URL has three slashes (file:///folder/name); "
            f"this one names the host {host!r}"
        )
    return "/" + unquote(rest)


def validate_url(url: str) -> str:
    """Return the URL of an object store with its scheme in lower case.

    Raises:
        ConfigError: It is not an object store's, holds credentials, or has a path that stores read differently.

    >>> validate_url("S3://bucket/out/")
    's3://bucket/out/'
    """
    check_url(url, "write to")
    match = URL.match(url)
    assert match is not None, "is_url comes first"
    scheme, rest = match[1].lower(), url[match.end() :]
    if scheme in _READ_ONLY:
        raise ConfigError(f"can't write to {redact_url(url)}: {scheme}:// can only be read")
    if scheme in _NO_STORES:
        raise ConfigError(
            f"can't write to {url}: {scheme}:// is not an object store: a file there doesn't appear atomically; "
            "mount it, and give the local path"
        )
    forbidden = re.search(r"[?#*\[\]]", rest)
    if forbidden:
        raise ConfigError(f"can't write to {url}: a destination can't have {forbidden[0]!r} in its name")
    parts = rest.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"can't write to {url}: its path has a part that is empty, `.` or `..`")
    if len(parts) < 2 and scheme != "memory":
        raise ConfigError(
            f"can't write to {url}: it is a whole bucket; write below it: {url.rstrip('/')}/out"
        )
    return f"{scheme}://{rest}"
