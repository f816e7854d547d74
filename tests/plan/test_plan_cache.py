"""The cache of plans: a query that comes again gives what planning anew gives, whatever has changed in between."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.api import readers
from mmflow.api.sql import query as queries
from mmflow.formats.last_results import LastResults
from mmflow.plan import plan_cache, planner
from mmflow.plan.plan_cache import cache_key, is_repeatable, settled_files

_YEAR_NS = 365 * 86_400 * 10**9
_times = itertools.count(1)


def _settle(path: Path) -> None:
    """Give a file a time of its own, long ago."""
    then = 20 * _YEAR_NS + next(_times) * 10**9
    os.utime(path, ns=(then, then))


@contextmanager
def _empty() -> Iterator[None]:
    """Plan without what was kept before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_opened", LastResults(8))
        patch.setattr(queries, "cached_queries", LastResults(8))
        yield


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Frames that are planned from here on."""
    made: list[object] = []
    plan_frame = planner._Planner.plan_frame

    def counted(self: Any, frame: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(frame)
        return plan_frame(self, frame, *args, **kwargs)

    monkeypatch.setattr(planner._Planner, "plan_frame", counted)
    return made


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("k,v\nx,1\ny,2\nx,3\n")
    _settle(path)
    return path


# ---- what planning anew gives ---------------------------------------------------------------------------------


@mf.udf(["int64"], "int64")
def absolute(x: pa.Array) -> pa.Array:
    """Function with the name of a variable, below."""
    return pa.array([1000] * len(x), pa.int64())


_QUERIES = (
    "SELECT k, sum(v) AS s, count(*) AS n FROM t WHERE v >= $x GROUP BY k ORDER BY k",
    "SELECT * FROM t",
    "SELECT k, v, _file IS NULL AS f FROM t WHERE v <> $x ORDER BY v LIMIT 2",
    "SELECT t.k, u.v FROM t JOIN u ON t.k = u.k WHERE u.v < $x ORDER BY 1, 2",
    "SELECT abs(v) AS a FROM u ORDER BY 1",
    "SELECT upper(k) AS k FROM '{csv}' WHERE k IN (SELECT k FROM t) ORDER BY k",
    "SELECT max(v) AS m FROM read_csv('{csv}', delimiter => ',') WHERE v > (SELECT min(v) FROM t)",
    "EXPLAIN SELECT k FROM t WHERE v = $x",
)
_SETTINGS: tuple[dict[str, Any], ...] = ({}, {"partitions": 3}, {"shard_size": 4096}, {"broadcast": 0})
_OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"schema": {"k": "string", "v": "float64"}}, {"schema": "k:string,v:int64"}, {"schema": {"v": "string"}},
    {"header": False, "names": ["v", "k"], "on_bad_record": "skip"},
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    1, 1.0, True, 2, "1", None, Decimal(1), Decimal("1.00"), dt.date(1970, 1, 2), [1, 2],
)  # fmt: skip
_TABLES = tuple(
    itertools.starmap(
        lambda k, v: {"k": k, "v": v},
        ((["x", "y", "x"], [1, 2, 3]), (["y", "z"], [7, 1]), (["x"], [2]), (["1", "2"], [1, 1])),
    )
)


def _write(path: Path, rows: dict[str, list[Any]]) -> None:
    if path.suffix == ".csv":
        lines = [f"{k},{v}\n" for k, v in zip(rows["k"], rows["v"], strict=True)]
        path.write_text("k,v\n" + "".join(lines))
    else:
        pq.write_table(pa.table(rows), path)
    _settle(path)


_STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(["a.csv", "b.csv", "b.parquet"]), st.sampled_from(_TABLES)),
    st.tuples(st.just("swap"), st.just("a.csv"), st.just("b.csv")),
    st.tuples(
        st.just("ask"), st.sampled_from(_QUERIES), st.sampled_from(_SETTINGS), st.sampled_from(_OPTIONS),
        st.sampled_from(_VALUES), st.booleans(), st.sampled_from(["", "variable", "given"]),
    ),
)  # fmt: skip


def _asked(folder: Path, step: tuple[Any, ...]) -> Callable[[], object]:
    """Return a query of a session of its own, which returns its rows, their types and its stages, or its error."""
    _, query, setting, options, value, parquet, function = step
    text = query.format(csv=folder / "a.csv")
    values: dict[str, Any] = {"x": value} if "$x" in text else {}
    values |= {"abs": absolute} if function == "given" and "abs(" in text else {}
    variables: dict[str, Any] = {"abs": absolute} if function == "variable" else {}

    def ask() -> object:
        try:
            with mf.Session(workers=2, memory="256MiB", **setting) as session:
                tables = {
                    "t": session.read_csv(str(folder / "a.csv"), **options),
                    "u": session.read(str(folder / ("b.parquet" if parquet else "b.csv"))),
                }
                given = {name: table for name, table in tables.items() if f" {name}" in text}
                made = queries.plan_query(session, text, values | given, variables)
                rows = made.to_arrow()
                return rows.to_pydict(), str(rows.schema), made.explain()
        except mf.MmflowError as error:
            return type(error), error.message

    return ask


@given(st.lists(_STEPS, min_size=2, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=4 if os.environ.get("HYPOTHESIS_PROFILE", "ci") == "ci" else 500)
def test_queries_that_come_again_give_what_planning_anew_gives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]], random: Any
) -> None:
    folder = tmp_path_factory.mktemp("files")
    for name in ("a.csv", "b.csv", "b.parquet"):
        _write(folder / name, _TABLES[0])
    asked: list[tuple[Any, ...]] = []
    for step in steps:
        match step:
            case "write", name, rows:
                _write(folder / name, rows)
            case "swap", one, other:  # with their times
                (folder / one).rename(folder / "c")
                (folder / other).rename(folder / one)
                (folder / "c").rename(folder / other)
            case _:
                asked.append(step)
        for again in (*asked[-1:], *random.sample(asked, min(1, len(asked)))):
            ask = _asked(folder, again)
            with _empty():
                anew = ask()
            assert ask() == anew, again


_SUM = "SELECT k, sum(v) AS s FROM t WHERE v >= $x GROUP BY k"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((_SUM, {}, {}, 1, False, ""), (_SUM, {}, {}, 2, False, "")),
        ((_SUM, {}, {}, 1, False, ""), (_SUM, {}, {}, 1.0, False, "")),
        ((_SUM, {}, {}, 1, False, ""), (_SUM, {"partitions": 3}, {}, 1, False, "")),
        ((_SUM, {}, {}, 1, False, ""), (_SUM, {}, {"schema": {"k": "string", "v": "float64"}}, 1, False, "")),
        (("SELECT abs(v) FROM u", {}, {}, 1, False, ""), ("SELECT abs(v) FROM u", {}, {}, 1, True, "")),
        (("SELECT abs(v) FROM u", {}, {}, 1, False, ""), ("SELECT abs(v) FROM u", {}, {}, 1, False, "given")),
        (
            ("SELECT abs(v) FROM u", {}, {}, 1, False, ""),
            ("SELECT abs(v) FROM u", {}, {}, 1, False, "variable"),
        ),
    ],
)
def test_what_a_plan_depends_on(tmp_path: Path, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    for name in ("a.csv", "b.csv", "b.parquet"):
        _write(tmp_path / name, _TABLES[0])
    one, two = (_asked(tmp_path, ("ask", *ask)) for ask in (first, second))
    with _empty():
        anew = two()
    with _empty():
        assert one() != anew
        assert two() == anew


def test_a_name_stands_for_what_it_does_now(csv: Path) -> None:
    other = csv.with_name("b.csv")
    _write(other, _TABLES[1])
    session = mf.Session()
    for path, expected in ((csv, [1, 2, 3]), (other, [1, 7]), (csv, [1, 2, 3])):
        made = queries.plan_query(session, "SELECT v FROM t ORDER BY v", {}, {"t": session.read_csv(path)})
        assert made.to_arrow()["v"].to_pylist() == expected
    rows = queries.plan_query(session, "SELECT v FROM t ORDER BY v", {}, {"t": {"v": [5]}}).to_arrow()
    assert rows["v"].to_pylist() == [5]
    with pytest.raises(mf.PlanError):
        queries.plan_query(session, "SELECT v FROM t ORDER BY v", {}, {})


# ---- what is kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "SELECT k, sum(v) AS s FROM t WHERE v > $x GROUP BY k",
        "SELECT k FROM '{csv}' LIMIT 2",
        "SELECT v FROM named",
    ],
)
def test_sessions_plan_a_query_once(csv: Path, planned: list[object], query: str) -> None:
    given: dict[str, Any] = {"x": 1} if "$x" in query else {}
    rows = []
    for _ in range(3):
        with mf.Session(workers=2) as session:
            named = session.read_csv(csv)
            given |= {"t": named} if " t " in query else {}
            rows.append(session.sql(query.format(csv=csv), **given).to_arrow())
            assert named.columns == ["k", "v"]
    assert rows[0].num_rows
    assert rows[0].equals(rows[1])
    assert rows[0].equals(rows[2])
    assert len(planned) == 1


def test_a_query_of_a_changed_file_is_planned_anew(csv: Path, planned: list[object]) -> None:
    ds = mf.read_csv(csv)  # noqa: F841  (a variable of the query)
    for expected in ([2], [5]):
        assert (
            mf.sql("SELECT max(v) AS m FROM ds WHERE v < 6 AND v <> 3").to_arrow()["m"].to_pylist()
            == expected
        )
        csv.write_text("k,v\nx,1\ny,5\nx,3\n")
        _settle(csv)
    assert len(planned) == 2


def test_a_file_that_was_written_a_moment_ago_is_looked_at_again(
    tmp_path: Path, planned: list[object]
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a\n1\n")
    for _ in range(2):
        mf.sql(f"SELECT a FROM '{path}'").to_arrow()
    assert len(planned) == 2


def test_a_clock_is_read_for_each_query(csv: Path) -> None:
    first, second = (mf.sql(f"SELECT DISTINCT now() AS n FROM '{csv}'").to_arrow()["n"][0] for _ in range(2))
    assert first != second


def test_words_whose_value_differs_are_those_that_datafusion_knows() -> None:
    context = SessionContext(SessionConfig().with_information_schema(True))
    found = context.sql(
        "SELECT DISTINCT routine_name AS n FROM information_schema.routines WHERE NOT is_deterministic"
    )
    named = set(found.to_pydict()["n"])
    assert {"now", "random", "current_date"} <= named <= plan_cache._CLOCKS
    assert not any(is_repeatable(f"SELECT {name.upper()}(1) FROM t") for name in named)


def test_rows_in_memory_are_not_kept(csv: Path) -> None:
    table = pa.table({"v": pa.array([1, 2, 3])})
    released = weakref.ref(table)
    for_key = mf.read_csv(csv)
    for _ in range(2):
        made = mf.sql("SELECT t.v FROM t JOIN f ON t.v = f.v", t=table, f=for_key)
        assert made.count() == 3
    del table, made
    gc.collect()
    assert released() is None


def test_keys_differ_where_planning_may() -> None:
    utc, east = dt.UTC, dt.timezone(dt.timedelta(hours=2))
    values = [
        1, 1.0, True, "1", b"1", None, 0.0, -0.0, Decimal(1), Decimal("1.0"), (1,), [1], {"a": 1}, {"b": 1},
        dt.datetime(2024, 1, 1, 12, tzinfo=utc), dt.datetime(2024, 1, 1, 14, tzinfo=east), pa.int8(), pa.int16(),
        pa.schema([("a", pa.int8())]), pa.schema([pa.field("a", pa.int8(), metadata={"x": "y"})]),
        {"a": 1, "b": 2}, {"b": 2, "a": 1},
    ]  # fmt: skip
    assert len({cache_key(value) for value in values}) == len(values)
    for value in (object(), {1, 2}, [object()], len):
        with pytest.raises(TypeError):
            cache_key(value)


def test_files_of_which_nothing_is_kept(csv: Path, tmp_path: Path) -> None:
    assert settled_files([str(csv)]) is not None
    assert settled_files([str(csv)], csv.stat().st_mtime_ns + 1) is None
    for path in (tmp_path, tmp_path / "missing", "/dev/null", "http://localhost/a.csv", "a\0b"):
        assert settled_files([str(csv), str(path)]) is None
    assert settled_files([str(csv)] * 65) is None
    with csv.open() as file:
        assert settled_files([f"/dev/fd/{file.fileno()}"]) is None
