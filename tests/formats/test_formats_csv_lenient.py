"""Lenient CSV gets more cells right than the forgiving readers of others, and alters none without counting it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.formats.csv.normal import REPAIRS

Row = tuple[str | None, ...]

#: Records as people write them, and the cells that they mean.
_RECORDS: tuple[tuple[str, Row], ...] = (
    ('k1,"he said "hi" to me",x', ("k1", 'he said "hi" to me', "x")),
    ('k2,"say "hi"",x', ("k2", 'say "hi"', "x")),
    ('k3,"a"b,x', ("k3", "ab", "x")),
    ('k4,"5 inch,x', ("k4", '"5 inch', "x")),
    ('"5 inch,"k5",x', ('"5 inch', "k5", "x")),
    ('k6, "a, b",x', ("k6", "a, b", "x")),
    ('k7,a "b" c,x', ("k7", 'a "b" c', "x")),
    ("k8,a", ("k8", "a", None)),
    ("k9", ("k9", None, None)),
    ("k10,a,b,c", ("k10", "a", "b")),
    ("k11,a\rb,x", ("k11", "a\rb", "x")),
    ('k12,"a\nb",x', ("k12", "a\nb", "x")),
    ('k13,"a ""b""",x', ("k13", 'a "b"', "x")),
    ("k14,a,x\r", ("k14", "a", "x")),
    ('k15,"a","x" ', ("k15", "a", "x")),
    ('k16,"",x', ("k16", "", "x")),
)
_CLEAN = {"k7", "k12", "k13", "k14", "k16"}
_HEADER = "a,b,c\n"


def _mmflow(text: str, path: Path) -> list[Row]:
    path.write_bytes(text.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.BadRecordsWarning)
        return [
            tuple(r.values())
            for r in mf.read_csv(path, lenient=True, schema="a:string,b:string,c:string").to_dicts()
        ]


def _duckdb(text: str, path: Path) -> list[Row]:
    path.write_bytes(text.encode())
    query = (
        "SELECT * FROM read_csv(?, delim=',', quote='\"', header=true, strict_mode=false, ignore_errors=true, "
        "null_padding=true, parallel=false, columns={'a': 'VARCHAR', 'b': 'VARCHAR', 'c': 'VARCHAR'})"
    )
    rows: list[Row] = duckdb.execute(query, [str(path)]).fetchall()
    return rows


def _polars(text: str, path: Path) -> list[Row]:
    del path
    return pl.read_csv(
        text.encode(), schema={"a": pl.String, "b": pl.String, "c": pl.String}, truncate_ragged_lines=True, ignore_errors=True
    ).rows()  # fmt: skip


def _pandas(text: str, path: Path) -> list[Row]:
    del path
    frame = pd.read_csv(
        io.StringIO(text), dtype=str, engine="python", on_bad_lines=lambda fields: fields[:3], keep_default_na=False,
        na_values=[], lineterminator=None,
    )  # fmt: skip
    return [
        tuple(None if v is None or v != v else v for v in row)
        for row in frame.itertuples(index=False, name=None)
    ]


def _right(reader: Callable[[str, Path], list[Row]], path: Path) -> int:
    """Return how many cells come out right, record by record between plain ones, so that none takes others with it."""
    count = 0
    for record, expected in _RECORDS:
        try:
            rows = reader(f"{_HEADER}first,1,2\n{record}\nlast,1,2\n", path)
        except Exception:
            continue
        if len(rows) == 3 and rows[0] == ("first", "1", "2") and rows[2] == ("last", "1", "2"):
            count += sum(a == b for a, b in zip(rows[1], expected, strict=False))
    return count


def test_more_cells_are_right_than_with_any_other_forgiving_reader(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    right = {reader.__name__: _right(reader, path) for reader in (_mmflow, _duckdb, _polars, _pandas)}
    assert right["_mmflow"] == 3 * len(_RECORDS), right
    assert max(right["_duckdb"], right["_polars"], right["_pandas"]) < right["_mmflow"], right


@pytest.mark.parametrize("times", [1, 400])
def test_every_altered_record_is_counted_and_located(tmp_path: Path, times: int) -> None:
    path = tmp_path / "odd.csv"
    text = _HEADER + "".join(record + "\n" for record, _ in _RECORDS) * times
    path.write_bytes(text.encode())
    with mf.Session(shard_size=4096, io="pread") as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.BadRecordsWarning)
        read = session.read_csv(path, lenient=True, schema="a:string,b:string,c:string")
        rows = [tuple(r.values()) for r in read.to_dicts()]
        run = session.last_run
    assert rows == [row for _, row in _RECORDS] * times
    assert run is not None
    odd = [record for record, row in _RECORDS if row[0] not in _CLEAN]
    assert run.repaired == len(odd) * times
    assert run.bad_records == 0
    assert run.quarantine is not None
    with pa.memory_map(run.quarantine) as source:
        described = pa.ipc.open_file(source).read_all().to_pylist()
    if times == 1:
        lines = text.encode().split(b"\n")
        begins = [text.encode().index(record.encode()) for record in odd]
        assert [d["byte_offset"] for d in described] == begins
        assert [lines[d["line"] - 1] for d in described] == [record.encode() for record in odd]
    assert {d["reason"].partition(":")[0] for d in described} <= set(REPAIRS.values())
    assert all(d["column"] in ("a", "b", "c", None) for d in described)


def test_commands_say_how_many_repairs_were_made(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1\n2,x\n")
    with pytest.warns(mf.BadRecordsWarning, match=r"1 repair was made \(of 2 records read\)"):
        mf.read_csv(path, ragged="null").to_arrow()
