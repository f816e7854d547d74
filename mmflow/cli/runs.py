"""Commands on runs from another shell: submit, status, logs, cancel, quarantine."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from mmflow.cli.named import is_submitted, name_of
from mmflow.cli.options import flags_of, sources_of
from mmflow.cli.output import stdout_format
from mmflow.cli.parsing import Options
from mmflow.cli.run import load_requested_job, load_resumed_facts
from mmflow.cli.watch import watch
from mmflow.config import Settings, settings_table
from mmflow.runs.directory import RunDirectory
from mmflow.runs.quarantine import read_quarantine
from mmflow.runs.recorded_run import FACTS, SUBMITTED
from mmflow.runs.recorder import CANCEL
from mmflow.runs.redaction import Redactor
from mmflow.runs.report.formatting import duration, size
from mmflow.sinks.stdout import BINARY_FORMATS, write_table
from mmflow.storage.format_versions import RUN
from mmflow.submit.base import BACKENDS, Backend, Submission, open_backend
from mmflow.submit.kubernetes.settings import TABLE
from mmflow.submit.status import ENDED, EventFeed, RunState, open_run, read_submitted, run_state

__all__ = ["cancel", "logs", "quarantine", "status", "submission_of", "submit"]

_CANCEL_SECONDS = 20.0
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.2, 2.0
_ROWS = 1000


def _kubernetes() -> Backend:
    from mmflow.submit.kubernetes.backend import Kubernetes  # noqa: PLC0415  (a package that is optional)

    return Kubernetes()


BACKENDS["kubernetes"] = _kubernetes


def _settings(options: Options) -> Settings:
    return Settings.load(flags_of(options), file=options.config, tables=[TABLE])


# ---- submit ---------------------------------------------------------------------------------------------


def submit(options: Options) -> int:
    """Submit a run to a process, or a cluster, that outlives this shell; print its name."""
    settings = _settings(options)
    pods = settings_table(options.config, TABLE)
    resumes = False
    if options.resume is None:
        job, _, facts = load_requested_job(options, settings)  # errors of the job appear here, not in a log
        name = name_of(options, job)
        if options.name is not None:
            found = is_submitted(options, settings, name, facts)
            if found:
                print(json.dumps({"run": name}) if options.json else name)
                return 0
            resumes = found is not None
    else:
        resumes = True
        opened = open_run(settings.runs_dir, options.resume)
        name = options.resume = opened.name
        if pods is not None and options.job is None:
            options.job = read_submitted(opened).get("job")
        if options.job is not None and not opened.exists(FACTS):  # its folder is elsewhere
            facts = {"job": os.path.abspath(options.job)}
        else:
            facts = load_resumed_facts(options, settings)
    chosen = "kubernetes" if pods is not None else "local"
    if pods is None and settings.engine == "ray" and settings.address:
        chosen = "ray"
    backend = open_backend(options.on or chosen)
    directory = RunDirectory(settings.runs_dir, name)
    directory.make()
    what = submission_of(options, settings, name, pods, resumes=resumes)
    handle = backend.submit(what, directory)
    made = {
        "v": RUN.version, "backend": backend.name, "handle": handle, "t": time.time(), "engine": settings.engine,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "job": facts["job"],
    }  # fmt: skip
    directory.write(SUBMITTED, json.dumps(Redactor().data(made), indent=1) + "\n")
    print(json.dumps({"run": name, "backend": backend.name}) if options.json else name)
    print(f"watch it: mmflow status {name} --watch", file=sys.stderr)
    return 0


def submission_of(
    options: Options, settings: Settings, name: str, pods: Mapping[str, Any] | None, *, resumes: bool
) -> Submission:
    """Return the submission of a command line, as the run `name`."""
    given = Settings.given(flags_of(options), file=options.config, tables=[TABLE])
    given["runs_dir"] = settings.runs_dir
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    sources = sources_of(options)
    arguments += [f"--sources={json.dumps(sources)}"] if sources else []
    target = {key: getattr(options, key) for key in ("output", "format", "if_exists")}
    arguments += [f"--{key.replace('_', '-')}={value}" for key, value in target.items() if value is not None]
    arguments.append(f"--name={name}" if options.resume is None else f"--resume={name}")
    return Submission(name, options.job, (*arguments, *options.rest), settings, pods, resumes)


# ---- status -----------------------------------------------------------------------------------------------


def status(options: Options) -> int:
    """Print the status of a run; return 1 if it failed, was cancelled, or died."""
    directory = open_run(_settings(options).runs_dir, options.run)
    if options.watch:
        feed = EventFeed(directory)
        watch(lambda: (run_state(directory, feed).as_dict(), feed.events))
    state = run_state(directory)
    if options.json:
        print(json.dumps(state.as_dict()))
    elif not options.watch:
        print("\n".join(_status_lines(state, directory)))
    return 1 if state.state in ("failed", "cancelled", "died") else 0


def _status_lines(state: RunState, directory: RunDirectory) -> list[str]:
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
    if state.fraction is not None:
        lines.append(f"work       {int(100 * state.fraction)}% done, estimated")
    if state.bytes_total:
        lines.append(f"read       {size(state.bytes_done)} of {size(state.bytes_total)}")
    lines.append(f"rows       {state.rows:,}")
    if state.waits is not None:
        lines.append(f"waits      {state.waits}")
    if state.skipped:
        lines.append(f"skipped    {state.skipped:,} files that can't be read; the report names them")
    if state.bad:
        quarantined = any(os.path.basename(n).startswith("quarantine") for n in directory.names(""))
        where = f": mmflow quarantine show {state.run}" if quarantined else ""
        lines.append(f"bad        {state.bad:,} records{where}")
    if state.error is not None:
        text = f"{state.error.get('class')}: {state.error.get('message')}"
        trace = str(state.error.get("traceback") or "")
        shown = [*text.splitlines(), *trace.splitlines()]
        lines += [f"{'error' if not n else '':10} {line}".rstrip() for n, line in enumerate(shown)]
    if state.state in ("failed", "cancelled", "died"):
        lines.append(f"resume     mmflow run --resume {state.run}")
    if directory.exists("report.html"):
        lines.append(f"report     {directory.path('report.html')}")
    return lines


# ---- logs, cancel -------------------------------------------------------------------------------------------


def logs(options: Options) -> int:
    """Print the output of a submitted run, or the events of one in the foreground."""
    directory = open_run(_settings(options).runs_dir, options.run)
    if not options.json and (submitted := read_submitted(directory)):
        backend = open_backend(submitted["backend"])
        for text in backend.logs(submitted["handle"], directory, follow=options.follow):
            sys.stdout.write(text)
            sys.stdout.flush()
        return 0
    feed, shown = EventFeed(directory), 0
    while True:
        ended = run_state(directory, feed).state in ENDED
        for event in feed.more()[shown:]:
            if options.json:
                print(json.dumps(event), flush=True)
            elif event["event"] not in ("progress", "task_done", "task_restored"):
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


def cancel(options: Options) -> int:
    """Cancel a run, and wait until it has ended; it can be resumed."""
    directory = open_run(_settings(options).runs_dir, options.run)
    feed = EventFeed(directory)
    state = run_state(directory, feed)
    if state.state in ENDED:
        if options.json:
            print(json.dumps(state.as_dict()))
        print(f"run {state.run} is not running: it is {state.state}", file=sys.stderr)
        return 1
    directory.write(CANCEL, json.dumps({"t": time.time(), "pid": os.getpid()}))
    submitted = read_submitted(directory)
    pause = _POLL_SECONDS
    deadline, asked = time.monotonic() + _CANCEL_SECONDS, time.monotonic() + _CANCEL_SECONDS / 4
    while (state := run_state(directory, feed)).state not in ENDED and time.monotonic() < deadline:
        # A run that waits or hangs does not look into its folder.
        if submitted and time.monotonic() > asked:
            open_backend(submitted["backend"]).stop(submitted["handle"])
            asked = deadline
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)  # the backend may be asked over a network
    if options.json:
        print(json.dumps(state.as_dict()))
    if state.state not in ENDED:
        print(f"run {state.run} has not stopped yet; check again: mmflow status {state.run}", file=sys.stderr)
        return 1
    print(f"run {state.run} is {state.state}; resume it: mmflow run --resume {state.run}", file=sys.stderr)
    return 0


# ---- quarantine ----------------------------------------------------------------------------------------------


def quarantine(options: Options) -> int:
    """Print the bad records in a run's quarantine."""
    directory = RunDirectory(_settings(options).runs_dir, options.run)
    if not directory.exists():
        directory = open_run(_settings(options).runs_dir, options.run)
    table = read_quarantine(directory)
    form = stdout_format(options)
    shown = (
        table.slice(0, _ROWS) if form == "table" and options.limit is None else table.slice(0, options.limit)
    )
    if form not in BINARY_FORMATS:  # raw bytes as text: what is no UTF-8 is shown as \xNN
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
