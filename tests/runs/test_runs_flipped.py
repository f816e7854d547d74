"""Bytes that flip under blocks of intermediate rows: they are made again, or the run says so; they are never used."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col, functions
from mmflow.errors import BlockLostError
from tests.cluster.dask_workers import blocks_of
from tests.runs.conftest import Workplace, clusters, files_of
from tests.runs.held_job import gate
from tests.runs.test_runs_drivers import LAST, held, last_row, summary

ROW = int(LAST)


def flip(path: Path) -> None:
    """Flip some bytes here and there: between blocks of one file there are a few that don't matter."""
    data = bytearray(path.read_bytes())
    for part in (1, 2, 3):
        data[len(data) * part // 4] ^= 0x04
    with path.open("r+b") as file:
        file.write(data)


def sums(rows: Workplace) -> Counter[tuple[int, int]]:
    totals: Counter[int] = Counter()
    for line in rows.orders.read_text().splitlines()[1:]:
        person, amount = map(int, line.split(","))
        totals[person] += amount
    return Counter(totals.items())


def spilled(workplace: Workplace) -> list[Path]:
    return sorted(workplace.spill.glob("mmflow-*/*.block"))


def waited(found: Callable[[], list[Path]], count: int) -> list[Path]:
    deadline = time.monotonic() + 30
    while len(found()) < count:
        assert time.monotonic() < deadline, found()
        time.sleep(0.02)
    return found()


# ---- spilled blocks of the local engine -----------------------------------------------------------------------


def test_a_recorded_run_goes_on_without_blocks_that_were_damaged(workplace: Workplace) -> None:
    output = workplace.folder / "out"
    workplace.settings["memory"] = "1KiB"  # all blocks spill
    last_row(workplace)
    with held(workplace, output, row=LAST) as run:
        run.wait_for(f"started-{LAST}")
        run.wait_for_tasks(2)
        # What is kept and did not fit in memory is read from where it is kept.
        for path in waited(lambda: sorted((workplace.runs / "r1" / "blocks").rglob("*.blocks")), 2):
            flip(path)
        run.open(ROW)
        code, said = run.ended()
    assert code == 0, said
    assert any("damaged" in e["reason"] for e in workplace.events() if e["event"] == "restarted")
    with held(workplace, workplace.folder / "whole", run="whole") as whole:
        assert whole.ended()[0] == 0
    assert files_of(output) == files_of(workplace.folder / "whole")


def test_a_run_that_keeps_nothing_says_so(workplace: Workplace) -> None:
    flipped: list[Path] = []

    def flipping(batch: pa.RecordBatch) -> pa.RecordBatch:
        if not flipped:
            flipped.extend(waited(lambda: spilled(workplace), 2))
            for path in flipped:
                flip(path)
        return batch

    with mf.Session(
        memory="1KiB", workers=1, shard_size="8KiB", partitions=2, spill_dir=workplace.spill
    ) as session:
        read = session.read_csv(workplace.orders, schema={"person": "int64", "amount": "int64"})
        later = session.read_csv(workplace.orders, schema={"person": "int64", "amount": "int64"})
        held_back = later.map_batches(_after(workplace, flipping), schema=later.schema)
        both = read.union(held_back).group_by("person").agg(functions.sum(col("amount")).alias("total"))
        with pytest.raises(BlockLostError, match=r"block.*damaged.*run again"):
            both.to_arrow()
    assert flipped
    assert workplace.leftovers() == []


def _after(
    workplace: Workplace, function: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Call it once something has spilled."""

    def call(batch: pa.RecordBatch) -> pa.RecordBatch:
        return function(batch) if len(spilled(workplace)) >= 2 else batch

    return call


# ---- shuffled blocks on Dask ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask() -> Iterator[str]:
    with clusters("dask") as address:
        yield address


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no shared memory here")
@pytest.mark.parametrize("recorded", [False, True])
def test_shuffled_blocks_that_were_damaged_are_made_again(
    workplace: Workplace, dask: str, recorded: bool
) -> None:
    cluster: dict[str, Any] = {"engine": "dask", "address": dask}
    last_row(workplace)
    if recorded:
        output = workplace.folder / "out"
        with held(workplace, output, row=LAST, **cluster) as run:
            run.wait_for(f"started-{LAST}")
            run.wait_for_tasks(2)
            for path in waited(lambda: blocks_of(dask), 2):
                flip(path)
            run.open(ROW)
            code, said = run.ended()
        assert code == 0, said
        assert summary(workplace)["summary"]["retries"] > 0
        made = Counter(
            (int(person), int(total))
            for text in files_of(output).values()
            for person, total, _ in (line.split(",") for line in text.decode().splitlines()[1:])
        )
        assert made == sums(workplace)
        return
    folder = str(workplace.folder)

    def hold(batch: pa.RecordBatch) -> pa.RecordBatch:
        return gate(folder, ROW, batch)

    flipped: list[Path] = []

    def flip_once(progress: object) -> None:
        if not flipped and (workplace.folder / f"started-{ROW}").exists():
            flipped.extend(waited(lambda: blocks_of(dask), 2))
            for path in flipped:
                flip(path)
            (workplace.folder / f"go-{ROW}").touch()

    with mf.Session(shard_size="8KiB", partitions=2, on_progress=flip_once, **cluster) as session:
        read = session.read_csv(workplace.orders, schema={"person": "int64", "amount": "int64"})
        table = (
            read.map_batches(hold, schema=read.schema)
            .group_by("person")
            .agg(functions.sum(col("amount")).alias("total"))
            .to_arrow()
        )
        last = session.last_run
    assert flipped
    assert last is not None
    assert last.retries > 0
    found = Counter(zip(table["person"].to_pylist(), table["total"].to_pylist(), strict=True))
    assert found == sums(workplace)
