"""Nothing is written through a symbolic link out of a destination."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmflow.errors import SinkError
from mmflow.sinks import open_commit, sink_spec
from tests.sinks.sink_rows import names, write, write_all


def keyed(*keys: Any, a: str = "k", b: str = "j") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({a: list(keys), b: ["x"] * len(keys), "v": list(range(len(keys)))})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A partitioned data set beside a folder of somebody else."""
    write_all(tmp_path / "out", [[keyed("1", "2")]], format="csv", partition_by=["k", "j"], run="r-old")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "out"


def append(out: Path, batch: pa.RecordBatch, run: str = "r2") -> None:
    write_all(out, [[batch]], format="csv", partition_by=["k", "j"], if_exists="append", run=run)


@pytest.mark.parametrize("link", ["k=3", "k=2/j=y"])
@pytest.mark.parametrize("target", ["folder", "missing", "inside"])
def test_appending_to_a_partition_that_is_a_link_is_refused_before_rows_are_computed(
    out: Path, link: str, target: str
) -> None:
    leads = {"folder": out.parent / "elsewhere", "missing": out.parent / "no", "inside": out / "k=1"}[target]
    (out / link).symlink_to(leads)
    before = names(out.parent)
    spec = sink_spec(out, "csv", partition_by=["k", "j"], if_exists="append")
    with pytest.raises(
        SinkError, match=rf"won't write into {out}/{link}: it is a symbolic link \(to {leads}\)"
    ):
        open_commit(spec, "r2").prepare()
    assert names(out.parent) == before


@pytest.mark.parametrize("link", ["k=3", "k=1/j=y", "k=1"])
def test_a_partition_that_becomes_a_link_meanwhile_is_refused_at_the_commit(out: Path, link: str) -> None:
    spec = sink_spec(out, "csv", partition_by=["k", "j"], if_exists="append")
    batch = pa.RecordBatch.from_pydict({"k": ["3", "1"], "j": ["x", "y"], "v": [1, 2]})
    with open_commit(spec, "r2") as commit:
        commit.prepare()
        files = write(spec, [batch], batch.schema, run="r2")
        if (out / link).exists():
            (out / link).rename(out.parent / "moved")
        (out / link).symlink_to(out.parent / "elsewhere")
        with pytest.raises(SinkError, match=rf"won't write into {out}/{link}: it is a symbolic link \(to "):
            commit.commit(files, batch.schema)
    assert not names(out.parent / "elsewhere")
    assert not list((out.parent / "elsewhere").iterdir())
    assert (out / link).is_symlink()
    assert {p.name for p in out.parent.iterdir()} <= {"out", "elsewhere", "moved"}


def test_links_that_nothing_is_written_through_are_kept(out: Path) -> None:
    (out / "other").symlink_to(out.parent / "elsewhere")
    (out / "k=1" / "j=x" / "link.csv").symlink_to("part-00000.csv")
    append(out, keyed("1", "3"))
    assert (out / "other").is_symlink()
    assert (out / "k=1" / "j=x" / "link.csv").is_symlink()
    assert not list((out.parent / "elsewhere").iterdir())


def test_replacing_a_folder_leaves_what_its_links_lead_to(out: Path) -> None:
    precious = out.parent / "elsewhere" / "precious.csv"
    precious.write_text("v\n1\n")
    (out / "k=3").symlink_to(out.parent / "elsewhere")
    write_all(out, [[keyed("3")]], format="csv", partition_by=["k", "j"], if_exists="replace", run="r2")
    assert precious.read_text() == "v\n1\n"
    assert not (out / "k=3").is_symlink()
    assert os.listdir(precious.parent) == ["precious.csv"]


def test_files_of_the_commit_itself_are_not_written_through_links(out: Path) -> None:
    precious = out.parent / "elsewhere" / "precious"
    precious.write_text("mine")
    (out / "_mmflow_manifest.json.tmp").symlink_to(precious)
    append(out, keyed("1"))
    (out.parent / ".out.mmflow-lock").symlink_to(precious)
    with pytest.raises(SinkError, match="symbolic link"):
        append(out, keyed("1"), run="r3")
    (out.parent / ".out.mmflow-lock").unlink()
    (out.parent / ".out.mmflow-r4").symlink_to(out.parent / "elsewhere")
    with pytest.raises(SinkError, match="symbolic link"):
        append(out, keyed("1"), run="r4")
    assert precious.read_text() == "mine"
    assert os.listdir(precious.parent) == ["precious"]
