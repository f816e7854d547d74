"""Answers of servers that send parts of files, held against what was asked for.

    request   bytes [begin, end) of a file of a known identity; with its ETag, so that a server may say at once that it
              has another version
    answer    status, Content-Range, Content-Length, ETag, Last-Modified, Content-Encoding
    judge     these bytes; the whole file instead (NoRanges); or AnswerMismatchError

Invariant: bytes are only taken from an answer that contradicts neither the request nor the identity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from mmflow.errors import SourceUnreachableError
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping import FileIdentity
from mmflow.storage.url import redact_url

__all__ = [
    "UNVERIFIABLE",
    "Answer",
    "AnswerMismatchError",
    "NoRanges",
    "Part",
    "judge",
    "same_tag",
    "strong_tag",
    "to_nanoseconds",
]

#: Prefix of tags that are made up here: of two such only the sizes can be compared.
UNVERIFIABLE = "unverifiable-"
_RANGE = lazy_regex(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)", re.IGNORECASE)


class Part(NamedTuple):
    """Bytes of a file, as they came.

    Attributes:
        data: The bytes.
        proven: The answer named the version that was asked for by a strong ETag: nobody needs to look at it again.
    """

    data: bytes
    proven: bool = False


class NoRanges(Exception):  # noqa: N818  (a property of the server: the file is read as a whole)
    """Signal that the server of a file sends whole files only."""


class AnswerMismatchError(SourceUnreachableError):
    """Error for an answer that contradicts the request, or the file's earlier answers; the request is repeated."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Head of an answer.

    Attributes:
        status: Status code of HTTP.
        begin, end: Bytes that it holds, of the file; None: it doesn't say.
        total: Bytes of the file; None: it doesn't say.
        length: Bytes of its body; None: it doesn't say.
        tag: ETag; "": none.
        mtime_ns: Last-Modified, in ns since 1970; 0: none.
        encoding: Content-Encoding; "": none.
    """

    status: int
    begin: int | None
    end: int | None
    total: int | None
    length: int | None
    tag: str
    mtime_ns: int
    encoding: str

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str]) -> Answer:
        """Return what the headers of an answer say.

        Args:
            status: Status code of HTTP.
            headers: Headers by name in any case (a mapping that ignores it, or names in lower case).
        """
        match = _RANGE.fullmatch(headers.get("content-range", "").strip())
        begin, last, total = (None, None, None) if match is None else match.groups()
        length = headers.get("content-length", "")
        encoding = headers.get("content-encoding", "").strip().lower()
        return cls(
            status,
            None if begin is None else int(begin),
            None if last is None else int(last) + 1,
            None if total in (None, "*") else int(str(total)),
            int(length) if length.isdigit() else None,
            headers.get("etag", ""),
            to_nanoseconds(headers.get("last-modified")),
            "" if encoding == "identity" else encoding,
        )


def strong_tag(identity: FileIdentity) -> str:
    """Return the ETag to send with requests; "" where there is none that says "the same bytes"."""
    return "" if identity.tag.startswith(("W/", UNVERIFIABLE)) else identity.tag


def same_tag(first: str, second: str) -> bool:
    """Return whether two ETags are of one version; weak ones count by their text, and stores leave quotes out."""
    return first.removeprefix("W/").strip('"') == second.removeprefix("W/").strip('"')


def judge(answer: Answer, begin: int, end: int, identity: FileIdentity, url: str) -> bool:
    """Check that an answer is the bytes `[begin, end)` of a file; return whether it proves their version (`Part`).

    Raises:
        NoRanges: It is the whole file instead.
        AnswerMismatchError: It is of another range, another version, or another size of the file.
    """
    if answer.status == 412:
        raise _mismatch(url, "its server has another version now")
    if answer.status == 416:
        raise _mismatch(url, f"its server says that it has no byte {begin:,}")
    _judge_version(answer, identity, url)
    if answer.status != 206:
        raise NoRanges(url)
    if answer.begin is None or answer.end is None:
        raise _mismatch(url, "its server sent a part and did not say which")
    if (answer.begin, answer.end) != (begin, end):
        raise _mismatch(
            url,
            f"bytes {begin:,} to {end:,} were asked for, its server sent {answer.begin:,} to {answer.end:,}",
        )
    return bool(strong_tag(identity)) and answer.tag == identity.tag


def _judge_version(answer: Answer, identity: FileIdentity, url: str) -> None:
    total = answer.total if answer.status == 206 else answer.length
    if total is not None and total != identity.size:
        how = f" (compressed on the way: Content-Encoding {answer.encoding})" if answer.encoding else ""
        raise _mismatch(url, f"it had {identity.size:,} bytes, its server now sends one of {total:,}{how}")
    verifiable = not identity.tag.startswith(UNVERIFIABLE)
    if answer.tag and identity.tag and verifiable and not same_tag(answer.tag, identity.tag):
        raise _mismatch(url, f"its ETag was {identity.tag}, and is {answer.tag} in an answer")
    if identity.mtime_ns and answer.mtime_ns and identity.mtime_ns != answer.mtime_ns:
        raise _mismatch(url, "its time of modification is another one in an answer")


def _mismatch(url: str, what: str) -> AnswerMismatchError:
    return AnswerMismatchError(
        f"{redact_url(url)} can't be read as one version: {what}", path=redact_url(url)
    )


def to_nanoseconds(when: Any) -> int:
    """Return a time in ns since 1970; 0: missing, or not understood.

    Args:
        when: A datetime, seconds since 1970, or text (ISO 8601, or as in HTTP).
    """
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            try:
                when = parsedate_to_datetime(when)
            except ValueError:
                return 0
    if isinstance(when, datetime):
        since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        seconds: int = since.days * 86_400 + since.seconds
        return seconds * 1_000_000_000 + since.microseconds * 1000
    return int(float(when) * 1e9) if isinstance(when, int | float) else 0
