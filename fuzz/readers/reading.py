"""One damaged file, read in every way: rows that agree with each other and with an oracle, or an error of mmflow."""

from __future__ import annotations

import contextlib
import os
import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

import mmflow as mf
from mmflow.errors import MmflowError, PlanError

__all__ = ["FoundError", "Place", "Read", "compare_rows", "read_every_way"]

#: What opens a file in a session.
Read = Callable[[mf.Session, str], mf.Dataset]
#: Rows that an independent reader finds, or None if it has no opinion.
Oracle = Callable[[bytes, mf.Dataset], "list[dict[str, Any]] | None"]


class FoundError(Exception):
    """Something that a reader must not do."""


@dataclass
class Place:
    """Place and tools of a worker for its inputs.

    Attributes:
        folder: Folder for files, empty before each input.
        whole: Session that reads a file as one shard, mapped. cut: one of small shards, by read calls.
        said: What happened to this input: messages without names and numbers.
        some: Whether an input is read in some of the ways, others for others: three times as many inputs.
        enter: Notes in which part of the check a crash would be: `mmflow` or `oracle`.
    """

    folder: str
    whole: mf.Session
    cut: mf.Session
    some: bool = False
    said: list[str] = field(default_factory=list)
    chosen: random.Random = field(default_factory=random.Random)
    enter: Callable[[str], None] = lambda part: None

    def begin(self, data: bytes) -> None:
        """Begin with an input: its ways follow from its bytes."""
        self.said.clear()
        self.chosen.seed(zlib.crc32(data))

    def takes(self, chance: float) -> bool:
        """Return whether this input is read in one more way."""
        return not self.some or self.chosen.random() < chance

    def says(self, what: object) -> None:
        """Note an outcome."""
        text = re.sub(r"'[^']*'|\"[^\"]*\"|b'.*|[\d,.]+", "", str(what).replace(self.folder, ""))
        self.said.append(f"{type(what).__name__} {text[:120]}")


def _rows(table: pa.Table) -> list[str]:
    try:
        return [repr(row) for row in table.to_pylist()]
    except (ValueError, OverflowError):  # moments that Python has no value for
        return [column.combine_chunks().to_string(window=1 << 20) for column in table.columns]


def _attempt(place: Place, read: Callable[[], pa.Table]) -> pa.Table | MmflowError:
    try:
        table = read()
    except MmflowError as error:
        if "panic" in str(error).lower():
            raise FoundError(f"a panic: {error}") from error
        place.says(error)
        return error
    table.validate(full=True)
    return table


def _query(place: Place, session: mf.Session, query: str, ds: mf.Dataset) -> pa.Table | MmflowError:
    return _attempt(place, lambda: session.sql(query, d=ds).to_arrow())


def _plain(error: object) -> str:
    """Return an error without the encoding that is proposed, which depends on how much of the file is at hand."""
    return re.sub(r"; it is likely [^:]*: set encoding='[^']*'", "", str(error))


def compare_rows(one: Any, other: Any, names: str) -> None:
    """Compare two outcomes: the same rows, or the same error.

    Raises:
        FoundError: They differ.
    """
    if isinstance(one, pa.Table) != isinstance(other, pa.Table):
        shown = [
            f"{o.num_rows} rows" if isinstance(o, pa.Table) else f"{type(o).__name__}: {o}"
            for o in (one, other)
        ]
        raise FoundError(f"{names} differ: {shown[0]}; {shown[1]}")
    if isinstance(one, pa.Table):
        if one.schema != other.schema:
            raise FoundError(f"{names} differ in their schemas: {one.schema}; {other.schema}")
        left, right = _rows(one), _rows(other)
        if left != right:
            where = next(
                (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
                min(len(left), len(right)),
            )
            raise FoundError(
                f"{names} differ: {len(left)} and {len(right)} rows; row {where}: "
                f"{left[where : where + 1]}; {right[where : where + 1]}"
            )
    elif _plain(one) != _plain(other) and "it is damaged" not in str(one):  # in the words of a library
        raise FoundError(f"{names} differ in their errors: {one}; {other}")


def read_every_way(
    place: Place, path: str, read: Read, oracle: Oracle | None = None, *, empty_is_null: bool = False
) -> pa.Table | None:
    """Read a file in one shard and in many, whole and by columns, by queries and by numbers.

    Args:
        place: Sessions. path: File. read: Opens it. oracle: Independent reader of it.
        empty_is_null: Whether the oracle knows no difference between text that is empty and null.

    Raises:
        FoundError: Two ways differ, or one differs from the oracle.
    """
    try:
        ds = read(place.whole, path)
        names = ds.columns
    except MmflowError as error:
        place.says(error)
        with contextlib.suppress(MmflowError):
            read(place.cut, path)
            raise FoundError(f"one session can open it, the other says: {error}") from error
        return None
    whole = _attempt(place, ds.to_arrow)
    cut_ds = read(place.cut, path)
    cut = _attempt(place, cut_ds.to_arrow)
    compare_rows(whole, cut, "one shard and many")
    if place.takes(0.3):
        count = _query(place, place.cut, "SELECT count(*) AS n FROM d", cut_ds)
        n = count["n"].to_pylist() if isinstance(count, pa.Table) else None
        if isinstance(whole, pa.Table) and n not in (None, [whole.num_rows]):
            raise FoundError(f"count(*) is {n}, but there are {whole.num_rows} rows")
    if names:
        quoted = names[0].replace('"', '""')
        for session, table in ((place.whole, ds), (place.cut, cut_ds)):
            if not place.takes(0.25):
                continue
            column = _query(place, session, f'SELECT "{quoted}" FROM d', table)
            if isinstance(whole, pa.Table) and isinstance(column, pa.Table):
                compare_rows(whole.select([0]), column.rename_columns([names[0]]), "all columns and one")
        if place.takes(0.3):
            _query(place, place.whole, f'SELECT count(*) AS n FROM d WHERE "{quoted}" > 7', ds)
        if place.takes(0.3):
            _query(place, place.cut, f'SELECT "{quoted}", count(*) AS n FROM d GROUP BY "{quoted}"', cut_ds)
    by_number = place.takes(0.3)
    if isinstance(whole, pa.Table):
        rows = whole.num_rows
        numbers = sorted({n for n in (0, 17, rows // 2, rows - 1) if 0 <= n < rows})
        if numbers and by_number:
            taken = _attempt(place, lambda: ds.take(numbers))
            if not isinstance(taken, PlanError):  # formats without rows by number
                compare_rows(whole.take(numbers), taken, "rows and rows by number")
        if oracle is not None:
            with open(path, "rb") as file:
                data = file.read()
            place.enter("oracle")
            expected = oracle(data, ds)
            place.enter("mmflow")
            if expected is not None:
                _check_oracle(whole, expected, empty_is_null=empty_is_null)
        place.says(f"rows {rows.bit_length()} {len(names)}")
        return whole
    if by_number:
        with contextlib.suppress(MmflowError):
            ds.take([0, 17])
    return None


def _check_oracle(table: pa.Table, expected: list[dict[str, Any]], *, empty_is_null: bool) -> None:
    try:
        rows = table.to_pylist()
    except (ValueError, OverflowError):
        return
    if empty_is_null:
        rows = [{name: value or None for name, value in row.items()} for row in rows]
    if len(rows) != len(expected):
        raise FoundError(f"{len(rows)} rows, the oracle has {len(expected)}")
    for number, (row, wanted) in enumerate(zip(rows, expected, strict=True)):
        if repr(row) != repr(wanted):
            raise FoundError(f"row {number} is {row}, the oracle has {wanted}")


def save(place: Place, name: str, data: bytes) -> str:
    """Write a file into the folder of the input, and return its path."""
    path = os.path.join(place.folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    return path
