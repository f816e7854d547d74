"""`run`: a job, recorded from its first moment to its last, or gone on with."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.cli import arguments
from mmflow.cli.options import flags_of
from mmflow.cli.output import emit
from mmflow.cli.progress import progress_bar
from mmflow.config import Settings
from mmflow.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.jobs import Job, Parameter, filled_output, load_job
from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorded import RecordedRun, base_settings, given_again, load_facts
from mmflow.runs.states import open_run
from mmflow.session import Session
from mmflow.summary import RunSummary, WriteResult

__all__ = ["asked_for", "job_parser", "job_values", "known_run", "run"]

_OUTPUT = ("output", "format", "if_exists")


def run(options: argparse.Namespace) -> int:
    """Run a job file, or go on with a run of one."""
    if options.help or (options.job is None and options.resume is None):
        return _help(options)
    if options.resume is not None:
        return _resumed(options)
    settings = Settings.load(flags_of(options), file=options.config)
    job, bound, facts = asked_for(options, settings)
    _check_output(job, options)
    with RecordedRun.begin(options.run_id or uuid.uuid4().hex[:12], settings, facts) as recorded:
        return _ran(job, bound, options, settings, recorded)


def asked_for(options: argparse.Namespace, settings: Settings) -> tuple[Job, dict[str, Any], dict[str, Any]]:
    """The job of a command line, its parameters, and what is recorded of them.

    Raises:
        ConfigError: There is no such job, or a parameter is wrong.
    """
    job = load_job(options.job)
    values = job_values(job, job_parser(job, options.job), options.rest)
    bound = job.bound(values)
    return (
        job,
        bound,
        {
            "job": os.path.abspath(options.job),
            "name": job.name,
            "engine": settings.engine,
            "folder": os.getcwd(),
            "parameters": {n: _plain(v) for n, v in values.items()},
            "output": {k: getattr(options, k) for k in _OUTPUT},
            "destination": options.output or (filled_output(job, bound) or {}).get("path"),
        },
    )


def _help(options: argparse.Namespace) -> int:
    if options.job is None:
        _run_parser().print_help()
        return 0 if options.help else 2
    job_parser(load_job(options.job), options.job).print_help()
    return 0


def _resumed(options: argparse.Namespace) -> int:
    """Go on with a run: its job, parameters and settings are what they were, where they are not given again."""
    flags = flags_of(options)
    facts = known_run(options, Settings.load(flags, file=options.config))
    settings = Settings.load(flags, file=options.config, base=base_settings(facts, flags))
    path = facts["job"]
    if os.path.isdir(facts["folder"]):
        os.chdir(facts["folder"])  # paths among the parameters may be relative to it
    job = load_job(path)
    given = {n: _plain(v) for n, v in job_values(job, job_parser(job, path), options.rest).items()}
    known = {p.name: p for p in job.parameters}
    texts = given_again(facts, given)
    bound = job.bound({n: _value(known[n], t) for n, t in texts.items() if n in known})
    for key in _OUTPUT:
        if getattr(options, key) not in (None, facts["output"][key]):
            raise ConfigError(
                f"run {options.resume} goes on to where it began: leave out --{key.replace('_', '-')}"
            )
        setattr(options, key, facts["output"][key])
    with RecordedRun.resume(options.resume, settings, texts) as recorded:
        return _ran(job, bound, options, settings, recorded)


def known_run(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """What is recorded of the run that `--resume` names; its job file may have moved.

    Raises:
        ConfigError: There is no such run, or it is one of another job.
    """
    _give_back(options)
    options.resume = open_run(settings.runs_dir, options.resume).name
    facts = load_facts(RunDirectory(settings.runs_dir, options.resume))
    if options.job is not None:
        if os.path.basename(options.job) != os.path.basename(facts["job"]):
            raise ConfigError(f"run {options.resume} is one of {facts['job']}, not of {options.job}")
        facts["job"] = os.path.abspath(options.job)
    return facts


def _give_back(options: argparse.Namespace) -> None:
    """`--resume RUN --name value`: without a job before it, the value was taken for the job."""
    flags = [n for n, text in enumerate(options.rest) if text.startswith("--") and "=" not in text]
    bare = [n for n in flags if options.rest[n + 1 : n + 2] == [] or options.rest[n + 1].startswith("--")]
    if options.job is not None and bare:
        options.rest = [*options.rest[: bare[0] + 1], options.job, *options.rest[bare[0] + 1 :]]
        options.job = None


def _ran(
    job: Job, bound: Mapping[str, Any], options: argparse.Namespace, settings: Settings, recorded: RecordedRun
) -> int:
    signal.signal(signal.SIGTERM, _terminated)
    name = recorded.directory.name
    print(f"run {name}", file=sys.stderr)
    try:
        with progress_bar() as bar, Session.recorded(settings, recorded.recorder, bar) as session:
            made = job(session, **bound)
            if isinstance(made, WriteResult):
                summary: RunSummary | None = made.run
                print(made.told(), file=sys.stderr)
            elif isinstance(made, Dataset):
                summary = emit(made, options, filled_output(job, bound))
            else:
                raise ConfigError(
                    f"job {job.name} returned {type(made).__name__}, expected a Dataset, or what a write gives"
                )
            recorded.done({} if summary is None else summary.as_dict())
    except BaseException:
        if recorded.recorder.wrote:
            print(f"{', '.join(recorded.recorder.wrote)} was written before that", file=sys.stderr)
        if settings.resumable:
            where = "" if options.runs_dir is None else f" --runs-dir {options.runs_dir}"
            print(f"go on with it: mmflow run --resume {name}{where}", file=sys.stderr)
        raise
    if options.json and summary is not None:
        print(json.dumps(summary.as_dict()))
    return 0


def _terminated(number: int, frame: Any) -> None:
    """Kubernetes and service managers stop a process so: it ends as after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break off the ending
    raise KeyboardInterrupt


def _check_output(job: Job, options: argparse.Namespace) -> None:
    if job.writes:
        given = next((k for k in _OUTPUT if getattr(options, k) is not None), None)
        if given is not None:
            raise ConfigError(
                f"job {job.name} writes by itself: leave out --{given.replace('_', '-')}; its parameters say where"
            )
    elif options.json and options.output is None and job.output is None:
        raise ConfigError("--json prints the summary on stdout: say with --output where the rows go")


def _plain(value: Any) -> Any:
    """A parameter's value as a flag would give it."""
    return [str(v) for v in value] if isinstance(value, list) else str(value)


def _run_parser() -> argparse.ArgumentParser:
    subparsers = next(a for a in arguments.parser()._actions if isinstance(a, argparse._SubParsersAction))
    made: argparse.ArgumentParser = subparsers.choices["run"]
    return made


def job_parser(job: Job, path: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"mmflow run {path}", description=job.doc, add_help=False, allow_abbrev=False,
        epilog="All flags of `mmflow run --help` hold too.",
    )  # fmt: skip
    for p in job.parameters:
        default = "required" if p.required else f"default: {p.default}"
        parser.add_argument(
            f"--{p.name.replace('_', '-')}", dest=p.name, default=None, metavar=p.kind.upper(),
            action="append" if p.many else "store", help=f"{p.help} ({default})".replace("%", "%%").strip(),
        )  # fmt: skip
    return parser


def job_values(job: Job, parser: argparse.ArgumentParser, rest: Sequence[str]) -> dict[str, Any]:
    parsed, unknown = parser.parse_known_args(list(rest))
    if unknown:
        job.bound({unknown[0].lstrip("-").partition("=")[0].replace("-", "_"): None})
        raise ConfigError(f"job {job.name}: unexpected {unknown[0]!r}")
    known = {p.name: p for p in job.parameters}
    return {n: _value(known[n], v) for n, v in vars(parsed).items() if v is not None}


def _value(parameter: Parameter, text: Any) -> Any:
    try:
        value = [parameter.parse(t) for t in text] if parameter.many else parameter.parse(text)
    except ValueError as error:
        raise ConfigError(
            f"--{parameter.name.replace('_', '-')} {text!r} is not {parameter.kind}: {error}"
        ) from error
    if parameter.choices and value not in parameter.choices:
        raise ConfigError(f"--{parameter.name} {text!r}: must be one of {', '.join(parameter.choices)}")
    return value
