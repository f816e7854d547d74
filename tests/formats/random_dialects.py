"""Random tables that Python's csv module writes in random dialects, for tests of the sniffer."""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
from dataclasses import dataclass
from typing import Literal

__all__ = ["RandomFile", "random_file"]

_WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "Zürich",
    "Köln",
    "Málaga",
    "São",
    "kiwi",
    "lemon",
    "apple",
    "pear",
    "table",
    "chair",
    "red",
    "green",
    "blue",
    "John",
    "Smith",
    "Anna",
    "Lee",
    "north",
    "south",
    "east",
    "west",
]
_NAMES = ("id", "name", "value", "day", "amount", "city", "first name", "Größe", "x", "y")
_KINDS = ("int", "real", "word", "text", "date", "bool", "code", "time", "mail", "empty")
_TITLES = ("Report of sales", "Created by tool", "Version 1.2 (beta)", "")


@dataclass(frozen=True, slots=True)
class RandomFile:
    """File, and what its writer knows.

    Attributes:
        data: Its bytes.
        header: It has one.
        rows: Its records, the header among them, without blanks around values.
    """

    data: bytes
    header: bool
    rows: list[list[str]]


def random_file(seed: int) -> RandomFile:
    """Return the file of a seed."""
    r = random.Random(seed)
    count, width = r.choice([1, 2, 3, 5, 10, 30, 100]), r.choice([1, 2, 3, 4, 6, 12, 30])
    delimiter = r.choice(",,,;;\t\t|:^~\x01 ")
    decimal = "," if delimiter in ";\t|" and r.random() < 0.5 else "."
    day = r.choice(["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y"])
    kinds = [r.choice(_KINDS) for _ in range(width)]
    quote, escape = r.choice('"""\''), r.random() < 0.15
    quoting: Literal[0, 1] = r.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    rows = [[_value(kind, r, decimal, day) for kind in kinds] for _ in range(count)]
    header = r.random() < 0.8
    if header:
        rows.insert(0, [f"{r.choice(_NAMES)}{i or ''}" for i in range(width)])
    out = io.StringIO()
    csv.writer(
        out, delimiter=delimiter, quotechar=quote, doublequote=not escape, escapechar="\\" if escape else None,
        quoting=quoting, lineterminator=r.choice(["\n", "\r\n"]),
    ).writerows(rows)  # fmt: skip
    lines = r.choice([0, 0, 0, 0, 1, 3]) if width > 1 else 0
    title = "".join(r.choice(_TITLES) + "\n" for _ in range(lines)).lstrip("\n")
    encoding = r.choice(["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16"])
    kept = [[c.strip() for c in row] for row in rows if width > 1 or row != [""]]
    return RandomFile((title + out.getvalue()).encode(encoding), header, kept)


def _value(kind: str, r: random.Random, decimal: str, day: str) -> str:
    match kind:
        case "int":
            return str(r.randint(-999, 99999))
        case "real":
            return f"{r.uniform(-1000, 1000):.{r.choice([1, 2, 4])}f}".replace(".", decimal)
        case "word":
            return r.choice(_WORDS)
        case "text":
            more = r.choice(["", "", ", etc", "; so", "!", " (x)", ' "q"', " a|b"])
            return " ".join(r.choice(_WORDS) for _ in range(r.randint(1, 6))) + more
        case "date":
            return (dt.date(2000, 1, 1) + dt.timedelta(r.randint(0, 9000))).strftime(day)
        case "bool":
            return r.choice(["true", "false"])
        case "code":
            return r.choice("ABC") + str(r.randint(100, 999))
        case "time":
            return f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}"
        case "mail":
            return r.choice(_WORDS[:3]) + "@example.org"
        case _:
            return r.choice(["", "", "x"])
