"""Listings of S3 by requests of s3fs, whose pages are parsed here.

    below      all objects of a folder              pages of 1,000 keys, one after the other
    beside     objects and folders of one folder    the same, with a delimiter
    matches    what a glob matches                  folder by folder, several at once

botocore's parser, and what s3fs makes of its results, take 0.19 ms a key.

Invariant: an entry is as botocore makes it, without its owner and its checksums, which nobody here reads. What is no
page of a listing is left to botocore, which says what is wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

from mmflow.storage.globs import ANY_DEPTH, fixed_stem, is_glob, part_matches, path_matches
from mmflow.storage.object_store import FsspecStore, Info

__all__ = ["below", "beside", "matches"]

#: Folders that are listed at once.
_AT_ONCE = 16
_FOLDER: Info = {"type": "directory", "size": 0}
_KEPT = ("Key", "LastModified", "ETag", "Size", "StorageClass")


def below(store: FsspecStore, url: str) -> dict[str, Info]:
    """Return all objects below a folder, by URL. Raises as s3fs."""
    folder = _Folder(store, url)
    return folder.by_url(store.run(folder.objects, folder.prefix))


def beside(store: FsspecStore, url: str) -> dict[str, Info]:
    """Return the objects and folders of a folder, by URL. Raises as s3fs."""
    folder = _Folder(store, url)
    return folder.by_url(store.run(folder.entries, folder.prefix))


def matches(store: FsspecStore, url: str, pattern: list[str]) -> dict[str, Info]:
    """Return the objects and folders below a folder whose path matches the parts of a glob, by URL. Raises as s3fs."""
    folder = _Folder(store, url)
    return folder.by_url(store.run(folder.matches, pattern))


class _Folder:
    """Folder of a bucket. Entries are dicts as botocore makes them of objects."""

    def __init__(self, store: FsspecStore, url: str) -> None:
        self._fs = store.fs
        self._bucket, key, _ = store.fs.split_path(store.path(url))
        key = key.strip("/")
        self.prefix = f"{key}/" if key else ""
        self._root = f"{url[: url.index('://') + 3]}{self._bucket}/"
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def by_url(self, entries: Iterable[Info]) -> dict[str, Info]:
        return {self._root + entry["Key"]: entry for entry in entries}

    async def objects(self, prefix: str) -> list[Info]:
        """Return all objects whose keys begin with a prefix."""
        return [entry async for page in self._pages(prefix) for entry in page.get("Contents", ())]

    async def entries(self, prefix: str) -> list[Info]:
        """Return the objects and folders whose keys begin with a prefix and go on without a slash."""
        found: list[Info] = []
        async for page in self._pages(prefix, "/"):
            found += page.get("Contents", ())
            found += ({"Key": f["Prefix"][:-1], **_FOLDER} for f in page.get("CommonPrefixes", ()))
        return found

    async def matches(self, pattern: list[str]) -> list[Info]:
        """Return what matches: folders are listed part by part, up to one that stands for any depth."""
        prefixes = [self.prefix]
        for number, part in enumerate(pattern):
            if part == ANY_DEPTH:
                rest = pattern[number:]
                return [
                    entry
                    for prefix, entries in zip(
                        prefixes, await self._each(self.objects, prefixes), strict=True
                    )
                    for entry in entries
                    if path_matches(rest, entry["Key"][len(prefix) :].split("/"))
                ]
            last = number == len(pattern) - 1
            if not is_glob(part) and not last:
                prefixes = [f"{prefix}{part}/" for prefix in prefixes]
                continue
            stem = fixed_stem(part)
            listed = await self._each(self.entries, [prefix + stem for prefix in prefixes])
            found = [
                entry
                for prefix, entries in zip(prefixes, listed, strict=True)
                for entry in entries
                if part_matches(part, entry["Key"][len(prefix) :])
            ]
            if last:
                return found
            prefixes = [f"{entry['Key']}/" for entry in found if entry["type"] == "directory"]
        return []

    async def _each(
        self, lists: Callable[[str], Coroutine[Any, Any, list[Info]]], prefixes: Sequence[str]
    ) -> list[list[Info]]:
        async def in_turn(prefix: str) -> list[Info]:
            async with self._turns:
                return await lists(prefix)

        return await asyncio.gather(*map(in_turn, prefixes))

    async def _pages(self, prefix: str, delimiter: str = "") -> AsyncIterator[Info]:
        await self._fs.set_session()
        client = await self._fs.get_s3(self._bucket)
        # With this star it comes before botocore's handlers, of which one parses the page only to look for an error.
        client.meta.events.register("before-parse.*.ListObjectsV2", _parse_page, unique_id="mmflow-pages")
        wanted = {"Bucket": self._bucket, "Prefix": prefix, "Delimiter": delimiter, **self._fs.req_kw}
        while True:
            page = await self._fs._call_s3("list_objects_v2", **wanted)
            for entry in page.get("Contents", ()):
                entry["type"], entry["size"] = "file", entry["Size"]
            yield page
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]


def _parse_page(response_dict: Info, customized_response_dict: Info, **_: Any) -> None:
    """Take the objects out of a page before botocore parses it: a handler of its events."""
    if response_dict["status_code"] != 200:
        return
    try:
        page = ET.fromstring(response_dict["body"])  # noqa: S314  (expat bounds entities, as for botocore)
        space = page.tag[: page.tag.rfind("}") + 1]
        names = {space + name: name for name in _KEPT}
        objects = [_entry(element, names) for element in page.findall(f"{space}Contents")]
    except (ET.ParseError, KeyError, ValueError):
        return
    if objects:
        page[:] = [element for element in page if element.tag != f"{space}Contents"]
        response_dict["body"] = ET.tostring(page)
        customized_response_dict["Contents"] = objects


def _entry(element: ET.Element, names: Mapping[str, str]) -> Info:
    entry: Info = {names[part.tag]: part.text or "" for part in element if part.tag in names}
    entry["Size"] = int(entry["Size"])
    entry["LastModified"] = datetime.fromisoformat(entry["LastModified"])
    return entry
