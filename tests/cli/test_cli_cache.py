"""`mmflow cache`: what it shows, checks and removes of columns that a real query kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmflow.cli.main import main


@pytest.fixture
def kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Flags of a cache that holds two columns of a file."""
    source = tmp_path / "rows.csv"
    source.write_text("id,kind\n" + "".join(f"{n},{n % 3}\n" for n in range(20_000)))
    os.utime(source, (0, 0))  # it was not written a moment ago
    flags = ["--cache-dir", str(tmp_path / "kept")]
    query = f"SELECT kind, count(*) AS n FROM '{source}' WHERE id < 9000 GROUP BY kind"
    assert main(["sql", query, "--cache", "eager", "--workers", "1", *flags]) == 0
    capsys.readouterr()
    return flags


def _shown(flags: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["cache", "show", "--json", *flags]) == 0
    shown: dict[str, object] = json.loads(capsys.readouterr().out)
    return shown


def test_show_has_a_line_for_each_file(
    kept: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "show", *kept]) == 0
    out, err = capsys.readouterr()
    head, line = out.splitlines()
    assert head.split() == ["FILE", "KIND", "ENTRIES", "SIZE", "USED"]
    assert line.split()[:3] == [str(tmp_path / "rows.csv"), "columns", "2"]
    assert err.startswith("2 entries, ")
    shown = _shown(kept, capsys)
    entries = shown["entries"]
    assert isinstance(entries, list)
    assert {(entry["source"], entry["kind"]) for entry in entries} == {
        (str(tmp_path / "rows.csv"), "columns")
    }


def test_verify_removes_what_is_wrong(
    kept: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = (path for path in sorted((tmp_path / "kept").rglob("*")) if len(path.name) == 32)
    flipped = bytearray(first.read_bytes())
    flipped[5000] ^= 1
    first.write_bytes(flipped)
    assert main(["cache", "verify", *kept]) == 0
    out, err = capsys.readouterr()
    assert out == f"removed columns/{first.name}: damaged\n"
    assert err.startswith("1 entry is right, 1 removed")
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("1,1\n")
    assert main(["cache", "verify", *kept]) == 0
    assert "of files that changed or are gone" in capsys.readouterr().out
    assert _shown(kept, capsys)["entries"] == []


def test_clear_removes_all(kept: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clear", *kept]) == 0
    assert capsys.readouterr().err.startswith("removed 2 entries and freed ")
    assert _shown(kept, capsys)["entries"] == []


def test_a_folder_that_is_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["cache", "show", "--cache-dir", str(tmp_path / "file")]) == 0
    out, err = capsys.readouterr()
    assert (out, err[:17]) == ("", "there is no cache")
