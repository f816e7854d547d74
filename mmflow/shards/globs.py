"""Globs of local files and folders.

Invariant: nothing is left out in silence: a folder that can't be listed, or a link to nothing, is an error.
`**` follows no links to folders, as in bash; other parts match them by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from mmflow.storage.globs import ANY_DEPTH, is_glob, is_hidden, part_matches
from mmflow.storage.os_errors import read_error

__all__ = ["match_glob"]


def match_glob(pattern: str, bad: list[tuple[str, str]] | None = None) -> list[tuple[str, int]]:
    """Return the paths that a glob matches, each once and sorted, with the mode from `os.stat`.

    Args:
        pattern: Glob.
        bad: Takes links to nothing, and the reason, instead of an error; None: they are errors.

    Raises:
        SourceError: A folder on the way can't be listed, or a match is a link to nothing.
    """
    root = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part]
    if pattern.endswith("/"):
        parts.append("")
    found = dict(_match_below(root, parts))
    for path in [path for path, mode in found.items() if not mode]:
        try:
            found[path] = os.stat(path).st_mode
        except OSError as error:
            why = read_error(path, error, "look at")
            if bad is None:
                raise why from error
            bad.append((path, why.message))
            del found[path]
    return sorted(found.items())


def _match_below(folder: str, parts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the paths below a folder (empty: the current one) that the parts of a pattern match.

    With the mode that the folder's list says, which saves a system call for each file; 0: it does not.
    """
    if not parts:
        yield folder, 0
        return
    part, rest = parts[0], parts[1:]
    if part == ANY_DEPTH:
        yield from _match_any_depth(folder, rest)
    elif not is_glob(part):
        path = os.path.join(folder, part)
        if os.path.isdir(path) if rest or not part else os.path.lexists(path):
            yield from _match_below(path, rest)
    else:
        prefix = os.path.join(folder, "") if folder else ""
        if not rest:
            matched = (entry for entry in _list_folder(folder) if part_matches(part, entry.name))
            yield from [
                (prefix + e.name, stat.S_IFREG if e.is_file(follow_symlinks=False) else 0) for e in matched
            ]
            return
        for entry in _list_folder(folder):
            if part_matches(part, entry.name) and _is_folder(entry):
                yield from _match_below(prefix + entry.name, rest)


def _match_any_depth(folder: str, rest: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the matches of `**` and of the parts behind it; as the last part it also stands for files."""
    while rest and rest[0] == ANY_DEPTH:
        rest = rest[1:]
    if rest:
        yield from _match_below(folder, rest)
    for entry in _list_folder(folder):
        if is_hidden(entry.name):
            continue
        path = os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _match_any_depth(path, rest)
        elif not rest and not _is_folder(entry):
            yield path, stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def _list_folder(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:  # a missing folder has no match
        return []
    except OSError as error:
        raise read_error(folder or ".", error, "list") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except FileNotFoundError:  # a link to nothing is no folder
        return False
    except OSError as error:
        raise read_error(entry.path, error, "look at") from error
