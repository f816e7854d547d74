"""INT96 timestamps: what pyarrow wrote comes back exactly, in the unit that is declared, or is an error."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import SourceError

_FIRST_DAY = -210_866_716_800  # seconds: Julian day 1
_LAST = (1 << 63) // 10**6 - 1


def _write(path: Path, values: list[int | None], unit: str) -> mf.Session:
    times = pa.array(values, pa.timestamp(unit))
    nested = pa.StructArray.from_arrays([times], names=["t"])
    lists = pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), times)
    table = pa.table({"i": list(range(len(values))), "t": times, "s": nested, "l": lists})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, row_group_size=3)
    return mf.Session(shard_size="1KiB", workers=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int96") / "f.parquet"


def _numbers(table: pa.Table) -> list[list[int | None]]:
    flat = table["t"].combine_chunks()
    structs = table["s"].combine_chunks().field("t")
    lists = table["l"].combine_chunks().flatten()
    return [column.cast(pa.int64()).to_pylist() for column in (flat, structs, lists)]


@given(st.lists(st.none() | st.integers(_FIRST_DAY * 10**6, _LAST * 10**6), min_size=1, max_size=8))
@settings(max_examples=15)
def test_microseconds_of_all_years_come_back(file: Path, values: list[int | None]) -> None:
    session = _write(file, values, "us")
    assert _numbers(session.read(file).to_arrow()) == [values] * 3


@given(st.lists(st.none() | st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=8))
@settings(max_examples=15)
def test_nanoseconds_come_back_where_they_are_declared(file: Path, values: list[int | None]) -> None:
    session = _write(file, values, "ns")
    nanos = pa.timestamp("ns")
    schema = {"i": pa.int64(), "t": nanos, "s": pa.struct([("t", nanos)]), "l": pa.list_(nanos)}
    ds = session.read(file, schema=schema)
    assert _numbers(ds.to_arrow()) == [values] * 3
    assert ds.take([0])["t"].cast(pa.int64()).to_pylist() == values[:1]
    if any(v is not None and v % 1000 for v in values):
        for name in ("t", "s", "l"):
            with pytest.raises(
                SourceError, match=r"has nanoseconds.*declare the column as timestamp.ns. by schema="
            ):
                session.read(file).select(name).to_arrow()


def test_what_does_not_fit_is_an_error_and_hinders_no_other_column(tmp_path: Path) -> None:
    path = tmp_path / "far.parquet"
    session = _write(path, [0, 253_402_300_800_000_000], "us")  # the year 10,000
    with pytest.raises(SourceError, match=r"years 1677 to 2262.*timestamp\[us\]") as caught:
        session.read(path, schema={"t": pa.timestamp("ns")}).to_arrow()
    assert "damaged" not in str(caught.value)
    _write(path, [-9_089_380_393_200], "s")  # before Julian day 0: the writer wraps around
    with pytest.raises(SourceError, match="its Julian day is none"):
        session.read(path).select("t").to_arrow()
    assert session.read(path).select("i").to_arrow()["i"].to_pylist() == [0]
