"""Work of many kinds in threads, all at once, against the same work done alone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)

__all__ = ["ROWS", "THREADS", "Mix", "agrees", "alone", "make_files", "together"]

THREADS = 32
#: All threads must be done by then, or some wait for each other.
DEADLOCK_SECONDS = 300
ROWS = 4_000


def together(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each of these in a thread of its own, all from the same moment on; what they gave, or raised, in order.

    Fails if one is not done in `DEADLOCK_SECONDS`.
    """
    barrier = threading.Barrier(len(works))
    found: list[Any] = [TimeoutError("did not end")] * len(works)

    def run(number: int) -> None:
        barrier.wait()
        try:
            found[number] = works[number]()
        except BaseException as error:  # the test judges it
            found[number] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(works))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + DEADLOCK_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [t.name for t in threads if t.is_alive()], "threads wait for each other"
    return found


def make_files(folder: Path) -> Path:
    """Write the files that the work reads; their folder."""
    lines = [f"{i % 7},{i},{i * 37 % 1_000}" for i in range(ROWS)]
    (folder / "a.csv").write_text("g,v,w\n" + "\n".join(lines) + "\n")
    (folder / "b.ndjson").write_text("".join(f'{{"g": {g}, "name": "n{g}"}}\n' for g in range(7)))
    np.save(folder / "c.npy", np.arange(ROWS))
    return folder


class Mix:
    """Work of many kinds over the same files, in one session; each kind can be checked against itself done alone."""

    def __init__(self, session: mf.Session, files: Path, out: Path) -> None:
        self.session = session
        self.files = files
        self.out = out
        self.csv = session.read_csv(files / "a.csv")
        self.kinds: dict[str, Callable[[int], Any]] = {
            "sql": self.sql,
            "path": self.path,
            "whole": self.whole,
            "chain": self.chain,
            "mapped": self.mapped,
            "udf": self.udf,
            "taken": self.taken,
            "written": self.written,
            "shared": self.shared,
            "array": self.array,
        }

    def sql(self, n: int) -> Any:
        names = self.session.read_ndjson(self.files / "b.ndjson")
        query = f"SELECT b.name, count(*) n, sum(v) s FROM a JOIN b ON a.g = b.g WHERE v % 5 <> {n % 5} GROUP BY 1"
        return sorted(map(str, self.session.sql(query, a=self.csv, b=names).to_arrow().to_pylist()))

    def path(self, n: int) -> Any:
        query = f"SELECT max(v) m, min(w) FROM '{self.files / 'a.csv'}' WHERE g = {n % 7}"
        return self.session.sql(query).to_arrow().to_pylist()

    def whole(self, n: int) -> Any:
        query = f"SELECT unnest([v, w]) AS x FROM t WHERE v < {n}"
        return sorted(self.session.sql(query, t=self.csv).to_arrow()["x"].to_pylist())

    def chain(self, n: int) -> Any:
        ds = self.csv.filter(col("g") == n % 7).sort("w", "v").limit(50)
        return ds.to_arrow().to_pylist(), self.csv.filter(col("v") < n).count()

    def mapped(self, n: int) -> Any:
        def shifted(batch: pa.RecordBatch) -> pa.RecordBatch:
            return pa.record_batch({"x": pc.add(batch["v"], n)})

        processes = self.session.settings.engine == "local"
        ds = self.csv.filter(col("v") < 10).map_batches(shifted, {"x": "int64"}, processes=processes)
        return ds.to_arrow().to_pylist()

    def udf(self, n: int) -> Any:
        @mf.udf("int64", "int64", name=f"times_{n}")
        def times(values: pa.Array) -> pa.Array:
            return pc.multiply(values, n)

        ds = self.csv.select(times(col("v")).alias("x")).agg(F.sum(col("x")).alias("s"))
        return ds.to_arrow().to_pylist()

    def taken(self, n: int) -> Any:
        return self.csv.take([n, ROWS - 1 - n, 0]).to_pylist(), self.csv.sample(0.1, seed=n).count()

    def written(self, n: int) -> Any:
        made = self.csv.filter(col("g") == n % 7).write_parquet(
            str(self.out / f"{n}-{time.monotonic_ns()}.parquet")
        )
        return self.session.read_parquet(made.path).sort("v").to_arrow().to_pylist()

    def shared(self, n: int) -> Any:
        with self.session.share({"v": list(range(n, n + 100))}) as handle:
            table = mf.attach(handle)
            return self.session.from_arrow(table).agg(F.sum(col("v")).alias("s")).to_arrow().to_pylist()

    def array(self, n: int) -> Any:
        path = self.out / f"{n}-{time.monotonic_ns()}.npy"
        self.session.map_array(self.files / "c.npy", lambda rows: rows * n, out=path)
        with mf.open_array(path) as opened:
            return int(opened[:].sum()), opened[ROWS - 1]


def alone(mix: Mix) -> dict[tuple[str, int], Any]:
    """Return what each kind of work gives, by kind and number, one after the other."""
    return {(kind, n): call(n) for kind, call in mix.kinds.items() for n in (3, 5)}


def agrees(mix: Mix, expected: dict[tuple[str, int], Any], threads: int) -> None:
    """Check that pieces of work give the expected results when threads do them all at once."""

    def work(kind: str, n: int) -> str:
        try:
            made = mix.kinds[kind](n)
        except Exception as error:  # all of them are reported at once
            return f"{kind}({n}): {type(error).__name__}: {error}"
        return "" if made == expected[kind, n] else f"{kind}({n}) gave other rows than alone"

    jobs = itertools.islice(itertools.cycle(expected), threads)
    assert together([partial(work, *job) for job in jobs]) == [""] * threads
