"""Small files that the snippets of a page name: a table of pages, and the makers of the files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import xlsxwriter

from tests.arrays.bmp_files import bmp

__all__ = ["make_files"]

ROOT = Path(__file__).parents[2]

Maker = Callable[[Path, Path], None]


def lineitem(folder: Path, tpch: Path) -> None:
    """Write the first 5,000 rows of TPC-H."""
    with open(tpch / "lineitem.csv") as file:
        (folder / "lineitem.csv").write_text("".join(islice(file, 5001)))


def jobs(folder: Path, _: Path) -> None:
    """Copy the example jobs and settings of the repository."""
    for name in ("jobs", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def access(delimiter: str) -> Maker:
    """Return a maker of access.csv, and of the same rows as files of a folder."""

    def make(folder: Path, _: Path) -> None:
        header = delimiter.join(("time", "day", "host", "status", "ms")) + "\n"
        rows = [
            delimiter.join(
                (
                    f"2024-01-{1 + n // 300:02}T{n // 60 % 24:02}:{n % 60:02}:00",
                    f"2024-01-{1 + n // 300:02}",
                    f"{'abc'[n % 3]}.example.{'org' if n % 2 else 'com'}",
                    str((200, 200, 200, 404, 500, 503)[n % 6]),
                    str(n * 37 % 2000 / 2),
                )
            )
            + "\n"
            for n in range(3000)
        ]
        (folder / "access.csv").write_text(header + "".join(rows))
        (folder / "access").mkdir()
        for part in range(3):
            (folder / "access" / f"{part}.csv").write_text(
                header + "".join(rows[part * 1000 : part * 1000 + 1000])
            )

    return make


def log(folder: Path, _: Path) -> None:
    """Write a log in the common format."""
    (folder / "access.log").write_text(
        "".join(
            f'10.0.0.{n % 7} - - [10/Oct/2026:13:{n % 60:02}:36 +0000] "GET /page{n % 5} HTTP/1.1" '
            f"{(200, 404, 500, 503)[n % 4]} {n}\n"
            for n in range(2000)
        )
    )


def app_log(folder: Path, _: Path) -> None:
    """Write app.log, some of whose lines say how long something took."""
    (folder / "app.log").write_text(
        "".join(
            f"{('INFO', 'WARN')[n % 2]} page{n % 5} took {n * 7 % 400} ms\nDEBUG cache\n" for n in range(500)
        )
    )


def tables(folder: Path, _: Path) -> None:
    """Write a.csv and b.parquet, which have the column k in common, and x.txt without a header."""
    (folder / "a.csv").write_text("k,v\n" + "".join(f"{n % 10},{n}\n" for n in range(100)))
    pq.write_table(pa.table({"k": range(10), "name": [f"n{n}" for n in range(10)]}), folder / "b.parquet")
    (folder / "x.txt").write_text("x;1.5\ny;2.5\nx;3\n")


def images(*names: str) -> Maker:
    """Return a maker of BMP files."""

    def make(folder: Path, _: Path) -> None:
        for name in names:
            (folder / name).write_bytes(bmp(np.zeros((150, 200, 3), np.uint8)))

    return make


def raster(folder: Path, _: Path) -> None:
    """Write scan.raw: a header of 512 bytes, and rows of 4096 bytes."""
    (folder / "scan.raw").write_bytes(bytes(512) + np.arange(4096 * 100, dtype="u1").tobytes())


def records(folder: Path, _: Path) -> None:
    """Write ids.bin: a header of 16 bytes, and records of four bytes."""
    (folder / "ids.bin").write_bytes(bytes(16) + np.arange(100, dtype="<i4").tobytes())


def costs(folder: Path, _: Path) -> None:
    """Write costs.xlsx, whose sheet 2024 has items and prices."""
    with xlsxwriter.Workbook(str(folder / "costs.xlsx")) as book:
        sheet = book.add_worksheet("2024")
        for row, cells in enumerate([("item", "price"), ("tea", 2.5), ("rye", 3), ("tea", 2.25)]):
            sheet.write_row(row, 0, cells)


#: Files of a page, by its name; other pages name none.
FILES: dict[str, Sequence[Maker]] = {
    "README.md": (lineitem, jobs, access(";"), log, tables, images("scan.bmp")),
    "docs/arrays.md": (jobs, raster, images("a.bmp")),
    "docs/display.md": (lineitem,),
    "docs/errors.md": (access(","),),
    "docs/formats.md": (log, app_log, costs),
    "docs/expressions.md": (lineitem, access(",")),
    "docs/how_to.md": (access(","), log, jobs),
    "docs/neighbours.md": (access(","),),
    "docs/random-access.md": (access(","),),
    "docs/runs.md": (lineitem, jobs),
    "docs/shared-memory.md": (access(","),),
    "docs/sql.md": (access(";"), records),
}


def make_files(page: str, folder: Path, tpch: Path) -> None:
    """Make the files of a page in an empty folder; `tpch` has the tables of TPC-H as CSV."""
    for maker in FILES.get(page, ()):
        maker(folder, tpch)
