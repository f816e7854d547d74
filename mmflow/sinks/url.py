"""Destinations that are URLs: which ones there may be, from their text alone.

Invariant: a URL that `checked_url` let through names an object store, holds no secret, and reads the same to every
file system of fsspec: no wildcards, no `?` or `#`, no empty, `.` or `..` parts.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from mmflow.errors import ConfigError
from mmflow.remote.url import CHAINED, URL, shown

__all__ = ["checked_url", "local_path"]

#: fsspec has them, but a file there is seen while it is written, and fsspec doesn't rename in one step everywhere.
_NO_STORES = frozenset(
    {"arrow_hdfs", "dask", "dbfs", "ftp", "hdfs", "jlab", "jupyter", "lakefs", "local", "sftp", "smb", "ssh"}
    | {"webhdfs"}
)
_READ_ONLY = frozenset(
    {"data", "gist", "git", "github", "http", "https", "libarchive", "reference", "tar", "zip"}
)


def local_path(path: str) -> str:
    """A local path as it is; that of a `file://` URL.

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


def checked_url(url: str) -> str:
    """The URL of an object store, its scheme in lower case.

    Raises:
        ConfigError: It is no object store's, holds credentials, or has a path that stores would read differently.

    >>> checked_url("S3://bucket/out/")
    's3://bucket/out/'
    """
    if CHAINED.match(url):
        raise ConfigError(f"can't write to {url}: give the store's own URL, without `::`")
    match = URL.match(url)
    assert match is not None, "is_url comes first"
    scheme, rest = match[1].lower(), url[match.end() :]
    if scheme in _READ_ONLY:
        raise ConfigError(f"can't write to {shown(url)}: {scheme}:// can only be read")
    _refuse_secrets(scheme, rest)
    if scheme in _NO_STORES:
        raise ConfigError(
            f"can't write to {url}: {scheme}:// is no object store, a file there doesn't appear in one step; "
            "mount it, and give the local path"
        )
    odd = re.search(r"[?#*\[\]]", rest)
    if odd:
        raise ConfigError(f"can't write to {url}: a destination can't have {odd[0]!r} in its name")
    parts = rest.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"can't write to {url}: its path has a part that is empty, `.` or `..`")
    if len(parts) < 2 and scheme != "memory":
        raise ConfigError(
            f"can't write to {url}: it is a whole bucket; write below it: {url.rstrip('/')}/out"
        )
    return f"{scheme}://{rest}"


def _refuse_secrets(scheme: str, rest: str) -> None:
    # A secret may itself hold a slash, so a colon in front of the first one is enough. Access points (arn:…) and
    # abfs://container@account have one or the other, and no secret.
    host = rest.partition("/")[0]
    if (":" in host and not host.startswith("arn:")) or re.search(
        r"[?&](sig|token|secret)=", rest, re.IGNORECASE
    ):
        raise ConfigError(
            f"a {scheme}:// destination with credentials in it would end in logs and manifests; give them by the "
            "environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …) or by fsspec's configuration (~/.config/fsspec/*.json)"
        )
