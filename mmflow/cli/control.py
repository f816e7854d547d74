"""Runs from another shell: submit, status, logs, cancel, list, quarantine."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

from mmflow.cli.options import flags_of
from mmflow.cli.running import asked_for, known_run
from mmflow.cli.watch import watch
from mmflow.config import Settings, settings_table
from mmflow.errors import ConfigError
from mmflow.k8s.settings import TABLE
from mmflow.runs.backends import BACKENDS, Backend, Submission, backend_of
from mmflow.runs.directory import RunDirectory
from mmflow.runs.quarantine import read_quarantine
from mmflow.runs.recorded import FACTS
from mmflow.runs.recorder import CANCEL
from mmflow.runs.redact import Redactor
from mmflow.runs.states import SUBMITTED, EventFeed, RunState, all_runs, open_run, state_of
from mmflow.runs.wording import duration, size
from mmflow.sinks.stdout import write_table

__all__ = ["cancel", "list_runs", "logs", "quarantine", "status", "submission_of", "submit"]

_ENDED = ("done", "failed", "cancelled", "died")
_CANCEL_SECONDS = 20.0
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.2, 2.0
_ROWS = 1000


def _kubernetes() -> Backend:
    from mmflow.k8s.backend import Kubernetes  # noqa: PLC0415  (a package that is optional)

    return Kubernetes()


BACKENDS["kubernetes"] = _kubernetes


def _settings(options: argparse.Namespace) -> Settings:
    return Settings.load(flags_of(options), file=options.config, tables=[TABLE])


# ---- submit ---------------------------------------------------------------------------------------------


def submit(options: argparse.Namespace) -> int:
    """Hand a run to a process, or a cluster, that outlives this shell; print its name."""
    settings = _settings(options)
    pods = settings_table(options.config, TABLE)
    if options.resume is None:
        if options.job is None:
            raise ConfigError("submit needs a job file, or --resume RUN")
        facts = asked_for(options, settings)[2]  # what is wrong with it is said here, not in a log
        name = options.run_id or uuid.uuid4().hex[:12]
    else:
        opened = open_run(settings.runs_dir, options.resume)
        name = options.resume = opened.name
        if pods is not None and options.job is None:
            options.job = json.loads(opened.read(SUBMITTED) or "{}").get("job")
        if options.job is not None and not opened.exists(FACTS):  # its folder is elsewhere
            facts = {"job": os.path.abspath(options.job)}
        else:
            facts = known_run(options, settings)
    chosen = "kubernetes" if pods is not None else "local"
    if pods is None and settings.engine == "ray" and settings.address:
        chosen = "ray"
    backend = backend_of(options.on or chosen)
    directory = RunDirectory(settings.runs_dir, name)
    directory.make()
    what = submission_of(options, settings, name, pods)
    handle = backend.submit(what, directory)
    made = {
        "v": 1, "backend": backend.name, "handle": handle, "t": time.time(), "engine": settings.engine,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "job": facts["job"],
    }  # fmt: skip
    directory.write(SUBMITTED, json.dumps(Redactor().data(made), indent=1) + "\n")
    print(json.dumps({"run": name, "backend": backend.name}) if options.json else name)
    print(f"watch it: mmflow status {name} --watch", file=sys.stderr)
    return 0


def submission_of(
    options: argparse.Namespace, settings: Settings, name: str, pods: Mapping[str, Any] | None
) -> Submission:
    """What a command line asks to be run, as the run `name`."""
    given = Settings.given(flags_of(options), file=options.config, tables=[TABLE])
    given["runs_dir"] = settings.runs_dir
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    into = {key: getattr(options, key) for key in ("output", "format", "if_exists")}
    arguments += [f"--{key.replace('_', '-')}={value}" for key, value in into.items() if value is not None]
    arguments.append(f"--run-id={name}" if options.resume is None else f"--resume={name}")
    return Submission(name, options.job, (*arguments, *options.rest), settings, pods)


# ---- status, list -----------------------------------------------------------------------------------------


def status(options: argparse.Namespace) -> int:
    """Say what a run does, or did; 1 if it failed, was cancelled, or died."""
    directory = open_run(_settings(options).runs_dir, options.run)
    if options.watch:
        feed = EventFeed(directory)
        watch(lambda: (state_of(directory, feed).as_dict(), feed.events))
    state = state_of(directory)
    if options.json:
        print(json.dumps(state.as_dict()))
    elif not options.watch:
        print("\n".join(_told(state, directory)))
    return 1 if state.state in ("failed", "cancelled", "died") else 0


def _told(state: RunState, directory: RunDirectory) -> list[str]:
    lines = [f"run        {state.run}", f"state      {state.state}"]
    facts = (
        ("job", state.job),
        ("engine", state.engine),
        ("started", state.started),
        ("writes", state.destination),
    )
    lines += [f"{name:10} {value}" for name, value in facts if value is not None]
    if state.seconds is not None:
        lines.append(f"took       {duration(state.seconds)}")
    if state.bytes_total:
        share = state.bytes_done / state.bytes_total
        lines.append(f"read       {size(state.bytes_done)} of {size(state.bytes_total)} ({share:.0%})")
    lines.append(f"rows       {state.rows:,}")
    if state.waits is not None:
        lines.append(f"waits      {state.waits}")
    if state.bad:
        aside = any(os.path.basename(n).startswith("quarantine") for n in directory.names(""))
        where = f": mmflow quarantine show {state.run}" if aside else ""
        lines.append(f"bad        {state.bad:,} records{where}")
    if state.error is not None:
        lines.append(f"error      {state.error.get('class')}: {state.error.get('message')}")
    if state.state in ("failed", "cancelled", "died"):
        lines.append(f"go on      mmflow run --resume {state.run}")
    if directory.exists("report.html"):
        lines.append(f"report     {directory.path('report.html')}")
    return lines


def list_runs(options: argparse.Namespace) -> int:
    """List the runs that are kept, the latest last."""
    runs = all_runs(_settings(options).runs_dir)
    if options.json:
        print(json.dumps([state.as_dict() for state in runs]))
        return 0
    rows = [("RUN", "STATE", "JOB", "ENGINE", "STARTED", "TOOK", "ROWS")]
    for s in runs:
        job = s.name or (os.path.basename(s.job) if s.job else "")
        took = "" if s.seconds is None else duration(s.seconds)
        rows.append((s.run, s.state, job, s.engine or "", (s.started or "")[:19], took, f"{s.rows:,}"))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


# ---- logs, cancel -------------------------------------------------------------------------------------------


def logs(options: argparse.Namespace) -> int:
    """Print what a submitted run printed; of one in the foreground, what happened."""
    directory = open_run(_settings(options).runs_dir, options.run)
    submitted = json.loads(directory.read(SUBMITTED) or "null")
    if submitted is not None:
        backend = backend_of(submitted["backend"])
        for text in backend.logs(submitted["handle"], directory, follow=options.follow):
            sys.stdout.write(text)
            sys.stdout.flush()
        return 0
    feed, shown = EventFeed(directory), 0
    while True:
        ended = state_of(directory, feed).state in _ENDED
        for event in feed.more()[shown:]:
            if event["event"] not in ("progress", "task_done", "task_restored"):
                print(_line(event), flush=True)
        shown = len(feed.events)
        if ended or not options.follow:
            return 0
        time.sleep(_POLL_SECONDS)


def _line(event: dict[str, Any]) -> str:
    at = dt.datetime.fromtimestamp(event["t"], dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    facts = {k: v for k, v in event.items() if k not in ("v", "t", "event", "stages") and v not in (None, "")}
    return f"{at} {event['event']} " + " ".join(f"{k}={_short(v)}" for k, v in facts.items())


def _short(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) and (" " in value or "\n" in value) else str(value)


def cancel(options: argparse.Namespace) -> int:
    """Ask a run to stop, and wait until it has; it can be resumed."""
    directory = open_run(_settings(options).runs_dir, options.run)
    feed = EventFeed(directory)
    state = state_of(directory, feed)
    if state.state in _ENDED:
        print(f"run {state.run} is not running: it is {state.state}", file=sys.stderr)
        return 1
    directory.write(CANCEL, json.dumps({"t": time.time(), "pid": os.getpid()}))
    submitted = json.loads(directory.read(SUBMITTED) or "null")
    pause = _POLL_SECONDS
    deadline, asked = time.monotonic() + _CANCEL_SECONDS, time.monotonic() + _CANCEL_SECONDS / 4
    while (state := state_of(directory, feed)).state not in _ENDED and time.monotonic() < deadline:
        if (
            submitted is not None and time.monotonic() > asked
        ):  # it waits, or hangs: its folder is not looked at
            backend_of(submitted["backend"]).stop(submitted["handle"])
            asked = deadline
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)  # where it runs may be asked over a network
    if options.json:
        print(json.dumps(state.as_dict()))
    if state.state not in _ENDED:
        print(f"run {state.run} has not stopped yet; look again: mmflow status {state.run}", file=sys.stderr)
        return 1
    print(
        f"run {state.run} is {state.state}; go on with it: mmflow run --resume {state.run}", file=sys.stderr
    )
    return 0


# ---- quarantine ----------------------------------------------------------------------------------------------


def quarantine(options: argparse.Namespace) -> int:
    """Print the bad records that a run set aside."""
    directory = RunDirectory(_settings(options).runs_dir, options.run)
    if not directory.exists():
        directory = open_run(_settings(options).runs_dir, options.run)
    table = read_quarantine(directory)
    form = options.format or ("table" if sys.stdout.isatty() else "csv")
    if form not in ("table", "json", "csv", "arrow"):
        raise ConfigError(f"--format {form!r}: choose table, json, csv or arrow")
    shown = (
        table.slice(0, _ROWS) if form == "table" and options.limit is None else table.slice(0, options.limit)
    )
    if form != "arrow":  # raw bytes as text: what is no UTF-8 is shown as \xNN
        raw = [None if v is None else v.decode(errors="backslashreplace") for v in shown["raw"].to_pylist()]
        shown = shown.set_column(shown.schema.get_field_index("raw"), "raw", [raw])
    sys.stdout.flush()
    write_table(iter(shown.to_batches()), shown.schema, form, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    if shown.num_rows < table.num_rows:
        print(
            f"{table.num_rows - shown.num_rows:,} more; --limit {table.num_rows} shows all", file=sys.stderr
        )
    return 0
