"""Files whose names are bytes that are not UTF-8: results, or one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf

MMFLOW = str(Path(sys.executable).with_name("mmflow"))
SHOWN = r"caf\xe9.csv"
JOB = """
import mmflow as mf

@mf.job
def copy(session: mf.Session, *, source: str) -> mf.Dataset:
    '''A copy.

    Args:
        source: a file
    '''
    return session.read_csv(source, schema="a:int64,b:int64", on_bad_record="quarantine")
"""


def _named(folder: Path, name: bytes) -> str:
    return os.fsdecode(os.fsencode(folder) + b"/" + name)


@pytest.fixture
def odd(tmp_path: Path) -> str:
    path = _named(tmp_path, b"caf\xe9.csv")
    with open(path, "w") as file:
        file.write("a,b\n1,2\n3,x\n5,6\n")
    return path


def test_rows_and_their_file(odd: str) -> None:
    ds = mf.read_csv(odd)
    assert ds.count() == 3
    assert ds.take([1]).to_pydict() == {"a": [3], "b": ["x"]}
    assert ds.sample(1).count() == 3
    for rows in (ds.select("_file").to_arrow(), ds.select("_file").take([0, 1, 2])):
        assert {os.path.basename(f) for f in rows["_file"].to_pylist()} == {SHOWN}
    assert SHOWN in ds.explain()
    assert mf.read(odd.replace("caf", "c*")).count() == 3


def test_bad_records_of_it_are_reported_and_quarantined(odd: str, tmp_path: Path) -> None:
    with pytest.raises(mf.BadRecordError) as caught:
        mf.read_csv(odd, schema="a:int64,b:int64").to_arrow()
    assert SHOWN in str(caught.value)
    str(caught.value).encode()
    with mf.Session(runs_dir=str(tmp_path / "runs")) as session:
        with pytest.warns(mf.BadRecordsWarning):
            session.read_csv(odd, schema="a:int64,b:int64", on_bad_record="quarantine").to_arrow()
        assert session.last_run is not None
        assert session.last_run.quarantine is not None
        with pa.ipc.open_file(session.last_run.quarantine) as file:
            (path,) = file.read_all()["path"].to_pylist()
    assert path.endswith(SHOWN)


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "ndjson"])
def test_outputs_of_such_names(odd: str, tmp_path: Path, form: str) -> None:
    for name in (b"out\xe9." + form.encode(), b"folder\xe9"):
        path = _named(tmp_path, name)
        assert mf.read_csv(odd).write(path, form).rows == 3
        assert mf.read(path).count() == 3


def test_parquet_and_npy_of_such_names(tmp_path: Path) -> None:
    table, array = _named(tmp_path, b"t\xff.parquet"), _named(tmp_path, b"a\xff.npy")
    with open(table, "wb") as file:
        pq.write_table(pa.table({"a": [1]}), file)
    np.save(array, np.arange(3))
    assert mf.read(table).count() == 1
    assert mf.read(array).count() == 3


def test_a_missing_one_is_one_clear_line(odd: str) -> None:
    with pytest.raises(mf.SourceError, match=r"caf\\xe8\.csv; did you mean .*caf\\xe9\.csv"):
        mf.read(odd.replace("\udce9", "\udce8"))


def test_a_folder_to_spill_to_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(mf.ConfigError, match=r"spill_dir.*sp\\xe9.*UTF-8"):
        mf.Session(spill_dir=_named(tmp_path, b"sp\xe9"))


def test_the_command_line_says_such_names(odd: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    flags = ["--runs-dir", str(tmp_path / "runs")]

    def run(*arguments: str) -> str:
        done = subprocess.run([MMFLOW, *arguments], capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    assert SHOWN in run("sql", f"SELECT DISTINCT _file FROM '{odd}'", "--format", "csv")
    assert SHOWN in run("inspect", odd)
    out = _named(tmp_path, b"o\xe9")
    run(
        "run",
        str(tmp_path / "job.py"),
        "--source",
        odd,
        "--output",
        out,
        "--format",
        "csv",
        "--name",
        "r",
        *flags,
    )
    assert json.loads(run("status", "r", "--json", *flags))["rows"] == 2
    assert "rows       2" in run("status", "r", *flags)
    assert SHOWN in run("quarantine", "show", "r", *flags)
    assert SHOWN in (tmp_path / "runs" / "r" / "report.html").read_text()
