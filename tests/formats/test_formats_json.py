"""JSON documents in any layout give the records that Python's json finds in them: at each shard size, plain or packed."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, SourceError
from mmflow.formats import detect, from_spec, open_format
from mmflow.formats.json.format import JsonFormat

few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

_text = st.text(st.sampled_from('ab"\\{}[],:\n é😀'), max_size=6)
_records = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(-5, 5), "t": _text | st.none(), "o": st.fixed_dictionaries({"id": st.booleans(), "l": st.lists(_text, max_size=3)})}
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip
_layouts = st.tuples(
    st.sampled_from(["list", "lists", "documents", "path", "lists in lists"]), st.sampled_from([None, 0, 1, 4]), st.booleans()
)  # fmt: skip


@pytest.fixture(scope="module")
def pages() -> mf.Session:
    return mf.Session(shard_size=4096, workers=2)


def document(records: list[Any], layout: str, indent: int | None, plain: bool) -> tuple[str, str | None]:
    """Return a document that holds some records, and their path."""

    def text(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=not plain)

    half = len(records) // 2
    match layout:
        case "list":
            return text(records), None
        case "lists":
            return text(records[:half]) + text(records[half:]) + "[]", None if half else "$[*]"
        case "documents":
            return ("" if plain else "\n").join(map(text, records)), None
        case "path":
            return text(
                {"a": {"rows": [7]}, "n": [{"rows": records}], "rows": records, "z": {"id": [[]]}}
            ), "$.rows[*]"
        case _:
            return text([records[:half], [], records[half:]]), "$[*][*]"


@given(_records, _layouts, st.integers(1, 400))
@few
def test_records_of_any_layout(
    tmp_path: Path, pages: mf.Session, records: list[Any], layout: tuple[str, int | None, bool], times: int
) -> None:
    records = records * times if times > 380 else records
    text, path = document(records, *layout)
    options: dict[str, Any] = {} if path is None else {"json_path": path}
    file = tmp_path / "t.json"
    file.write_text(text)
    with mf.Session(io="pread") as whole:
        assert whole.read_json(file, **options).to_dicts() == records
    assert pages.read_json(file, **options).to_dicts() == records
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(text.encode()))
    assert pages.read_json(tmp_path / "t.json.gz", **options).to_dicts() == records


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("marked", [True, False])
def test_shards_begin_with_a_mark_or_after_a_pass(
    tmp_path: Path, pages: mf.Session, indent: int | None, marked: bool
) -> None:
    rows: list[Any] = [{"id": i, "more": {"n": i}, "t": "x{\n" * (i % 7)} for i in range(4000)]
    written = rows if marked else [dict(reversed(r.items())) if r["id"] % 2 else r for r in rows]
    file = tmp_path / "t.json"
    file.write_text(json.dumps(written, indent=indent))
    data = pages.read_json(file)
    assert data.source_info().shards > 20
    assert bool(data.source_info().options.get("mark")) == marked
    assert data.to_dicts() == rows
    assert data.filter(mf.col("id") >= 3990).count() == 10
    assert data[3999]["id"] == 3999
    assert data[17:19].to_pylist() == rows[17:19]
    places = data.select("_offset", "_line").to_arrow()
    text = file.read_text()
    for row in (0, 1, 1234, 3999):
        offset, line = (places[n][row].as_py() for n in ("_offset", "_line"))
        assert json.JSONDecoder().raw_decode(text, offset)[0] == rows[row]
        assert line == text.count("\n", 0, offset) + 1


def test_an_error_far_behind_the_sample_says_where_it_is(tmp_path: Path, pages: mf.Session) -> None:
    good = "\n".join(f'{{"id": {i}}},' for i in range(60_000))
    for bad, words in (
        ('{"id": 1}', "expected a comma or ], found '{'"),
        ("7,", "a record is an object, this is an integer"),
    ):
        text = f'[{good}\n{bad}\n{{"id": 1}}]'
        file = tmp_path / "t.json"
        file.write_text(text)
        with pytest.raises(BadRecordError) as caught:
            pages.read_json(file, schema="id:int64").to_arrow()
        assert words in str(caught.value)
        assert f"line {60_001 + (bad[0] == '{'):,}, record {60_000 + (bad[0] == '{'):,}" in str(caught.value)
    with pytest.warns(mf.BadRecordsWarning):
        kept = pages.read_json(file, schema="id:int64", on_bad_record="skip").count()
    assert kept == 60_001


def test_a_truncated_document_is_an_error_whatever_the_policy(tmp_path: Path, pages: mf.Session) -> None:
    text = json.dumps([{"id": i} for i in range(5000)])
    for cut, words in ((-1, "without the ] that closes \\$"), (-3, "the document ends within this value")):
        (tmp_path / "t.json").write_text(text[:cut])
        (tmp_path / "t.json.gz").write_bytes(gzip.compress(text[:cut].encode()))
        for name in ("t.json", "t.json.gz"):
            with pytest.raises(BadRecordError, match=words) as caught:
                pages.read_json(tmp_path / name, on_bad_record="skip").count()
            assert "on_bad_record" not in str(caught.value)


def test_sql_and_names_find_the_format(tmp_path: Path, pages: mf.Session) -> None:
    (tmp_path / "a.json").write_text('{"rows": [{"x": 1}, {"x": 2}]}')
    query = f"SELECT sum(x) AS s FROM read_json('{tmp_path}/a.json', json_path => '$.rows[*]')"
    assert pages.sql(query).to_dicts() == [{"s": 3}]
    assert pages.read(tmp_path / "a.json", json_path="$.rows[*]").count() == 2
    for name, text, kind in (
        ("b.json", '[{"x": 1}]', "json"), ("c.json", '{"x": 1}\n{"x": 2}\n', "ndjson"), ("d", ' [\n{"x": 1}]', "json"),
        ("e", '{\n"x": 1}', "json"), ("f", '{"x": 1}\n', "ndjson"), ("g", "[2024-01-01] {\n", "text"), ("h.json", '{\n "x": 1}', "json"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert detect(str(tmp_path / name))[0] == kind, name
    assert pages.sql(f"SELECT * FROM '{tmp_path}/b.json'").to_dicts() == [{"x": 1}]


def test_a_format_is_what_its_spec_says(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"x": 1, "v": 1}, {"x": 2, "v": "a"}]')
    form = open_format("json", [str(tmp_path / "a.json")], on_new_field="json")
    assert isinstance(form, JsonFormat)
    assert form.mark == '{"x":'
    assert form.schema.names == ["x", "v", "_extra"]
    assert from_spec(form.spec()) == form
    assert re.search("json", str(form.spec()["schema"].field("v").type))


def test_a_document_without_records_at_the_path_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": []}')
    with pytest.raises(SourceError, match="give schema="):
        mf.read_json(tmp_path / "a.json", json_path="$.rows[*]")
    assert mf.read_json(tmp_path / "a.json", json_path="$.rows[*]", schema="x:int64").to_dicts() == []
    assert mf.read_json(tmp_path / "a.json", json_path="$.other[*]", schema="x:int64").to_dicts() == []
