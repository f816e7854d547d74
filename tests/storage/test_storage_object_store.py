"""The one adapter to fsspec: names of objects are URLs, whatever a file system calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmflow.errors import ConfigError
from mmflow.storage.object_store import open_store

pytestmark = pytest.mark.unit


class AccountFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Objects in memory, whose URLs name an account that paths lack, as those of Azure: account://container@name/path."""

    protocol = "account"
    store: dict[str, Any] = {}  # noqa: RUF012  # fsspec's own is one for all, too
    pseudo_dirs = [""]  # noqa: RUF012  # likewise

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        container, _, rest = path.removeprefix("account://").partition("/")
        plain: str = super()._strip_protocol(f"{container.partition('@')[0]}/{rest}")
        return plain


fsspec.register_implementation("account", AccountFileSystem)


@pytest.fixture(params=["memory", "file", "account"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty folder."""
    if request.param == "file":
        (tmp_path / "a" / "b").mkdir(parents=True)
        return f"file://{tmp_path}/a"
    host = uuid4().hex
    return f"account://{host}@name.host/a" if request.param == "account" else f"memory://{host}/a"


def test_what_is_found_has_urls_by_which_it_can_be_read(folder: str) -> None:
    store = open_store(folder)
    store.write(f"{folder}/1.csv", b"one")
    store.write(f"{folder}/b/2.csv", b"two")
    assert store.find(folder).keys() == {f"{folder}/1.csv", f"{folder}/b/2.csv"}
    assert store.list(folder).keys() == {f"{folder}/1.csv", f"{folder}/b"}
    assert store.glob(f"{folder}/*.csv").keys() == {f"{folder}/1.csv"}
    for url, info in store.find(f"{folder}/").items():
        assert len(store.read(url)) == info["size"]
    assert store.read(f"{folder}/b/2.csv", 1, 2) == b"w"
    assert b"".join(store.stream(f"{folder}/1.csv")) == b"one"


def test_objects_are_written_copied_and_deleted(folder: str, tmp_path: Path) -> None:
    store = open_store(folder)
    local = tmp_path / "local"
    local.write_bytes(b"data")
    store.upload(str(local), f"{folder}/up")
    store.copy([(f"{folder}/up", f"{folder}/copy")])
    store.delete([f"{folder}/up"])
    assert {url: store.read(url) for url in store.find(folder)} == {f"{folder}/copy": b"data"}
    store.delete_tree(folder)
    with pytest.raises(FileNotFoundError):
        store.info(f"{folder}/copy")


def test_a_store_sees_what_others_write_at_once(folder: str) -> None:
    """No answer comes from a listing that fsspec keeps."""
    store = open_store(folder)
    store.write(f"{folder}/1", b"")
    assert len(store.list(folder)) == 1 + folder.startswith("file:")
    store.write(f"{folder}/2", b"")
    assert f"{folder}/2" in store.list(folder)


def test_a_process_has_one_store_for_equal_options() -> None:
    assert open_store("memory://a/1") is open_store("memory://b/2")
    assert open_store("file:///tmp") is not open_store("file:///tmp", {"auto_mkdir": True})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket/a", "credentials in it"),
        ("simplecache::s3://bucket/a", "without `::`"),
        ("nosuch://bucket/a", "can't keep runs in nosuch://bucket/a"),
    ],
)
def test_urls_of_no_store_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_store(url, action="keep runs in")
    assert "secret" not in str(caught.value)
