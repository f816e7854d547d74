"""The sniffer finds the options of files, or says that it is not sure; what is given wins; errors and explain say it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats import FORMATS
from mmflow.formats.sniffing import sniff
from mmflow.formats.sniffing.files import DEFAULTS, option_texts, sniff_file
from mmflow.formats.sniffing.records import Hypothesis, split_records
from tests.corpus.case import Case
from tests.corpus.cases_sniff import SNIFFED
from tests.formats.random_dialects import random_file


@pytest.mark.parametrize(("case", "options"), SNIFFED, ids=[case.name for case, _ in SNIFFED])
def test_labelled_files(case: Case, options: Mapping[str, Any]) -> None:
    assert isinstance(case.data, bytes)
    best = sniff([case.data], ends=True)[0]
    assert dict(best.options) == dict(options), best
    assert best.confidence > 0.65
    assert len(best.reasons) >= 2


def _rows(data: bytes, options: Mapping[str, Any]) -> list[list[str]]:
    """Return the records of a file under options, without blanks around values."""
    encoding = options.get("encoding", "utf-8")
    text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding).replace("\r\n", "\n")
    text = "\n".join(text.split("\n")[options.get("skip_rows", 0) :])
    form = Hypothesis(*(options.get(k, DEFAULTS[k]) for k in ("delimiter", "quote", "escape", "trim")))
    records = [r for r in split_records(text, form, len(text)) if r.cells]
    if "comment" in options:
        records = [r for r in records if not r.raw.startswith(options["comment"])]
    rows = [[c.strip() for c in r.cells] for r in records]
    return rows[: -options["skip_footer"]] if "skip_footer" in options else rows


@given(st.integers(0, 1 << 20))
@example(177)  # tabs with an empty field between them are no run of blanks
def test_it_finds_random_dialects_or_is_not_sure(seed: int) -> None:
    file = random_file(seed)
    for best in sniff([file.data], ends=True)[:1]:
        if best.sure:
            assert _rows(file.data, best.options) == file.rows
            assert best.options.get("header", True) is file.header


def test_most_random_dialects_are_found_and_sure() -> None:
    found = sure = 0
    for seed in range(100):
        file = random_file(seed)
        if len(file.rows) < 6 or len(file.rows[0]) < 2:
            continue
        best = sniff([file.data], ends=True)[0]
        found += 1
        sure += best.sure and _rows(file.data, best.options) == file.rows
    assert sure > 0.6 * found


@pytest.mark.parametrize("rows", [5, 119, 200, 998])
def test_rows_of_a_small_file_are_counted_once(rows: int) -> None:
    best = sniff([b"a;b\n" + b"1;2\n" * rows], ends=True)[0]
    assert best.reasons[0] == f"all {rows + 1:,} rows of the sample have 2 columns by ';'"


def test_samples_of_several_places(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_bytes(b"a;b\n" + b"1;2,5\n" * 50_000 + b"(50,000 rows)\n")
    best = sniff_file(str(path), FORMATS["csv"])[0]
    assert dict(best.options) == {"delimiter": ";", "decimal": ",", "skip_footer": 1}
    assert best.sure


def test_what_is_given_wins_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1;2\n3;4\n5;6\n")
    auto = mf.read_csv(path, dialect="auto")
    assert auto.to_arrow().to_pydict() == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert mf.read_csv(path, dialect="auto", delimiter=",").to_arrow().column_names == ["a;b"]
    assert mf.read_csv(path, dialect="auto", header=False).to_arrow().column_names == ["f0", "f1"]
    assert mf.read(path, dialect="auto").to_arrow() == auto.to_arrow()
    assert mf.sql(f"SELECT sum(b) AS s FROM read_csv('{path}', dialect => 'auto')").to_dicts() == [{"s": 12}]
    with pytest.raises(mf.ConfigError, match="must be one of auto"):
        mf.read(path, dialect="excel")  # type: ignore[arg-type]
    with pytest.raises(mf.ConfigError, match="no option 'dialect'"):
        mf.read(path, "ndjson", dialect="auto")


def test_the_encoding_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        "Straße;Größe\nKönigsallee;1,5\nÄußere Mühle;2,5\nSchloßgasse;3,0\nBühl;4,0\n".encode("latin-1")
    )
    read = mf.read_csv(path, dialect="auto")
    assert "encoding='latin-1', delimiter=';', decimal=','" in str(read.source_info().sniffed)
    assert read.to_dicts()[1] == {"Straße": "Äußere Mühle", "Größe": 2.5}


def test_explain_says_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1;2\n3;4\n5;6\n7;8\n")
    assert "  sniffed delimiter=';' (97% sure)" in mf.read_csv(path, dialect="auto").explain().splitlines()
    assert "sniffed" not in mf.read_csv(path).explain()
    assert mf.read_csv(path, dialect="auto").source_info().sniffed == "delimiter=';' (97% sure)"
    proposal = mf.read_csv(path).source_info().proposal
    assert proposal is not None
    assert proposal["options"] == {"delimiter": ";"}
    assert mf.read_csv(path, delimiter=";").source_info().proposal is None


def test_all_files_are_read_by_the_first(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text(f"a;b\n{number};x\n4;y\n5;z\n")
    assert mf.read_csv(tmp_path, dialect="auto").count() == 9
    (tmp_path / "3.csv").write_text("a,b\n1,2\n")
    with pytest.raises(mf.SourceError, match=r"3\.csv"):
        mf.read_csv(tmp_path, dialect="auto").count()


@pytest.mark.parametrize(
    ("data", "options", "proposed"),
    [
        ("a;b\n1;2\n3;4,5\n5;6\n7;8\n9;1\n", {}, "delimiter=';', decimal=','"),
        ("a,b\n1,2\n3,4\n5,6\n7,8\n", {"delimiter": ";", "schema": "a:int64"}, None),
        ("a;b\n1;2\n3;4,5\n5;6\n7;8\n9;1\n", {"schema": "a:int64"}, "delimiter=';', decimal=','"),
        ("a,d\n1,31/12/2024\n2,1/2/2024\n3,2/2/2024\n4,3/2/2024\n", {"schema": "d:date32"}, "date_format='%d/%m/%Y'"),
        ("Sales\n\na,b\n1,2\n3,4\n5,6\n7,8\n", {}, "skip_rows=2"),
        ("a,b\n1,2\n3,4\n5,6,7\n7,8\n", {}, None),
    ],
)  # fmt: skip
def test_errors_propose_options(tmp_path: Path, data: str, options: Any, proposed: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(data)
    with pytest.raises(mf.MmflowError) as caught:
        mf.read_csv(path, **options).to_arrow()
    if proposed is None:
        assert "the file looks like" not in str(caught.value)
    else:
        assert f"the file looks like {proposed} (9" in str(caught.value)


def test_options_can_be_pasted() -> None:
    options = {
        "delimiter": ";",
        "quote": "'",
        "comment": "#",
        "header": False,
        "skip_rows": 3,
        "date_format": {"a b": "%d"},
    }
    assert option_texts(options) == (
        "--opt delimiter=';' --opt quote=''\"'\"'' --opt comment='#' --opt header=false --opt skip_rows=3 "
        """--opt date_format='{"a b": "%d"}'"""
    )
    assert option_texts({"delimiter": "\t"}) == r"--opt delimiter='\t'"
    assert option_texts({"delimiter": "\x01"}) == r"--opt delimiter=$'\x01'"


def test_an_override_changes_one_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,v,w\n" + "1,2,3\n" * 100_000 + "1,x,3\n" + "1,2,3\n" * 100_000)
    with pytest.raises(
        mf.BadRecordError, match=r"schema_overrides=\{'v': 'string'\} reads this column as text"
    ):
        mf.read(path).to_arrow()
    table = mf.read(path, schema_overrides={"v": "string"}).to_arrow()
    assert [str(t) for t in table.schema.types] == ["int64", "string", "int64"]
    assert table.num_rows == 200_001
    query = f"SELECT v FROM read_csv('{path}', schema_overrides => {{'v': 'string'}}) WHERE v = 'x'"
    assert mf.sql(query).to_dicts() == [{"v": "x"}]
    both = mf.read_csv(path, schema="a:int64,v:int64", schema_overrides="v:string", on_bad_record="error")
    assert both.to_arrow().column_names == ["a", "v"]
    with pytest.raises(mf.ConfigError, match="no column 'V'; the columns are a, v, w"):
        mf.read(path, schema_overrides={"V": "string"})


def test_overrides_of_files_that_differ(tmp_path: Path) -> None:
    (tmp_path / "1.ndjson").write_text('{"a": 1, "b": "x"}\n')
    (tmp_path / "2.ndjson").write_text('{"a": 2.5, "b": "y"}\n')
    read = mf.read(tmp_path / "1.ndjson", schema_overrides={"a": "float64"}).to_arrow()
    assert read.to_pylist() == [{"a": 1.0, "b": "x"}]
    both = mf.read(tmp_path, schema="union", schema_overrides={"a": "decimal128(5,1)"}).to_dicts()
    assert [row["a"] for row in both] == [Decimal("1.0"), Decimal("2.5")]
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("a,b\ntrue,y\n")
    merged = mf.read(str(tmp_path / "*.csv"), schema="union", schema_overrides={"a": "string"}).to_dicts()
    assert [row["a"] for row in merged] == ["1", "true"]
