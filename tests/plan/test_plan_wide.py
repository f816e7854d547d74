"""Planning costs what columns there are, not their square: what DataFusion does in squares is not asked of it.

Measured with DataFusion 55 at 8,000 columns: a wildcard in SQL 20 s, a projection of all columns 2 s, a table 0.1 s.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow import col, lit
from mmflow.formats import Comparison, open_format
from mmflow.formats.csv.decoder import CsvDecoder
from mmflow.formats.csv.format import CsvFormat
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.mapping import MappedFile


def _write(folder: Path, form: str, count: int) -> tuple[Path, list[str]]:
    names = [f"c{i}" for i in range(count)]
    path = folder / f"wide.{form}"
    if form == "parquet":
        pq.write_table(pa.table({n: [1, 2, 3] for n in names}), path)
    elif form == "csv":
        rows = [",".join([str(row)] * count) for row in (1, 2, 3)]
        path.write_text("\n".join([",".join(names), *rows, ""]))
    else:
        path.write_text("".join(json.dumps(dict.fromkeys(names, row)) + "\n" for row in (1, 2, 3)))
    return path, names


def _node(dataset: mf.Dataset) -> str:
    return type(dataset.frame.logical_plan().to_variant()).__name__


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_all_columns_are_a_table_and_no_projection(form: str, tmp_path: Path) -> None:
    path, names = _write(tmp_path, form, 300)
    ds = mf.read(path)
    assert _node(ds) == "TableScan"
    for query in (
        f"SELECT * FROM '{path}'",
        f' select*from "{path}" ;',
        "SELECT * FROM t\n",
        "SELECT * FROM T LIMIT 2",
    ):
        made = mf.sql(query, t=ds)
        assert _node(made) in ("TableScan", "Limit")
        assert made.columns == names
        table = made.to_arrow()
        assert table.column(0).to_pylist() == [1, 2, 3][: table.num_rows]
        assert table.num_rows == (2 if "LIMIT" in query else 3)
    assert ds.head(2).to_arrow().num_rows == 2
    assert ds.limit(1, 1).to_arrow().column("c299").to_pylist() == [2]


def test_queries_that_only_look_like_a_table_are_planned(tmp_path: Path) -> None:
    t = mf.from_arrow(pa.table({"a": [3, 1, 2], "limit": [1, 2, 3]}))
    ordered = mf.sql("SELECT * FROM t ORDER BY a", t=t)
    assert ordered.to_arrow().column("a").to_pylist() == [1, 2, 3]
    assert mf.sql("SELECT * FROM t AS x WHERE x.a > 1", t=t).count() == 2
    assert mf.sql("SELECT * FROM t, t AS u", t=t).count() == 9
    assert mf.sql("SELECT * FROM t LIMIT 1 OFFSET 1", t=t).to_arrow().column("a").to_pylist() == [1]
    assert mf.sql('SELECT * FROM "a""b"', **{'a"b': t}).count() == 3
    with pytest.raises(mf.PlanError, match="nope"):
        mf.sql("SELECT * FROM nope", t=t)
    path, _ = _write(tmp_path, "csv", 3)
    assert mf.sql(f"SELECT c0, _line FROM '{path}'").columns == ["c0", "_line"]
    assert mf.read(path).filter(col("_line") > 2).to_arrow().to_pydict() == {
        n: [2, 3] for n in ("c0", "c1", "c2")
    }
    assert mf.read(path).select("c0", "_offset").to_arrow().column("_offset").to_pylist() == [9, 15, 21]


def test_a_task_looks_only_at_the_columns_that_it_reads(tmp_path: Path) -> None:
    """Each task of a file of 20,000 columns took 110 ms before its first byte, 8 ms since."""
    path, names = _write(tmp_path, "csv", 300)
    form = open_format("csv", [str(path)])
    assert isinstance(form, CsvFormat)
    with closing(MappedFile.open(str(path))) as file:
        assert form.layout(file) is form.layout(file)
        condition = Comparison("c9", "gt", 1)
        decoder = form.utf8_decoder(file, ("c7", "c2"), (condition,))
        assert isinstance(decoder, KernelDecoder)
        assert isinstance(decoder._fallback._reference, CsvDecoder)
        assert [*decoder._fallback._reference._types.types] == ["c7", "c2", "c9"]
        assert form.own == tuple(names)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_twenty_thousand_columns_of_many_rows(tmp_path: Path) -> None:
    lines = [",".join(str((row * 31 + c) % 97) for c in range(20_000)) for row in range(97)]
    path = tmp_path / "wide.csv"
    with path.open("w") as file:
        file.write(",".join(f"c{c}" for c in range(20_000)) + "\n")
        for _ in range(100):
            file.write("\n".join(lines) + "\n")
    ds = mf.read_csv(path)
    made = mf.sql("SELECT count(*) AS n, sum(c7) AS a, sum(c19990) AS b FROM ds", ds=ds).to_dicts()
    total = 100 * sum(range(97))
    assert made == [{"n": 9700, "a": total, "b": total}]
    assert mf.sql("SELECT * FROM ds LIMIT 10", ds=ds).to_arrow().column("c19999").to_pylist() == [
        (row * 31 + 19_999) % 97 for row in range(10)
    ]


@pytest.mark.nightly
@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_twenty_thousand_columns(form: str, tmp_path: Path) -> None:
    """Each was minutes; the limit of a test's time is what fails."""
    path, names = _write(tmp_path, form, 20_000)
    ds = mf.read(path)
    assert ds.count() == 3
    assert mf.sql(f"SELECT c7 FROM '{path}' WHERE c9 > 1").to_arrow().column(0).to_pylist() == [2, 3]
    assert ds.head(2).to_arrow().num_columns == 20_000
    assert mf.sql(f"SELECT * FROM '{path}'").to_arrow().column_names == names
    assert ds.filter(col("c1") > lit(2)).to_arrow().column("c19999").to_pylist() == [3]
