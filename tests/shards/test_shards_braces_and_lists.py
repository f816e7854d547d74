"""Braces, escapes and lists of files: as bash has them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import ConfigError, SourceError
from mmflow.shards import find_files
from mmflow.storage.braces import expand_braces


def _bash(pattern: str) -> list[str]:
    # Brace expansion comes before all others: with set -f, none of these happens but quote removal, which printf %q undoes.
    script = f"set -f; for word in {pattern}; do printf '%s\\0' \"$word\"; done"
    return (
        subprocess.run(["bash", "-c", script], capture_output=True, check=True)
        .stdout.decode()
        .split("\0")[:-1]
    )


_TEXT = st.recursive(
    st.sampled_from(
        ["a", "b.csv", "{", "}", ",", "{1..3}", "{03..1}", "{1..9..4}", "{c..a}", "{x}", "{}", "*", ".."]
    ),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}")
        | st.lists(inner, min_size=1, max_size=3).map("".join)
    ),
    max_leaves=8,
)


def _balanced(text: str) -> bool:
    """Return whether each brace has its partner, the opening one first."""
    depth = 0
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0


@given(st.lists(_TEXT, min_size=1, max_size=12))
def test_braces_are_expanded_as_by_bash(patterns: list[str]) -> None:
    # One shell for several patterns. bash drops empty words.
    patterns = [f"x{p}" for p in patterns]
    # bash 5 takes unbalanced braces in ways that it does not document: `{x}{a,},a}` is `x}a x} a`.
    patterns = [p for p in patterns if "{}" not in p and _balanced(p)]
    expected = _bash(" ".join(patterns)) if patterns else []
    assert [made for p in patterns for made in expand_braces(p)] == expected


def test_too_many_paths() -> None:
    with pytest.raises(ConfigError, match="more than 1,000,000 paths"):
        expand_braces("{1..9999999999}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "a.csv",
        "b.csv",
        "c1.csv",
        "c2.csv",
        "x[1].csv",
        "x*.csv",
        "{a,b}.txt",
        "_SUCCESS",
        ".hidden.csv",
    ):
        (tmp_path / name).write_text("v\n1\n")
    for number in range(1, 13):
        (tmp_path / f"2024/{number:02}").mkdir(parents=True)
        (tmp_path / f"2024/{number:02}/d.csv").write_text(f"v\n{number}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("{b,a}.csv", ["b.csv", "a.csv"]),  # bash's order
        ("{a,a}.csv", ["a.csv"]),
        ("2024/{09..11}/*.csv", ["2024/09/d.csv", "2024/10/d.csv", "2024/11/d.csv"]),
        ("{c*,a}.csv", ["c1.csv", "c2.csv", "a.csv"]),
        ("{a,b}.txt", ["{a,b}.txt"]),  # exists
        (r"x\[1\].csv", ["x[1].csv"]),
        (r"x\*.csv", ["x*.csv"]),
        (r"\x\[[0-9]].csv", ["x[1].csv"]),
        ("c[[:digit:]].csv", ["c1.csv", "c2.csv"]),
        ("x[[]1].csv", ["x[1].csv"]),
    ],
)
def test_globs(folder: Path, pattern: str, files: list[str]) -> None:
    del folder
    assert list(find_files(pattern)) == files


def test_each_alternative_is_there(folder: Path) -> None:
    del folder
    with pytest.raises(SourceError, match=r"no such file or folder: zz\.csv"):
        find_files("{a,zz}.csv")
    with pytest.raises(SourceError, match=r"no file matches 2023/\*\.csv"):
        find_files("{2023,2024}/*.csv")


def test_lists_of_files(folder: Path) -> None:
    lists = folder / "lists"
    lists.mkdir()
    listed = lists / "files.txt"
    listed.write_bytes(
        b"\xef\xbb\xbf# a comment\r\n\r\n../b.csv\n  ../a.csv  \n../c?.csv\n../b.csv\n"
        + os.fsencode(folder)
        + b"/x[1].csv\n"
    )
    found = [os.path.relpath(path, folder) for path in find_files("@lists/files.txt")]
    assert found == ["b.csv", "a.csv", "c1.csv", "c2.csv", "b.csv", "x[1].csv"]
    assert mf.read(f"@{listed}").count() == 6
    assert mf.sql(f"SELECT count(*) AS n FROM '@{listed}'").to_arrow().to_pydict() == {"n": [6]}
    assert len(find_files(["a.csv", "@lists/files.txt"])) == 7
    (lists / "bytes.txt").write_bytes(b"\xff.csv\n")
    (lists / os.fsdecode(b"\xff.csv")).write_text("v\n7\n")
    assert mf.read("@lists/bytes.txt").select("_file", "v").to_arrow().to_pylist() == [
        {"_file": "lists/\\xff.csv", "v": 7}
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("# nothing\n", "names no file"),
        ("@other.txt\n", "line 1: '@other.txt' is a list of other files"),
        ("\nno.csv\n", "no such file or folder"),
    ],
)
def test_wrong_lists(folder: Path, text: str, error: str) -> None:
    (folder / "list.txt").write_text(text)
    with pytest.raises(SourceError, match=error):
        find_files("@list.txt")


def test_a_file_named_like_a_list(folder: Path) -> None:
    (folder / "@a.csv").write_text("v\n5\n")
    assert find_files("@a.csv") == ("@a.csv",)
    with pytest.raises(SourceError, match=r"can't read nowhere\.txt|no such file"):
        find_files("@nowhere.txt")


def test_a_filter_reads_the_files_of_its_folders_only(folder: Path) -> None:
    for year in (2023, 2024):
        for month in range(1, 13):
            path = folder / f"year={year}/month={month}/x.csv"
            path.parent.mkdir(parents=True)
            path.write_text(f"v\n{month}\n")
    (folder / "year=2023/month=5/x.csv").write_text("v\nnot a number\n")  # not opened
    query = "SELECT * FROM read('year=*/month=*/*.csv', schema => 'v:int64,month:int64') WHERE month = 3"
    assert "2 of 24 files" in mf.sql(query).explain()
    assert mf.sql(query).to_arrow().to_pylist() == [{"v": 3, "month": 3}] * 2
