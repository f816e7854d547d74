"""Tables for people, as text that fits a width and as HTML.

    l_orderkey  l_partkey  … 13 …  l_comment
         int64      int64          string
    ──────────  ─────────  ──────  ─────────────────────
             1      15518    …     egular courts above…
             …          …    …     …

Where the width does not suffice, long text is cut first, and then columns are left out in the middle. Numbers, dates
and times are never cut.

Invariant: a cell is one line without control characters, whatever the data. Only rows that are shown are kept.
"""

from __future__ import annotations

import html
import textwrap
import unicodedata
from collections import deque
from collections.abc import Iterable, Sequence

import pyarrow as pa

from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.sinks.screen import cut_text, text_width
from mmflow.sinks.writers.text import csv_fields, text_slices
from mmflow.sinks.writers.value_limits import UnwritableError

__all__ = ["NULL", "ShownRows", "cell_texts", "html_table", "is_right_aligned", "one_line", "text_table"]

_GAP = "  "
#: Null in a cell.
NULL = "NULL"
#: Text is cut to this width before columns are left out.
_TEXT_WIDTH = 20
#: Longer names and types are cut before columns are left out.
_NAME_WIDTH = 20
#: Characters of a cell of HTML.
_HTML_CHARACTERS = 200
_HTML_COLUMNS = 100
#: Numbers and dates stay on one line, and colors are those of the page, light or dark.
_TABLE = '<table style="white-space:nowrap;color:inherit;font-variant-numeric:tabular-nums">'
_TYPE = '<small style="font-weight:normal;opacity:.7">'
#: Characters without a width that belong to letters and emoji: they join their neighbors, or forbid it.
_JOINERS = "\u200c\u200d"
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class ShownRows:
    """First and last rows of batches, and the number of all of them.

    Attributes:
        schema: Schema of the batches.
        total: Number of rows so far.
    """

    def __init__(self, schema: pa.Schema, most: int | None) -> None:
        """Keep up to `most` rows; None: all."""
        self.schema = schema
        self.total = 0
        self._most = most
        self._kept = 0
        self._first: list[pa.RecordBatch] = []
        self._last: deque[pa.RecordBatch] = deque()
        self._last_rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the next batch."""
        self.total += batch.num_rows
        room = batch.num_rows if self._most is None else min(batch.num_rows, self._most - self._kept)
        if room:
            self._first.append(batch.slice(0, room))
            self._kept += room
        if self._most is None:
            return
        half = self._most // 2
        rest = batch.slice(max(room, batch.num_rows - half))
        if rest.num_rows:
            self._last.append(rest)
            self._last_rows += rest.num_rows
        while self._last and self._last_rows - self._last[0].num_rows >= half:
            self._last_rows -= self._last.popleft().num_rows

    @property
    def shown(self) -> int:
        """Number of rows that are shown."""
        return self._kept

    @property
    def gap(self) -> int | None:
        """Number of shown rows before those that are left out; None: all are shown."""
        if self._most is None or self.total <= self._most:
            return None
        return self._most - self._most // 2

    def cells(self, column: int, most: int) -> list[str | None]:
        """Return the values of a column as texts of one line, None for null; longer ones may be cut behind `most`."""
        found = [c for batch in self._first for c in cell_texts(batch.column(column), most)]
        if self.gap is None or self._most is None:
            return found
        found += [c for batch in self._last for c in cell_texts(batch.column(column), most)]
        return found[: self.gap] + found[len(found) - self._most // 2 :]


@dataclass(frozen=True, slots=True)
class _Column:
    """Column as texts. `exact`: its values are not cut. `least`, `natural`: widths in characters."""

    name: str
    kind: str
    cells: list[str | None]
    right: bool
    exact: bool
    least: int
    natural: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Columns of a table, their widths, and the number of columns that are left out between left and right."""

    left: list[_Column]
    right: list[_Column]
    widths: list[int]
    cut: int = 0


def text_table(
    rows: ShownRows, width: int | None, *, colors: bool = False, every_column: bool = False, count: str = ""
) -> str:
    """Return rows as lines of at most `width` characters, with the number of rows and columns below.

    Only a number, date or time that alone is wider than `width` makes a longer line.

    Args:
        rows: Rows.
        width: Largest number of characters of a line; None: no limit.
        colors: Whether the lines have escape codes for bold and dim text.
        every_column: Show all columns, where necessary in several tables one below the other.
        count: Text instead of the number of rows.
    """
    columns, dim = len(rows.schema), _DIM if colors else ""
    blocks = _blocks(rows, width) if every_column and width else [_fitted(rows, width)] if columns else []
    tables = ["".join(line + "\n" for line in _table(rows, block, colors=colors)) for block in blocks]
    text = _counts(rows, count, columns, columns - sum(block.cut for block in blocks))
    below = [text] if width is None else textwrap.wrap(text, width)
    return "\n".join(tables) + "".join(_styled(part, dim) + "\n" for part in below)


def _table(rows: ShownRows, block: _Block, *, colors: bool) -> list[str]:
    shown = [*block.left, *block.right]
    dim = _DIM if colors else ""
    middle = f"… {block.cut:,} …" if block.cut else ""
    dots = "…".center(len(middle))

    def line(texts: Sequence[str | None], between: str, style: str = "") -> str:
        aligned = [
            _styled(_aligned(NULL if t is None else t, w, right=c.right), dim if t is None else "")
            for t, w, c in zip(texts, block.widths, shown, strict=True)
        ]
        if middle:
            aligned.insert(len(block.left), between.ljust(len(middle)))
        return _styled(_GAP.join(aligned).rstrip(), style)

    head = [
        line([c.name for c in shown], middle, _BOLD if colors else ""),
        line([c.kind for c in shown], "", dim),
        line(["─" * w for w in block.widths], "─" * len(middle), dim),
    ]
    body = [line([c.cells[i] for c in shown], dots) for i in range(rows.shown)]
    if rows.gap is not None:
        body.insert(rows.gap, line(["…"] * len(shown), dots, dim))
    return head + body


def _counts(rows: ShownRows, count: str, columns: int, shown_columns: int) -> str:
    text = count or f"{rows.total:,} row{'s' * (rows.total != 1)}"
    if not count and rows.shown < rows.total:
        text += f", {rows.shown:,} shown"
    if shown_columns < columns:
        text += f"; {columns:,} columns, {shown_columns:,} shown"
    return f"({text})"


def _styled(text: str, style: str) -> str:
    return f"{style}{text}{_PLAIN}" if style and text else text


# ---- width ----------------------------------------------------------------------------------------


def _fitted(rows: ShownRows, width: int | None) -> _Block:
    """Return the columns that are shown."""
    count = len(rows.schema)
    if width is None:
        every = [_column(rows, i, None) for i in range(count)]
        return _Block(every, [], [c.natural for c in every])
    # Only so many can be shown: of thousands of columns, only these become texts.
    most = width // (1 + len(_GAP)) + 1
    made = {i: _column(rows, i, width) for i in range(count) if i < most or i >= count - most}
    if len(made) == count and _total(c.least for c in made.values()) <= width:
        return _whole(list(made.values()), width)
    left, right = _outer(made, count, width)
    shown = [*left, *right]
    cut = count - len(shown)
    room = width - _total([0] * len(shown)) - (len(_GAP) + len(f"… {cut:,} …") if cut else 0)
    return _Block(left, right, _grown(shown, room), cut)


def _whole(columns: list[_Column], width: int) -> _Block:
    return _Block(columns, [], _grown(columns, width - _total([0] * len(columns))))


def _blocks(rows: ShownRows, width: int) -> list[_Block]:
    """Return all columns in blocks that fit; each begins with the first column, which tells the rows apart."""
    columns = [_column(rows, i, width) for i in range(len(rows.schema))]
    blocks = [columns[:1]]
    for column in columns[1:]:
        if _total(c.least for c in (*blocks[-1], column)) > width and len(blocks[-1]) > 1:
            blocks.append(columns[:1])
        blocks[-1].append(column)
    return [_whole(block, width) for block in blocks]


def _total(widths: Iterable[int]) -> int:
    listed = list(widths)
    return sum(listed) + len(_GAP) * (len(listed) - 1)


def _outer(made: dict[int, _Column], count: int, width: int) -> tuple[list[_Column], list[_Column]]:
    """Return as many columns of both ends as fit, beginning with the first one, which is always shown."""
    room = width - len(f"… {count:,} …") - made[0].least
    left: list[_Column] = [made[0]]
    right: list[_Column] = []
    turn_right, blocked = True, False
    while len(left) + len(right) < count - 1:
        column = made.get(count - 1 - len(right) if turn_right else len(left))
        if column is not None and column.least + len(_GAP) <= room - len(_GAP):
            room -= column.least + len(_GAP)
            (right if turn_right else left).append(column)
            blocked = False
        elif blocked:
            break
        else:
            blocked = True
        turn_right = not turn_right
    return left, right[::-1]


def _grown(columns: Sequence[_Column], room: int) -> list[int]:
    """Return widths that use the room: each column gets its natural width, or as much as the others that want more."""
    widths = [c.least for c in columns]
    spare = room - sum(widths)
    if spare < 0 and len(columns) == 1 and not columns[0].exact:
        return [max(1, room)]
    while spare > 0:
        wanting = [i for i, c in enumerate(columns) if widths[i] < c.natural]
        if not wanting:
            break
        lowest = min(widths[i] for i in wanting)
        growing = [i for i in wanting if widths[i] == lowest]
        higher = [
            min(columns[i].natural for i in growing),
            *(widths[i] for i in wanting if widths[i] > lowest),
        ]
        step = min(min(higher) - lowest, spare // len(growing))
        if step == 0:
            for i in growing[:spare]:
                widths[i] += 1
            break
        for i in growing:
            widths[i] += step
        spare -= step * len(growing)
    return widths


def _column(rows: ShownRows, number: int, width: int | None) -> _Column:
    field = rows.schema.field(number)
    kind = _value_type(field.type)
    text = pa.types.is_nested(kind) or _is_text(kind)
    # Cells longer than any line are cut before they are measured.
    cells = rows.cells(number, 1 << 20 if width is None or not text else width + 1)
    name, shown_type = one_line(field.name) or '""', type_text(field.type)
    right = is_right_aligned(kind)
    inner = max((text_width(NULL if c is None else c) for c in cells), default=0)
    natural = max(inner, text_width(name), len(shown_type))
    least = min(natural, _TEXT_WIDTH) if text else max(inner, min(natural, _NAME_WIDTH))
    return _Column(name, shown_type, cells, right, not text, least, natural)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_right_aligned(kind: pa.DataType) -> bool:
    """Return whether values of a type are numbers."""
    kind = _value_type(kind)
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return numeric and not isinstance(kind, pa.BaseExtensionType)


def _is_text(kind: pa.DataType) -> bool:
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
              pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)  # fmt: skip
    return isinstance(kind, pa.BaseExtensionType) or any(check(kind) for check in checks)


def _aligned(text: str, width: int, *, right: bool) -> str:
    text = cut_text(text, width)
    padding = " " * (width - text_width(text))
    return padding + text if right else text + padding


# ---- cells ----------------------------------------------------------------------------------------


def cell_texts(column: pa.Array, most: int) -> list[str | None]:
    """Return values as short texts of one line each; None for null."""
    cells: list[str | None] = []
    for piece in text_slices(pa.RecordBatch.from_arrays([column], names=[""])):
        values = piece.column(0)
        try:
            quoted = csv_fields(values, ",", "")
        except UnwritableError:  # years beyond 9999; a table is not read back, so they may be shown
            quoted = pa.array(list(map(str, numpy_values(values))), pa.string())
        for text, valid in zip(quoted.to_pylist(), values.is_valid().to_pylist(), strict=True):
            cells.append(one_line(_unquoted(text), most) if valid else None)
    return cells


def _unquoted(text: str) -> str:
    plain = text[1:-1].replace('""', '"') if text.startswith('"') else text
    return f'"{plain}"' if plain == NULL else plain  # the text, not a null


def one_line(text: str, most: int | None = None) -> str:
    """Return text with escapes for control characters and for those that reverse others.

    >>> print(one_line("a\\nb\\x1b[31m\\u202e"), one_line("abcdef", 3))
    a\\nb\\x1b[31m\\u202e abc…
    """
    if most is not None and len(text) > most:
        text = text[:most] + "…"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or _harmless(c) else c.encode("unicode_escape").decode() for c in text
    )


def _harmless(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) == "Zs"


# ---- HTML -----------------------------------------------------------------------------------------


def html_table(rows: ShownRows) -> str:
    """Return rows as an HTML table with names and types."""
    count = len(rows.schema)
    half = _HTML_COLUMNS // 2
    numbers = list(range(count)) if count <= _HTML_COLUMNS else [*range(half), *range(count - half, count)]
    columns = [_column(rows, i, _HTML_CHARACTERS) for i in numbers]
    cut = count - len(columns)

    def line(tag: str, cells: Sequence[str], between: str) -> str:
        parts = [
            f'<{tag} style="text-align:{"right" if c.right else "left"}">{text}</{tag}>'
            for c, text in zip(columns, cells, strict=True)
        ]
        if cut:
            parts.insert(half, f"<{tag}>{between}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    head = line(
        "th",
        [f"{html.escape(c.name)}<br>{_TYPE}{html.escape(c.kind)}</small>" for c in columns],
        f"… {cut:,} more …",
    )
    body: list[str] = []
    for number in range(rows.shown):
        if number == rows.gap:
            body.append(line("td", ["…"] * len(columns), "…"))
        cells = (c.cells[number] for c in columns)
        body.append(line("td", ["<i>NULL</i>" if c is None else html.escape(c) for c in cells], "…"))
    if rows.gap is not None:
        body.insert(rows.gap, line("td", ["…"] * len(columns), "…"))
    return f"{_TABLE}<thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
