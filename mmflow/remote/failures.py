"""Failures of remote files: gone, refused, changed, or something that may pass."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from mmflow.errors import MmflowError, SourceError, SourceUnreachableError
from mmflow.lazy.patterns import lazy_regex
from mmflow.remote.cache.pool import slow_down
from mmflow.remote.responses import NoRanges, to_nanoseconds
from mmflow.storage.url import redact_url

__all__ = ["ThrottledError", "missing_error", "refusal_hint", "retry", "translate_errors"]

#: A question is asked so often at most, and not again after so many seconds, since S3's client repeats it as well.
_ATTEMPTS = 5
_ASKING_SECONDS = 10.0
#: A server that asks for fewer requests is asked for so long, and not again for as long as it says, up to a limit.
_THROTTLED_SECONDS = 60.0
_LONGEST_WAIT = 20.0
#: Seconds by which S3 lets clocks differ.
_SKEW_SECONDS = 900
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Of its own: a program that seeds the generator of all gets the numbers that it expects.
_JITTER = random.Random()
_REFUSED = frozenset({401, 403})
#: Words of errors without a status: those of botocore, Azure, gcsfs.
_DENIED = lazy_regex(r"credentials|^OSError: Forbidden:", re.IGNORECASE)
#: Statuses from 400 to 499 that may pass: a timeout, too early, too many requests.
_PASSING = frozenset({408, 425, 429})
#: Codes of S3 and Azure for a server that is asked too much.
_THROTTLING_CODES = frozenset(
    {"RequestLimitExceeded", "ServerBusy", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
)
#: Codes that may pass although their status is one of 400 to 499.
_PASSING_CODES = _THROTTLING_CODES | {"RequestTimeout"}
_TOO_MANY, _UNAVAILABLE = 429, 503
#: Where errors have their status: those of aiohttp, Azure and gcsfs.
_STATUSES = ("status", "status_code", "code")
_T = TypeVar("_T")


class ThrottledError(SourceUnreachableError):
    """Error for a server that asks for fewer requests; the request is repeated.

    Attributes:
        wait: Seconds after which it wants to be asked again; 0: it doesn't say.
    """

    wait = 0.0


@contextmanager
def translate_errors(url: str, doing: str) -> Iterator[None]:
    """Turn what a file system raises into what mmflow raises.

    Raises:
        FileNotFoundError: There is nothing there.
        SourceUnreachableError: It may go better another time. A ThrottledError where it asks for fewer requests.
        SourceError: It will not.
    """
    try:
        yield
    except (MmflowError, NoRanges):
        raise
    except Exception as error:
        raise _translate(url, doing, error) from error


def _translate(url: str, doing: str, error: BaseException) -> Exception:
    # fsspec calls whatever goes wrong over http a missing file; its cause says what it was.
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and not _is_missing(cause):
        error = cause
    name = redact_url(url)
    if hint := refusal_hint(error):
        return SourceError(f"can't {doing} {name}: access denied: {hint} ({error})", path=name)
    said = f"{type(error).__name__}: {error}".replace(url, name) if str(error) else type(error).__name__
    status = _status(error)
    if _is_missing(error):
        return FileNotFoundError(name)
    if isinstance(error, PermissionError) or status in _REFUSED or _DENIED.search(said):
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
    wait = _retry_after(error)
    if (
        status == _TOO_MANY
        or _code(error) in _THROTTLING_CODES
        or (wait is not None and status == _UNAVAILABLE)
    ):
        throttled = ThrottledError(f"can't {doing} {name}: {said}", path=name)
        throttled.wait = wait or 0.0
        return throttled
    return SourceUnreachableError(f"can't {doing} {name}: {said}", path=name)


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds that an answer asks to wait (Retry-After, in seconds or as a date); None: it doesn't."""
    answer = _answer(error)
    headers: Mapping[str, Any] = {}
    if answer is None:  # aiohttp has headers in the error, Azure in its answer
        answers = (e for each in (error, error.__cause__) for e in (each, getattr(each, "response", None)))
        headers = next((found for e in answers if (found := getattr(e, "headers", None))), {})
    else:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    given = next((str(value) for name, value in headers.items() if name.lower() == "retry-after"), "")
    if given.isdigit():
        return float(given)
    when = to_nanoseconds(given)
    return max(0.0, when / 1e9 - time.time()) if when else None


def _code(error: BaseException) -> str:
    """Return the code of an error of a store: botocore's in its answer, Azure's as an attribute; "": it has none."""
    answer = _answer(error)
    if answer is not None:
        return str(answer.get("Error", {}).get("Code", ""))
    codes = (getattr(each, "error_code", None) for each in (error, error.__cause__))
    return next((str(getattr(code, "value", code)) for code in codes if code), "")


def _answer(error: BaseException) -> dict[str, Any] | None:
    """Return what botocore says of an answer, of the error itself or the one behind it; None: it is not botocore's."""
    for each in (error, error.__cause__):
        answer = getattr(each, "response", None)
        if isinstance(answer, dict):
            return answer
    return None


def refusal_hint(error: BaseException) -> str:
    """Return why S3 refuses a request that is well signed, as far as its answer tells; "": it does not.

    An answer to HEAD has no body: only the status and the server's time.
    """
    answer = _answer(error)
    if answer is None:
        return ""
    code = str(answer.get("Error", {}).get("Code", ""))
    http = answer.get("ResponseMetadata", {})
    there = to_nanoseconds(http.get("HTTPHeaders", {}).get("date"))
    apart = abs(time.time() - there / 1e9) if there else 0.0
    bare = code in ("400", "401", "403")
    if code == "RequestTimeTooSkewed" or (bare and apart > _SKEW_SECONDS):
        return (
            f"the clocks of this machine and of the server are {apart:,.0f} seconds apart, and S3 lets them differ by "
            f"{_SKEW_SECONDS}; set this machine's (chrony, systemd-timesyncd)"
        )
    if code.startswith(("Expired", "RequestExpired", "TokenRefresh")):
        return "the credentials have expired, and there are no newer ones where they come from; renew them"
    if code == "400":
        return "the credentials have expired, most likely (the answer to a HEAD gives no reason); renew them"
    return ""


def _is_missing(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or _status(error) in (404, 410)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of a client tells; None: it tells none, or one that passes."""
    answer = _answer(error)
    if answer is None:
        statuses = (str(getattr(error, name, "")) for name in _STATUSES)
        return next((int(status) for status in statuses if status.isdigit()), None)
    if answer.get("Error", {}).get("Code") in _PASSING_CODES:
        return None
    found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else None


def missing_error(url: str) -> SourceError:
    """Return the error for a URL at which there is nothing."""
    name = redact_url(url)
    hint = (
        "; memory:// files are seen by the process that made them only" if url.startswith("memory:") else ""
    )
    return SourceError(f"no such file or folder: {name}; check the URL{hint}", path=name, code="MMF-SRC-002")


def retry(ask: Callable[[], _T], between: Callable[[], None] = lambda: None) -> _T:
    """Ask until there is an answer, a few times at most, with growing pauses.

    A server that asks for fewer requests gets fewer at once, and is asked for longer.

    Args:
        ask: Raises as `translate_errors` does.
        between: Called before it is asked again, unless the server has too many requests already.

    Raises:
        SourceUnreachableError: It did not get better.
    """
    begun = time.monotonic()
    for attempt in itertools.count(1):
        try:
            return ask()
        except SourceUnreachableError as error:
            throttled = error if isinstance(error, ThrottledError) else None
            spent = time.monotonic() - begun
            if spent > (_ASKING_SECONDS if throttled is None else _THROTTLED_SECONDS) or (
                attempt >= _ATTEMPTS and throttled is None
            ):
                times = f"{attempt} times" if attempt > 1 else "once"
                raise SourceUnreachableError(
                    f"{error.message}; tried {times}: check the network and the server, then run again",
                    **error.context,
                ) from error
        pause = min(_FIRST_PAUSE * 2 ** min(attempt - 1, 10), _LONGEST_PAUSE)
        if throttled is None:
            between()
        else:
            slow_down()
            pause = min(throttled.wait, _LONGEST_WAIT) or pause
        # Not all workers at once; and not before the server wants it.
        time.sleep(pause * _JITTER.uniform(0.5 if throttled is None else 1.0, 1.5))
    raise AssertionError("the last attempt returns or raises")
