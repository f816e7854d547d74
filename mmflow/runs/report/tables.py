"""Tables of a run's report."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from mmflow.lazy import compute as pc
from mmflow.runs.report.formatting import clipped, clock, count, plural, size, visible
from mmflow.runs.report.model import RunHistory, Stage, Task, task_label
from mmflow.runs.report.rendering import (
    Block,
    Cell,
    Fold,
    Heading,
    Paragraph,
    Table,
    count_cell,
    duration_cell,
    number_cell,
    size_cell,
    stage_colour,
)

__all__ = [
    "bad_records",
    "failed_attempts",
    "name_values",
    "slowest_tasks",
    "sources",
    "stages",
    "warnings",
]

_SLOWEST = 15
_FAILURES = 50
_SAMPLES = 50
_REASONS = 20
_SOURCES = 200
_RAW_BYTES = 160


# ---- stages and tasks -----------------------------------------------------------------------------------


def stages(history: RunHistory) -> list[Block]:
    """Return a table with a row for each stage, in the plan's order."""
    if not history.stages:
        return []
    longest = max(s.busy for s in history.stages.values())
    some_pruned = any(s.pruned for s in history.stages.values())
    some_bad = any(s.bad for s in history.stages.values())
    heads = ["#", "stage", "#tasks", "#rows in", "#rows out", "#bytes in", "#bytes out", "#busy"]
    heads += ["#per busy second"] + ["#pruned"] * some_pruned + ["#bad"] * some_bad
    rows = []
    for s in sorted(history.stages.values(), key=lambda s: s.id):
        row = [
            Cell(s.label, s.id, colour=stage_colour(s.id)),
            _stage_title(s, [history.stages[r].label for r in s.reads]),
            Cell(f"{s.tasks:,}" if s.total in (None, s.tasks) else f"{s.tasks:,} of {s.total:,}", s.tasks),
            count_cell(s.rows_in), count_cell(s.rows_out), size_cell(s.bytes_in), size_cell(s.bytes_out),
            duration_cell(s.busy, s.busy / longest if longest else 0.0), _rate(s),
        ]  # fmt: skip
        rows.append(row + [number_cell(s.pruned)] * some_pruned + [number_cell(s.bad)] * some_bad)
    return [Table("Stages", heads, rows)]


def _stage_title(s: Stage, labels: Sequence[str]) -> Cell:
    reads = f"reads {'files' if s.scan else 'stage ' + ', '.join(labels)}" if s.scan or s.reads else ""
    small = " \u00b7 ".join(t for t in (reads, *s.notes) if t)
    return Cell(visible(s.name, 200), wide=True, bold=True, small=small)


def _rate(s: Stage) -> Cell:
    """Return bytes of files per second of one worker's time, or rows where the stage reads no files."""
    if not s.busy:
        return Cell("")
    if s.bytes_scanned:
        return Cell(f"{size(s.bytes_scanned / s.busy)}/s", s.bytes_scanned / s.busy)
    return Cell(f"{count(s.rows_in / s.busy)} rows/s", s.rows_in / s.busy)


def slowest_tasks(history: RunHistory) -> list[Block]:
    """Return a table of the tasks that took longest, compared to the median of their stage."""
    tasks = sorted(history.tasks, key=lambda t: -t.seconds)[:_SLOWEST]
    if not tasks:
        return []
    by_stage = defaultdict(list)
    for t in history.tasks:
        by_stage[t.stage].append(t.seconds)
    medians = {stage: statistics.median(seconds) for stage, seconds in by_stage.items()}
    heads = ["stage", "#task", "worker", "#started at", "#took", "#of its median", "#rows in", "#rows out"]
    heads += ["#read", "#in cache"]
    rows = [
        (
            _stage_cell(history, t.stage),
            Cell(task_label(t.number, t.part) + (f" (attempt {t.attempt})" if t.attempt else ""), t.number),
            Cell(visible(t.worker, 80)), _time_cell(t.at),
            duration_cell(t.seconds, t.seconds / (tasks[0].seconds or 1.0)),
            _ratio_cell(t.seconds, medians[t.stage]), count_cell(t.rows_in), count_cell(t.rows_out),
            size_cell(t.bytes_read), _cached_cell(history, t),
        )
        for t in tasks
    ]  # fmt: skip
    return [Table("Slowest tasks", heads, rows)]


def _stage_cell(history: RunHistory, number: int) -> Cell:
    s = history.stages[number]
    name = f"{s.label} {s.name}"
    return Cell(clipped(name, 40), wide=True, title=name, colour=stage_colour(number))


def _cached_cell(history: RunHistory, t: Task) -> Cell:
    if not t.bytes_read or not history.stages[t.stage].reads_files:
        return Cell("")
    return Cell(f"{t.cached / t.bytes_read:.0%}", t.cached / t.bytes_read)


def _ratio_cell(seconds: float, median: float) -> Cell:
    return Cell(f"{seconds / median:.1f}\u00d7", seconds / median) if median > 0 else Cell("")


def _time_cell(position: float) -> Cell:
    return Cell(f"{position:.1f} s" if position < 60 else clock(position), position)


def failed_attempts(history: RunHistory) -> list[Block]:
    """Return tables of the reasons by frequency, and of the last failed attempts."""
    if not history.failures:
        return []
    blocks: list[Block] = []
    if len(history.failures) > 3:
        reasons = Counter(f.reason.split("\n", 1)[0][:300] for f in history.failures).most_common(_REASONS)
        rows = [(number_cell(n), Cell(reason, wide=True)) for reason, n in reasons]
        blocks.append(Table("Reasons of failures", ["#times", "reason"], rows))
    last = history.failures[-_FAILURES:]
    some = len(last) < len(history.failures)
    blocks.append(
        Heading(f"The last {len(last)} of {len(history.failures):,}" if some else "All failed attempts")
    )
    heads = ["#at", "stage", "#task", "#attempt", "then", "reason"]
    attempts = [
        (
            _time_cell(f.at), _stage_cell(history, f.stage), number_cell(f.number), number_cell(f.attempt),
            Cell("retried" if f.retried else "given up"), _reason_cell(f.reason),
        )
        for f in last
    ]  # fmt: skip
    return [*blocks, Table("Failed attempts", heads, attempts)]


def _reason_cell(text: str) -> Cell:
    first, _, rest = text.strip().partition("\n")
    return Cell(visible(first, 300), wide=True, details=text) if rest else Cell(first, wide=True)


def warnings(history: RunHistory) -> list[Block]:
    """Return each distinct warning, with its number."""
    common = Counter(history.warnings).most_common(_REASONS)
    return [Paragraph(visible(text) + (f" ({times:,} times)" if times > 1 else "")) for text, times in common]


# ---- bad records ----------------------------------------------------------------------------------------


def bad_records(rejects: pa.Table | None, bad: int) -> list[Block]:
    """Return counts by column and reason, and samples of each."""
    if rejects is None or not rejects.num_rows:
        note = "None of them were quarantined: on_bad_record = quarantine keeps them, with their positions."
        return [Paragraph(f"{plural(bad, 'record')}. {note}", note=True)] if bad else []
    keys = rejects.select(["column", "reason"])
    groups = (
        keys.group_by(["column", "reason"])
        .aggregate([([], "count_all")])
        .sort_by([("count_all", "descending")])
    )
    top = groups.slice(0, _REASONS).to_pylist()
    rows = [
        (
            number_cell(g["count_all"]),
            Cell(g["column"] or "(whole record)"),
            Cell(visible(str(g["reason"]), 300), wide=True),
        )
        for g in top
    ]
    if groups.num_rows > len(top):
        others = rejects.num_rows - sum(g["count_all"] for g in top)
        rows.append((number_cell(others), Cell(""), Cell(f"{groups.num_rows - len(top):,} other reasons")))
    samples = _samples(rejects, top)
    heads = ["file", "#line", "#record", "#at byte", "column", "reason", "record's bytes"]
    return [
        Table("Reasons of bad records", ["#records", "column", "reason"], rows),
        Heading("Samples"),
        Paragraph(f"{len(samples)} of {plural(rejects.num_rows, 'quarantined record')}.", note=True),
        Table("Samples of bad records", heads, [_sample_row(r) for r in samples]),
    ]


def _samples(rejects: pa.Table, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return records of each of the most frequent reasons, so that one frequent reason doesn't hide the others."""
    each = max(1, _SAMPLES // len(groups))
    found = []
    for g in groups:
        same = [
            pc.is_null(rejects[k]) if g[k] is None else pc.equal(rejects[k], g[k])
            for k in ("column", "reason")
        ]
        positions = pc.indices_nonzero(pc.fill_null(pc.and_(*same), False))
        found += rejects.take(positions.slice(0, each)).to_pylist()
    return found[:_SAMPLES]


def _sample_row(r: Mapping[str, Any]) -> tuple[Cell, ...]:
    raw = r["raw"] or b""
    text = raw[:_RAW_BYTES].decode("utf-8", "backslashreplace")
    for character, escape in (("\r", "\\r"), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(character, escape)
    more = f"… ({len(raw) - _RAW_BYTES:,} more bytes)" if len(raw) > _RAW_BYTES else ""
    positions = (
        Cell("" if r[k] is None else f"{r[k]:,}", r[k] or 0) for k in ("line", "record", "byte_offset")
    )
    return (
        Cell(r["path"], wide=True), *positions, Cell(r["column"] or "(whole)"),
        Cell(visible(str(r["reason"]), 300), wide=True), Cell(visible(text) + more, wide=True, code=bool(raw)),
    )  # fmt: skip


# ---- inputs and settings --------------------------------------------------------------------------------


def sources(files: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the files that were read, with size and time of modification when they were read."""
    if not files:
        return []
    rows = [
        (
            Cell(f.get("path", ""), wide=True), size_cell(f.get("size") or 0),
            Cell(_utc_time(f["mtime_ns"]), f["mtime_ns"]) if f.get("mtime_ns") else Cell(""),
        )
        for f in files[:_SOURCES]
    ]  # fmt: skip
    text = f"{plural(len(files), 'file')}, {size(sum(f.get('size') or 0 for f in files))}"
    if len(files) > _SOURCES:
        text += f"; the first {_SOURCES} are listed"
    table = Table("Sources", ["file", "#size", "#modified"], rows)
    return [Fold(text, [table], opened=len(files) <= 8)]


def _utc_time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def name_values(label: str, values: Mapping[str, Any] | None) -> list[Block]:
    """Return a table of names and values."""
    if not values:
        return []
    rows = [(Cell(k, code=True), Cell(_value_text(v), wide=True, code=True)) for k, v in values.items()]
    return [Heading(label), Table(label, ["name", "value"], rows, sortable=False)]


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
