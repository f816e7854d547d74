"""No bytes of a file end the process: rows, or an error that is one of mmflow's."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.errors import SourceError
from mmflow.formats.parquet.footer import FooterError, read_layout
from tests.formats.hostile_files import encrypted_parquet, mutants, seeds, survives


def _table() -> pa.Table:
    return pa.table({"a": [1, 2, 3, 4, 5], "b": ["v", "w", "x", "y", "z"]})


def test_columns_that_are_not_encrypted_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "half.parquet"
    encrypted_parquet(path, _table(), "a", plaintext_footer=True)
    assert survives(tmp_path) is None
    session = mf.Session(shard_size="1KiB")
    ds = session.read(path)
    assert ds.columns == ["a", "b"]
    assert session.sql("SELECT b FROM d WHERE b > 'w'", d=ds).to_arrow()["b"].to_pylist() == ["x", "y", "z"]
    assert session.sql("SELECT count(*) AS n FROM d", d=ds).to_arrow()["n"].to_pylist() == [5]
    for read in (ds.to_arrow, lambda: ds.take([0]), ds.filter(mf.col("a") > 3).to_arrow):
        with pytest.raises(
            SourceError, match=r"half\.parquet: column 'a' is encrypted.*other columns can be read"
        ):
            read()
    assert ds.select("b").take([4])["b"].to_pylist() == ["z"]


def test_a_footer_that_is_encrypted_is_said_to_be(tmp_path: Path) -> None:
    encrypted_parquet(tmp_path / "all.parquet", _table(), "a", plaintext_footer=False)
    with pytest.raises(SourceError, match="its footer is encrypted"):
        mf.read(tmp_path / "all.parquet")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_layouts_are_those_that_pyarrow_reads(tmp_path: Path, version: str) -> None:
    table = pa.concat_tables([_table()] * 5)
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=7, data_page_version=version)
    content = (tmp_path / "f.parquet").read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    layout = read_layout(content[-8 - size : -8])
    metadata = pq.read_metadata(tmp_path / "f.parquet")
    assert layout.ordered == (True, True)
    for number, group in enumerate(layout.groups):
        known = metadata.row_group(number)
        assert (group.rows, len(group.chunks)) == (known.num_rows, known.num_columns)
        for leaf, chunk in enumerate(group.chunks):
            column = known.column(leaf)
            assert chunk.begin == column.dictionary_page_offset or column.data_page_offset
            assert chunk.size == column.total_compressed_size
            assert chunk.statistics is not None
            assert chunk.statistics.nulls == column.statistics.null_count
            low = column.statistics.min
            assert chunk.statistics.low == (low.encode() if leaf else low.to_bytes(8, "little"))


def test_footers_of_any_bytes_are_read_or_an_error() -> None:
    content = seeds()["plain.parquet"]
    size = int.from_bytes(content[-8:-4], "little")
    for footer in islice(mutants(content[-8 - size : -8], random.Random(14)), 500):
        try:
            read_layout(footer)
        except FooterError:
            continue


def _damaged(folder: Path, each: int, seed: int) -> None:
    for name, content in seeds().items():
        for number, data in enumerate(islice(mutants(content, random.Random(seed)), each)):
            (folder / f"{number:05}-{name}").write_bytes(data)


def test_damaged_files_do_not_end_the_process(tmp_path: Path) -> None:
    _damaged(tmp_path, each=4, seed=14)
    assert survives(tmp_path) is None


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(40))
def test_many_damaged_files_do_not_end_the_process(tmp_path: Path, seed: int) -> None:
    _damaged(tmp_path, each=100, seed=seed)
    assert survives(tmp_path) is None
