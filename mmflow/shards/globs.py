"""Files and folders here that a glob matches.

Invariant: nothing is left out in silence: a folder that can't be listed, or a link to nothing, is an error.
`**` follows no links to folders, as in bash; other parts match them by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from mmflow.mapping.failures import source_failure
from mmflow.remote.patterns import ANY_DEPTH, is_glob, is_hidden, part_matches

__all__ = ["matches"]


def matches(pattern: str) -> list[tuple[str, int]]:
    """Return paths that a glob matches, each once and sorted, with what `os.stat` says is their mode.

    Raises:
        SourceError: A folder on the way can't be listed, or a match is a link to nothing.
    """
    root = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part]
    if pattern.endswith("/"):
        parts.append("")
    found: dict[str, int] = {}
    for path in _below(root, parts):
        if path not in found:
            try:
                found[path] = os.stat(path).st_mode
            except OSError as error:
                raise source_failure(path, error, "look at") from error
    return sorted(found.items())


def _below(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Paths below a folder (empty: the current one) that the parts of a pattern match."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == ANY_DEPTH:
        yield from _any_depth(folder, rest)
    elif not is_glob(part):
        path = os.path.join(folder, part)
        if os.path.isdir(path) if rest or not part else os.path.lexists(path):
            yield from _below(path, rest)
    else:
        for entry in _entries(folder):
            if part_matches(part, entry.name) and (not rest or _is_folder(entry)):
                yield from _below(os.path.join(folder, entry.name), rest)


def _any_depth(folder: str, rest: Sequence[str]) -> Iterator[str]:
    """`**` and what comes behind it: at its end it also stands for the files of its folders."""
    while rest and rest[0] == ANY_DEPTH:
        rest = rest[1:]
    if rest:
        yield from _below(folder, rest)
    for entry in _entries(folder):
        if is_hidden(entry.name):
            continue
        path = os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _any_depth(path, rest)
        elif not rest and not _is_folder(entry):
            yield path


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:  # the folder of a pattern that is not there: no match
        return []
    except OSError as error:
        raise source_failure(folder or ".", error, "list") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except FileNotFoundError:  # a link to nothing is no folder
        return False
    except OSError as error:
        raise source_failure(entry.path, error, "look at") from error
