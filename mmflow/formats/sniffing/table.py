"""Table in the records of a text under a hypothesis: where it begins and ends, comments, and how regular it is.

The pattern score of van den Burg, Nazábal and Sutton (2019, see `kinds`): rows of one length, and of more cells than
one, are likelier than others. It is taken of the table alone, without what stands before and behind it, as in Döhmen,
Mühleisen and Boncz (2017), "Multi-hypothesis CSV parsing", SSDBM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mmflow.formats.sniffing.kinds import TYPED, cell_score, kind_of
from mmflow.formats.sniffing.records import Hypothesis, Quoted, Record
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["COMMENTS", "Table", "find_table"]

#: Texts that comments begin with.
COMMENTS = ("#", "//", "%", "--", "!", ";", "*")
#: Records at the front among which a title or a preamble is looked for.
_FRONT = 60
#: Lines at the end that may be a footer.
_FOOTER = 8
#: Weights of delimiters: how often tables have them, beside the others.
_WEIGHTS = {",": 1.0, ";": 1.0, "\t": 1.0, "|": 0.99, "\x01": 0.98, "\x1f": 0.98, "~": 0.93, "^": 0.93, "§": 0.93,
            ":": 0.55, r"\s+": 0.6, " ": 0.5, "&": 0.5, "=": 0.3, "/": 0.4, "#": 0.5, "*": 0.5, "!": 0.5,
            "@": 0.4, "$": 0.4}  # fmt: skip
_OTHER_WEIGHT = 0.85
#: Characters of which a column has no values.
_MARKS = " |~^;,:*#@<>"
_CLOSING = lazy_regex(
    r"(?i)(?:grand |sub)?total|sum\b|summe|count\b|\(?[0-9,.]+ (?:rows|records|lines)|rows\b|records\b|end\b|eof\b"
    r"|source\b|notes?\b|\W*generated|copyright|©|page\b|--|==|\*|<"
)


@dataclass(frozen=True, slots=True)
class Table:
    """Table that a hypothesis makes of a text.

    Attributes:
        form: Hypothesis.
        rows: Records of the table, its header among them, of all pieces of the text.
        width: Number of cells that most of them have.
        skipped: Lines before the table, which is not comments alone.
        preamble: Number of records before the table that are neither blank nor comments.
        footer: Lines behind it; 0 where there are none, or the text goes on.
        comment: Text that comments begin with; empty: there are none.
        score: Score: pattern by type, in [0, 1].
        regular: Share of the rows that have `width` cells and are not broken.
    """

    form: Hypothesis
    rows: tuple[Record, ...]
    width: int
    skipped: int
    preamble: int
    footer: int
    comment: str
    score: float
    regular: float

    @property
    def full(self) -> list[Record]:
        """Rows of the usual width."""
        return [r for r in self.rows if len(r.cells) == self.width]


def find_table(
    form: Hypothesis, pieces: Sequence[Sequence[Record]], *, ends: bool, comment: str | None, skip: int | None
) -> Table | None:
    """Return the table that a hypothesis makes of a text; None: there is none.

    Args:
        form: Hypothesis.
        pieces: Records of the start of a text, and of pieces from further on.
        ends: The last piece reaches to the end of the text.
        comment: Text that comments begin with, where that is known.
        skip: Lines to skip, where that is known.
    """
    first, *others = pieces
    if skip is not None:
        first = [r for r in first if r.line >= skip]
    records = [r for r in first if r.cells]
    further = [r for piece in others for r in piece[1:] if r.cells]  # the first may begin inside of quotes
    if not records:
        return None
    width = _usual_width([*records, *further])
    comment = _comment([*records, *further], width, form) if comment is None else comment
    if comment:
        kept = [r for r in records if not r.raw.lstrip().startswith(comment)]
        records, further = kept or records, [r for r in further if not r.raw.lstrip().startswith(comment)]
        width = _usual_width([*records, *further])
    begin = 0 if skip is not None else _begin(records, width)
    end = _end(further or records[begin:], width) if ends else 0
    if end and further:
        further, tail = further[:-end], further[-end:]
    elif end:
        records, tail = records[:-end], records[-end:]
    else:
        tail = []
    rows = (*records[begin:], *further)
    if not rows:
        return None
    score, regular = _score(form, rows, width)
    if not regular:
        return None
    score *= 1 - 0.5 * begin / (begin + len(rows))  # lines that are skipped are not explained
    lines = records[begin].line if begin else 0
    last = (others or [first])[-1][-1]
    footer = last.line + last.lines - tail[0].line if tail else 0
    return Table(form, rows, width, lines, begin, footer, comment, score, regular)


def _usual_width(records: Sequence[Record]) -> int:
    """Return the most frequent width, that of the later half of the records counting twice."""
    counts = Counter(len(r.cells) for r in records)
    counts.update(len(r.cells) for r in records[len(records) // 2 :])
    most = max(counts.values())
    return max(width for width, n in counts.items() if n == most)


def _comment(records: Sequence[Record], width: int, form: Hypothesis) -> str:
    for mark in COMMENTS:
        if mark == form.delimiter:
            continue
        marked = [r for r in records if r.raw.lstrip().startswith(mark)]
        if not marked or len(marked) == len(records):
            continue
        odd = [r for r in marked if len(r.cells) != width or r.broken or (width == 1 and mark in ("#", "//"))]
        if odd and (mark in ("#", "//", "%", "--") or len(odd) == len(marked)):
            rest = _usual_width([r for r in records if not r.raw.lstrip().startswith(mark)])
            if rest >= width and _tells(marked, mark):
                return mark
    return ""


def _tells(marked: Iterable[Record], mark: str) -> bool:
    """Return whether the lines are comments, and no values that begin alike (`-- `, `*`, `!`)."""
    return mark in ("#", "//", "%") or all(r.raw.lstrip()[len(mark) :][:1] in (" ", "") for r in marked)


def _padded(record: Record) -> bool:
    """Return whether only the first cell of a wide record has text: a title of a spreadsheet, or nothing."""
    cells = record.cells
    return len(cells) > 2 and kind_of(cells[0]) not in TYPED and not any(c.strip() for c in cells[1:])


def _odd(record: Record, width: int) -> bool:
    return len(record.cells) != width or record.broken or _padded(record)


def _begin(records: Sequence[Record], width: int) -> int:
    """Return the number of the record with which the table begins, behind titles and other lines of other widths."""
    front = records[: min(_FRONT, max(1, len(records) - 1))]
    odd = [i for i, r in enumerate(front) if _odd(r, width)]
    while odd:
        last = odd[-1]
        usual = last + 1 - len(odd)
        rest = records[last + 1 :]
        if rest and len(odd) > 2 * usual and (usual == 0 or not _typed_row(records[odd[0] : last], width)):
            return last + 1
        odd.pop()
    return 0


def _typed_row(records: Iterable[Record], width: int) -> bool:
    """Return whether a row of the usual width has a typed cell, so that it is one of the table."""
    return any(
        len(r.cells) == width > 1 and any(kind_of(c) in TYPED for c in r.cells)
        for r in records
        if not _padded(r)
    )


def _end(records: Sequence[Record], width: int) -> int:
    """Return the number of records behind the table: lines of other widths that say what a footer says."""
    count = 0
    for record in reversed(records[-_FOOTER:]):
        if not _odd(record, width):
            break
        count += 1
    if count >= min(_FOOTER, len(records) - 1):
        return 0
    usual = Counter(
        kind_of(r.cells[0]) for r in records[: -count or None] if len(r.cells) == width
    ).most_common(1)
    tail = records[len(records) - count :]
    # A row that is short may as well be cut off, or lack a value, which is for the reader to say.
    if all(_CLOSING.match(r.raw.strip(" \"'")) for r in tail[:1]):
        return count
    told = (
        usual
        and usual[0][0] in TYPED
        and all(kind_of(r.cells[0]) in ("text", "clause", "other") for r in tail)
    )
    return count if told else 0


def _score(form: Hypothesis, rows: Sequence[Record], width: int) -> tuple[float, float]:
    """Return the score of a table, and the share of its rows that are regular."""
    usual = [r for r in rows if len(r.cells) == width and not r.broken]
    regular = len(usual) / len(rows)
    if not usual:
        return 0.0, 0.0
    weight = _WEIGHTS.get(form.delimiter, _OTHER_WEIGHT) if width > 1 else 0.45
    pattern = regular * regular * (1 - 0.3 / width if width > 1 else 0.7)
    body = usual[1:] or usual
    columns = list(zip(*(r.cells for r in body), strict=True))
    scores = [_column_score(column, name) for column, name in zip(columns, usual[0].cells, strict=True)]
    return max(0.0, weight * pattern * sum(scores) / width), regular


def _column_score(cells: Sequence[str], name: str) -> float:
    """Return how well a column looks like values of one kind: the type score, and the share of its usual kind."""
    kinds = Counter("text" if isinstance(c, Quoted) else kind_of(c) for c in cells)
    empty = kinds.pop("empty", 0) + kinds.pop("null", 0)
    if not name.strip(_MARKS) and not any(c.strip(_MARKS) for c in cells):
        return -1.0  # the inside of a longer delimiter
    if not kinds:
        return 0.6
    for name, like in (("word", "text"), ("clause", "text"), ("int", "real"), ("comma", "grouped")):
        if name in kinds and like in kinds:
            kinds[like] += kinds.pop(name)
    same = max(kinds.values()) / (len(cells) - empty)
    typed = sum(map(cell_score, cells)) / len(cells)
    # Blanks around each value are part of a delimiter that this hypothesis does not have.
    loose = sum(c != c.strip(" ") for c in cells) / len(cells)
    return (0.75 * typed + 0.25 * same) * (1 - 0.25 * loose)
