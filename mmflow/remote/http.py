"""Requests to web servers over the session of fsspec's HTTP file system, with the checks that its own reading lacks.

fsspec 2026.9 takes a part of any range, version or encoding for what it asked for, and calls a file that it may not
look at missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from mmflow.mapping import FileIdentity
from mmflow.remote.responses import Answer, NoRanges, Part, judge, strong_tag
from mmflow.storage.object_store import FsspecStore

__all__ = ["as_given", "client_options", "look", "read", "stream"]

#: Seconds for which a web server may say nothing.
_SILENT_SECONDS = 30.0
_STREAMED = 4 << 20


def client_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of an aiohttp session: bytes as they are stored, proxies of the environment, limits on silence.

    Args:
        given: Options of the user, which take precedence; `timeout` may be a number of seconds.
    """
    from aiohttp import ClientTimeout  # noqa: PLC0415  (there only where fsspec reads http)

    options = dict(given)
    seconds = options.pop("timeout", _SILENT_SECONDS)
    # Not of the whole answer: it may take as long as it does while bytes come.
    limit = ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
    headers = {"Accept-Encoding": "identity"} | dict(options.pop("headers", {}))
    return {
        "trust_env": True,
        "auto_decompress": False,  # ranges are of the bytes that are stored
        "requote_redirect_url": False,
        **options,
        "headers": headers,
        "timeout": limit,
    }


def as_given(url: str) -> str:
    """Return a URL with only those characters escaped that can't be in one: signatures are of the very text.

    >>> as_given("http://h/a b%2Fc?sig=x%2F/y")
    'http://h/a%20b%2Fc?sig=x%2F/y'
    """
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~-._")


def _address(url: str) -> Any:
    from yarl import URL  # noqa: PLC0415  (of aiohttp)

    return URL(as_given(url), encoded=True)


def look(store: FsspecStore, url: str) -> dict[str, Any]:
    """Return what a server says of a file: `size`, `ETag`, `Last-Modified`, as far as it says so.

    Raises:
        aiohttp.ClientResponseError: It refuses, or there is nothing.
    """
    found: dict[str, Any] = store.run(_look, store.fs, url)
    return found


async def _look(fs: Any, url: str) -> dict[str, Any]:
    session = await fs.set_session()
    address = _address(url)
    async with session.head(address, allow_redirects=True, **fs.kwargs) as response:
        head = Answer.of(response.status, response.headers)
        if head.status < 400 and head.length:
            return _told(head, head.length)
    # It refuses HEAD (what is signed is one method), doesn't say the size, or says 0, which some say of all files.
    headers = {**fs.kwargs.get("headers", {}), "Range": "bytes=0-0"}
    async with session.get(address, **{**fs.kwargs, "headers": headers}) as response:
        answer = Answer.of(response.status, response.headers)
        if response.status == 416:
            return _told(head if head.status < 400 else answer, answer.total or 0)
        response.raise_for_status()
        return _told(answer, answer.total if response.status == 206 else answer.length)


def _told(answer: Answer, size: int | None) -> dict[str, Any]:
    return {"type": "file", "size": size, "ETag": answer.tag, "mtime": answer.mtime_ns / 1e9}


def read(store: FsspecStore, url: str, begin: int, end: int, identity: FileIdentity) -> Part:
    """Return the bytes `[begin, end)` of a file, or fewer where the connection ends before.

    Raises:
        NoRanges: The server sends whole files only.
        AnswerMismatchError: The answer is of something else.
        aiohttp.ClientError: It can't be asked, or refuses.
    """
    part: Part = store.run(_read, store.fs, url, begin, end, identity)
    return part


async def _read(fs: Any, url: str, begin: int, end: int, identity: FileIdentity) -> Part:
    session = await fs.set_session()
    headers = {**fs.kwargs.get("headers", {}), "Range": f"bytes={begin}-{end - 1}"}
    if strong_tag(identity):
        headers["If-Range"] = identity.tag
    address = _address(url)
    async with session.get(address, **{**fs.kwargs, "headers": headers}) as response:
        if response.status not in (412, 416):
            response.raise_for_status()
        try:
            proven = judge(Answer.of(response.status, response.headers), begin, end, identity, url)
        except NoRanges:
            if begin or response.content_length != end:
                raise
            proven = False  # all of the file was asked for, and came
        return Part(bytes(await response.read()), proven)


def stream(store: FsspecStore, url: str, identity: FileIdentity) -> Iterator[bytes]:
    """Yield all bytes of a file in order.

    Raises:
        AnswerMismatchError: The answer is of another version.
        aiohttp.ClientError: It can't be asked, or refuses.
    """
    response = store.run(_open, store.fs, url)
    try:
        answer = Answer.of(response.status, response.headers)
        with contextlib.suppress(NoRanges):
            judge(answer, 0, identity.size, identity, url)
        while data := store.run(response.content.read, _STREAMED):
            yield bytes(data)
    finally:
        store.run(_closed, response)


async def _open(fs: Any, url: str) -> Any:
    session = await fs.set_session()
    response = await session.get(_address(url), **fs.kwargs)
    response.raise_for_status()
    return response


async def _closed(response: Any) -> None:
    response.close()
