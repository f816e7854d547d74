"""Queries that run on a host of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

import mmflow as mf
from tests.cluster.namespaces import Host

__all__ = ["GROUPED", "SCHEMA", "Query", "grouped_rows"]

ROOT = Path(__file__).parents[2]
SCHEMA = {"id": "int64", "k": "int64", "g": "int64", "v": "double", "s": "string"}
GROUPED = "SELECT k, count(*) AS n, sum(v) AS v, max(s) AS s FROM t GROUP BY k ORDER BY k"


def grouped_rows(local: mf.Session, rows_csv: Path) -> pa.Table:
    """Return what `GROUPED` gives on this machine alone."""
    return local.sql(GROUPED, t=local.read_csv(str(rows_csv), schema=SCHEMA)).to_arrow()


class Query:
    """A driver at work on a host (`query_driver.py`): a query over a file, with a gate at a row."""

    def __init__(
        self,
        host: Host,
        engine: str,
        address: str,
        folder: Path,
        path: Path,
        sql: str,
        row: int = -1,
        **settings: Any,
    ) -> None:
        self.out = folder / "rows.arrow"
        base = {
            "shard_size": "640KiB",
            "partitions": 2,
            "memory": "256MiB",
            "workers": 2,
            "spill_dir": str(folder / "spill"),
        }
        given = {
            "sql": sql, "path": str(path), "schema": SCHEMA, "address": address, "engine": engine,
            "settings": {**base, **settings}, "gate": str(folder / "gate"), "row": row, "out": str(self.out),
        }  # fmt: skip
        self._process = host.start(
            sys.executable, str(Path(__file__).with_name("query_driver.py")), json.dumps(given),
            stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

    def event(self) -> dict[str, Any]:
        """The next thing that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver ended without a word"
        return dict(json.loads(line))

    def end(self) -> dict[str, Any]:
        """Return the event that ends it."""
        event = self.event()
        while event["event"] not in ("done", "error"):
            event = self.event()
        return event

    def rows(self) -> pa.Table:
        with pa.ipc.open_file(self.out) as file:
            return file.read_all()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
