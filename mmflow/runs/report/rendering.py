"""Page of a run's report: blocks of plain data, which Jinja2 turns into HTML.

Invariant: no HTML is built here. Templates escape every value (autoescape), after control characters and the like
have been replaced (`_finalize`), so text from data can't become markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.lazy.dataclasses import dataclass
from mmflow.runs.report.formatting import count, duration, size, visible

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Block",
    "Cell",
    "Fold",
    "Heading",
    "Paragraph",
    "Preformatted",
    "Section",
    "Table",
    "count_cell",
    "duration_cell",
    "number_cell",
    "page_asset",
    "render_page",
    "size_cell",
    "stage_colour",
]

_COLOURS = 8


class Block:
    """Part of a section; `macro` is the template macro that renders it."""

    macro: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Heading(Block):
    """Heading within a section."""

    macro = "heading"
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph(Block):
    """Paragraph; `note` shows it in a softer colour."""

    macro = "paragraph"
    text: str
    note: bool = False


@dataclass(frozen=True, slots=True)
class Preformatted(Block):
    """Text with its line breaks."""

    macro = "preformatted"
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: Text of the cell.
        order: Value that its column is sorted by; such cells are aligned right.
        share: Length of a bar behind the text, from 0 to 1.
        wide: Whether the text may be long, and be broken anywhere.
        title: Text shown on hover.
        colour: CSS class of a swatch before the text.
        small: Second line in small letters; the first is then bold.
        code: Whether the text is set in a fixed-width font.
        details: Longer text that readers can unfold.
    """

    text: str
    order: float | None = None
    share: float | None = None
    wide: bool = False
    title: str = ""
    colour: str = ""
    bold: bool = False
    small: str = ""
    code: bool = False
    details: str = ""


@dataclass(frozen=True, slots=True)
class Table(Block):
    """Table that scrolls by itself in a narrow window. A head that begins with `#` is of a column of numbers."""

    macro = "table"
    label: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = True


@dataclass(frozen=True, slots=True)
class Fold(Block):
    """Blocks that readers can unfold."""

    macro = "fold"
    summary: str
    blocks: Sequence[Block]
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Section of the page; shown only if it has blocks."""

    id: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
    note: str = ""


def number_cell(value: float) -> Cell:
    return Cell(f"{value:,.0f}", value)


def count_cell(value: float) -> Cell:
    """Return a count in few digits, with the exact one on hover."""
    return Cell(count(value), value, title=f"{value:,.0f}")


def size_cell(value: float) -> Cell:
    return Cell(size(value), value)


def duration_cell(value: float, share: float | None = None) -> Cell:
    return Cell(duration(value), value, share)


def stage_colour(stage: int) -> str:
    """Return the CSS class of a stage's colour."""
    return f"c{stage % _COLOURS}"


# ---- rendering ------------------------------------------------------------------------------------------


class _Clipped(str):
    """Text that `visible` has cut to another length than the usual one."""

    __slots__ = ()


def _clip(value: object, most: int) -> _Clipped:
    return _Clipped(visible(str(value), most))


def _finalize(value: Any) -> Any:
    """Return a value as templates print it: text without control characters, at most 2,000 characters long."""
    done = isinstance(value, int | float | _Clipped) or hasattr(value, "__html__")
    return value if done else visible(str(value))


def page_asset(name: str) -> str:
    """Return the text of a file that belongs to the page."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415  (50 ms, only for reports)

    environment = Environment(
        autoescape=True,
        finalize=_finalize,
        loader=FunctionLoader(page_asset),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["clip"] = _clip
    return environment


def render_page(values: Mapping[str, Any], assets: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        values: Data of the page, all of it escaped.
        assets: Texts of the package (style, script), inserted as they are.
    """
    from markupsafe import Markup  # noqa: PLC0415  (comes with Jinja2)

    trusted = {name: Markup(text) for name, text in assets.items()}  # noqa: S704  (mmflow's own files)
    return _environment().get_template("page.html").render(**values, **trusted)
