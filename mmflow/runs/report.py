"""A run's report: one HTML file that needs nothing else, not even a network.

All that comes from data passes `markup.safe`. Should that ever be forgotten, the page's own policy still lets no
script run but the one whose hash it names, and lets nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import resources
from string import Template
from typing import Any

import pyarrow as pa

from mmflow.runs import report_tables as tables
from mmflow.runs.markup import NOTHING, Html, folded, joined, safe, section
from mmflow.runs.report_charts import memory_chart, throughput_chart
from mmflow.runs.report_timeline import legend, timeline
from mmflow.runs.story import Story
from mmflow.runs.telling import tell
from mmflow.runs.wording import count, duration, plural, size

__all__ = ["report_html", "resume_command"]

_STATES = {
    "done": ("\u2713", "Done"),
    "failed": ("\u00d7", "Failed"),
    "cancelled": ("\u25a0", "Cancelled"),
    "open": ("\u2026", "No end recorded"),
    "empty": ("\u2026", "Not begun"),
}


def report_html(
    facts: Mapping[str, Any], events: Iterable[Mapping[str, Any]], plan: str, rejects: pa.Table | None
) -> str:
    """The page.

    Args:
        facts: Of run.json; every key may be missing.
        events: In order, over all openings.
        plan: As `mmflow explain` prints it.
        rejects: Bad records that were set aside (`engines.rejects.SCHEMA`).
    """
    story = tell(events)
    drawing, how = timeline(story)
    bad = max(story.total("bad"), sum(s.bad for s in story.stages.values()))
    parts = [
        ("warnings", "Warnings", "", tables.warnings(story)),
        ("stages", "Stages", _stages_note(story), tables.stages(story)),
        ("time", "Time line", how, joined((legend(story), drawing)) if drawing else NOTHING),
        ("speed", "Speed and memory", "", joined((throughput_chart(story), memory_chart(story)))),
        ("slowest", "Slowest tasks", "", tables.slowest(story)),
        ("failures", "Failed attempts", "", tables.failures(story)),
        ("bad", "Bad records", "", tables.bad_records(rejects, bad)),
        ("sources", "Sources", "", tables.sources(facts.get("sources") or ())),
        ("settings", "Parameters and settings", "", _settings(facts, story)),
        ("plan", "Plan", "", Html(f"<pre>{safe(plan, 200_000)}</pre>") if plan.strip() else NOTHING),
    ]
    shown = [p for p in parts if p[3]]
    page, style, script = (_part(name) for name in ("report.html", "report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    name = str(facts.get("name") or facts.get("job") or story.started.get("job") or "run")
    return Template(page).substitute(
        title=safe(f"{name} \u2013 {_STATES[_state(story)][1].lower()} \u2013 mmflow"),
        style=style,
        script=script,
        digest=digest,
        header=_header(name, facts, story),
        tiles=_tiles(facts, story, bad, rejects),
        trouble=_trouble(facts, story),
        contents=joined(Html(f'<a href="#{name}">{title}</a>') for name, title, _, _ in shown),
        sections=joined(section(*p) for p in shown),
    )


def _part(name: str) -> str:
    return resources.files("mmflow.runs").joinpath(name).read_text(encoding="utf-8")


def _state(story: Story) -> str:
    return story.state if story.state in _STATES else "failed"


# ---- header ---------------------------------------------------------------------------------------------


def _header(name: str, facts: Mapping[str, Any], story: Story) -> Html:
    state = _state(story)
    sign, word = _STATES[state]
    run = facts.get("run") or story.started.get("run") or ""
    engine = facts.get("engine") or story.started.get("engine")
    parts = [
        f"run {run}" if run else "",
        _began(facts, story),
        f"engine {engine}" if engine else "",
        plural(story.slots, "slot") if story.slots else "",
        f"{size(story.started['memory'])} of memory" if story.started.get("memory") else "",
        f"host {story.started['host']}" if story.started.get("host") else "",
        f"resumed {plural(len(story.openings) - 1, 'time')}" if len(story.openings) > 1 else "",
    ]
    facts_line = joined(Html(f"<span>{safe(p, 200)}</span>") for p in parts if p)
    target = facts.get("destination") or (story.committed or {}).get("path")
    written = Html(f'<p class="target">writes to <code>{safe(target)}</code></p>') if target else NOTHING
    return Html(
        f'<div class="state {state}"><b aria-hidden="true">{sign}</b> {word}</div>'
        f'<h1>{safe(name, 200)}</h1><p class="facts">{facts_line}</p>{written}'
    )


def _began(facts: Mapping[str, Any], story: Story) -> str:
    if story.openings and story.openings[0].begin > 0:
        return datetime.fromtimestamp(story.openings[0].begin, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return str(facts.get("started") or "")


def _trouble(facts: Mapping[str, Any], story: Story) -> Html:
    """What went wrong, and what to do."""
    state = _state(story)
    if state in ("done", "empty"):
        return NOTHING
    error = (story.ended or {}).get("error") or {}
    message = str(error.get("message") or "") if isinstance(error, Mapping) else str(error)
    kind = str(error.get("class") or "") if isinstance(error, Mapping) else ""
    heads = {
        "failed": kind or "The run failed",
        "cancelled": "The run was cancelled",
        "open": "The run still goes on, or it died without a word",
    }
    body = Html(f"<pre>{safe(message, 20_000)}</pre>") if message else NOTHING
    command = resume_command(facts, story)
    ask = "Once the cause is gone, go on where it stopped" if state == "failed" else "Go on where it stopped"
    if state == "open":
        ask = "If it is dead (mmflow status tells), go on where it stopped"
    hidden = [n for n, v in (facts.get("parameters") or {}).items() if isinstance(v, str) and "***" in v]
    if hidden:
        flags = ", ".join(f"--{n.replace('_', '-')}" for n in hidden)
        ask += f" (secrets are not kept: give {flags} again)"
    todo = Html(f'<p>{safe(ask)}:</p><pre class="command">{safe(command)}</pre>') if command else NOTHING
    return Html(
        f'<section class="trouble {state}" aria-label="What went wrong"><h2>{safe(heads[state])}</h2>'
        f"{body}{todo}</section>"
    )


def resume_command(facts: Mapping[str, Any], story: Story) -> str:
    """How to go on: job, parameters and settings are kept with the run. Empty where a run can't go on."""
    settings = facts.get("settings") or {}
    run = facts.get("run") or story.started.get("run")
    if not run or settings.get("resumable") is False:
        return ""
    place = ["--runs-dir", str(settings["runs_dir"])] if settings.get("runs_dir") else []
    return shlex.join(["mmflow", "run", "--resume", str(run), *place])


# ---- numbers --------------------------------------------------------------------------------------------


def _tiles(facts: Mapping[str, Any], story: Story, bad: int, rejects: pa.Table | None) -> Html:
    took = story.seconds
    scans = [t for t in story.tasks if story.stages[t.stage].files]
    read, cached = sum(t.bytes_read for t in scans), sum(t.cached for t in scans)
    fetched = sum(t.fetched for t in scans)
    total = int(story.started.get("bytes_total") or story.total("bytes_total"))
    rows, records = story.total("rows"), story.total("records")
    peak = max((t.anonymous for t in story.tasks), default=0)
    again = story.retries + story.reruns + story.second
    tries = [
        plural(story.retries, "retry", "retries") if story.retries else "",
        plural(story.reruns, "shard") + " read again" if story.reruns else "",
        plural(story.second, "slow task") + " helped" if story.second else "",
        plural(story.restarts, "restart") if story.restarts else "",
    ]
    pruned = max(sum(s.pruned for s in story.stages.values()), story.total("pruned"))
    aside = rejects.num_rows if rejects is not None else story.total("quarantined")
    committed = story.committed or {}
    tiles = [
        _tile("Rows", count(rows), f"of {count(records)} records read" if records else "", f"{rows:,}"),
        _tile("Input", size(total), _input_note(facts, story, read, total), f"{total:,} bytes")
        if total or read
        else NOTHING,
        _tile("Time", duration(took), f"in {len(story.openings)} openings" if len(story.openings) > 1 else ""),
        _tile("Throughput", f"{size(read / took)}/s", f"{count(records / took)} records/s" if records else "")
        if read and took
        else NOTHING,
        _tile("Peak memory", size(peak), "anonymous, largest process") if peak else NOTHING,
        _tile("Page cache", f"{cached / read:.0%}", f"{size(cached)} of {size(read)} read") if read else NOTHING,
        _tile("Fetched", size(fetched), "of remote files, over the network") if fetched else NOTHING,
        _tile("Tasks", f"{sum(s.tasks for s in story.stages.values()):,}", _tasks_note(story)),
        _tile("Tried again", f"{again:,}", ", ".join(t for t in tries if t) or "no trouble", warn=bool(again)),
        _tile("Bad records", f"{bad:,}", f"{aside:,} set aside" if bad else "", warn=bad > 0),
        _tile("Pruned", plural(pruned, "group"), "statistics let skip them") if pruned else NOTHING,
        _tile("Written", size(committed.get("bytes") or 0), plural(int(committed.get("files") or 0), "file"))
        if committed
        else NOTHING,
    ]  # fmt: skip
    return joined(tiles)


def _input_note(facts: Mapping[str, Any], story: Story, read: int, total: int) -> str:
    files = story.started.get("files") or len(facts.get("sources") or ())
    text = f"{plural(int(files), 'file')}, " if files else ""
    # Not exactly: each shard is read on to the end of its last record.
    return text + ("all read" if size(total) == size(read) else f"{size(read)} read")


def _tasks_note(story: Story) -> str:
    parts = [plural(len(story.stages), "stage")]
    if story.restored:
        parts.append(f"{story.restored:,} restored")
    running = int(story.progress.get("running") or 0) if story.ended is None else 0
    if running:
        parts.append(f"{running:,} running at last")
    return ", ".join(parts)


def _tile(name: str, value: str, note: str, title: str = "", *, warn: bool = False) -> Html:
    kind = "tile warn" if warn else "tile"
    more = f' title="{safe(title)}"' if title else ""
    return Html(
        f'<div class="{kind}"{more}><dt>{safe(name)}</dt><dd>{safe(value)}<small>{safe(note)}</small></dd></div>\n'
    )


# ---- the rest -------------------------------------------------------------------------------------------


def _stages_note(story: Story) -> str:
    if not story.stages:
        return ""
    busy, slots = sum(s.busy for s in story.stages.values()), story.slots
    text = f"Workers were busy for {duration(busy)} in all"
    if slots and story.seconds:
        text += f", {min(1.0, busy / slots / story.seconds):.0%} of what {plural(slots, 'slot')} had"
    return text + ". Bytes in are of files, or what the stages before gave."


def _settings(facts: Mapping[str, Any], story: Story) -> Html:
    versions = facts.get("versions") or facts.get("mmflow")
    if isinstance(versions, list | tuple):
        versions = ", ".join(map(str, versions))
    command = facts.get("command")
    if command and not isinstance(command, str):
        command = shlex.join(map(str, command))
    about = {
        "command": command,
        "job": facts.get("job"),
        "folder": facts.get("folder"),
        "versions": versions if not isinstance(versions, Mapping) else None,
        "driver's process": story.started.get("pid"),
    }
    return joined(
        (
            tables.pairs("Parameters", facts.get("parameters")),
            tables.pairs("Run", {k: v for k, v in about.items() if v}),
            tables.pairs("Versions", versions) if isinstance(versions, Mapping) else NOTHING,
            folded("Settings", tables.pairs("Settings", facts["settings"]))
            if facts.get("settings")
            else NOTHING,
        )
    )
