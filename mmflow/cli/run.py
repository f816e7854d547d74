"""`run`: a recorded run of a job, new or resumed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from mmflow.api.dataset import Dataset
from mmflow.api.jobs import Job, code_digest, filled_output, load_job
from mmflow.api.progress import showing_progress
from mmflow.api.results import RunSummary, WriteResult
from mmflow.api.session import Session
from mmflow.cli.job_parameters import job_help, job_values, recorded_values
from mmflow.cli.named import name_of, open_requested
from mmflow.cli.options import flags_of, sources_of
from mmflow.cli.output import STDOUT, check_output, emit
from mmflow.cli.parsing import Options, begin_work
from mmflow.config import Settings
from mmflow.errors import ConfigError, SourceError
from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorded_run import FACTS, RecordedRun, load_facts, merge_parameters, resumed_settings
from mmflow.submit.status import open_run

__all__ = ["load_requested_job", "load_resumed_facts", "run"]

_OUTPUT = ("output", "format", "if_exists")


def run(options: Options) -> int:
    """Run a job file, or resume a run of one."""
    if options.help:
        return _help(options)
    if options.resume is not None:
        if options.name is not None:
            raise ConfigError("--resume names the run already: leave out --name")
        return _resume(options)
    settings = Settings.load(flags_of(options), file=options.config)
    job, bound, facts = load_requested_job(options, settings)
    _check_output(job, options)
    name = name_of(options, job)

    def check() -> None:
        if not job.writes:
            check_output(options, filled_output(job, bound))

    if options.name is None:
        check()
        opened = RecordedRun.begin(name, settings, facts)
    elif (found := open_requested(options, settings, name, facts, check)) is not None:
        opened, settings = found
    else:
        return 0
    with opened as recorded:
        return _execute(job, bound, options, settings, recorded, facts["named_sources"])


def load_requested_job(options: Options, settings: Settings) -> tuple[Job, dict[str, Any], dict[str, Any]]:
    """Return the job of a command line, its parameters, and the facts that are recorded of them.

    Raises:
        ConfigError: There is no such job, or a parameter is wrong.
    """
    job = load_job(options.job)
    values = job_values(job, options.job, options.rest)
    bound = job.bound(values)
    return (
        job,
        bound,
        {
            "job": os.path.abspath(options.job),
            "name": job.name,
            "code": code_digest(job, options.job),
            "engine": settings.engine,
            "named_sources": sources_of(options),
            "folder": os.getcwd(),
            "parameters": {n: _plain(v) for n, v in values.items()},
            "output": {k: getattr(options, k) for k in _OUTPUT},
            "destination": _destination(options, job, bound),
        },
    )


def _destination(options: Options, job: Job, bound: Mapping[str, Any]) -> str | None:
    path = options.output or (filled_output(job, bound) or {}).get("path")
    return None if path == STDOUT else path


def _help(options: Options) -> int:
    if options.job is None:
        print(click.get_current_context().get_help())
    else:
        print(job_help(load_job(options.job), options.job))
    return 0


def _resume(options: Options) -> int:
    """Resume a run with its job, parameters and settings, but for those that are given now."""
    flags = flags_of(options)
    facts = load_resumed_facts(options, Settings.load(flags, file=options.config))
    settings = Settings.load(flags, file=options.config, base=resumed_settings(facts, flags))
    sources = {**facts.get("named_sources", {}), **sources_of(options)}
    path = facts["job"]
    if os.path.isdir(facts["folder"]):
        os.chdir(facts["folder"])  # paths among the parameters may be relative to it
    job = load_job(path)
    given = {n: _plain(v) for n, v in job_values(job, path, options.rest, complete=False).items()}
    texts = merge_parameters(facts, given)
    bound = job.bound(recorded_values(job, texts))
    for key in _OUTPUT:
        if getattr(options, key) not in (None, facts["output"].get(key)):
            raise ConfigError(
                f"run {options.resume} is resumed with its own --{key.replace('_', '-')}: leave that flag out"
            )
        setattr(options, key, facts["output"].get(key))
    code = code_digest(job, path)
    with RecordedRun.resume(options.resume, settings, texts, code=code) as recorded:
        return _execute(job, bound, options, settings, recorded, sources)


def load_resumed_facts(options: Options, settings: Settings) -> dict[str, Any]:
    """Return the recorded facts of the run that `--resume` names; its job file may have moved.

    Raises:
        ConfigError: There is no such run, or it is a run of another job.
        SourceError: Its facts are damaged.
    """
    options.resume = open_run(settings.runs_dir, options.resume).name
    facts = load_facts(RunDirectory(settings.runs_dir, options.resume))
    if options.job is not None:
        if os.path.basename(options.job) != os.path.basename(facts.get("job") or ""):
            raise ConfigError(
                f"run {options.resume} is a run of {facts.get('job')}, not of {options.job}; leave the job out"
            )
        facts["job"] = os.path.abspath(options.job)
    missing = [key for key in ("job", "folder", "output") if facts.get(key) is None]
    if missing:
        raise SourceError(
            f"{FACTS} of run {options.resume} is damaged: {missing[0]!r} is missing; start a new run"
        )
    return facts


def _execute(
    job: Job,
    bound: Mapping[str, Any],
    options: Options,
    settings: Settings,
    recorded: RecordedRun,
    sources: Mapping[str, Any],
) -> int:
    begin_work()
    name = recorded.directory.name
    print(f"run {name}", file=sys.stderr)
    try:
        with showing_progress(), Session.recorded(settings, recorded.recorder, sources=sources) as session:
            made = job.run(session, **bound)
            if isinstance(made, WriteResult):
                summary: RunSummary | None = made.run
                print(made, file=sys.stderr)
            elif isinstance(made, Dataset):
                summary = emit(made, options, filled_output(job, bound))
            else:
                raise ConfigError(
                    f"job {job.name} returned {type(made).__name__}; return a Dataset, or the result of a write"
                )
            recorded.done({} if summary is None else summary.as_dict())
    except BaseException:
        if recorded.recorder.wrote:
            print(f"{', '.join(recorded.recorder.wrote)} was written before that", file=sys.stderr)
        if settings.resumable:
            where = "" if options.runs_dir is None else f" --runs-dir {options.runs_dir}"
            print(f"resume it: mmflow run --resume {name}{where}", file=sys.stderr)
        raise
    if options.json and summary is not None:
        print(json.dumps(summary.as_dict()))
    return 0


def _check_output(job: Job, options: Options) -> None:
    if job.writes:
        given = next((k for k in _OUTPUT if getattr(options, k) is not None), None)
        if given is not None:
            raise ConfigError(
                f"job {job.name} writes its output by itself: leave out --{given.replace('_', '-')}, and use "
                "its own parameters"
            )
    elif options.json and (options.output or (job.output or {}).get("path", STDOUT)) == STDOUT:
        raise ConfigError("--json prints the summary on stdout: give a path for the rows with --output")


def _plain(value: Any) -> Any:
    """Return the value of a parameter as text of a flag."""
    return [str(v) for v in value] if isinstance(value, list) else str(value)
