"""Small files that are read together give the rows, reports and errors that they give one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, SourceChangedError
from mmflow.formats import ScanReport, ScanRequest, open_format
from mmflow.formats.decoding.joined import scan_joined
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.shards import Shard

HEAD = "k,v\n"
#: Files that are joined with any of their kind.
PLAIN = [
    "1,a\n",
    "2,b",
    "3,\n4,\n",
    "",
    '5,"x, ""y"""\n',
    '6,"two\nlines"\n7,z',
    ",\n",
    "8,é\n\n\n9,\n",
    "10,\r\n11,c\r\n",
]
#: Files that end what is read together, or keep it from being.
ODD = [
    '1,"open', '",2\n', '"\n3,"x', "\n1,a\n", "1,a\r", "x,a\n", "1\n", "1,2,3\n", "1,\0\n", "\r1,a\n", "1,b,\n", '1,a"b\n', "1,\xff\n",
]  # fmt: skip
_TYPES = pa.schema([("k", pa.int64()), ("v", pa.string_view())])


def written(folder: Path, bodies: list[str], head: str = HEAD) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{n:03}.csv") for n in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        Path(path).write_bytes(head.encode() + body.encode("latin-1" if "\xff" in body else "utf-8"))
    return paths


def opened(name: str, paths: list[str]) -> ScannedFormat:
    form = open_format(name, paths, _TYPES)
    assert isinstance(form, ScannedFormat)
    return form


def one_by_one(
    form: ScannedFormat, paths: list[str], request: ScanRequest
) -> tuple[list[object], list[ScanReport]]:
    rows: list[object] = []
    reports = []
    for path in paths:
        with MappedFile.open(path) as file:
            scan = form.scan(file, Shard(0, 0, file.size, fresh=True), request)
            for batch in scan:
                rows += batch.to_pylist() if batch.num_columns else [None] * batch.num_rows
            reports.append(scan.report)
    return rows, reports


def together(
    form: ScannedFormat, paths: list[str], request: ScanRequest
) -> tuple[list[object], list[ScanReport]] | None:
    others = ((path, FileIdentity.of(path)) for path in paths[1:])
    with MappedFile.open(paths[0]) as file:
        found = scan_joined(form, file, others, request)
    if found is None:
        return None
    rows: list[object] = []
    for batch in found[0]:
        rows += batch.to_pylist() if batch.num_columns else [None] * batch.num_rows
    return rows, found[1]


@given(
    st.lists(st.sampled_from(PLAIN), min_size=2, max_size=8),
    st.lists(st.sampled_from([*PLAIN, *ODD]), max_size=3),
    st.sampled_from([("k", "v"), ("v",), ()]),
)
@settings(max_examples=40, deadline=None)
def test_rows_and_reports_are_those_of_the_files_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, plain: list[str], more: list[str], columns: tuple[str, ...]
) -> None:
    paths = written(tmp_path_factory.mktemp("joined"), [*plain, *more])
    form = opened("csv", paths)
    request = ScanRequest(columns)
    found = together(form, paths, request)
    if not set(more) & set(ODD):
        assert found is not None
        assert len(found[1]) == len(paths)
    if found is not None:
        assert found == one_by_one(form, paths[: len(found[1])], request)
        assert all(report.error is None for report in found[1])


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", [0, 2])
def test_an_odd_file_is_not_read_with_others(tmp_path: Path, odd: str, place: int) -> None:
    bodies = ["1,a\n", "2,b\n", "3,c\n"]
    bodies[place:place] = [odd]
    paths = written(tmp_path, bodies)
    form = opened("csv", paths)
    found = together(form, paths, ScanRequest(("k", "v")))
    assert found is None or found == one_by_one(form, paths[: len(found[1])], ScanRequest(("k", "v")))


def test_other_headers_and_formats_end_a_group(tmp_path: Path) -> None:
    paths = written(tmp_path, ["1,a\n", "2,b\n"])
    for name, text in [("z1.csv", "v,k\nc,3\n"), ("z2.csv", "k,v\n4,d\n")]:
        (tmp_path / name).write_text(text)
        paths.append(str(tmp_path / name))
    form = opened("csv", paths)
    found = together(form, paths, ScanRequest(("k",)))
    assert found is not None
    assert len(found[1]) == 2


def test_queries_over_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for month in (1, 2):
        for n in range(4):
            path = tmp_path / f"m={month}" / f"{n}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"k,v\n{n},{month}{n}\n" if n != 2 else f"v,k\n{month}{n},{n}\n")
    rows = [{"k": n, "v": 10 * m + n, "m": m} for m in (1, 2) for n in range(4)]
    joined: list[int] = []

    def counted(*given: object) -> object:
        found = scan_joined(*given)  # type: ignore[arg-type]
        joined.append(0 if found is None else len(found[1]))
        return found

    monkeypatch.setattr("mmflow.worker.scan.scan_joined", counted)
    with mf.Session(workers=1) as session:
        dataset = session.read_csv(f"{tmp_path}/*/*.csv")
        assert dataset.to_dicts() == rows
        assert [n for n in joined if n] == [2, 2]  # 0 and 1 of each folder
        assert dataset.filter(mf.col("v") > 12).to_dicts() == [r for r in rows if r["v"] > 12]
        assert dataset.count() == 8
        joined.clear()
        named = dataset.select(mf.col("_file"), mf.col("k")).to_dicts()
        assert [r["_file"] for r in named] == sorted(str(p) for p in tmp_path.rglob("*.csv"))
        assert joined == []
        assert dataset.map(lambda row: {"k": row["k"]}, schema="k:int64").to_arrow().num_rows == 8
        assert joined == []
        (tmp_path / "m=1" / "1.csv").write_text("k,v\n1,x\n")
        with pytest.raises(BadRecordError) as caught:
            dataset.to_arrow()
    assert caught.value.context["path"].endswith("m=1/1.csv")
    assert caught.value.context["line"] == 2


def test_ndjson_is_joined(tmp_path: Path) -> None:
    paths = written(
        tmp_path, ['{"k": 1, "v": "a"}\n', '{"k": 2}', '{"v": "c"}\n{"k": 4, "v": "x\\ny"}\n'], ""
    )
    form = opened("ndjson", paths)
    found = together(form, paths, ScanRequest(("k", "v")))
    assert found is not None
    assert len(found[1]) == 3
    assert found == one_by_one(form, paths, ScanRequest(("k", "v")))


def test_a_file_that_changed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = written(tmp_path, ["1,a\n", "2,b\n", "3,c\n"])
    form = opened("csv", paths)
    read = os.read

    def changing(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        os.utime(paths[1], (1, 1))
        return data

    monkeypatch.setattr("mmflow.mapping.small_files.os.read", changing)
    with pytest.raises(SourceChangedError):
        together(form, paths, ScanRequest(("k",)))
