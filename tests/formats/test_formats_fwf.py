"""Text of fixed width against pandas, by bytes and by characters."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats.fwf.splitting import FixedSplitter, infer_spans


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.text("ab1 é", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=10),
)
def test_columns_are_those_of_pandas(widths: list[int], lines: list[str]) -> None:
    names = tuple(f"c{i}" for i in range(len(widths)))
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    spans = tuple(zip([0, *ends[:-1]], ends, strict=True))
    split = FixedSplitter(names, spans, short=True).split(pa.array(lines, pa.string()), names)
    found = pd.read_fwf(
        io.StringIO("\n".join(lines)), widths=widths, header=None, dtype=str, keep_default_na=False, na_filter=False,
        skip_blank_lines=False,
    )  # fmt: skip
    for number, name in enumerate(names):
        assert split.texts[name].to_pylist() == found[number].tolist()


@given(st.lists(st.text("ab  ", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=6))
def test_positions_are_where_some_line_has_text(lines: list[str]) -> None:
    spans = infer_spans(lines)
    inside = {at for begin, end in spans for at in range(begin, end)}
    assert inside == {at for line in lines for at, c in enumerate(line) if c != " "}
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


def test_a_file_of_other_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x y\n1 2\n")
    (tmp_path / "b.txt").write_text("x z\n1 2\n")
    with pytest.raises(mf.SourceError, match="its header has the columns x, z, and the source has x, y"):
        mf.read_fwf(str(tmp_path / "*.txt")).count()


def test_in_sql_and_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{n:5}{n * n:12}\n" for n in range(3000)))
    found = mf.sql(
        f"SELECT sum(b) AS s FROM read_fwf('{path}', widths => [5, 12], names => 'a,b') WHERE a < 10"
    )
    assert found.to_arrow().to_pylist() == [{"s": sum(n * n for n in range(10))}]
    read = mf.read_fwf(path, widths="5,12", names="a,b")
    assert read.take([2999]).to_pylist() == [{"a": 2999, "b": 2999**2}]
    assert read.filter(mf.col("a") == 77).to_arrow().to_pylist() == [{"a": 77, "b": 77**2}]
