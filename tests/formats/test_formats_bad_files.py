"""`skip_bad_files`: files that can't be read are left out, named and counted."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.cli.main import main
from mmflow.config import Settings
from mmflow.runs.recorded_run import RecordedRun


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"a": [2]}), tmp_path / "c.parquet")
    (tmp_path / "a.parquet").write_bytes(b"a,b\n1,2\n")  # the first one, too
    (tmp_path / "d.parquet").write_bytes((tmp_path / "c.parquet").read_bytes()[:-9] + b"123456789")
    (tmp_path / "e.parquet").write_bytes(b"")
    (tmp_path / "f.parquet").symlink_to(tmp_path / "gone.parquet")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    return tmp_path


def test_bad_files_are_left_out_and_named(folder: Path) -> None:
    ds = mf.read(f"{folder}/*.parquet", skip_bad_files=True)
    with pytest.warns(
        mf.BadFilesWarning, match=r"4 files were left out, as skip_bad_files says: .*parquet.*and 1 more"
    ):
        assert ds.to_arrow().to_pydict() == {"a": [1, 2]}
    summary = ds.context.last_run
    assert summary is not None
    assert sorted(os.path.basename(path) for path, _ in summary.skipped_files) == [
        "a.parquet", "d.parquet", "e.parquet", "f.parquet"]  # fmt: skip
    assert all(reason for _, reason in summary.skipped_files)
    assert "skips   4 files that can't be read" in ds.explain()
    counted = mf.sql(f"SELECT sum(a) AS s FROM read_parquet('{folder}/*.parquet', skip_bad_files => true)")
    with pytest.warns(mf.BadFilesWarning):
        assert counted.to_arrow().to_pydict() == {"s": [3]}
    with pytest.raises(mf.SourceError, match=r"f\.parquet"):
        mf.read(f"{folder}/*.parquet").to_arrow()


def test_a_list_of_files_of_which_some_vanished(folder: Path) -> None:
    paths = [folder / "gone.parquet", folder / "b.parquet"]
    with pytest.warns(mf.BadFilesWarning, match=r"1 file was left out.*gone\.parquet"):
        assert mf.read_parquet(paths, skip_bad_files=True).to_arrow().to_pydict() == {"a": [1]}
    (folder / "list.txt").write_text("gone.parquet\nc.parquet\n")
    with pytest.warns(mf.BadFilesWarning, match=r"gone\.parquet"):
        assert mf.read(f"@{folder}/list.txt", skip_bad_files=True).to_arrow().to_pydict() == {"a": [2]}
    with pytest.raises(mf.SourceError, match="no such file"):
        mf.read_parquet(paths)


@pytest.mark.parametrize("good", [b"a,b\n1,x\n", b'{"a": 1, "b": "x"}\n'])
def test_text_files_of_the_wrong_kind(tmp_path: Path, good: bytes) -> None:
    name = "csv" if good.startswith(b"a") else "ndjson"
    (tmp_path / f"a.{name}").write_bytes(good)
    (tmp_path / f"b.{name}").write_bytes(b"PAR1\0\1\2\3" * 9)
    (tmp_path / f"c.{name}").write_bytes(b"\x1f\x8bdamaged")
    (tmp_path / f"d.{name}").write_bytes(b"")  # no records, and none of another kind
    with pytest.warns(mf.BadFilesWarning, match="2 files were"):
        found = mf.read(f"{tmp_path}/*.{name}", skip_bad_files=True).to_arrow()
    assert found.to_pylist() == [{"a": 1, "b": "x"}]


def test_files_with_other_columns_are_not_bad(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n1\n")
    (tmp_path / "b.csv").write_bytes(b"b\n2\n")
    with pytest.raises(mf.SourceError, match="schema='union'"):
        mf.read(f"{tmp_path}/*.csv", skip_bad_files=True)
    assert mf.read(f"{tmp_path}/*.csv", skip_bad_files=True, schema="union").count() == 2


def test_no_good_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(mf.SourceError, match=r"a\.parquet"):
        mf.read_parquet(tmp_path, skip_bad_files=True)
    with pytest.raises(mf.ConfigError, match="skip_bad_files = 'maybe': must be true or false"):
        mf.read(tmp_path, skip_bad_files="maybe")  # type: ignore[arg-type]


def test_bad_files_are_in_the_report_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.load({"runs_dir": str(folder / "runs"), "spill_dir": str(folder)}, env={})
    with RecordedRun.begin("r", settings, {"job": "j", "parameters": {}}) as run:
        read = mf.Session.recorded(settings, run.recorder).read_parquet(
            f"{folder}/*.parquet", skip_bad_files=True
        )
        with pytest.warns(mf.BadFilesWarning, match="4 files were left out"):
            read.write_csv(f"{folder}/out.csv")
        run.done({})
    report = (folder / "runs/r/report.html").read_text()
    for name in "adef":
        assert re.search(rf"1 file was left out, as skip_bad_files says:[^<]*{name}\.parquet", report)
    main(["status", "r", "--runs-dir", settings.runs_dir])
    assert "skipped    4 files that can't be read; the report names them" in capsys.readouterr().out


def test_the_command_line_says_what_was_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = f"SELECT * FROM read_parquet('{folder}/*.parquet', skip_bad_files => true)"
    assert main(["sql", query, "--runs-dir", str(folder / "runs")]) == 0
    assert "warning: 4 files were left out, as skip_bad_files says" in capsys.readouterr().err
