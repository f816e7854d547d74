"""The sniffer: the best few hypotheses about samples of a file, as proposals.

The score of a hypothesis is the consistency measure of van den Burg, Nazábal and Sutton (2019, see `kinds`):
pattern score by type score. As in Döhmen, Mühleisen and Boncz (2017, see `table`), and in DuckDB's sniffer after them,
what follows from a dialect (where the table begins, its header, styles of values) is found for each of the best ones,
not for all. The confidence is mmflow's: it falls with the lead over the next hypothesis that makes another table, with
the share of rows that fit, and with the number of rows that were seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.formats.sniffing.encoding import Decoded, decode_samples
from mmflow.formats.sniffing.headers import find_header
from mmflow.formats.sniffing.hypotheses import hypotheses
from mmflow.formats.sniffing.proposals import Proposal
from mmflow.formats.sniffing.records import SPACES, Hypothesis, Record, split_records
from mmflow.formats.sniffing.styles import Styles, find_styles
from mmflow.formats.sniffing.table import Table, find_table
from mmflow.lazy.dataclasses import dataclass

__all__ = ["sniff"]

#: Records of a piece that decide between hypotheses, and that are looked at for values.
_FIRST, _ALL = 120, 1000
#: Lines of the end of a file.
_END = 100
#: Proposals that are returned, and the hypotheses that are looked at in full.
_MOST = 3
#: Lead over the next hypothesis, as a share of the score, that leaves no doubt.
_LEAD = 0.22
#: Options without which the others of a proposal are of no use.
_FRAME = ("encoding", "comment", "skip_rows", "skip_footer", "header", "trim")


def sniff(
    samples: Sequence[bytes],
    *,
    ends: bool,
    given: Mapping[str, Any] | None = None,
    known: frozenset[str] | None = None,
) -> list[Proposal]:
    """Return proposals of options for samples of a CSV file, the best first; none where they are no text.

    Args:
        samples: Bytes of the start of a file, then of places further on that begin with a line.
        ends: The last sample reaches to the end of the file.
        given: Options that are known, which the proposals go with and don't repeat.
        known: Names of options that may be proposed; None: all.

    Examples:
        >>> best = sniff([b"Report\\n\\nday;x\\n31.12.2024;1,5\\n30.12.2024;2,25\\n29.12.2024;3,0\\n"], ends=True)[0]
        >>> best.options
        {'delimiter': ';', 'skip_rows': 2, 'decimal': ',', 'date_format': '%d.%m.%Y'}
    """
    given = given or {}
    decoded = decode_samples(samples, given.get("encoding"))
    if decoded is None or not any(t.strip() for t in decoded.texts):
        return []
    ends = ends and len(decoded.texts) == len(samples)
    excel = _excel_line(decoded.texts[0]) if "delimiter" not in given else None
    texts = _with_end(decoded.texts) if ends else decoded.texts
    bound = given if excel is None else {**given, "delimiter": excel, "skip_rows": 1}
    tables = _tables(texts, bound, _FIRST, ends=ends)
    found = []
    for rank, table in enumerate(tables[:_MOST]):
        lead = _lead(tables, rank)
        full = _in_full(decoded.texts if _is_short(decoded.texts) else texts, table, bound, ends=ends)
        found.append(_proposal(decoded, full, lead, given, known, excel=excel is not None))
    return sorted(found, key=lambda p: -p.confidence) if found and found[0].confidence < 0.5 else found


def _with_end(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts the last of which is short, so that the end of the file is among the records that are looked at."""
    lines = texts[-1].splitlines(keepends=True)
    if len(lines) <= _FIRST:
        return tuple(texts)
    end = "".join(lines[-_END:])
    return (*(texts if len(texts) == 1 else texts[:-1]), end)


def _is_short(texts: Sequence[str]) -> bool:
    """Return whether all that is known is one text that is looked at in full, its end included."""
    return len(texts) == 1 and texts[0].count("\n") < _ALL


def _excel_line(text: str) -> str | None:
    """Return the delimiter that a first line `sep=;` states, as Excel writes and reads it; None: there is none."""
    line = text.split("\n", 1)[0].strip('"')
    return line[4:] if line.lower().startswith("sep=") and len(line) == 5 else None


def _tables(texts: Sequence[str], given: Mapping[str, Any], most: int, *, ends: bool) -> list[Table]:
    """Return the tables of all hypotheses, the best first; of those that make the same table, the simplest."""
    found: dict[object, Table] = {}
    for form in hypotheses(texts, given):
        table = _table(texts, form, given, most, ends=ends)
        if table is None:
            continue
        key = tuple(tuple(c.strip() for c in r.cells) for r in table.rows)
        if key not in found or _rank(table) < _rank(found[key]):
            found[key] = table
    return sorted(found.values(), key=_rank)


def _table(
    texts: Sequence[str], form: Hypothesis, given: Mapping[str, Any], most: int, *, ends: bool
) -> Table | None:
    pieces = [split_records(text, form, most) for text in texts]
    complete = ends and bool(pieces[-1]) and _reaches(texts[-1], pieces[-1])
    pieces = [p for p in pieces if p]
    if not pieces:
        return None
    comment = given.get("comment")
    return find_table(form, pieces, ends=complete, comment=comment, skip=given.get("skip_rows"))


def _reaches(text: str, records: Sequence[Record]) -> bool:
    """Return whether records are all of a text."""
    return records[-1].line + records[-1].lines >= text.count("\n")


def _rank(table: Table) -> tuple[float, tuple[int, ...]]:
    return -table.score, _simplicity(table.form)


def _simplicity(form: Hypothesis) -> tuple[int, ...]:
    return (form.quote != '"', form.escape != "", form.trim, form.delimiter != ",", form.delimiter == SPACES)


def _in_full(texts: Sequence[str], table: Table, given: Mapping[str, Any], *, ends: bool) -> Table:
    """Return the table of more records, where it is the same one."""
    more = _table(texts, table.form, given, _ALL, ends=ends)
    return table if more is None or more.width != table.width else more


def _lead(tables: Sequence[Table], rank: int) -> float:
    """Return the lead of a table over the next one that is not made of the same cells, as a share of its score."""
    score = tables[rank].score
    if score <= 0:
        return 0.0
    others = [t.score for i, t in enumerate(tables) if i != rank]
    return (score - max(others, default=0.0)) / score


@dataclass(slots=True)
class _Draft:
    """Options, reasons, and the least confidence of those that are proposed so far."""

    options: dict[str, Any]
    reasons: list[str]
    confidence: float

    def add(self, name: str, value: Any, confidence: float, reason: str) -> None:
        self.options[name] = value
        self.confidence = min(self.confidence, confidence)
        self.reasons.append(reason)


def _proposal(
    decoded: Decoded,
    table: Table,
    lead: float,
    given: Mapping[str, Any],
    known: frozenset[str] | None,
    *,
    excel: bool,
) -> Proposal:
    form = table.form
    cells = [[*r.cells] for r in table.full]
    draft = _Draft({}, [], _confidence(table, lead, known=excel or "delimiter" in given))
    if decoded.encoding != "utf-8":
        draft.add("encoding", decoded.encoding, decoded.confidence, decoded.reason)
    fit = "all" if table.regular == 1 else f"{table.regular:.0%} of"
    columns = f"{table.width:,} column{'s' * (table.width != 1)}"
    shown = "blanks" if form.delimiter == SPACES else repr(form.delimiter)
    delimits = (
        "the first line sep= says so"
        if excel
        else f"{fit} {len(table.rows):,} rows of the sample have {columns} by {shown}"
    )
    if form.delimiter != ",":
        draft.add("delimiter", form.delimiter, 1.0, delimits)
    else:
        draft.reasons.append(delimits)
    if form.quote != '"':
        why = "fields are quoted by '" if form.quote else "quotes are part of the text"
        # One quote that is not closed is damage; several are a habit.
        habit = bool(form.quote) or sum(c.startswith('"') for row in cells for c in row) > 1
        draft.add("quote", form.quote, 0.9 if habit else 0.55, why)
    if form.escape:
        draft.add("escape", form.escape, 0.95, "a backslash stands before quotes in fields")
    if form.trim:
        draft.add("trim", True, 0.9, "blanks stand around fields")
    _add_frame(draft, table, excel=excel)
    header, sure, why = _header(cells, table, given)
    if header == 0 and table.preamble and "skip_rows" not in given:
        sure = min(sure, 0.55)  # `value` above `1,5` may be a title, or the name of one column of decimals
    draft.confidence = min(draft.confidence, sure)
    draft.reasons.append(why)
    if header != 1 and "header" not in given:
        draft.options["header"] = False if header == 0 else list(range(1, header + 1))
    names = list(cells[0]) if header == 1 else []
    styles = find_styles(list(zip(*cells[header:], strict=True)) if len(cells) > header else [])
    _add_styles(draft, styles, names)
    options = {
        name: value
        for name, value in draft.options.items()
        if name not in given and (known is None or name in known)
    }
    if any(name in _FRAME and name not in options and name not in given for name in draft.options):
        draft.confidence = min(draft.confidence, 0.3)  # without it the rest reads another table
    return Proposal(options, round(draft.confidence, 2), tuple(filter(None, draft.reasons)), table.width)


def _confidence(table: Table, lead: float, *, known: bool) -> float:
    """Return how sure the dialect is: by the lead over others, rows that fit, and rows that there are."""
    rows = len(table.rows)
    seen = 0.98 if rows >= 5 else (0.5, 0.5, 0.8, 0.88, 0.94)[rows]
    # A lead of nothing is a coin's toss, whatever the rest.
    leading = 0.4 + 0.6 * min(1.0, max(0.0, lead) / _LEAD)
    fitting = max(0.0, 1 - 2.5 * (1 - table.regular))
    quality = min(1.0, table.score / (0.5 if table.width > 1 else 0.28))
    if table.form.delimiter == " " and table.width > 1:
        quality *= 0.8  # prose of as many words a line is no table
    return seen * fitting * (1.0 if known else leading * quality)


def _header(cells: list[list[str]], table: Table, given: Mapping[str, Any]) -> tuple[int, float, str]:
    if "header" in given:
        value = given["header"]
        rows = int(value) if isinstance(value, int) else max(value, default=0)
        return rows, 1.0, ""
    if not cells:
        return 1, 0.0, "there are no rows"
    return find_header(cells[:200])


def _add_frame(draft: _Draft, table: Table, *, excel: bool) -> None:
    if table.comment:
        draft.add("comment", table.comment, 0.92, f"lines that begin with {table.comment!r} are no rows")
    if excel:
        draft.options["skip_rows"] = 1
    elif table.preamble:
        lines = "line is" if table.skipped == 1 else f"{table.skipped:,} lines are"
        one = table.width == 1
        draft.add("skip_rows", table.skipped, 0.5 if one else 0.93, f"the first {lines} not of the table")
    if table.footer:
        lines = "line is" if table.footer == 1 else f"{table.footer:,} lines are"
        draft.add("skip_footer", table.footer, 0.85, f"the last {lines} not of the table")


def _add_styles(draft: _Draft, styles: Styles, names: Sequence[str]) -> None:
    if styles.decimal is not None:
        draft.add("decimal", styles.decimal, 0.95, f"decimals stand behind {styles.decimal!r}")
    if styles.thousands is not None:
        draft.add("thousands", styles.thousands, 0.95, f"{styles.thousands!r} stands between thousands")
    for option, formats, what in (
        ("date_format", styles.dates, "dates"),
        ("timestamp_format", styles.moments, "timestamps"),
    ):
        if not formats:
            continue
        different = sorted(set(formats.values()))
        value: Any = different[0]
        if len(different) > 1:
            value = {_name(names, number): f for number, f in formats.items()}
        order = {"%d": "day first", "%m": "month first", "%Y": "year first"}
        which = ", ".join(dict.fromkeys(order.get(f[:2], "month by name") for f in different))
        draft.add(option, value, 0.95, f"{what} have the {which}")
    if styles.nulls:
        texts = {_name(names, number): ["", *marks] for number, marks in styles.nulls.items()}
        shown = ", ".join(sorted({repr(m) for marks in styles.nulls.values() for m in marks}))
        draft.add("null", texts, 0.9, f"{shown} stands where there is no value")
    draft.reasons += styles.doubts


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if names else f"f{number}"
