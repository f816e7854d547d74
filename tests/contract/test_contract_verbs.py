"""Verbs that exchange rows give the same rows on every engine, and classes are made once in each worker."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col

ROWS = 12_000


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of several shards each."""
    folder = tmp_path_factory.mktemp("verbs")
    for part in range(3):
        rows = range(part * ROWS // 3, (part + 1) * ROWS // 3)
        text = "".join(
            f"{n},{n % 11},{'xyz'[n % 3]},{'' if n % 5 == 0 else n * 0.5}, {'-' * 20}\n" for n in rows
        )
        (folder / f"{part}.csv").write_text("n,k,t,f,filler\n" + text)
    return folder


VERBS: dict[str, Callable[[mf.Dataset], mf.Dataset]] = {
    "unique": lambda ds: ds.unique(["k", "t"], keep="last").sort("n"),
    "unique first": lambda ds: ds.unique("k", keep="first").sort("n"),
    "row index": lambda ds: ds.with_row_index().filter(col("index") % 1_000 == 7),
    "tail": lambda ds: ds.tail(5),
    "slice": lambda ds: ds.slice(-5_000, 3),
    "counts": lambda ds: ds.value_counts(["t", "k"], sort=True),
    "pivot": lambda ds: ds.pivot("t", ["x", "y"], index="k", values="f", aggregate_function="max").sort("k"),
    "unpivot": lambda ds: (
        ds.unpivot(["n", "k"], index="t").group_by("variable", "t").len().sort("variable", "t")
    ),
    "joined": lambda ds: (
        ds.join(ds.unique("k", keep="first"), "k", suffix="_2").group_by("n_2").len().sort("n_2")
    ),
    "concat": lambda ds: mf.concat([ds.select("n"), ds.select("t")], how="diagonal").value_counts(
        "t", sort=True
    ),
    "asof": lambda ds: ds.join_asof(ds.filter(col("n") % 7 == 0).select("n", "t", m="n"), on="n", by="t").agg(
        col("m").sum(), col("m").count().alias("c")
    ),
    "filled": lambda ds: ds.fill_null(strategy="forward", limit=1).agg(
        col("f").sum(), col("f").count().alias("c")
    ),
    "filled backward": lambda ds: ds.fill_null(strategy="backward").tail(5),
    "filled by the mean": lambda ds: ds.fill_null(strategy="mean").filter(col("n") == 5),
    "windows": lambda ds: (
        ds.with_columns(at=(col("n") * 1000).cast("timestamp[ms]"))
        .group_by_dynamic("at", every="10m", period="15m", closed="both", label="right", group_by="t")
        .agg(col("k").sum(), mf.len())
        .sort("t", "at")
    ),
    "windows by the first row": lambda ds: (
        ds.with_columns(at=(col("n") * 1000).cast("timestamp[ms]"))
        .group_by_dynamic("at", every="50m", period="1h", start_by="datapoint", label="datapoint")
        .agg(col("k").sum())
        .sort("at")
    ),
    "persisted": lambda ds: ds.filter(col("k") < 3).persist().group_by("k").agg(col("n").sum()).sort("k"),
    "describe": lambda ds: ds.select("n", "t").describe([0.5]),
    "sample": lambda ds: ds.sample(n=50, seed=3).sort("n"),
}


@pytest.mark.parametrize("name", VERBS)
def test_verbs(name: str, session: mf.Session, local: mf.Session, numbers: Path) -> None:
    got, wanted = (
        VERBS[name](s.read_csv(str(numbers / "*.csv")).drop("filler")).to_arrow() for s in (session, local)
    )
    assert got.equals(wanted)
    assert got.num_rows


class Model:
    """Callable that notes in a file when it is made, and when it is called."""

    def __init__(self, log: str, factor: int = 1) -> None:
        self.factor = factor
        self.log = log
        self.note("made")

    def note(self, what: str) -> None:
        with open(self.log, "a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def __call__(self, columns: dict[str, Any]) -> dict[str, Any]:
        self.note("called")
        return {"n": columns["n"] * self.factor}


@pytest.mark.parametrize("processes", [False, True])
def test_a_class_is_made_once_in_each_worker(
    session: mf.Session, numbers: Path, tmp_path: Path, processes: bool
) -> None:
    log = str(tmp_path / "log")
    ds = session.read_csv(str(numbers / "*.csv")).map_batches(
        Model, {"n": "int64"}, batch_format="numpy", batch_rows=300, processes=processes, concurrency=2, num_cpus=1,
        num_gpus=0, fn_constructor_args=[log], fn_constructor_kwargs={"factor": 3},
    )  # fmt: skip
    assert ds.agg(col("n").sum()).to_arrow().to_pylist() == [{"n": 3 * ROWS * (ROWS - 1) // 2}]
    notes = Counter(tuple(line.split()) for line in Path(log).read_text().splitlines())
    made = {pid: count for (what, pid), count in notes.items() if what == "made"}
    called = sum(count for (what, _), count in notes.items() if what == "called")
    assert called >= ROWS // 300
    # The threads of one process have an instance each; other engines may use a process for each task that runs.
    threads = 2 if session.settings.engine in ("local", "dask") and not processes else 1
    assert all(count <= threads for count in made.values())
    assert sum(made.values()) <= 4


@pytest.mark.parametrize("needs", [{"num_gpus": 64}])
def test_gpus_that_nobody_has_are_an_error(session: mf.Session, needs: dict[str, float]) -> None:
    made = session.from_arrow({"n": [1]}).map_batches(lambda batch: batch, {"n": "int64"}, **needs)  # type: ignore[arg-type]
    if session.settings.engine == "local":
        assert made.to_arrow().equals(pa.table({"n": [1]}))
        return
    with pytest.raises(mf.ConfigError, match=r"num_gpus=64: no .* as many"):
        made.to_arrow()
