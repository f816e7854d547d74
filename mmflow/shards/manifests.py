"""Lists of paths in a file: `@files.txt`, one path or URL a line, relative to the list.

# comments and blank lines count for nothing
2024/a.csv
s3://bucket/b.csv
more/*.csv
"""

from __future__ import annotations

import os

from mmflow.errors import SourceError
from mmflow.remote.opening import open_file
from mmflow.storage.url import is_url

__all__ = ["manifest_of", "read_manifest"]

_MARK = b"\xef\xbb\xbf"


def manifest_of(path: str) -> str | None:
    """Return the path of the list that a path such as `@files.txt` names; None: it names none.

    >>> manifest_of("@files.txt"), manifest_of("files.txt")
    ('files.txt', None)
    """
    return path[1:] if path.startswith("@") and len(path) > 1 else None


def read_manifest(path: str) -> list[str]:
    """Return the paths of a list, in its order; relative ones below the folder of the list.

    Raises:
        SourceError: The list can't be read, names no path, or another list.
    """
    path = path if is_url(path) else os.path.expanduser(path)
    with open_file(path, io="pread") as file:
        text: bytes = file.window(0, file.size).buffer.to_pybytes() if file.size else b""
    folder = path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)
    found = []
    for number, line in enumerate(text.removeprefix(_MARK).split(b"\n"), 1):
        name = os.fsdecode(line.removesuffix(b"\r").strip(b" \t"))
        if not name or name.startswith("#"):
            continue
        if "\0" in name or manifest_of(name) is not None:
            what = "a list of other files" if name.startswith("@") else "no path, as it holds a NUL character"
            raise SourceError(
                f"{path}, line {number:,}: {name[:80]!r} is {what}; name the files themselves", path=path
            )
        found.append(_below(folder, name))
    if not found:
        raise SourceError(f"{path} names no file; write one path or URL a line", path=path)
    return found


def _below(folder: str, name: str) -> str:
    if is_url(name) or name.startswith(("/", "~", "file://")):
        return name
    return f"{folder}/{name}" if is_url(folder) else os.path.join(folder, name)
