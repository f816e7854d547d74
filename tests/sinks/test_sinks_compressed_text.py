"""CSV and NDJSON that are written compressed: read by everybody, named for what they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import mmflow as mf

_ROWS = mf.from_arrow({"a": range(5000), "s": [f"text {i % 7}" for i in range(5000)]})


@pytest.mark.parametrize(
    "name", ["x.csv.gz", "x.csv.zst", "x.tsv.gz", "x.ndjson.gz", "x.ndjson.zst", "x.jsonl.gz"]
)
def test_a_compressed_file_is_read_by_everybody(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    written = _ROWS.write(path)
    expected = _ROWS.to_arrow()
    assert written.nbytes == (tmp_path / name).stat().st_size < 40_000
    assert mf.read(path).to_arrow() == expected
    reading = "read_csv" if "sv" in name else "read_json"
    more = ", format='newline_delimited'" if reading == "read_json" else ""
    found = duckdb.sql(f"SELECT count(*), sum(a), max(s) FROM {reading}('{path}'{more})").fetchall()
    assert found == [(5000, 12497500, "text 6")]
    if name.startswith("x.csv"):
        assert pl.read_csv(path).equals(pl.from_arrow(expected))  # type: ignore[arg-type]
    if name == "x.csv.gz":
        assert gzip.decompress((tmp_path / name).read_bytes()).startswith(b"a,s\n0,text 0\n")


@pytest.mark.parametrize(
    ("codec", "suffix"), [("gzip", "*.csv.gz"), ("zstd", "*.csv.zst"), ("none", "*.csv")]
)
def test_files_of_a_folder_are_named_for_their_compression(tmp_path: Path, codec: str, suffix: str) -> None:
    _ROWS.write_csv(str(tmp_path / "out"), compression=codec)  # type: ignore[arg-type]
    assert list((tmp_path / "out").glob(suffix))
    assert mf.read(tmp_path / "out").count() == 5000


def test_partitions_and_limits_of_rows(tmp_path: Path) -> None:
    _ROWS.write_ndjson(str(tmp_path / "out"), compression="gzip", partition_by="s", max_rows_per_file=300)
    files = list((tmp_path / "out").glob("s=*/*.ndjson.gz"))
    assert len(files) == 7 * 3
    assert mf.read(tmp_path / "out").count() == 5000


def test_a_name_that_says_another_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mf.ConfigError, match=r"says gzip; name the file .*x\.csv\.zst$"):
        _ROWS.write_csv(str(tmp_path / "x.csv.gz"), compression="zstd")
    with pytest.raises(mf.ConfigError, match=r"says none; name the file .*x\.csv\.gz$"):
        _ROWS.write_csv(str(tmp_path / "x.csv"), compression="gzip")
    with pytest.raises(mf.ConfigError, match="must be one of none, gzip, zstd"):
        _ROWS.write_csv(str(tmp_path / "out"), compression="lz4")  # type: ignore[arg-type]


def test_no_rows(tmp_path: Path) -> None:
    none = mf.from_arrow(pa.table({"a": pa.array([], pa.int64())}))
    none.write(str(tmp_path / "none.csv.gz"))
    assert gzip.decompress((tmp_path / "none.csv.gz").read_bytes()) == b"a\n"
