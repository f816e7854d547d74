"""Types of a CSV sample, of which the kernel verifies most: those of all its texts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats.csv import sampled_columns
from mmflow.formats.csv.inference import infer_column
from mmflow.formats.csv.sampled_columns import infer_columns
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.csv.styles import ValueStyles
from mmflow.formats.last_results import LastResults
from mmflow.formats.schemas import known

_POOLS = (
    [
        "1",
        "-20",
        "0",
        "123456789012345678",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
    ],
    ["1", "007", "-0", "+1", "1_0", "0x10", "1e3", " 1", "1 ", "٣"],
    [
        "1.5",
        "2",
        ".5",
        "5.",
        "-0.0",
        "1e5",
        "1E-3",
        "1e999",
        "1e-999",
        "12345678901234567",
        "9007199254740993",
    ],
    ["nan", "NaN", "NAN", "Nan", "inf", "-inf", "Infinity", "infinity", "INF", "+inf", "1.5", "null"],
    ["true", "false", "True", "FALSE", "tRUE", "t", "1", "0", "yes"],
    [
        "2024-01-31",
        "2024-02-30",
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
        "2024-1-5",
        "20240131",
        "+2024-01-01",
    ],
    [
        "2024-01-31",
        "2024-01-31 10",
        "2024-01-31T10:00:00",
        "2024-01-31 10:00:00.1234567",
        "2024-01-31T10:00Z",
    ],
    ["text", "", "1", "-", "n/a", "f", "i", "."],
)
_TEXTS = st.sampled_from(_POOLS).flatmap(
    lambda pool: st.lists(st.sampled_from([*pool, pool[0], pool[0], ""]), min_size=6, max_size=6)
)


@given(columns=st.lists(_TEXTS, min_size=1, max_size=4), cut=st.integers(0, 6), quoted=st.booleans())
@example(columns=[["2024-01-31"] * 5 + ["0000-01-01"]], cut=3, quoted=False)
@example(columns=[["1.5"] * 5 + ["Nan"], ["true"] * 5 + ["tRUE"]], cut=6, quoted=False)
def test_the_types_are_those_of_all_texts(columns: list[list[str]], cut: int, quoted: bool) -> None:
    names = tuple(f"c{i}" for i in range(len(columns)))
    mark = '"' if quoted else ""
    lines = [",".join(mark + text + mark for text in row) + ",end\n" for row in zip(*columns, strict=True)]
    pieces = ["".join(lines[:cut]).encode(), "".join(lines[cut:]).encode()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_columns, "_FIRST_ROWS", 2)
        found = infer_columns((*names, "end"), pieces, Dialect(), ValueStyles())[:-1]
    for name, column, texts in zip(names, found, columns, strict=True):
        values = [text for text in texts if text or quoted]
        wanted = infer_column(name, values, ValueStyles()).kind if values else pa.null()
        assert column.kind == wanted, texts


def _age(path: Path) -> None:
    """Set a file's time to a minute ago: what was written just now is looked at anew."""
    then = time.time_ns() - 60 * 10**9
    os.utime(path, ns=(then, then))


@pytest.mark.parametrize(
    ("name", "texts", "read"),
    [
        ("a.csv", ("v\n1\n", "v\nx\n"), mf.read_csv),
        ("a.ndjson", ('{"v": 1}\n', '{"v":"x"}\n'), mf.read_ndjson),
        ("a.json", ('[{"v": 1}]', '[{"v":"x"}]'), mf.read_json),
    ],
)
def test_a_sample_is_read_once_while_the_file_is_the_same(
    tmp_path: Path,
    name: str,
    texts: tuple[str, str],
    read: Callable[..., mf.Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / name
    path.write_text(texts[0])
    _age(path)
    monkeypatch.setattr(known, "_known", LastResults(8))
    assert read(str(path)).schema.field("v").type == pa.int64()
    held = len(known._known)
    assert held
    assert read(str(path)).schema.field("v").type == pa.int64()
    assert len(known._known) == held
    path.write_text(texts[1])  # of the same length, a moment later
    assert read(str(path)).schema.field("v").type == pa.string()
    assert len(known._known) == held, "what was written just now may change once more"


def test_other_options_are_other_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("v;w\n1,5;2\n")
    _age(path)
    assert mf.read_csv(str(path)).schema.names == ["v;w"]
    assert mf.read_csv(str(path), delimiter=";").schema.field("v").type == pa.string()
    assert mf.read_csv(str(path), delimiter=";", decimal=",").schema.field("v").type == pa.float64()
