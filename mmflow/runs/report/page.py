"""Report of a run: one HTML file that needs nothing else, not even a network.

`report_page` escapes all data. In addition, the page's own policy lets no script run but the one whose hash it names,
and lets nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from mmflow.lazy.dataclasses import dataclass
from mmflow.runs.report import tables
from mmflow.runs.report.charts import memory_chart, throughput_chart
from mmflow.runs.report.formatting import count, duration, plural, size
from mmflow.runs.report.history import build_history
from mmflow.runs.report.model import RunHistory
from mmflow.runs.report.rendering import Block, Fold, Preformatted, Section, page_asset, render_page
from mmflow.runs.report.timeline import timeline

__all__ = ["report_html", "resume_command"]


@dataclass(frozen=True, slots=True)
class _State:
    name: str
    sign: str
    word: str


@dataclass(frozen=True, slots=True)
class _Problem:
    """Error of a run, and the command that resumes it."""

    heading: str
    message: str
    traceback: str
    advice: str
    command: str


@dataclass(frozen=True, slots=True)
class _Tile:
    """Figure at the top of the page."""

    name: str
    value: str
    note: str = ""
    title: str = ""
    warn: bool = False


_STATES = {
    state.name: state
    for state in (
        _State("done", "\u2713", "Done"),
        _State("failed", "\u00d7", "Failed"),
        _State("cancelled", "\u25a0", "Cancelled"),
        _State("open", "\u2026", "No end recorded"),
        _State("empty", "\u2026", "Not started"),
    )
}


def report_html(
    facts: Mapping[str, Any], events: Iterable[Mapping[str, Any]], plan: str, rejects: pa.Table | None
) -> str:
    """Return the page.

    Args:
        facts: Content of run.json; every key may be missing.
        events: Events in order, over all openings.
        plan: Plan as `mmflow explain` prints it.
        rejects: Bad records that were quarantined (`formats.rejects.SCHEMA`).
    """
    history = build_history(events)
    drawing, drawing_note = timeline(history)
    bad = max(history.total("bad"), sum(s.bad for s in history.stages.values()))
    sections = [
        Section("warnings", "Warnings", tables.warnings(history)),
        Section("stages", "Stages", tables.stages(history), _stages_note(history)),
        Section("time", "Time line", drawing, drawing_note),
        Section("speed", "Speed and memory", [*throughput_chart(history), *memory_chart(history)]),
        Section("slowest", "Slowest tasks", tables.slowest_tasks(history)),
        Section("failures", "Failed attempts", tables.failed_attempts(history)),
        Section("bad", "Bad records", tables.bad_records(rejects, bad)),
        Section("sources", "Sources", tables.sources(facts.get("sources") or ())),
        Section("settings", "Parameters and settings", _settings(facts, history)),
        Section("plan", "Plan", [Preformatted(plan)] if plan.strip() else []),
    ]
    name = str(facts.get("name") or facts.get("job") or history.started.get("job") or "run")
    state = _STATES.get(history.state, _STATES["failed"])
    script = page_asset("page.js")
    values = {
        "title": f"{name} \u2013 {state.word.lower()} \u2013 mmflow",
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "name": name,
        "state": state,
        "facts": _facts(facts, history),
        "destination": facts.get("destination") or (history.committed or {}).get("path"),
        "problem": _problem(facts, history, state.name),
        "tiles": _tiles(facts, history, bad, rejects),
        "sections": [s for s in sections if s.blocks],
    }
    return render_page(values, {"style": page_asset("page.css"), "script": script})


# ---- header ---------------------------------------------------------------------------------------------


def _facts(facts: Mapping[str, Any], history: RunHistory) -> list[str]:
    started = history.started
    run = facts.get("run") or started.get("run")
    engine = facts.get("engine") or started.get("engine")
    parts = [
        f"run {run}" if run else "",
        _start_time(facts, history),
        f"engine {engine}" if engine else "",
        plural(history.slots, "slot") if history.slots else "",
        f"{size(started['memory'])} of memory" if started.get("memory") else "",
        f"host {started['host']}" if started.get("host") else "",
        f"resumed {plural(len(history.openings) - 1, 'time')}" if len(history.openings) > 1 else "",
    ]
    return [p for p in parts if p]


def _start_time(facts: Mapping[str, Any], history: RunHistory) -> str:
    if history.openings and history.openings[0].begin > 0:
        return datetime.fromtimestamp(history.openings[0].begin, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return str(facts.get("started") or "")


def _problem(facts: Mapping[str, Any], history: RunHistory, state: str) -> _Problem | None:
    if state in ("done", "empty"):
        return None
    error = (history.ended or {}).get("error") or {}
    message = str(error.get("message") or "") if isinstance(error, Mapping) else str(error)
    kind = str(error.get("class") or "") if isinstance(error, Mapping) else ""
    headings = {
        "failed": kind or "The run failed",
        "cancelled": "The run was cancelled",
        "open": "The run is still active, or it died without recording its end",
    }
    advice = {
        "failed": "Once the cause is removed, resume the run",
        "cancelled": "Resume the run",
        "open": "If it died (see mmflow status), resume the run",
    }[state]
    hidden = [n for n, v in (facts.get("parameters") or {}).items() if isinstance(v, str) and "***" in v]
    if hidden:
        flags = ", ".join(f"--{n.replace('_', '-')}" for n in hidden)
        advice += f" (secrets are not kept: give {flags} again)"
    trace = str(error.get("traceback") or "") if isinstance(error, Mapping) else ""
    return _Problem(headings[state], message, trace, advice, resume_command(facts, history))


def resume_command(facts: Mapping[str, Any], history: RunHistory) -> str:
    """Return the command that resumes the run, whose folder has the rest; empty where it can't be resumed."""
    settings = facts.get("settings") or {}
    run = facts.get("run") or history.started.get("run")
    if not run or settings.get("resumable") is False:
        return ""
    folder = ["--runs-dir", str(settings["runs_dir"])] if settings.get("runs_dir") else []
    return shlex.join(["mmflow", "run", "--resume", str(run), *folder])


# ---- tiles ----------------------------------------------------------------------------------------------


def _tiles(facts: Mapping[str, Any], history: RunHistory, bad: int, rejects: pa.Table | None) -> list[_Tile]:
    seconds = history.seconds
    scans = [t for t in history.tasks if history.stages[t.stage].reads_files]
    read, cached = sum(t.bytes_read for t in scans), sum(t.cached for t in scans)
    fetched = sum(t.fetched for t in scans)
    total = int(history.started.get("bytes_total") or history.total("bytes_total"))
    rows, records = history.total("rows"), history.total("records")
    peak = max((t.anonymous for t in history.tasks), default=0)
    repeated = history.retries + history.reruns + history.speculative
    reasons = [
        plural(history.retries, "retry", "retries") if history.retries else "",
        plural(history.reruns, "shard") + " read again" if history.reruns else "",
        plural(history.speculative, "slow task") + " helped" if history.speculative else "",
        plural(history.restarts, "restart") if history.restarts else "",
    ]
    pruned = max(sum(s.pruned for s in history.stages.values()), history.total("pruned"))
    quarantined = rejects.num_rows if rejects is not None else history.total("quarantined")
    committed = history.committed or {}
    openings = f"in {len(history.openings)} openings" if len(history.openings) > 1 else ""
    tiles = [_Tile("Rows", count(rows), f"of {count(records)} records read" if records else "", f"{rows:,}")]
    if total or read:
        tiles.append(
            _Tile("Input", size(total), _input_note(facts, history, read, total), f"{total:,} bytes")
        )
    tiles.append(_Tile("Time", duration(seconds), openings))
    if read and seconds:
        rate = f"{count(records / seconds)} records/s" if records else ""
        tiles.append(_Tile("Throughput", f"{size(read / seconds)}/s", rate))
    if peak:
        tiles.append(_Tile("Peak memory", size(peak), "anonymous, largest process"))
    if read:
        tiles.append(_Tile("Page cache", f"{cached / read:.0%}", f"{size(cached)} of {size(read)} read"))
    if fetched:
        tiles.append(_Tile("Fetched", size(fetched), "of remote files, over the network"))
    notes = ", ".join(r for r in reasons if r) or "no failures"
    tasks = sum(s.tasks for s in history.stages.values())
    tiles += [
        _Tile("Tasks", f"{tasks:,}", _tasks_note(history)),
        _Tile("Repeated work", f"{repeated:,}", notes, warn=bool(repeated)),
        _Tile("Bad records", f"{bad:,}", f"{quarantined:,} quarantined" if bad else "", warn=bad > 0),
    ]
    if pruned:
        tiles.append(_Tile("Pruned", plural(pruned, "group"), "skipped by their statistics"))
    if committed:
        files = plural(int(committed.get("files") or 0), "file")
        tiles.append(_Tile("Written", size(committed.get("bytes") or 0), files))
    return tiles


def _input_note(facts: Mapping[str, Any], history: RunHistory, read: int, total: int) -> str:
    files = history.started.get("files") or len(facts.get("sources") or ())
    text = f"{plural(int(files), 'file')}, " if files else ""
    # Compared as shown: each shard is read to the end of its last record, so `read` is slightly larger.
    return text + ("all read" if size(total) == size(read) else f"{size(read)} read")


def _tasks_note(history: RunHistory) -> str:
    parts = [plural(len(history.stages), "stage")]
    if history.restored:
        parts.append(f"{history.restored:,} restored")
    running = int(history.progress.get("running") or 0) if history.ended is None else 0
    if running:
        parts.append(f"{running:,} running at the last report")
    return ", ".join(parts)


# ---- sections -------------------------------------------------------------------------------------------


def _stages_note(history: RunHistory) -> str:
    if not history.stages:
        return ""
    busy, slots = sum(s.busy for s in history.stages.values()), history.slots
    text = f"Workers were busy for {duration(busy)} in total"
    if slots and history.seconds:
        text += f", {min(1.0, busy / slots / history.seconds):.0%} of the time of {plural(slots, 'slot')}"
    return text + ". Bytes in are those of files, or the output of earlier stages."


def _settings(facts: Mapping[str, Any], history: RunHistory) -> list[Block]:
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
        "driver's process": history.started.get("pid"),
    }
    blocks = tables.name_values("Parameters", facts.get("parameters"))
    blocks += tables.name_values("Run", {k: v for k, v in about.items() if v})
    if isinstance(versions, Mapping):
        blocks += tables.name_values("Versions", versions)
    if facts.get("settings"):
        blocks.append(Fold("Settings", tables.name_values("Settings", facts["settings"])))
    return blocks
