"""Columns from the cache give the rows that the text gives, whatever was kept, evicted, damaged or changed before."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.config import CacheName
from mmflow.errors import MmflowError

_ROWS = 6000
_QUERIES = [
    "SELECT * FROM '{file}'",
    "SELECT a, c FROM '{file}' WHERE a < 500",
    "SELECT c, count(*) AS n, sum(a) AS s, min(d) AS d FROM '{file}' GROUP BY c ORDER BY c",
    "SELECT b, d FROM '{file}' WHERE b > 10.5 AND d < DATE '2020-02-01'",
    "SELECT count(*) AS n FROM '{file}' WHERE c = 'two'",
    "SELECT a, t FROM '{file}' WHERE a = 77",
    "SELECT a, _line FROM '{file}' WHERE c IS NULL",
    "SELECT a, c FROM '{file}' LIMIT 10",
    "SELECT count(*) AS n FROM '{file}'",
]


def _lines(rows: range) -> str:
    texts = ["one", "two", '"three\nlines"', ""]
    return "".join(
        f"{n},{n % 97 / 4 if n % 5 else ''},{texts[n % 4]},2020-{n % 12 + 1:02}-01,note {n} of this file\n"
        for n in rows
    )


def _write(path: Path, text: str, age: int = 100) -> None:
    """Write a file that was left alone for a while, so that columns of it are kept."""
    path.write_text(text)
    now = path.stat().st_mtime_ns
    os.utime(path, ns=(now, now - age * 10**9))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("columns") / "a.csv"
    _write(path, "a,b,c,d,t\n" + _lines(range(_ROWS)))
    return path


def _run(
    query: str, path: Path, cache: Path | None, mode: CacheName = "eager", shard_size: int = 64 << 10
) -> Any:
    """Return the rows of a query, or what its error says."""
    kept: CacheName = "off" if cache is None else mode
    with mf.Session(workers=2, cache=kept, cache_dir=cache, shard_size=shard_size) as session:
        try:
            return session.sql(query.format(file=path)).to_arrow().to_pylist()
        except MmflowError as error:
            return type(error), str(error)


def _entries(cache: Path) -> list[Path]:
    return sorted(p for p in cache.glob("entries-*/columns/*"))


@settings(max_examples=max(8, settings().max_examples // 5))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(_QUERIES),
            st.sampled_from(["auto", "eager", "off"]),
            st.sampled_from([64 << 10, 100 << 10, 1 << 20]),
            st.sampled_from(["nothing", "nothing", "evict", "flip", "cut"]),
            st.randoms(use_true_random=False),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_queries_give_the_rows_of_the_text(
    file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[str, CacheName, int, str, random.Random]],
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    cache.chmod(0o700)
    for query, mode, shard_size, change, chance in history:
        if change != "nothing":
            _change_entries(cache, change, chance)
        expected = _run(query, file, None)
        assert _run(query, file, cache, mode, shard_size) == expected


def _change_entries(cache: Path, change: str, chance: random.Random) -> None:
    for path in _entries(cache):
        if chance.random() < 0.5:
            continue
        if change == "evict":
            path.unlink()
        elif change == "cut":
            os.truncate(path, chance.randrange(path.stat().st_size))
        else:
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


def test_the_second_query_of_auto_keeps_what_the_first_noted(file: Path, cache: Path) -> None:
    query = _QUERIES[1]
    expected = _run(query, file, None)
    sizes = []
    for _ in range(3):
        assert _run(query, file, cache, "auto") == expected
        sizes.append(len(_entries(cache)))
    noted, kept, read = sizes
    assert noted == 1
    shards = -(-file.stat().st_size // (64 << 10))
    assert kept == read == 1 + 2 * shards


def test_queries_of_one_session_are_kept_apart(file: Path, cache: Path) -> None:
    read = []
    with mf.Session(workers=1, cache="auto", cache_dir=cache, shard_size=64 << 10) as session:
        for _ in range(3):
            session.sql(_QUERIES[1].format(file=file)).to_arrow()
            assert session.last_run is not None
            read.append("a, c: columns from the cache" not in session.last_run.reasons)
    assert read == [True, True, False]


def test_columns_are_read_without_the_text(file: Path, cache: Path) -> None:
    query = "SELECT sum(a) AS s, min(c) AS c FROM '{file}' WHERE b > 3"
    expected = _run(query, file, cache)
    reads: list[int] = []
    with mf.Session(
        workers=2,
        cache="auto",
        cache_dir=cache,
        shard_size=64 << 10,
        on_progress=lambda p: reads.append(p.stages[0].bytes_read),
    ) as session:
        assert session.sql(query.format(file=file)).to_arrow().to_pylist() == expected
        assert session.last_run is not None
        assert "a, b, c: columns from the cache" in session.last_run.reasons
    assert reads[-1] == 0


@pytest.mark.parametrize("change", ["append", "change", "replace"])
def test_columns_of_a_changed_file_are_stale(cache: Path, tmp_path: Path, change: str) -> None:
    path = tmp_path / "b.csv"
    text = "a,b,c,d,t\n" + _lines(range(_ROWS))
    _write(path, text)
    query = _QUERIES[2]
    _run(query, path, cache)
    if change == "append":
        _write(path, text + _lines(range(10)), age=50)
    elif change == "change":
        _write(path, text.replace("\n77,", "\n99,"), age=50)
    else:
        other = tmp_path / "other"
        _write(other, text.replace("\n77,", "\n99,"))
        other.replace(path)
    for _ in range(2):
        assert _run(query, path, cache) == _run(query, path, None)


def test_a_file_that_was_just_written_is_not_kept(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text("a,b,c,d,t\n" + _lines(range(_ROWS)))
    _run(_QUERIES[1], path, cache)
    assert not _entries(cache)


@pytest.mark.parametrize("policy", ["error", "skip", "null"])
def test_bad_records_are_as_in_the_text(cache: Path, tmp_path: Path, policy: Any) -> None:
    path = tmp_path / "b.csv"
    _write(path, "a,b,c,d,t\n" + _lines(range(4000)) + "x,1,one,2020-01-01,t\n" + _lines(range(4000, _ROWS)))
    schema = {"a": "int64", "b": "float64", "c": "string", "d": "date", "t": "string"}

    def run(mode: CacheName, columns: list[str]) -> Any:
        with mf.Session(workers=2, cache=mode, cache_dir=cache, shard_size=64 << 10) as session:
            ds = session.read_csv(path, schema=schema, on_bad_record=policy)
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                try:
                    found = ds.select(*columns).to_arrow().to_pylist()
                except MmflowError as error:
                    return type(error), str(error)
            return found, [str(w.message).partition(";")[0] for w in seen]

    for columns in (["b", "d"], ["a", "b"], ["b"], ["a", "b"]):
        expected = run("off", columns)
        assert run("eager", columns) == expected
        assert run("auto", columns) == expected


def test_a_wrong_guess_of_a_shards_start_is_found_out(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    # Each record's text looks like records itself, so that shards in it guess wrong.
    inner = "".join(f"{n},{n}\n" for n in range(9000))
    _write(
        path,
        "a,b\n" + "".join(f'{n},"{inner}"\n' for n in range(4)) + "".join(f"{n},x\n" for n in range(20000)),
    )
    query = "SELECT count(*) AS n, sum(a) AS s FROM '{file}'"
    expected = _run(query, path, None)
    for _ in range(3):
        assert _run(query, path, cache) == expected


def test_ndjson_columns_are_kept(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    _write(path, "".join(f'{{"a": {n}, "s": "s{n % 5}", "x": [{n}]}}\n' for n in range(9000)))
    query = "SELECT s, count(*) AS n, sum(a) AS a FROM '{file}' WHERE a > 100 GROUP BY s ORDER BY s"
    expected = _run(query, path, None)
    modes: list[CacheName] = ["eager", "auto"]
    for mode in modes:
        assert _run(query, path, cache, mode) == expected
    assert _entries(cache)


def test_a_folder_that_cannot_be_written_to_costs_only_the_cache(file: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert _run(_QUERIES[1], file, blocked) == _run(_QUERIES[1], file, None)


def test_text_that_does_not_repeat_is_read_from_the_file_again(file: Path, cache: Path) -> None:
    for _ in range(2):
        assert _run(_QUERIES[5], file, cache) == _run(_QUERIES[5], file, None)
