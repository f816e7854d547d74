"""What went wrong with a remote file: gone, refused, changed, or something that may pass."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mmflow.errors import MmflowError, SourceError, SourceUnreachableError
from mmflow.remote.url import shown

__all__ = ["NoRanges", "judged", "missing", "retried"]

_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_REFUSED = frozenset({401, 403})
#: Of the statuses from 400 to 499, those that may pass: a timeout, too early, too many requests.
_PASSING = frozenset({408, 425, 429})
#: S3's codes that may pass although their status is one of 400 to 499.
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown"})
_T = TypeVar("_T")


class NoRanges(Exception):  # noqa: N818  (what is so, not an error: the file is read as a whole)
    """The server of a file sends whole files only."""


@contextmanager
def judged(url: str, doing: str) -> Iterator[None]:
    """Turn what a file system raises into what mmflow raises.

    Raises:
        FileNotFoundError: There is nothing there.
        SourceUnreachableError: It may go better another time.
        SourceError: It will not.
    """
    try:
        yield
    except (MmflowError, NoRanges):
        raise
    except Exception as error:
        raise _judgement(url, doing, error) from error


def _judgement(url: str, doing: str, error: BaseException) -> Exception:
    # fsspec calls whatever goes wrong over http a missing file; its cause says what it was.
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and not _is_missing(cause):
        error = cause
    name = shown(url)
    said = f"{type(error).__name__}: {error}".replace(url, name) if str(error) else type(error).__name__
    status = _status(error)
    if _is_missing(error):
        return FileNotFoundError(name)
    if isinstance(error, PermissionError) or status in _REFUSED or "credentials" in said.lower():
        return SourceError(
            f"can't {doing} {name}: access denied; check which credentials the environment gives, and what they may "
            f"read ({said})",
            path=name,
        )
    if isinstance(error, IsADirectoryError):
        return SourceError(f"can't {doing} {name}: it is a folder", path=name)
    final = status is not None and 400 <= status < 500 and status not in _PASSING
    if final or isinstance(error, NotImplementedError | TypeError | AttributeError):
        return SourceError(f"can't {doing} {name}: {said}", path=name)
    return SourceUnreachableError(f"can't {doing} {name}: {said}", path=name)


def _is_missing(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or _status(error) in (404, 410)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of aiohttp or botocore tells; None: it tells none, or one that passes."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict):
        status = getattr(error, "status", None)
        return status if isinstance(status, int) else None
    if answer.get("Error", {}).get("Code") in _PASSING_CODES:
        return None
    found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else None


def missing(url: str) -> SourceError:
    """The error for a URL at which there is nothing."""
    name = shown(url)
    hint = (
        "; memory:// files are seen by the process that made them only" if url.startswith("memory:") else ""
    )
    return SourceError(f"no such file or folder: {name}; check the URL{hint}", path=name)


def retried(ask: Callable[[], _T], between: Callable[[], None] = lambda: None) -> _T:
    """Ask until there is an answer, a few times at most, with growing pauses.

    Args:
        ask: Raises as `judged` does.
        between: Called before it is asked again.

    Raises:
        SourceUnreachableError: It did not get better.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ask()
        except SourceUnreachableError as error:
            if attempt == _ATTEMPTS:
                raise SourceUnreachableError(
                    f"{error.message}; tried {attempt} times: check the network and the server, then run again",
                    **error.context,
                ) from error
        between()
        pause = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE)
        time.sleep(pause * random.uniform(0.5, 1.5))  # not all workers at once
    raise AssertionError("the last attempt returns or raises")
