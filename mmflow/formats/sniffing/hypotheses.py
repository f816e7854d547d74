"""Hypotheses: the dialects that a text may have, of all those that its characters allow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.formats.sniffing.records import SPACES, Hypothesis
from mmflow.lazy.patterns import lazy_regex

__all__ = ["hypotheses"]

_SINGLE = ",;\t|:^~§ \x01\x1f&=!#*@$/"
_RUN = lazy_regex(r"[^\w\s\"'.()\[\]{}+-]{2,4}")
#: Run of blanks that delimits: one of tabs alone is tabs with empty fields between them.
_BLANKS = lazy_regex(r"\S(?:\t+ [ \t]*| [ \t]+)\S")
_LINES = 120


def hypotheses(texts: Sequence[str], given: Mapping[str, Any]) -> list[Hypothesis]:
    """Return the dialects that texts may have.

    Args:
        texts: Texts of the samples.
        given: Options that are known: `delimiter`, `quote`, `escape`, `trim`.
    """
    lines = [line for line in texts[0].split("\n")[:_LINES] if line.strip()]
    known = given.get("delimiter")
    delimiters = _delimiters(lines) if known is None else [known]
    return [
        Hypothesis(delimiter, quote, escape, trim)
        for delimiter in delimiters
        for quote in _quotes(texts, delimiter, given.get("quote"))
        for escape in _escapes(texts, delimiter, quote, given.get("escape"))
        for trim in _trims(texts, delimiter, quote, given.get("trim"))
    ]


def _delimiters(lines: Sequence[str]) -> list[str]:
    """Return the texts that stand in at least a third of the lines; a comma, too, for tables of one column."""
    least = max(1, len(lines) // 3)
    found = [d for d in _SINGLE if sum(d in line for line in lines) >= least]
    if sum(_BLANKS.search(line) is not None for line in lines) >= least:
        found.append(SPACES)
    runs: Counter[str] = Counter()
    for line in lines:
        runs.update(set(_RUN.findall(line)))
    for run, count in runs.items():
        # A run of delimiters is one only where they never stand alone: `a||b` has an empty field, or two marks.
        alone = sum(line.replace(run, "").count(run[0]) for line in lines)
        if count >= max(2, 2 * len(lines) // 3) and not alone:
            found.append(run)
    return list(dict.fromkeys([*found, ","]))


def _quotes(texts: Sequence[str], delimiter: str, known: str | None) -> list[str]:
    if known is not None:
        return [known]
    apart = r"\s" if delimiter == SPACES else re.escape(delimiter)
    found = ['"']
    if any(re.search(f"(?:^|{apart}) ?'[^'\n]*'(?:{apart}|$)", text, re.MULTILINE) for text in texts):
        found.append("'")
    if any(re.search(f'(?:^|{apart})"', text, re.MULTILINE) for text in texts):
        found.append("")
    return found


def _escapes(texts: Sequence[str], delimiter: str, quote: str, known: str | None) -> list[str]:
    if known is not None:
        return [known]
    if not quote or not any("\\" + quote in text for text in texts):
        return [""]
    apart = r"\s" if delimiter == SPACES else re.escape(delimiter)
    # `"C:\dir\",` ends with a backslash, and `"a ""b"" c"` has quotes of the other kind.
    other = re.compile(
        rf"(?:^|{apart}){quote}[^{quote}\n]*\\{quote}(?:{apart}|$)|[^\\\n]{quote}{quote}(?!{apart}|$)",
        re.MULTILINE,
    )
    return ["\\", ""] if any(map(other.search, texts)) else ["\\"]


def _trims(texts: Sequence[str], delimiter: str, quote: str, known: bool | None) -> list[bool]:
    if known is not None:
        return [known]
    if delimiter in (SPACES, " "):
        return [False]
    return [False, True] if any(f"{delimiter} " in t or f" {delimiter}" in t for t in texts) else [False]
