"""Kinds of cells: what a text looks like, and how well it looks like one value.

The type score of van den Burg, Nazábal and Sutton (2019), "Wrangling messy CSV files by detecting row and type
patterns", Data Mining and Knowledge Discovery 33: the share of cells whose kind is known. Here a text that holds what
often delimits fields counts for less, and one in quotes for as much as a number.
"""

from __future__ import annotations

from functools import lru_cache

from mmflow.formats.sniffing.records import Quoted
from mmflow.lazy.patterns import lazy_regex

__all__ = ["NULLS", "TYPED", "cell_score", "kind_of"]

#: Texts that mean that there is no value.
NULLS = frozenset(
    ("NA", "N/A", "n/a", "#N/A", "NULL", "null", "Null", "None", "NaN", "nan", "\\N", "-", "--", "?")
)
#: Kinds that a header seldom has.
TYPED = frozenset(("int", "real", "comma", "grouped", "percent", "money", "date", "time", "moment", "bool", "uuid",
                   "address"))  # fmt: skip

_MONTH = r"(?:[^\W\d_]{3,9}\.?)"
_TIME = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?: ?[AaPp]\.?[Mm]\.?)?"
_TWO = "[0-9]{1,2}"
_DAY = "|".join(
    (
        *(
            f"[0-9]{{4}}{mark}{_TWO}{mark}{_TWO}|{_TWO}{mark}{_TWO}{mark}(?:[0-9]{{4}}|[0-9]{{2}})"
            for mark in ("-", "/", r"\.")
        ),
        rf"{_TWO}[- .]{{1,2}}{_MONTH}[- ,]{{1,2}}[0-9]{{4}}",
        rf"{_MONTH} {_TWO},? [0-9]{{4}}",
        rf"{_TWO}-{_MONTH}-{_TWO}",
    )
)
_GROUPS = "|".join(
    rf"[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+" for mark in (",", r"\.", "'", " ", "\u00a0", "\u202f")
)
_NUMBER = r"[-+]?(?:[0-9]+(?:[.,'\u00a0\u202f ][0-9]{3})*(?:[.,][0-9]+)?|[.,][0-9]+)"
_KINDS = [
    ("empty", r"\s*"),
    ("int", r"[-+]?[0-9]+"),
    ("real", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?"),
    ("comma", r"[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?"),
    ("grouped", rf"[-+]?(?:{_GROUPS})(?:[.,][0-9]+)?"),
    ("bool", r"(?i:true|false)"),
    ("time", _TIME),
    ("moment", rf"(?:{_DAY})[T ,]{{1,2}}{_TIME}(?: ?(?:Z|[-+][0-9]{{2}}:?[0-9]{{2}}|UTC))?"),
    ("date", _DAY),
    ("percent", rf"{_NUMBER} ?%"),
    ("money", rf"[-+]?[$€£¥] ?{_NUMBER}|{_NUMBER} ?[$€£¥]"),
    ("uuid", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    ("address", r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"),
    ("url", r"(?:https?|ftp|s3)://\S+"),
    ("mail", r"[\w.+-]+@[\w-]+\.[\w.-]+"),
    ("word", r"[^\W\d][\w.\-]*"),
    ("text", r"[^,;|\t\x00-\x1f:=<>{}^~]*"),
    ("clause", r"[^;|\t\x00-\x1f^~]*"),
]


_ANY = lazy_regex("|".join(rf"(?P<{name}>{pattern})\Z" for name, pattern in _KINDS))
_QUOTES = frozenset("\"'")
_SCORES = {"text": 0.95, "clause": 0.6, "empty": 0.9, "word": 1.0, "other": 0.1}


@lru_cache(maxsize=1 << 14)
def _kind(text: str) -> str:
    if len(text) > 400:
        return "clause"
    if text in NULLS:
        return "null"
    found = _ANY.match(text.strip(" "))
    return "other" if found is None or found.lastgroup is None else found.lastgroup


def kind_of(cell: str) -> str:
    """Return the kind of a cell: `int`, `date`, `word`, `empty`, `null`, ..., and `other` where it looks like none.

    >>> [kind_of(c) for c in ("12", "1,5", "1.234,50", "31.12.2024", "a b", "", "x;y")]
    ['int', 'comma', 'grouped', 'date', 'text', 'empty', 'other']
    """
    return _kind(str(cell))


def cell_score(cell: str) -> float:
    """Return how well a cell looks like one value, in [0, 1]."""
    if isinstance(cell, Quoted):
        return 1.0
    if cell[:1] in _QUOTES or cell[-1:] in _QUOTES:
        # A quote that this hypothesis has not: half of a field that another would leave whole, or all of it.
        text = cell.strip(" ")
        return 0.5 if len(text) > 1 and text[0] == text[-1] else 0.2
    return _SCORES.get(_kind(cell), 1.0)
