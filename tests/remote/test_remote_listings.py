"""Listings of S3: own parsing of pages finds what s3fs finds, and a large listing serves the run that follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from mmflow.errors import SourceChangedError
from mmflow.remote import recent
from mmflow.remote.filesystem import FileInfo, open_store
from mmflow.remote.opening import open_file, read_identities
from mmflow.remote.options import RemoteOptions
from mmflow.shards import find_files, identify_files
from mmflow.storage import object_store

KEYS = [
    "a.csv", "b/c.csv", "b/d/e.csv", "b/d/f.json", "b/_hidden/g.csv", "b/.h.csv", "with space/é+%2F&<>\"'.csv", "x//double.csv",
    "marker/", "marker/i.csv", "y=2023/m=01/p.csv", "y=2023/m=02/p.csv", "y=2024/m=01/p.csv", "y=2024/q.csv", "z[1]/k.csv", "b.csv/l.csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def bucket(s3: Callable[[], str]) -> str:
    """URL of a bucket with odd keys, and 1,005 more in the folder `many`."""
    from moto.s3.models import s3_backends

    url = s3()
    (account,) = s3_backends
    backend = s3_backends[account]["aws"]
    for number, key in enumerate([*KEYS, *(f"many/{n:04}.csv" for n in range(1005))]):
        backend.put_object(url.removeprefix("s3://"), key, b"v\n" + b"1\n" * (number % 5))
    return url


def by_url(found: list[FileInfo]) -> dict[str, FileInfo]:
    return {file.url: file for file in found}


@pytest.mark.parametrize("folder", ["", "/b", "/b/", "/many", "/with space", "/marker", "/x", "/missing"])
def test_folders_have_the_files_that_s3fs_finds(bucket: str, folder: str) -> None:
    store = open_store(bucket, "")
    raw: Any = object_store.open_store(bucket)
    url = f"{bucket}{folder}"
    assert by_url(store.below(url)) == by_url(store._listed(url, raw.find(url)))
    try:
        wanted = by_url(store._listed(url, raw.list(url)))
    except FileNotFoundError:
        wanted = {}
    assert by_url(store.beside(url)) == wanted


@pytest.mark.parametrize(
    ("glob", "keys"),
    [
        ("*.csv", ["a.csv"]),
        ("b/*.csv", ["b/c.csv"]),
        ("b/**/*.csv", ["b/c.csv", "b/d/e.csv"]),
        ("**/p.csv", ["y=2023/m=01/p.csv", "y=2023/m=02/p.csv", "y=2024/m=01/p.csv"]),
        ("y=*/m=01/*", ["y=2023/m=01/p.csv", "y=2024/m=01/p.csv"]),
        ("y=202[34]/m=0?/p.csv", ["y=2023/m=01/p.csv", "y=2023/m=02/p.csv", "y=2024/m=01/p.csv"]),
        ("y=*/p.csv", []),
        (r"z\[1]/*.csv", ["z[1]/k.csv"]),
        ("with*/*", ["with space/é+%2F&<>\"'.csv"]),
        ("mark*", ["marker/i.csv"]),  # a folder alone: the files in it
        ("b*/*.csv", ["b.csv/l.csv", "b/c.csv"]),
        ("{y=2023/m=02,b/d}/*.csv", ["b/d/e.csv", "y=2023/m=02/p.csv"]),
    ],
)
def test_globs_match_as_those_of_local_files_do(bucket: str, glob: str, keys: list[str]) -> None:
    try:
        found = sorted(find_files(f"{bucket}/{glob}"))
    except mf.SourceError:
        found = []
    assert found == [f"{bucket}/{key}" for key in keys]


@pytest.fixture
def pages(bucket: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prefix of each page that is asked for."""
    raw: Any = object_store.open_store(bucket)
    asked: list[str] = []
    ask = raw.fs._call_s3

    async def counted(method: str, *given: Any, **named: Any) -> Any:
        if method == "list_objects_v2":
            asked.append(named["Prefix"])
        return await ask(method, *given, **named)

    monkeypatch.setattr(raw.fs, "_call_s3", counted)
    monkeypatch.setattr(recent, "_recent", [])
    return asked


def test_a_large_listing_serves_one_run(bucket: str, pages: list[str]) -> None:
    files = find_files(f"{bucket}/many/*.csv")
    assert len(files) == 1005
    assert pages.count("many/") == 2
    entries = identify_files(files)
    assert pages.count("many/") == 2
    assert len({entry.identity.tag for entry in entries}) == 5
    assert [entry.identity.size for entry in entries[:3]] == [2 + 2 * ((n + len(KEYS)) % 5) for n in range(3)]
    assert identify_files(files) == entries
    assert pages.count("many/") == 4  # once more, for another run


def test_a_small_or_old_listing_is_made_again(
    bucket: str, pages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_files(f"{bucket}/b/*.csv")
    assert recent._recent == []
    files = find_files(f"{bucket}/many/*.csv")
    monkeypatch.setattr(recent, "_SECONDS", -1.0)
    pages.clear()
    read_identities(files)
    assert pages == ["many/", "many/"]


def test_what_changed_after_its_listing_is_an_error(bucket: str, pages: list[str], tmp_path: Path) -> None:
    files = find_files(f"{bucket}/many/*.csv")
    object_store.open_store(bucket).write(f"{bucket}/many/0003.csv", b"v\n7\n")
    entry = next(e for e in identify_files(files) if e.path.endswith("/0003.csv"))
    assert pages.count("many/") == 2
    options = RemoteOptions(cache_dir=str(tmp_path))
    with (
        open_file(entry.path, expected=entry.identity, remote_options=options) as file,
        pytest.raises(SourceChangedError),
    ):
        file.window(0, 4)
