"""`mmflow status --watch`: the live status of a run, on a terminal or as a line per change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmflow.runs.report.formatting import count, duration, plural, size, visible

__all__ = ["line", "render", "watch"]

Events = Sequence[Mapping[str, Any]]

_ENDS = ("done", "failed", "cancelled", "died")
_STYLES = {"done": "green", "failed": "red", "died": "red", "cancelled": "yellow", "running": "cyan"}
_FAILURES = 3
# Time over which the current speed is measured: shards are verified in jumps.
_NOW_SECONDS = 10.0


def watch(load: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]], seconds: float = 1.0) -> None:
    """Show a run until it has ended. Ctrl-C ends the display, not the run.

    Args:
        load: Function that returns the state of the run and its events so far.
        seconds: Time between two updates.
    """
    console = Console()
    try:
        if console.is_terminal:
            _live(load, seconds, console)
        else:
            _lines(load, seconds)
    except KeyboardInterrupt:
        return


def _live(
    load: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]], seconds: float, console: Console
) -> None:
    state, events = load()
    # rich's own thread draws nothing: the display changes with each update only.
    with Live(render(state, events), console=console, auto_refresh=False) as live:
        live.refresh()
        while state.get("state") not in _ENDS:
            time.sleep(seconds)
            state, events = load()
            live.update(render(state, events), refresh=True)


def _lines(load: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]], seconds: float) -> None:
    printed = ""
    while True:
        state, events = load()
        now = line(state, events)
        if now != printed:
            print(now, flush=True)
            printed = now
        if state.get("state") in _ENDS:
            return
        time.sleep(seconds)


# ---- display --------------------------------------------------------------------------------------


def render(state: Mapping[str, Any], events: Events) -> RenderableType:
    """Return the display of a run at this moment.

    Args:
        state: Dict of `run`, `state`, `job`, `engine`, `started`, `seconds`, `error`.
        events: Events (docs/runs.md), of which those of the last opening are shown.
    """
    latest = _Latest(events)
    p = latest.progress
    parts: list[RenderableType] = [_head(state)]
    if p:
        ended = state.get("state") in _ENDS
        parts.append(_bar(_fraction(p), _STYLES.get(str(state.get("state")), "cyan")))
        parts.append(Text(_speed(p, latest, ended=ended)))
        if latest.titles or p.get("stages"):
            parts += [Text(), _stages(p, latest)]
        incidents = _incidents(p)
        if incidents:
            parts += [Text(), Text(incidents, style="yellow")]
    for f in reversed(latest.failures):
        outcome = "retried" if f.get("retried") else "given up"
        reason = _first(f.get("reason"))
        parts.append(
            Text(f"  stage {f.get('stage')} task {f.get('number')} failed, {outcome}: {reason}", style="dim")
        )
    parts += [Text(f"  warning: {w}", style="yellow") for w in dict.fromkeys(reversed(latest.warnings))]
    error = _error(state)
    if error:
        parts += [Text(), Text(error, style="red")]
    return Group(*parts)


def line(state: Mapping[str, Any], events: Events) -> str:
    """Return the display in one line.

    >>> line({"run": "a1", "state": "failed", "job": "sums", "error": "disk full"}, [])
    'a1 failed: disk full'
    """
    p = _Latest(events).progress
    text = visible(f"{state.get('run') or ''} {state.get('state') or ''}".strip(), 200)
    parts = []
    if p:
        total, done = int(p.get("bytes_total") or 0), int(p.get("bytes_done") or 0)
        parts.append(f"{int(_fraction(p) * 100)}%")
        if total:
            parts.append(f"{size(done)} of {size(total)}")
        stages = p.get("stages") or ()
        parts.append(plural(sum(int(s.get("done") or 0) for s in stages), "task") + " done")
        parts.append(f"{count(int(p.get('rows') or 0))} rows")
        parts += [_incidents(p)]
    error = _first(_error(state))
    return ": ".join(t for t in (text, ", ".join(t for t in parts if t), error) if t)


class _Latest:
    """State of the last opening, from its events. They are read from their end, as there may be very many."""

    def __init__(self, events: Events) -> None:
        self.progress: Mapping[str, Any] = {}
        self.titles: dict[int, str] = {}
        self.failures: list[Mapping[str, Any]] = []
        self.earlier: Mapping[str, Any] = {}
        self.warnings: list[str] = []
        self.ended: dict[int, Mapping[str, Any]] = {}
        end: Mapping[str, Any] = {}
        planned = False
        for e in reversed(events):
            kind = e.get("event")
            if kind == "progress":
                self._progressed({**e, "stages": []} if planned else e)  # of another plan, which ran before
            elif kind == "task_failed" and len(self.failures) < _FAILURES:
                self.failures.append(e)
            elif kind == "warning" and len(self.warnings) < _FAILURES:
                self.warnings.append(_first(e.get("message")))
            elif kind == "plan" and not planned:
                planned = True
                self.titles = {int(s["id"]): str(s.get("title") or "") for s in e.get("stages") or ()}
            elif kind == "stage_ended" and not planned:
                self.ended.setdefault(int(e["stage"]), e)
            elif kind == "run_ended":
                end = e
            elif kind == "run_started":
                break
        if self.progress:
            self.progress = {**self.progress, **self._since(end)}

    def _progressed(self, e: Mapping[str, Any]) -> None:
        if not self.progress:
            self.progress = e
        elif not self.earlier or float(self.progress["t"]) - float(self.earlier["t"]) < _NOW_SECONDS:
            self.earlier = e

    def _since(self, end: Mapping[str, Any]) -> dict[str, Any]:
        """Return the changes after the last progress."""
        since: dict[str, Any] = {k: end[k] for k in ("rows", "records", "bad") if end.get(k) is not None}
        since["stages"] = []
        for s in self.progress.get("stages") or ():
            e = self.ended.get(int(s["id"]))
            over = {"done": e["tasks"], "total": e["tasks"], "rows": e["rows"], "running": 0} if e else {}
            since["stages"].append({**s, **({"running": 0} if end else {}), **over})
        return since

    def rate(self) -> float:
        """Return the bytes per second over the last seconds."""
        if not self.earlier:
            return 0.0
        took = float(self.progress["t"]) - float(self.earlier["t"])
        return (
            max(0, int(self.progress["bytes_done"]) - int(self.earlier["bytes_done"])) / took
            if took > 0
            else 0.0
        )


def _head(state: Mapping[str, Any]) -> Text:
    word = str(state.get("state") or "unknown")
    text = Text()
    text.append(visible(word, 40), style=f"bold {_STYLES.get(word, 'white')}")
    for key, before in (("job", "  "), ("run", "  run "), ("engine", "  on ")):
        if state.get(key):
            text.append(before + visible(str(state[key]), 200), style="bold" if key == "job" else "")
    if state.get("seconds") is not None:
        text.append(f"  {duration(float(state['seconds']))}")
    return text


def _fraction(p: Mapping[str, Any]) -> float:
    """Return the share of the work of all stages: files may have been read long before a sort ends."""
    return float(p.get("fraction") or 0.0)


def _bar(fraction: float, style: str) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    bar = ProgressBar(total=1.0, completed=fraction, complete_style=style, finished_style=style)
    grid.add_row(bar, f"{int(fraction * 100)}%")
    return grid


def _speed(p: Mapping[str, Any], latest: _Latest, *, ended: bool) -> str:
    total, done = int(p.get("bytes_total") or 0), int(p.get("bytes_done") or 0)
    elapsed, now = float(p.get("elapsed") or 0.0), latest.rate()
    mean = done / elapsed if elapsed > 0 else 0.0
    parts = [f"{size(done)} of {size(total)}"] if total else []
    if not ended and now:
        parts.append(f"{size(now)}/s now")
    if mean:
        parts.append(f"{size(mean)}/s mean")
    parts.append(f"{count(int(p.get('records') or 0))} records")
    parts.append(f"{count(int(p.get('rows') or 0))} rows")
    fraction = _fraction(p)
    if not ended and 0 < fraction < 1:
        parts.append(f"{duration(elapsed * (1 - fraction) / fraction)} left")
    return "  ".join(parts)


def _stages(p: Mapping[str, Any], latest: _Latest) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("stage")  # the one that gives way where the terminal is narrow
    for head in ("done", "running", "of", "rows"):
        table.add_column(head, justify="right", no_wrap=True)
    for s in p.get("stages") or ():
        done, running, total = int(s.get("done") or 0), int(s.get("running") or 0), s.get("total")
        style = "" if running else "green" if total is not None and done >= total else "dim"
        title = visible(latest.titles.get(int(s["id"]), ""), 200)
        name = Text(f"{s['id']} {title}", no_wrap=True, overflow="ellipsis")
        of, rows = "?" if total is None else f"{total:,}", count(int(s.get("rows") or 0))
        table.add_row(name, f"{done:,}", f"{running:,}", of, rows, style=style)
    return table


def _incidents(p: Mapping[str, Any]) -> str:
    """Return counts of retries, bad records, and tasks restored from the journal."""
    n = {
        k: int(p.get(k) or 0)
        for k in ("retries", "reruns", "stragglers", "bad", "quarantined", "restored", "pruned")
    }
    parts = [
        plural(n["retries"], "retry", "retries") if n["retries"] else "",
        plural(n["reruns"], "shard") + " read again" if n["reruns"] else "",
        plural(n["stragglers"], "slow task") + " helped" if n["stragglers"] else "",
        plural(n["bad"], "bad record") + (f" ({n['quarantined']:,} quarantined)" if n["quarantined"] else "")
        if n["bad"]
        else "",
        plural(n["restored"], "task") + " restored" if n["restored"] else "",
        plural(n["pruned"], "group") + " pruned" if n["pruned"] else "",
    ]
    return ", ".join(t for t in parts if t)


def _error(state: Mapping[str, Any]) -> str:
    error = state.get("error")
    if not error:
        return ""
    if isinstance(error, Mapping):
        error = f"{error.get('class') or 'error'}: {error.get('message') or ''}"
    return visible(str(error), 4000)


def _first(text: object) -> str:
    return visible(str(text or "").strip().split("\n", 1)[0], 200)
