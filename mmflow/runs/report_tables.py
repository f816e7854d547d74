"""Tables of a run's report."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmflow.runs.markup import (
    NOTHING,
    Cell,
    Html,
    cell,
    counted,
    folded,
    joined,
    number,
    safe,
    seconds,
    sized,
    table,
)
from mmflow.runs.report_charts import colour
from mmflow.runs.story import Stage, Story, Task, label
from mmflow.runs.wording import clipped, clock, count, plural, size, visible

__all__ = ["bad_records", "failures", "pairs", "slowest", "sources", "stages", "warnings"]

_SLOWEST = 15
_FAILURES = 50
_SAMPLES = 50
_REASONS = 20
_SOURCES = 200
_RAW = 160


# ---- stages and tasks -----------------------------------------------------------------------------------


def stages(story: Story) -> Html:
    """A row for each stage, in the plan's order."""
    longest = max((s.busy for s in story.stages.values()), default=0.0)
    some_pruned = any(s.pruned for s in story.stages.values())
    some_bad = any(s.bad for s in story.stages.values())
    heads = [
        "#",
        "stage",
        "#tasks",
        "#rows in",
        "#rows out",
        "#bytes in",
        "#bytes out",
        "#busy",
        "#per busy second",
    ]
    heads += ["#pruned"] * some_pruned + ["#bad"] * some_bad
    rows = []
    for s in sorted(story.stages.values(), key=lambda s: s.id):
        row = [
            Cell(Html(f'<i class="swatch {colour(s.id)}"></i>{safe(s.label)}'), s.id),
            Cell(_title(s, [story.stages[r].label for r in s.reads]), wide=True),
            Cell(safe(_tasks(s)), s.tasks), counted(s.rows_in), counted(s.rows_out), sized(s.bytes_in),
            sized(s.bytes_out), seconds(s.busy, s.busy / longest if longest else 0.0), _rate(s),
        ]  # fmt: skip
        rows.append(row + [number(s.pruned)] * some_pruned + [number(s.bad)] * some_bad)
    return table("Stages", heads, rows) if rows else NOTHING


def _title(s: Stage, labels: Sequence[str]) -> Html:
    reads = f"reads {'files' if s.scan else 'stage ' + ', '.join(labels)}" if s.scan or s.reads else ""
    small = " \u00b7 ".join(t for t in (reads, *s.notes) if t)
    return Html(
        f"<b>{safe(s.title or 'pass on', 200)}</b>" + (f"<small>{safe(small)}</small>" if small else "")
    )


def _tasks(s: Stage) -> str:
    if s.total is None or s.total == s.tasks:
        return f"{s.tasks:,}"
    return f"{s.tasks:,} of {s.total:,}"


def _rate(s: Stage) -> Cell:
    """Bytes of files by second of one worker's time, or rows where the stage reads no files."""
    if not s.busy:
        return cell("")
    if s.read:
        return Cell(safe(f"{size(s.read / s.busy)}/s"), s.read / s.busy)
    return Cell(safe(f"{count(s.rows_in / s.busy)} rows/s"), s.rows_in / s.busy)


def slowest(story: Story) -> Html:
    """Tasks that took longest, against the usual of their stage."""
    tasks = sorted(story.tasks, key=lambda t: -t.seconds)[:_SLOWEST]
    by_stage = defaultdict(list)
    for t in story.tasks:
        by_stage[t.stage].append(t.seconds)
    usual = {stage: statistics.median(took) for stage, took in by_stage.items()}
    heads = [
        "stage",
        "#task",
        "worker",
        "#began at",
        "#took",
        "#of its median",
        "#rows in",
        "#rows out",
        "#read",
        "#in cache",
    ]
    rows = [
        (
            _stage(story, t.stage),
            Cell(safe(label(t.number, t.part) + (f" (attempt {t.attempt})" if t.attempt else "")), t.number),
            cell(t.worker, 80),
            Cell(safe(_at(t.at)), t.at), seconds(t.seconds, t.seconds / (tasks[0].seconds or 1.0)),
            _times(t.seconds, usual[t.stage]), counted(t.rows_in), counted(t.rows_out), sized(t.bytes_read),
            _cached(story, t),
        )
        for t in tasks
    ]  # fmt: skip
    return table("Slowest tasks", heads, rows) if rows else NOTHING


def _stage(story: Story, number: int) -> Cell:
    s = story.stages[number]
    name = f"{s.label} {s.title or 'pass on'}"
    swatch = f'<i class="swatch {colour(number)}"></i>'
    return Cell(Html(f'<span title="{safe(name)}">{swatch}{safe(clipped(name, 40))}</span>'), wide=True)


def _cached(story: Story, t: Task) -> Cell:
    if not t.bytes_read or not story.stages[t.stage].files:
        return cell("")
    return Cell(safe(f"{t.cached / t.bytes_read:.0%}"), t.cached / t.bytes_read)


def _times(took: float, usual: float) -> Cell:
    return Cell(safe(f"{took / usual:.1f}\u00d7"), took / usual) if usual > 0 else cell("")


def _at(position: float) -> str:
    return f"{position:.1f} s" if position < 60 else clock(position)


def failures(story: Story) -> Html:
    """Reasons by how often, and the last attempts that failed."""
    if not story.failures:
        return NOTHING
    reasons = Counter(f.reason.split("\n", 1)[0][:300] for f in story.failures)
    summary = NOTHING
    if len(story.failures) > 3:
        summary = table(
            "Reasons of failures",
            ["#times", "reason"],
            [(number(n), cell(r, wide=True)) for r, n in reasons.most_common(_REASONS)],
        )
    last = story.failures[-_FAILURES:]
    rows = [
        (
            Cell(safe(_at(f.at)), f.at),
            _stage(story, f.stage),
            Cell(safe(f"{f.number:,}"), f.number), Cell(safe(f"{f.attempt:,}"), f.attempt),
            Cell(Html("tried&nbsp;again" if f.again else "given&nbsp;up")), Cell(_reason(f.reason), wide=True),
        )
        for f in last
    ]  # fmt: skip
    heads = ["#at", "stage", "#task", "#attempt", "then", "reason"]
    some = len(last) < len(story.failures)
    head = Html(f"<h3>{f'The last {len(last)} of {len(story.failures):,}' if some else 'Each of them'}</h3>")
    return joined((summary, head, table("Failed attempts", heads, rows)))


def _reason(text: str) -> Html:
    first, _, rest = text.strip().partition("\n")
    if not rest:
        return safe(first)
    return Html(f"<details><summary>{safe(first, 300)}</summary><pre>{safe(text)}</pre></details>")


def warnings(story: Story) -> Html:
    """Each thing that was warned of, once."""
    said = Counter(story.warnings).most_common(_REASONS)
    return joined(
        Html(f"<p>{safe(text)}{f' ({times:,} times)' if times > 1 else ''}</p>") for text, times in said
    )


# ---- bad records ----------------------------------------------------------------------------------------


def bad_records(rejects: pa.Table | None, bad: int) -> Html:
    """Counts by column and reason, and samples of each."""
    if rejects is None or not rejects.num_rows:
        note = "None of them were set aside: on_bad_record = quarantine keeps them, with their places."
        return Html(f'<p class="note">{plural(bad, "record")}. {note}</p>') if bad else NOTHING
    keys = rejects.select(["column", "reason"])
    groups = (
        keys.group_by(["column", "reason"])
        .aggregate([([], "count_all")])
        .sort_by([("count_all", "descending")])
    )
    top = groups.slice(0, _REASONS).to_pylist()
    rows = [
        (number(g["count_all"]), cell(g["column"] or "(whole record)"), cell(g["reason"], 300, wide=True))
        for g in top
    ]
    if groups.num_rows > len(top):
        others = rejects.num_rows - sum(g["count_all"] for g in top)
        rows.append((number(others), cell(""), cell(f"{groups.num_rows - len(top):,} other reasons")))
    samples = _samples(rejects, top)
    heads = ["file", "#line", "#record", "#at byte", "column", "reason", "record's bytes"]
    return joined(
        (
            table("Reasons of bad records", ["#records", "column", "reason"], rows),
            Html(
                f"<h3>Samples</h3><p class=note>{len(samples)} of {plural(rejects.num_rows, 'record')} set aside.</p>"
            ),
            table("Samples of bad records", heads, [_sample(r) for r in samples]),
        )
    )


def _samples(rejects: pa.Table, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Some of each of the most frequent reasons, so that one that is everywhere doesn't hide the others."""
    each = max(1, _SAMPLES // len(groups))
    found = []
    for g in groups:
        same = [
            pc.is_null(rejects[k]) if g[k] is None else pc.equal(rejects[k], g[k])
            for k in ("column", "reason")
        ]
        places = pc.indices_nonzero(pc.fill_null(pc.and_(*same), False))
        found += rejects.take(places.slice(0, each)).to_pylist()
    return found[:_SAMPLES]


def _sample(r: Mapping[str, Any]) -> tuple[Cell, ...]:
    raw = r["raw"] or b""
    more = f"… ({len(raw) - _RAW:,} more bytes)" if len(raw) > _RAW else ""
    text = (
        raw[:_RAW]
        .decode("utf-8", "backslashreplace")
        .replace("\r", "\\r")
        .replace("\n", "\\n")
        .replace("\t", "\\t")
    )
    places = (
        Cell(safe("" if r[k] is None else f"{r[k]:,}"), r[k] or 0) for k in ("line", "record", "byte_offset")
    )
    return (
        cell(r["path"], wide=True), *places, cell(r["column"] or "(whole)"), cell(r["reason"], 300, wide=True),
        Cell(Html(f"<code>{safe(visible(text) + more)}</code>") if raw else NOTHING, wide=True),
    )  # fmt: skip


# ---- what was run ---------------------------------------------------------------------------------------


def sources(files: Sequence[Mapping[str, Any]]) -> Html:
    """Files that were read, as they were then."""
    if not files:
        return NOTHING
    rows = [
        (
            cell(f.get("path", ""), wide=True), sized(f.get("size") or 0),
            Cell(safe(_moment(f["mtime_ns"])), f["mtime_ns"]) if f.get("mtime_ns") else cell(""),
        )
        for f in files[:_SOURCES]
    ]  # fmt: skip
    total = sum(f.get("size") or 0 for f in files)
    text = f"{plural(len(files), 'file')}, {size(total)}"
    if len(files) > _SOURCES:
        text += f"; the first {_SOURCES} are listed"
    return folded(text, table("Sources", ["file", "#size", "#changed"], rows), opened=len(files) <= 8)


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def pairs(label: str, values: Mapping[str, Any] | None) -> Html:
    """Names with values."""
    if not values:
        return NOTHING
    rows = [
        (Cell(Html(f"<code>{safe(k)}</code>")), Cell(Html(f"<code>{safe(_value(v))}</code>"), wide=True))
        for k, v in values.items()
    ]
    return joined((Html(f"<h3>{safe(label)}</h3>"), table(label, ["name", "value"], rows, sortable=False)))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
