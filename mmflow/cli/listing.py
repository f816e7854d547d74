"""`list` and `clean`: the runs that there are, with the room that they take, and the removal of ended ones."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from mmflow.cli.options import flags_of
from mmflow.cli.parsing import Options
from mmflow.config import Settings
from mmflow.errors import ConfigError, MmflowError
from mmflow.runs.directory import RunDirectory
from mmflow.runs.report.formatting import clipped, count, duration, plural, size
from mmflow.submit.cleaning import check_ended, choose_runs, parse_age, remove_run, sweep_removed
from mmflow.submit.kubernetes.settings import TABLE
from mmflow.submit.status import RunState, all_runs, open_run

__all__ = ["clean", "list_runs"]

_HEADS = ("RUN", "STATE", "JOB", "STARTED", "TOOK", "ROWS", "SIZE")
_RIGHT = frozenset({"TOOK", "ROWS", "SIZE"})
#: Columns that go, the first one first, where the terminal is narrow.
_GO = ("JOB", "TOOK", "ROWS")
_LEAST_JOB = 8


def _runs_dir(options: Options) -> str:
    return Settings.load(flags_of(options), file=options.config, tables=[TABLE]).runs_dir


# ---- list -------------------------------------------------------------------------------------------------


def list_runs(options: Options) -> int:
    """Print the recorded runs, the newest first."""
    runs_dir = _runs_dir(options)
    runs = all_runs(runs_dir)
    sizes = [RunDirectory(runs_dir, run.run).usage() for run in runs]
    if options.json:
        print(json.dumps([{**run.as_dict(), "bytes": n} for run, n in zip(runs, sizes, strict=True)]))
        return 0
    if not runs:
        print(f"no runs in {runs_dir}", file=sys.stderr)
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    rows = [_row(run, nbytes) for run, nbytes in zip(runs, sizes, strict=True)]
    print("\n".join(_table(rows, width)))
    print(f"{plural(len(runs), 'run')}, {size(sum(sizes))} in {runs_dir}", file=sys.stderr)
    return 0


def _row(run: RunState, nbytes: int) -> dict[str, str]:
    job = run.name or (os.path.basename(run.job) if run.job else "")
    took = "" if run.seconds is None else duration(run.seconds)
    rows = "" if run.job is None else count(run.rows)
    started = "" if run.started is None else _local_time(run.started)
    return dict(zip(_HEADS, (run.run, run.state, job, started, took, rows, size(nbytes)), strict=True))


def _local_time(text: str) -> str:
    """Return a time of this year to the minute, another one as a date."""
    moment, now = dt.datetime.fromisoformat(text).astimezone(), dt.datetime.now().astimezone()
    return f"{moment:%m-%d %H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def _table(rows: Sequence[dict[str, str]], width: int | None) -> list[str]:
    """Return the lines of a table, no wider than `width`; the name of a run is never cut, since it is copied."""
    widths = {head: max(len(head), *(len(row[head]) for row in rows)) for head in _HEADS}

    def excess() -> int:
        return 0 if width is None else sum(widths.values()) + 2 * (len(widths) - 1) - width

    if excess() > 0:
        widths["JOB"] = max(min(widths["JOB"], _LEAST_JOB), widths["JOB"] - excess())
    for head in _GO:
        if excess() > 0:
            del widths[head]
    lines = []
    for row in (dict(zip(_HEADS, _HEADS, strict=True)), *rows):
        cells = (
            row[head].rjust(w) if head in _RIGHT else clipped(row[head], w).ljust(w)
            for head, w in widths.items()
        )
        lines.append("  ".join(cells).rstrip())
    return lines


# ---- clean ------------------------------------------------------------------------------------------------


def clean(options: Options) -> int:
    """Remove the folders of ended runs; return 1 if one could not be removed."""
    runs_dir = _runs_dir(options)
    chosen = _chosen(options, runs_dir)
    if not options.dry_run:
        sweep_removed(runs_dir)
    removed: list[dict[str, Any]] = []
    code = 0
    for run in chosen:
        try:
            if options.dry_run:
                nbytes: int | None = RunDirectory(runs_dir, run.run).usage()
            else:
                nbytes = remove_run(runs_dir, run)
        except MmflowError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
            continue
        if nbytes is None:
            print(f"run {run.run} is kept: it is in use, or may be on another host", file=sys.stderr)
            continue
        removed.append({"run": run.run, "state": run.state, "bytes": nbytes})
        if options.dry_run and not options.json:
            print(f"{run.run}  {run.state}  {size(nbytes)}")
    total = sum(r["bytes"] for r in removed)
    if options.json:
        print(json.dumps({"removed": removed, "bytes": total, "dry_run": options.dry_run}))
    else:
        verb, freed = ("would remove", "free") if options.dry_run else ("removed", "freed")
        print(
            f"{verb} {plural(len(removed), 'run')} and {freed} {size(total)} in {runs_dir}", file=sys.stderr
        )
    return code


def _chosen(options: Options, runs_dir: str) -> list[RunState]:
    if options.runs:
        if options.keep is not None or options.older_than is not None or options.state:
            raise ConfigError("clean takes names of runs, or --older-than, --keep and --state, not both")
        named = {open_run(runs_dir, name).name for name in options.runs}
        runs = [run for run in all_runs(runs_dir) if run.run in named]
        for run in runs:
            check_ended(run)
        return runs
    if options.keep is None and options.older_than is None and not options.state:
        raise ConfigError(
            "clean needs to know which runs to remove: --older-than 7d, --keep 20, --state failed, or their names; "
            "--dry-run only shows them"
        )
    older_than = None if options.older_than is None else parse_age(options.older_than)
    return choose_runs(
        all_runs(runs_dir), older_than=older_than, keep=options.keep or 0, states=options.state
    )
