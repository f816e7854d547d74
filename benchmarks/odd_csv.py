"""CSV of odd structure: mmflow beside DuckDB, Polars and pandas on the same file, as MB/s and ratios of medians.

    python benchmarks/odd_csv.py [--rows 1000000] [--repeats 3] [KIND ...]

Each kind is one table written in another way; a work reads two columns of six and sums them. A reader that has no
option for a kind is left out (`-`), as is one that fails.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl

import mmflow as mf

_HEADER = "id,name,price,note,day,flag"


def _rows(count: int, join: Callable[[int, list[str]], str]) -> str:
    lines = []
    for i in range(count):
        fields = [
            str(i),
            f"name {i % 997}",
            f"{i % 1000}.25",
            f"some text of row {i % 31}",
            "2026-11-30",
            str(i % 2),
        ]
        lines.append(join(i, fields))
    return "".join(lines)


def _comma(end: str) -> Callable[[int, list[str]], str]:
    return lambda _, fields: ",".join(fields) + end


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to write the table.

    Attributes:
        record: Makes a record of its number and its fields.
        header: Header, and what stands before it.
        mmflow, duckdb, polars, pandas: Options by which each reads it; None: it has none.
    """

    record: Callable[[int, list[str]], str]
    mmflow: dict[str, Any]
    duckdb: dict[str, Any] | None
    polars: dict[str, Any] | None
    pandas: dict[str, Any] | None
    header: str = _HEADER + "\n"


_LOOSE = {"strict_mode": False, "ignore_errors": True}
_CUT = {"truncate_ragged_lines": True}
KINDS = {
    "plain": Kind(_comma("\n"), {}, {}, {}, {}),
    "comments": Kind(
        lambda i, f: ("# note\n" if i % 10 == 0 else "") + ",".join(f) + "\n",
        {"comment": "#"}, {"comment": "#"}, {"comment_prefix": "#"}, {"comment": "#"},
        header=f"# made\n{_HEADER}\n",
    ),
    "short rows": Kind(
        lambda i, f: ",".join(f[: 4 if i % 10 == 0 else 6]) + "\n",
        {"ragged": "null"}, {"null_padding": True}, _CUT, {},
    ),
    "long rows": Kind(
        lambda i, f: ",".join([*f, *["x"][: i % 10 == 0]]) + "\n",
        {"ragged": "truncate"}, _LOOSE, _CUT, None,
    ),
    "lenient, 1 of 100 broken": Kind(
        lambda i, f: ",".join([*f[:3], '"a "b" c"' if i % 100 == 0 else f[3], *f[4:]]) + "\n",
        {"lenient": True}, _LOOSE, {"ignore_errors": True, **_CUT}, None,
    ),
    "trim": Kind(lambda _, f: " , ".join(f) + "\n", {"trim": True}, None, None, {"skipinitialspace": True}),
    "escape": Kind(
        lambda _, f: ",".join([*f[:3], f[3].replace(" ", "\\,", 1), *f[4:]]) + "\n",
        {"escape": "\\"}, {"escape": "\\", "strict_mode": False}, None, {"escapechar": "\\"},
    ),
    "two characters": Kind(
        lambda _, f: "||".join(f) + "\n",
        {"delimiter": "||"}, {"delim": "||"}, None, {"sep": r"\|\|", "engine": "python"},
        header=_HEADER.replace(",", "||") + "\n",
    ),
    "carriage returns": Kind(
        _comma("\r"), {}, {"new_line": "\\r"}, {"eol_char": "\r"}, {}, header=_HEADER + "\r"
    ),
}  # fmt: skip
_SCHEMA = "id:int64,name:string,price:float64,note:string,day:date32,flag:int64"


def _readers(path: str, kind: str) -> dict[str, Callable[[], Any]]:
    way = KINDS[kind]
    duck, polars, pandas = way.duckdb, way.polars, way.pandas

    def mmflow() -> Any:
        found = mf.sql("SELECT sum(id), sum(price) FROM t", t=mf.read_csv(path, schema=_SCHEMA, **way.mmflow))
        return found.to_arrow()

    made: dict[str, Callable[[], Any]] = {"mmflow": mmflow}
    if duck is not None:
        options = "".join(f", {key}={value!r}" for key, value in duck.items())
        query = (
            f"SELECT sum(id), sum(price) FROM read_csv('{path}', header=true, auto_detect=false, "
            "columns={'id': 'BIGINT', 'name': 'VARCHAR', 'price': 'DOUBLE', 'note': 'VARCHAR', 'day': 'DATE', "
            "'flag': 'BIGINT'}"
            f"{options}{'' if 'delim' in duck else ', delim=' + repr(',')})"
        )
        made["DuckDB"] = lambda: duckdb.execute(query).fetchall()
    if polars is not None:
        made["Polars"] = lambda: (
            pl.scan_csv(path, **polars).select(pl.col("id").sum(), pl.col("price").sum()).collect()
        )
    if pandas is not None:
        made["pandas"] = lambda: pd.read_csv(path, usecols=["id", "price"], **pandas).sum()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| kind | MB | mmflow MB/s | DuckDB | Polars | pandas |\n|---|---|---|---|---|---|")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "odd.csv"
            path.write_text(KINDS[kind].header + _rows(options.rows, KINDS[kind].record), newline="")
            readers = _readers(str(path), kind)
            seconds: dict[str, list[float]] = {name: [] for name in readers}
            for _ in range(options.repeats):
                for name, reader in readers.items():
                    begin = time.perf_counter()
                    try:
                        reader()
                    except Exception:  # noqa: BLE001  (a reader that can't read it; of many kinds)
                        seconds[name].append(float("nan"))
                        continue
                    seconds[name].append(time.perf_counter() - begin)
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            size = path.stat().st_size / 1e6
            ratios = [
                f"{medians[name] / medians['mmflow']:.2f}" if medians.get(name, float("nan")) > 0 else "-"
                for name in ("DuckDB", "Polars", "pandas")
            ]
            print(
                f"| {kind} | {size:.0f} | {size / medians['mmflow']:.0f} | {' | '.join(ratios)} |", flush=True
            )


if __name__ == "__main__":
    main()
