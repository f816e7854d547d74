"""Pieces of HTML. What is `Html` is safe to put in a page; all else goes through `safe`, which mypy checks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NewType

from mmflow.runs.wording import count, duration, size, visible

__all__ = [
    "NOTHING",
    "Cell",
    "Html",
    "cell",
    "counted",
    "folded",
    "joined",
    "number",
    "safe",
    "seconds",
    "section",
    "sized",
    "table",
]

Html = NewType("Html", str)
NOTHING = Html("")


def safe(value: object, most: int = 2000) -> Html:
    """Text from data, for text and attributes alike.

    >>> safe("<script>'\\x00")
    '&lt;script&gt;&#x27;\\\\x00'
    """
    return Html(html.escape(visible(str(value), most)))


def joined(parts: Iterable[Html], between: str = "") -> Html:
    return Html(between.join(parts))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        html: What stands in it.
        order: What its column is sorted by; numbers stand right.
        share: Length of a bar behind it.
        wide: It is long and may be broken anywhere, so it wants room.
    """

    html: Html
    order: float | None = None
    share: float | None = None
    wide: bool = False


def cell(value: object, most: int = 2000, *, wide: bool = False) -> Cell:
    return Cell(safe(value, most), wide=wide)


def number(value: float) -> Cell:
    return Cell(safe(f"{value:,.0f}"), value)


def sized(value: float) -> Cell:
    return Cell(safe(size(value)), value)


def seconds(value: float, share: float | None = None) -> Cell:
    return Cell(safe(duration(value)), value, share)


def table(label: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, sortable: bool = True) -> Html:
    """A table that scrolls by itself where the window is narrow. A leading `#` in a head: a column of numbers."""
    made = []
    for head in heads:
        kind = ' class="n"' if head.startswith("#") else ""
        name = safe(head.lstrip("#"))
        made.append(f'<th scope="col"{kind}>{f"<button>{name}</button>" if sortable else name}</th>')
    body = "".join(f"<tr>{''.join(map(_td, row))}</tr>\n" for row in rows)
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(label)}"><table>'
        f"<thead><tr>{''.join(made)}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def _td(c: Cell) -> str:
    if c.wide:
        return f'<td class="w">{c.html}</td>'
    order = "" if c.order is None else f' class="n" data-v="{c.order:.6g}"'
    bar = "" if c.share is None else f' style="--share:{100 * c.share:.1f}%"'
    return f"<td{order}{bar}>{c.html}</td>"


def section(name: str, title: str, note: str, body: Html) -> Html:
    """A part of the page, with its anchor."""
    more = f'<p class="note">{safe(note)}</p>' if note else ""
    head = f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{safe(title)}</h2>'
    return Html(f"{head}{more}\n{body}</section>\n")


def folded(summary: str, body: Html, *, opened: bool = False) -> Html:
    """Something that readers unfold."""
    return Html(f"<details{' open' if opened else ''}><summary>{safe(summary)}</summary>{body}</details>")


def counted(value: float) -> Cell:
    """A count in few digits, the exact one as its title."""
    return Cell(Html(f'<span title="{value:,.0f}">{safe(count(value))}</span>'), value)
