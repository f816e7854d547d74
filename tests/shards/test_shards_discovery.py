"""find_files: the files of each kind of name, and the error for each wrong one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmflow.errors import ConfigError, SourceError
from mmflow.shards import find_files

FILES = [
    "a.csv",
    "b.csv",
    "c.txt",
    "sub/d.csv",
    "sub/deep/e.csv",
    "_SUCCESS",
    ".hidden",
    "_tmp/x.csv",
    "odd[1].csv",
]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("data/a.csv", ["a.csv"]),
        ("data", ["a.csv", "b.csv", "c.txt", "odd[1].csv", "sub/d.csv", "sub/deep/e.csv"]),
        ("data/", ["a.csv", "b.csv", "c.txt", "odd[1].csv", "sub/d.csv", "sub/deep/e.csv"]),
        ("data/*.csv", ["a.csv", "b.csv", "odd[1].csv"]),
        ("data/[ab].csv", ["a.csv", "b.csv"]),
        ("data/?.txt", ["c.txt"]),
        ("data/**/*.csv", ["a.csv", "b.csv", "odd[1].csv", "sub/d.csv", "sub/deep/e.csv"]),
        ("data/*", ["a.csv", "b.csv", "c.txt", "odd[1].csv"]),
        ("data/s*", ["sub/d.csv", "sub/deep/e.csv"]),
        ("data/odd[1].csv", ["odd[1].csv"]),
        ("data/_S*", ["_SUCCESS"]),
        (["data/b.csv", "data/a.csv"], ["b.csv", "a.csv"]),
        (
            ["data/c.txt", "data/[ab].csv", Path("data/sub")],
            ["c.txt", "a.csv", "b.csv", "sub/d.csv", "sub/deep/e.csv"],
        ),
    ],
)
def test_finds_files(tree: Path, given: str | list[str | Path], found: list[str]) -> None:
    assert find_files(given) == tuple(f"data/{name}" for name in found)


def test_urls_homes_and_path_objects(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "data" / "with space#1.csv").write_text("x")
    assert find_files(f"file://{tree}/data/with%20space#1.csv") == (f"{tree}/data/with space#1.csv",)
    assert find_files(f"FILE://localhost{tree}/data/[ab].csv") == (f"{tree}/data/a.csv", f"{tree}/data/b.csv")
    monkeypatch.setenv("HOME", str(tree))
    assert find_files("~/data/a.csv") == (f"{tree}/data/a.csv",)
    assert find_files(Path("data/a.csv")) == ("data/a.csv",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data/a.cvs", r"no such file or folder: data/a\.cvs; did you mean data/a\.csv\?"),
        ("data/long.csv", r"check the path"),
        ("dat", r"did you mean data\?"),
        ("dtaa/a.csv", r"did you mean data\?"),
        ("data/zzzzzz/a.csv", r"data has no folder 'zzzzzz'"),
        ("data/qqqqqqqq", r"check the path \(looked in /.*/data\)"),
        ("/zz0/yy1/xx2", r"/ has no folder 'zz0'"),
        ("data/a.csv/x", r"a part of this path is not a directory"),
        ("data/*.parquet", r"no file matches data/\*\.parquet"),
        ("nowhere/*.csv", r"there is no folder nowhere"),
        ("empty", r"no files in empty"),
        ("file://server/a.csv", r"names the host 'server'"),
        ("a\0b", r"NUL character"),
        ("/dev/zero", r"it is a device"),
        ("dangling", r"no such file"),
        ("links", r"links/gone.*no such file"),
    ],
)
def test_wrong_names_get_one_clear_message(tree: Path, given: str, message: str) -> None:
    (tree / "empty").mkdir()
    (tree / "links").mkdir()
    (tree / "dangling").symlink_to("gone")
    (tree / "links" / "gone").symlink_to("nothing")
    with pytest.raises(SourceError, match=message) as caught:
        find_files(given)
    assert caught.value.context["path"]
    assert "\n" not in str(caught.value)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match="list of paths is empty"):
        find_files([])
    with pytest.raises(ConfigError, match="a path is empty"):
        find_files("")
    with pytest.raises(ConfigError, match="not int"):
        find_files([3])  # type: ignore[list-item]  # wrong on purpose


def test_linked_folders_are_read_once(tree: Path) -> None:
    (tree / "data" / "sub" / "up").symlink_to("..")
    (tree / "data" / "zub").symlink_to("sub")
    found = find_files("data")
    assert len({os.path.realpath(path) for path in found}) == len(found) == 6


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Create a folder that every user can enter (pytest's own are private)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_reports_missing_permission(open_folder: Path) -> None:
    locked = open_folder / "locked"
    locked.mkdir()
    (locked / "a.csv").write_text("x")
    (open_folder / "secret.csv").write_text("x")
    os.chmod(locked, 0o700)
    os.chmod(open_folder / "secret.csv", 0o600)
    script = f"""
import os
from mmflow.errors import SourceError
from mmflow.mapping import MappedFile
from mmflow.shards import find_files
os.seteuid(65534)
for given in ("locked", "locked/*.csv", "locked/a.csv", "secret.csv", "*.csv", "."):
    try:
        print("found", find_files(os.path.join({str(open_folder)!r}, given)))
    except SourceError as error:
        print("denied" if "permission denied" in str(error) else error)
try:
    MappedFile.open(os.path.join({str(open_folder)!r}, "secret.csv"))
except SourceError as error:
    print("denied" if "permission denied" in str(error) else error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:-1] == ["denied"] * 7, done.stdout + done.stderr


def test_streams_are_named_alone(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    assert find_files("pipe") == ("pipe",)
    assert find_files("-") == ("-",)
    assert find_files("/dev/fd/63") == ("/dev/fd/63",)
    with pytest.raises(SourceError, match="it is a pipe"):
        find_files("p?pe")
