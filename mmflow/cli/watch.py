"""`mmflow status --watch`: a run as it goes, on a terminal or a line per change."""

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

from mmflow.runs.wording import count, duration, plural, size, visible

__all__ = ["line", "render", "watch"]

Events = Sequence[Mapping[str, Any]]

_ENDS = ("done", "failed", "cancelled", "died")
_STYLES = {"done": "green", "failed": "red", "died": "red", "cancelled": "yellow", "running": "cyan"}
_FAILURES = 3
# Speed of now: over this long, as shards are verified in jumps.
_NOW_SECONDS = 10.0


def watch(load: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]], seconds: float = 1.0) -> None:
    """Show a run until it has ended. Ctrl-C ends the watching, not the run.

    Args:
        load: Gives the state of the run and its events so far.
        seconds: Between two looks.
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
    # Nothing is drawn by rich's own thread: what is shown changes with each look only.
    with Live(render(state, events), console=console, auto_refresh=False) as live:
        live.refresh()
        while state.get("state") not in _ENDS:
            time.sleep(seconds)
            state, events = load()
            live.update(render(state, events), refresh=True)


def _lines(load: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]], seconds: float) -> None:
    said = ""
    while True:
        state, events = load()
        now = line(state, events)
        if now != said:
            print(now, flush=True)
            said = now
        if state.get("state") in _ENDS:
            return
        time.sleep(seconds)


# ---- what is shown --------------------------------------------------------------------------------------


def render(state: Mapping[str, Any], events: Events) -> RenderableType:
    """A run at this moment.

    Args:
        state: `run`, `state`, `job`, `engine`, `started`, `seconds`, `error`.
        events: Those of docs/runs.md; only what the last opening had is shown.
    """
    seen = _Seen(events)
    p = seen.progress
    parts: list[RenderableType] = [_head(state)]
    if p:
        total, done = int(p.get("bytes_total") or 0), int(p.get("bytes_done") or 0)
        ended = state.get("state") in _ENDS
        if total:
            parts.append(_bar(done, total, _STYLES.get(str(state.get("state")), "cyan")))
        parts.append(Text(_speed(p, seen, ended=ended)))
        if seen.titles or p.get("stages"):
            parts += [Text(), _stages(p, seen)]
        trouble = _trouble(p)
        if trouble:
            parts += [Text(), Text(trouble, style="yellow")]
    for f in reversed(seen.failures):
        again = "tried again" if f.get("again") else "given up"
        reason = _first(f.get("reason"))
        parts.append(
            Text(f"  stage {f.get('stage')} task {f.get('number')} failed, {again}: {reason}", style="dim")
        )
    parts += [Text(f"  warning: {w}", style="yellow") for w in dict.fromkeys(reversed(seen.warnings))]
    error = _error(state)
    if error:
        parts += [Text(), Text(error, style="red")]
    return Group(*parts)


def line(state: Mapping[str, Any], events: Events) -> str:
    """The same in one line.

    >>> line({"run": "a1", "state": "failed", "job": "sums", "error": "disk full"}, [])
    'a1 failed: disk full'
    """
    p = _Seen(events).progress
    text = visible(f"{state.get('run') or ''} {state.get('state') or ''}".strip(), 200)
    parts = []
    if p:
        total, done = int(p.get("bytes_total") or 0), int(p.get("bytes_done") or 0)
        if total:
            parts.append(f"{done / total:.0%} of {size(total)}")
        stages = p.get("stages") or ()
        parts.append(plural(sum(int(s.get("done") or 0) for s in stages), "task") + " done")
        parts.append(f"{count(int(p.get('rows') or 0))} rows")
        parts += [_trouble(p)]
    error = _first(_error(state))
    return ": ".join(t for t in (text, ", ".join(t for t in parts if t), error) if t)


class _Seen:
    """What the last opening's events say. Read from their end, as there may be very many."""

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
                if not planned:  # another plan, which ran before, counts bytes of its own
                    self._progressed(e)
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
        """What happened after the last progress."""
        since: dict[str, Any] = {k: end[k] for k in ("rows", "records", "bad") if end.get(k) is not None}
        since["stages"] = []
        for s in self.progress.get("stages") or ():
            e = self.ended.get(int(s["id"]))
            over = {"done": e["tasks"], "total": e["tasks"], "rows": e["rows"], "running": 0} if e else {}
            since["stages"].append({**s, **({"running": 0} if end else {}), **over})
        return since

    def rate(self) -> float:
        """Bytes a second, over the last seconds."""
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


def _bar(done: int, total: int, style: str) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    bar = ProgressBar(total=total, completed=done, complete_style=style, finished_style=style)
    grid.add_row(bar, f"{min(1.0, done / total):.0%}")
    return grid


def _speed(p: Mapping[str, Any], seen: _Seen, *, ended: bool) -> str:
    total, done = int(p.get("bytes_total") or 0), int(p.get("bytes_done") or 0)
    elapsed, now = float(p.get("elapsed") or 0.0), seen.rate()
    mean = done / elapsed if elapsed > 0 else 0.0
    parts = [f"{size(done)} of {size(total)}"] if total else []
    if not ended and now:
        parts.append(f"{size(now)}/s now")
    if mean:
        parts.append(f"{size(mean)}/s mean")
    parts.append(f"{count(int(p.get('records') or 0))} records")
    parts.append(f"{count(int(p.get('rows') or 0))} rows")
    if not ended and (now or mean) and done < total:
        parts.append(f"{duration((total - done) / (now or mean))} left")
    return "  ".join(parts)


def _stages(p: Mapping[str, Any], seen: _Seen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("stage")  # the one that gives way where the terminal is narrow
    for head in ("done", "running", "of", "rows"):
        table.add_column(head, justify="right", no_wrap=True)
    for s in p.get("stages") or ():
        done, running, total = int(s.get("done") or 0), int(s.get("running") or 0), s.get("total")
        style = "" if running else "green" if total is not None and done >= total else "dim"
        title = visible(seen.titles.get(int(s["id"]), ""), 200)
        name = Text(f"{s['id']} {title}", no_wrap=True, overflow="ellipsis")
        of, rows = "?" if total is None else f"{total:,}", count(int(s.get("rows") or 0))
        table.add_row(name, f"{done:,}", f"{running:,}", of, rows, style=style)
    return table


def _trouble(p: Mapping[str, Any]) -> str:
    """What was tried again, and bad records; and what a journal gave."""
    n = {
        k: int(p.get(k) or 0)
        for k in ("retries", "reruns", "second", "bad", "quarantined", "restored", "pruned")
    }
    parts = [
        plural(n["retries"], "retry", "retries") if n["retries"] else "",
        plural(n["reruns"], "shard") + " read again" if n["reruns"] else "",
        plural(n["second"], "second attempt") if n["second"] else "",
        plural(n["bad"], "bad record") + (f" ({n['quarantined']:,} set aside)" if n["quarantined"] else "")
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
