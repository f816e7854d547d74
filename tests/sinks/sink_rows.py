"""Rows of every type that sinks write, and short ways to write them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmflow.sinks import CommitResult, SinkAttempt, SinkSpec, StagedFile, open_commit, open_sink, sink_spec

MANIFEST = "_mmflow_manifest.json"
ZONE = pa.timestamp("us", "Europe/Paris")


def sample() -> pa.RecordBatch:
    """Flat and nested columns with nulls, empty text, and text that every text format must escape."""
    moment = dt.datetime(2024, 2, 29, 12, 30, 1, 500_000, tzinfo=dt.UTC)
    columns: dict[str, pa.Array] = {
        "i": pa.array([1, None, -(2**63), 2**63 - 1], pa.int64()),
        "f": pa.array([1.0, None, 0.1, 1e300], pa.float64()),
        "s": pa.array(['a,"b"\n\\', None, "", "nul\x00 é😀"], pa.string_view()),
        "b": pa.array([True, False, None, True], pa.bool_()),
        "d": pa.array([dt.date(2024, 2, 29), None, dt.date(1900, 1, 1), dt.date(1970, 1, 1)], pa.date32()),
        "ts": pa.array(
            [
                moment.replace(tzinfo=None),
                None,
                dt.datetime(1969, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None),
                None,
            ],
            pa.timestamp("us"),
        ),
        "tz": pa.array([moment, None, moment, None], ZONE),
        "dec": pa.array(
            [Decimal("1.50"), None, Decimal("-99999999999999999999.99"), Decimal(0)], pa.decimal128(22, 2)
        ),
        "l": pa.array([["x", None], None, [], ["y"]], pa.list_(pa.string_view())),
        "st": pa.array(
            [{"a": 1, "t": "q"}, None, {"a": None, "t": None}, {"a": 2, "t": '"'}],
            pa.struct([("a", pa.int32()), ("t", pa.string_view())]),
        ),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def write(
    spec: SinkSpec,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    run: str = "r1",
    number: int = 0,
    attempt: int = 0,
) -> tuple[StagedFile, ...]:
    return open_sink(spec).write(batches, schema, SinkAttempt(run, 1, number, attempt))


def write_all(
    path: Path | str, tasks: Sequence[Sequence[pa.RecordBatch]], *, run: str = "r1", **keys: Any
) -> CommitResult:
    """Prepare, write one task per list of batches, commit."""
    spec = sink_spec(path, **keys)
    schema = tasks[0][0].schema
    with open_commit(spec, run) as commit:
        commit.prepare(schema=schema)
        files = [f for n, task in enumerate(tasks) for f in write(spec, task, schema, run=run, number=n)]
        return commit.commit(files, schema)


def names(folder: Path) -> set[str]:
    """All files below a folder, hidden ones too."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def rows(value: Any) -> pa.RecordBatch:
    """Return one row."""
    return pa.RecordBatch.from_pydict({"v": [value]})


def state(destination: Path) -> Any:
    """Return the values of a file, or of the files that a folder's manifest lists."""
    if destination.is_file():
        return destination.read_text().splitlines()[1:]
    if not destination.exists() or not any(destination.iterdir()):
        return None
    manifest = json.loads((destination / MANIFEST).read_text())
    assert {f["path"] for f in manifest["files"]} == names(destination) - {MANIFEST}
    assert manifest["rows"] == len(manifest["files"])
    return sorted((destination / f["path"]).read_text().splitlines()[1] for f in manifest["files"])
