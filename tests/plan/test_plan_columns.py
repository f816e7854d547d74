"""Files of one source have the same columns, or it is an error that names both files and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.api.session import Session
from mmflow.errors import BadRecordError, MmflowError, SourceError


def _parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


def _arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def _stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def _csv(path: Path, table: pa.Table) -> None:
    rows = [table.column_names, *([str(v) for v in row.values()] for row in table.to_pylist())]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def _npy(path: Path, table: pa.Table) -> None:
    rows = list(zip(*(table[n].to_pylist() for n in table.column_names), strict=True))
    np.save(path, np.array(rows, [(n, "<i8") for n in table.column_names]))


_WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "parquet": _parquet, "arrow": _arrow, "arrows": _stream, "csv": _csv, "npy": _npy,
}  # fmt: skip


def _files(folder: Path, suffix: str, count: int, odd: pa.Table) -> str:
    """Files of columns a and b, of which one in the middle is odd: as far from both ends as need be."""
    for number in range(count):
        table = odd if number == count // 2 else pa.table({"a": [number], "b": [0]})
        _WRITERS[suffix](folder / f"{number:03d}.{suffix}", table)
    return str(folder)


@pytest.mark.parametrize("suffix", _WRITERS)
@pytest.mark.parametrize("count", [3, 24])
@pytest.mark.parametrize(
    ("odd", "has", "lacks", "column"),
    [({"a": [1], "b": [2], "c": [3]}, "ODD", "000", "c"), ({"a": [1]}, "000", "ODD", "b")],
)
def test_a_column_that_some_files_lack_is_an_error(
    tmp_path: Path, suffix: str, count: int, odd: dict[str, list[int]], has: str, lacks: str, column: str
) -> None:
    """Few files are checked when they are opened, many when they are read, whatever columns the query wants."""
    root = _files(tmp_path, suffix, count, pa.table(odd))
    name = f"{count // 2:03d}"
    first, second = (which.replace("ODD", name) for which in (has, lacks))
    message = rf"{first}\.{suffix} has a column '{column}', which .*{second}\.{suffix} lacks"
    session = Session(workers=1)
    if count == 3:
        with pytest.raises(SourceError, match=message):
            session.read(root)
        return
    read = session.read(root)
    for query in ("SELECT a FROM t", "SELECT count(*) FROM t"):
        with pytest.raises(SourceError, match=message):
            session.sql(query, t=read).to_arrow()
    if suffix != "arrows":
        with pytest.raises(SourceError, match=message):
            read.select("a").take([count - 1])


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_a_schema_chooses_the_columns_that_all_files_have(tmp_path: Path, suffix: str) -> None:
    root = _files(tmp_path, suffix, 3, pa.table({"c": [9], "a": [7]}))
    assert mf.read(root, schema={"a": "int64"}).to_arrow().to_pydict() == {"a": [0, 7, 2]}
    with pytest.raises(SourceError, match="no column 'b'"):
        mf.read(root, schema={"a": "int64", "b": "int64"}).to_arrow()


def test_columns_in_another_order_and_empty_files_are_read(tmp_path: Path) -> None:
    _csv(tmp_path / "0.csv", pa.table({"a": [1], "b": [2]}))
    _csv(tmp_path / "1.csv", pa.table({"b": [4], "a": [3]}))
    (tmp_path / "2.csv").touch()
    assert mf.read(str(tmp_path)).to_arrow().to_pydict() == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "ndjson"])
def test_a_value_of_another_type_in_a_later_file_is_never_changed(tmp_path: Path, suffix: str) -> None:
    values: dict[str, list[int | str | float]] = {
        "int64": [1],
        "string": ["x"],
        "double": [1.5],
        "bool": [True],
    }
    for first, one in values.items():
        for second, other in values.items():
            folder = tmp_path / f"{first}-{second}"
            folder.mkdir()
            for number, value in enumerate((one, other)):
                path = folder / f"{number}.{suffix}"
                if suffix == "ndjson":
                    mf.from_arrow({"a": value}).write_ndjson(str(path))
                else:
                    _WRITERS[suffix](path, pa.table({"a": value}))
            try:
                read = mf.read(str(folder)).to_arrow()["a"].to_pylist()
            except MmflowError as error:
                assert "'a'" in str(error), error
                assert isinstance(error, SourceError | BadRecordError)
            else:
                assert [str(v) for v in read] == [str(v) for v in (*one, *other)] or read == [*one, *other]


def test_a_field_that_only_a_later_file_has_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0.ndjson").write_text('{"a":1}\n')
    (tmp_path / "1.ndjson").write_text('{"a":1,"b":2}\n')
    with pytest.raises(BadRecordError, match=r"1\.ndjson.*b"):
        mf.read(str(tmp_path)).to_arrow()
    assert mf.read(str(tmp_path), schema="a:int64,b:int64").to_arrow()["b"].to_pylist() == [None, 2]
