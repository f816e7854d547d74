"""Many failing calls of everything public: what comes out is short, in mmflow's words, and ends at the user's line."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from mmflow import col

ROWS = {"a": [1, 2, 3], "b": ["x", "y", None], "d": [[1], [2, 3], None]}
#: What no argument should be, most of the time.
WRONG: list[Any] = [None, -1, 3.5, "nope", b"x", object(), [None], {"nope": "nope"}, 10**30, col("nope")]
FEWER: list[Any] = [None, -1, "nope", object()]
#: Names of what mmflow is made of, and of what it calls its own things inside.
INSIDE = re.compile(
    r"DataFusion|arrow::|Arrow error|ArrowInvalid|Substrait|protobuf|panick|\bleaf\d|__right|__left|PyErr|mmflow keeps"
    r"|Schema error|Error during planning|Utf8|Traceback|DataType:|Optimizer|please report"
)
#: They stand for a resource of the machine, or build what only fails when it is used.
LEFT_OUT = {
    "channel",
    "share",
    "unshare",
    "attach",
    "udf",
    "udaf",
    "job",
    "create_array",
    "pipe",
    "close",
    "show",
    "progress",
}

_OWNERS: dict[str, Callable[[], Any]] = {
    "Expr": lambda: col("b"),
    "Expr.str": lambda: col("b").str,
    "Expr.dt": lambda: col("a").dt,
    "Expr.list": lambda: col("d").list,
    "selectors": lambda: mf.selectors,
    "Dataset": lambda: mf.from_arrow(ROWS),
    "GroupedDataset": lambda: mf.from_arrow(ROWS).group_by("b"),
    "functions": lambda: mf,
}


def _names(owner: str, made: Any) -> list[str]:
    if owner == "selectors":
        return list(made.__all__)
    if owner == "functions":
        return [n for n in mf.__all__ if inspect.isfunction(getattr(mf, n))]
    return [n for n in dir(type(made)) if not n.startswith("_")]


def _calls(owner: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield calls with one wrong argument each."""
    made = _OWNERS[owner]()
    for name in _names(owner, made):
        function = getattr(made, name)
        if (
            name in LEFT_OUT
            or name.startswith(("to_", "write", "persist", "cache"))
            or not callable(function)
        ):
            continue
        parameters = list(inspect.signature(function).parameters.values())
        first = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)][:1]
        for value in WRONG if first else []:
            yield f"{name}({value!r:.30})", lambda f=function, v=value: f(v)  # type: ignore[misc]
        given = ("a",) if first and first[0].default is inspect.Parameter.empty else ()
        for p in parameters:
            if p in first or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                continue
            for value in FEWER:
                yield (
                    f"{name}(…, {p.name}={value!r:.30})",
                    lambda f=function, n=p.name, v=value, g=given: f(*g, **{n: v}),  # type: ignore[misc]
                )


def _problems(call: Callable[[], Any]) -> str:
    """Return what is wrong with the error of a call; "" if nothing is."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = call()
            if isinstance(result, mf.Expr):
                result = mf.from_arrow(ROWS).select(x=result)
            if isinstance(result, mf.Dataset):
                result.limit(10).to_arrow()
    except BaseException as error:
        if not isinstance(error, mf.MmflowError | TypeError | ValueError | AttributeError):
            return f"is a {type(error).__name__}: {error}"
        inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        if inside:
            return f"shows {inside[-1].filename}:{inside[-1].lineno}: {type(error).__name__}: {error}"
        if INSIDE.search(str(error)):
            return f"speaks of the inside: {error}"
        if str(error).count("\n") > 2 or len(str(error)) > 600:
            return f"is long: {error}"
    return ""


@pytest.mark.parametrize("owner", _OWNERS)
def test_a_wrong_argument_is_told_in_words_of_mmflow(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [f"{label}: {why}" for label, call in _calls(owner) if (why := _problems(call))]
    assert not found, "\n".join(found)


SQL = [
    "", "SELECT", "SELEC 1", "SELECT * FROM", "SELECT nope FROM t", "SELECT a b c FROM t", "SELECT a FROM nope",
    "SELECT nope(a) FROM t", "SELECT sum(b) FROM t", "SELECT a FROM t WHERE sum(a) > 1", "SELECT a, sum(a) FROM t",
    "SELECT a FROM t GROUP BY b", "SELECT a + b FROM t", "SELECT a FROM t ORDER BY nope", "SELECT $x", "SELECT 'x",
    "SELECT a FROM t JOIN t ON a = a", "SELECT * FROM t UNION SELECT a FROM t", "SELECT CAST(b AS nope) FROM t",
    "SELECT a FROM t LIMIT -1", "SELECT a FROM t LIMIT 'x'", "SELECT (SELECT a FROM t) FROM t", "DROP TABLE t",
    "INSERT INTO t VALUES (1)", "SELECT a FROM t; SELECT a FROM t", "SELECT row_number() FROM t",
    "SELECT a FROM t WHERE b", "SELECT a FROM t WHERE a = 'x'", "SELECT d[1][2] FROM t", "SELECT CAST(b AS BIGINT) FROM t",
    "SELECT a / 0 FROM t", "SELECT 9223372036854775807 + a FROM t", "SELECT lag(a) OVER (ORDER BY nope) FROM t",
    "SELECT a FROM t WHERE a IN (SELECT a, b FROM t)", "WITH x AS (SELECT 1) SELECT * FROM y", "SELECT t.nope FROM t",
    "SELECT nope.a FROM t", "SELECT date_trunc('nope', now())", "SELECT substr(a, 'x') FROM t", "SELECT * EXCEPT (nope) FROM t",
    "SELECT INTERVAL 'nope'", "SELECT to_timestamp('nope')", "SELECT regexp_replace(b, '(', '') FROM t", "SELECT [1, 'x']",
    "SELECT b -> 'x' FROM t", "SELECT unnest(a) FROM t", "SELECT * FROM read_csv('nope.csv')", "SELECT * FROM range('x')",
    "SELECT count(DISTINCT) FROM t", "SELECT a FROM t HAVING a > 1", "VALUES (1), (1, 2)", "SELECT \x00",
]  # fmt: skip


def test_a_wrong_query_is_told_in_words_of_mmflow() -> None:
    t = mf.from_arrow(ROWS)
    found = []
    for query in SQL:
        why = _problems(lambda q=query: mf.sql(q, t=t).to_arrow())  # type: ignore[misc]
        if why:
            found.append(f"{query}: {why}")
    assert not found, "\n".join(found)


FILES: dict[str, bytes] = {
    "empty.csv": b"",
    "quote.csv": b'a,b\n1,"x\n2,y\n',
    "ragged.csv": b"a,b\n1,2\n3\n4,5,6\n",
    "nul.csv": b"a,b\n\x00\x00,\xff\xfe\n",
    "binary.csv": bytes(range(256)) * 4,
    "text.parquet": b"no parquet at all",
    "cut.parquet": b"PAR1" + b"\x00" * 100 + b"PAR1",
    "text.arrow": b"ARROW1\x00\x00" + b"\xff" * 64,
    "cut.npy": b"\x93NUMPY\x01\x00",
    "broken.ndjson": b'{"a": 1}\n{"a": \n',
    "mixed.ndjson": b'{"a": 1}\n{"a": {"b": 2}}\n[1]\n',
    "cut.csv.gz": b"\x1f\x8b\x08\x00\x00",
    "name.nope": b"x",
}


def test_a_damaged_file_is_told_in_words_of_mmflow(tmp_path: Path) -> None:
    found = []
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        why = _problems(lambda n=name: mf.read(str(tmp_path / n)).to_arrow())  # type: ignore[misc]
        if why:
            found.append(f"{name}: {why}")
    assert not found, "\n".join(found)
