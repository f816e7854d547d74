"""Queries see the same rows where bad records are not errors, whatever columns they read."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow import col
from mmflow.api.options import OnBadRecord
from mmflow.errors import ConfigError, PlanError
from mmflow.formats import open_format

from .record_files import read

LAYOUT = [
    {"name": "a", "type": "int32", "offset": 0},
    {"name": "b", "type": "char[4]", "offset": 4},
    {"name": "c", "type": "char[4]", "offset": 8},
]
DECLARED = "a:int64,b:int64,c:int64"


def _text(rows: list[tuple[int, str]]) -> bytes:
    """Lines, those that are bad somewhere not UTF-8."""
    return b"".join(b"%d" % a + b"\xff" * (bad != "") + b"\n" for a, bad in rows)


def _csv(rows: list[tuple[int, str]]) -> bytes:
    cells = [[b"%d" % a if n == "a" else b"x" if n in bad else b"1" for n in "abc"] for a, bad in rows]
    lines = [b",".join(c) + b",9" * ("s" in bad) for c, (_, bad) in zip(cells, rows, strict=True)]
    return b"a,b,c\n" + b"".join(line + b"\n" for line in lines)


def _ndjson(rows: list[tuple[int, str]]) -> bytes:
    def value(name: str, a: int, bad: str) -> bytes:
        return b"%d" % a if name == "a" else b'"x"' if name in bad else b"1"

    records = [b",".join(b'"%s":%s' % (n.encode(), value(n, a, bad)) for n in "abc") for a, bad in rows]
    return b"".join(
        b"{" + r + b"}" * ("s" not in bad) + b"\n" for r, (_, bad) in zip(records, rows, strict=True)
    )


def _records(rows: list[tuple[int, str]]) -> bytes:
    return b"".join(
        struct.pack("<i4s4s", a, *(b"\xff" if n in bad else b"ok" for n in "bc")) for a, bad in rows
    )


Make = Callable[[list[tuple[int, str]]], bytes]
#: Bytes of rows, how they are read, and which letters make a row bad.
FORMATS: dict[str, tuple[Make, dict[str, Any], str]] = {
    "text": (_text, {"format": "text"}, "bcs"),
    "csv": (_csv, {"format": "csv", "schema": DECLARED}, "bcs"),
    "ndjson": (_ndjson, {"format": "ndjson", "schema": DECLARED}, "bcs"),
    "records": (_records, {"format": "records", "layout": LAYOUT}, "bc"),
}


_ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["", "", "", "b", "c", "bc", "s"])), min_size=1, max_size=40
)
_POLICIES = ("skip", "quarantine", "null")


@pytest.mark.parametrize("name", FORMATS)
def test_scans_give_the_same_rows_for_any_columns(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    make, options, letters = FORMATS[name]
    path = tmp_path_factory.mktemp("rows") / "data"
    given_options = {k: v for k, v in options.items() if k != "format"}

    @given(_ROWS, st.sampled_from(_POLICIES), st.sets(st.sampled_from("abc")))
    def check(rows: list[tuple[int, str]], policy: str, chosen: set[str]) -> None:
        path.write_bytes(make(rows))
        form = open_format(options["format"], [str(path)], on_bad_record=policy, **given_options)
        bad = [any(letter in letters for letter in marks) for _, marks in rows]
        columns = tuple(n for n in form.schema.names if n in chosen)
        of_all, (report,) = read(path, form, (*form.schema.names, "_offset", "_line"))
        of_some, (other,) = read(path, form, (*columns, "_offset", "_line"))
        without, (third,) = read(path, form, ())
        assert of_some == [{n: row[n] for n in (*columns, "_offset", "_line")} for row in of_all]
        assert len(without) == len(of_all) == (len(rows) if policy == "null" else bad.count(False))
        assert report.bad == sum(bad)
        assert report.rejects == other.rejects == third.rejects

    check()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mf.Session]:
    with mf.Session(shard_size=4096, workers=2, runs_dir=str(tmp_path_factory.mktemp("rows"))) as opened:
        yield opened


@pytest.mark.parametrize("name", FORMATS)
def test_every_query_sees_the_same_rows(session: mf.Session, tmp_path: Path, name: str) -> None:
    make, options, _ = FORMATS[name]
    path = tmp_path / "data"
    rows = [(i % 10, "b" if i % 7 == 0 else "c" if i % 11 == 0 else "") for i in range(900)]
    path.write_bytes(make(rows))
    total = sum(marks == "" for _, marks in rows)
    ds = session.read(str(path), on_bad_record="skip", **options)
    first = ds.columns[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.BadRecordsWarning)
        places = ds.select(*ds.columns, "_offset").to_arrow()["_offset"].to_pylist()
        assert len(places) == ds.count() == ds.to_arrow().num_rows == total
        assert ds.select(first).to_arrow().num_rows == ds.select(first).count() == total
        assert ds.select("_offset").to_arrow()["_offset"].to_pylist() == places
        assert ds.select("_offset").head(9).to_arrow()["_offset"].to_pylist() == places[:9]
        if name != "records":
            assert ds.select("_offset")[-9:]["_offset"].to_pylist() == places[-9:]
            assert ds.select("_offset").take([5, 99])["_offset"].to_pylist() == [places[5], places[99]]
            assert ds.select(first)[: total + 9].num_rows == total


def test_explain_says_which_columns_are_read_to_check_them(session: mf.Session, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "r.bin").write_bytes(b"12345678")
    layout = [
        {"name": n, "type": t, "offset": o}
        for n, t, o in (("i", "int32", 0), ("t", "char[2]", 4), ("u", "char[2]", 6))
    ]

    def checks(columns: list[str], **options: Any) -> list[str]:
        dataset = session.read_csv(tmp_path / "a.csv", **options)
        lines = (
            dataset.select(columns).explain()
            if columns
            else session.sql("SELECT count(*) FROM t", t=dataset).explain()
        )
        return [line.strip() for line in lines.splitlines() if line.startswith("  checks")]

    assert checks(["b"]) == checks(["a", "b", "c"], on_bad_record="skip") == []
    assert checks(["b"], on_bad_record="null", validate="projected") == []
    (skip,), (null,) = checks(["b"], on_bad_record="skip"), checks(["a", "b"], on_bad_record="null")
    assert skip.startswith(
        "checks  2 more columns (a … c): validate='all', which on_bad_record='skip' needs; "
    )
    assert skip.endswith("; on_bad_record='error' checks only what is read")
    assert null.startswith(
        "checks  1 more column (c): validate='all', the default with on_bad_record='null'; "
    )
    assert null.endswith("; validate='projected' checks only what is read")
    assert checks([], validate="all") == [
        "checks  3 more columns (a … c): validate='all'; validate='projected' checks only what is read"
    ]
    records = session.read_records(tmp_path / "r.bin", layout=layout, on_bad_record="skip")
    assert "checks  1 more column (u)" in records.select("t").explain()


def test_a_condition_hides_no_bad_records(session: mf.Session, tmp_path: Path) -> None:
    """The number of bad records does not depend on the query either."""
    path = tmp_path / "data.csv"
    path.write_bytes(_csv([(i % 10, "b" if i % 70 == 0 else "") for i in range(2000)]))
    ds = session.read_csv(str(path), on_bad_record="quarantine", schema=DECLARED)
    for query in (ds, ds.filter(col("a") == 3), ds.filter(col("a") == 3).select("c")):
        with pytest.warns(mf.BadRecordsWarning, match="29 bad"):
            query.to_arrow()


@pytest.mark.parametrize("policy", ["skip", "quarantine"])
@pytest.mark.parametrize("name", ["csv", "ndjson", "records"])
def test_dropping_by_the_columns_that_are_read_is_refused(
    session: mf.Session, tmp_path: Path, name: str, policy: OnBadRecord
) -> None:
    path = tmp_path / "data"
    path.write_bytes(FORMATS[name][0]([(1, "")]))
    with pytest.raises(ConfigError, match=r"validate = 'projected'.*leave validate out"):
        session.read(str(path), on_bad_record=policy, validate="projected", **FORMATS[name][1])


def test_records_that_may_be_dropped_have_no_computable_place(session: mf.Session, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(_records([(1, ""), (2, "b")]))
    ds = session.read_records(str(path), layout=LAYOUT, on_bad_record="skip")
    with pytest.raises(PlanError, match=r"no random access.*'b' is not UTF-8"):
        ds.select("a").take([0])


def test_nulls_put_in_by_one_column_leave_the_others(session: mf.Session, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(_csv([(1, "b"), (2, "")]))
    for validate in ("all", "projected"):
        ds = session.read_csv(str(path), on_bad_record="null", validate=validate, schema=DECLARED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mf.BadRecordsWarning)
            assert ds.count() == 2
            assert ds.select("a", "c").to_arrow().to_pydict() == {"a": [1, 2], "c": [1, 1]}
