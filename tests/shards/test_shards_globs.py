"""Globs, against bash; links; files that globs must not omit silently."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import SourceError
from mmflow.shards import find_files
from mmflow.shards.globs import match_glob
from mmflow.storage.globs import path_matches

_NAMES = st.sampled_from(["a", "b", "ab", "a.c", "b.c", ".h", "[a]", "ä", "^"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_PARTS = st.sampled_from(
    ["*", "**", "?", "a*", "*.c", "[ab]", "[!a]", "[^a]", "[a-b].c", ".*", "a", "[[]a]", "??", "[", "*b*"]
)
_PATTERNS = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)


def _made(root: Path, files: list[str], links: list[tuple[str, str]]) -> None:
    for name in files:
        path = root / name
        if not any(p.is_file() for p in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    for name, target in links:
        path = root / name
        if path.parent.is_dir() and (root / target).exists() and not os.path.lexists(path):
            path.symlink_to(os.path.relpath(root / target, path.parent))


def _bash(root: Path, patterns: list[str]) -> list[set[str]]:
    """Return the files that bash finds for each pattern, by its own rules for hidden names and links."""
    script = 'shopt -s globstar nullglob; for p in "$@"; do IFS=; for f in $p; do echo "$f"; done; echo; done'
    run = subprocess.run(
        ["bash", "-c", script, "bash", *patterns],
        cwd=root,
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[set[str]] = [set()]
    for line in run.stdout.split("\n")[:-1]:  # an empty line ends a pattern's files
        if not line:
            answers.append(set())
        elif (root / line).is_file():
            answers[-1].add(line)
    return answers[:-1]


@given(
    st.lists(_PATHS, max_size=8),
    st.lists(st.tuples(_PATHS, _PATHS), max_size=3),
    st.lists(_PATTERNS, min_size=1, max_size=8),
)
def test_globs_match_what_bash_matches(
    files: list[str], links: list[tuple[str, str]], patterns: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _made(root, files, links)
        for pattern, wanted in zip(patterns, _bash(root, patterns), strict=True):
            found = match_glob(f"{root}/{pattern}")
            paths = [os.path.relpath(path, root) for path, mode in found if not stat.S_ISDIR(mode)]
            assert len(set(paths)) == len(paths)
            assert set(paths) == wanted, pattern
            # At a URL a listing is matched as text: the same answer where there are no links.
            if not any(p.is_symlink() for p in root.rglob("*")):
                listed = [os.path.relpath(p, root) for p in root.rglob("*") if p.is_file()]
                assert {p for p in listed if path_matches(pattern.split("/"), p.split("/"))} == wanted


@pytest.fixture
def looped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder with a link to the folder above, one to another folder, and one to a file."""
    _made(tmp_path, ["d/a.csv", "d/sub/b.csv", "other/c.csv", "beside.csv"], [])
    for name, target in (
        ("d/up", ".."),
        ("d/linked", "../other"),
        ("d/self", "sub/.."),
        ("d/z.csv", "a.csv"),
    ):
        (tmp_path / name).symlink_to(target)
    for path in tmp_path.rglob("*.csv"):
        path.write_text("x\n1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_any_depth_follows_no_links_to_folders(looped: Path) -> None:
    assert find_files("d/**/*.csv") == ("d/a.csv", "d/sub/b.csv", "d/z.csv")
    assert find_files("d/**") == ("d/a.csv", "d/sub/b.csv", "d/z.csv")
    assert mf.read("d/**/*.csv").count() == 3


def test_follows_links_that_are_named(looped: Path) -> None:
    assert find_files("d/linked/**") == ("d/linked/c.csv",)
    assert find_files("d/l*/*.csv") == ("d/linked/c.csv",)
    assert find_files("d/*/*.csv") == (
        "d/linked/c.csv", "d/self/a.csv", "d/self/z.csv", "d/sub/b.csv", "d/up/beside.csv",
    )  # fmt: skip


def test_a_folder_takes_linked_folders_along_but_none_that_holds_it(looped: Path) -> None:
    assert find_files("d") == ("d/a.csv", "d/linked/c.csv", "d/sub/b.csv", "d/z.csv")


def test_a_glob_gives_each_path_once_and_a_list_what_it_names(looped: Path) -> None:
    assert find_files("**/**/b.csv") == ("d/sub/b.csv",)
    assert find_files(["d/a.csv", "d/[a].csv"]) == ("d/a.csv", "d/a.csv")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("d/*.csv", r"d/gone\.csv"), ("d/**", r"d/gone\.csv"), ("p*", r"pipe: it is a pipe")],
)
def test_globs_omit_nothing_silently(looped: Path, pattern: str, message: str) -> None:
    (looped / "d" / "gone.csv").symlink_to("nothing")
    os.mkfifo(looped / "pipe")
    with pytest.raises(SourceError, match=message):
        find_files(pattern)


@pytest.fixture
def remote() -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for name in ("a.csv", "sub/b.csv", "sub/_c.csv", ".h/d.csv", "_tmp/e.csv"):
        system.pipe(f"/globs/{name}", b"x\n1\n")
    yield "memory://globs"
    system.rm("/globs", recursive=True)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.csv", ["a.csv", "sub/b.csv"]),
        ("**", ["a.csv", "sub/b.csv"]),
        ("**.csv", ["a.csv"]),
        ("_tmp/**/*.csv", ["_tmp/e.csv"]),
        ("**/_c.csv", ["sub/_c.csv"]),
        ("[^b].csv", ["a.csv"]),
        ("s*", ["sub/b.csv"]),
    ],
)
def test_urls_are_matched_by_the_same_rules(remote: str, pattern: str, found: list[str]) -> None:
    assert [p.removeprefix("memory://globs/") for p in find_files(f"{remote}/{pattern}")] == found


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_folder_that_cant_be_listed_is_an_error() -> None:
    root = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own can't be entered by others
    try:
        _made(root, ["open/a.csv", "locked/b.csv"], [])
        root.chmod(0o755)
        (root / "locked").chmod(0o700)
        os.seteuid(65534)
        try:
            for pattern in ("*/*.csv", "**/*.csv", "**"):
                with pytest.raises(SourceError, match=r"locked.*permission denied"):
                    find_files(f"{root}/{pattern}")
        finally:
            os.seteuid(0)
    finally:
        shutil.rmtree(root)
