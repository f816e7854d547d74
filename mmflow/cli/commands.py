"""The commands: each takes parsed options and returns an exit code."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmflow.cli import arguments
from mmflow.cli.doctor import doctor
from mmflow.cli.inspection import inspect
from mmflow.cli.progress import progress_bar
from mmflow.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.jobs import Job, Parameter, filled_output, load_job
from mmflow.session import Session
from mmflow.sinks.stdout import write_table
from mmflow.summary import BadRecordsWarning, RunSummary, WriteResult

__all__ = ["COMMANDS", "session_of"]

_SETTINGS = (
    "engine", "address", "shard_size", "workers", "memory", "io", "partitions", "broadcast", "spill_dir",
)  # fmt: skip
_HELD_BYTES = 64 << 20
_STDOUT = ("table", "json", "csv", "arrow")


def session_of(options: argparse.Namespace, **more: Any) -> Session:
    """A session with the settings of the command line."""
    return Session(config=options.config, **{k: getattr(options, k) for k in _SETTINGS}, **more)


# ---- sql ------------------------------------------------------------------------------------------


def sql(options: argparse.Namespace) -> int:
    """Run a query."""
    with progress_bar() as bar, session_of(options, on_progress=bar) as session:
        _emit(session.sql(options.query, **_tables(session, options)), options, None)
    return 0


def _tables(session: Session, options: argparse.Namespace) -> dict[str, Dataset]:
    paths: dict[str, str] = {}
    for text in options.table:
        name, equals, path = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--table {text!r}: write NAME=PATH")
        paths[name] = path
    given: dict[str, dict[str, Any]] = {name: {} for name in paths}
    for text in options.opt:
        name, dot, rest = text.partition(".")
        if not dot or name not in paths:
            known = ", ".join(paths) or "none; name it with --table NAME=PATH"
            raise ConfigError(f"--opt {text!r}: write NAME.key=value, with the name of a table ({known})")
        key, value = _pair(rest, "--opt")
        given[name][key] = value
    return {n: session.read(path, given[n].pop("format", None), **given[n]) for n, path in paths.items()}


def _pair(text: str, flag: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{flag} {text!r}: write key=value")
    return key, value


# ---- output -----------------------------------------------------------------------------------------


def _emit(
    dataset: Dataset, options: argparse.Namespace, output: Mapping[str, Any] | None
) -> RunSummary | None:
    """Write rows to a sink, or print them; say on stderr what was set aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadRecordsWarning)
        target = dict(output or {})
        if options.output is not None:
            target["path"] = options.output
        if target.get("path") is not None:
            result = _write(dataset, target, options)
            print(
                f"wrote {result.rows:,} rows in {result.files:,} files ({result.nbytes:,} bytes) to {result.path}",
                file=sys.stderr,
            )
        else:
            _print(dataset, options)
    summary = dataset.session.last_run
    if summary is not None and summary.bad_records:
        print(f"warning: {summary.bad_message()}", file=sys.stderr)
    return summary


def _write(dataset: Dataset, target: dict[str, Any], options: argparse.Namespace) -> WriteResult:
    path, form = target.pop("path"), options.format or target.pop("format", None)
    target.pop("format", None)
    if options.if_exists is not None:
        target["if_exists"] = options.if_exists
    return dataset.write(path, form, **target)


def _print(dataset: Dataset, options: argparse.Namespace) -> None:
    form = options.format or ("table" if sys.stdout.isatty() else "csv")
    if form not in _STDOUT:
        raise ConfigError(
            f"--format {form!r}: rows on stdout are {', '.join(_STDOUT)}; name a file with --output"
        )
    if options.if_exists is not None:
        raise ConfigError("--if-exists goes with --output")
    sys.stdout.flush()
    batches = _held_back(dataset.iter_batches())
    first = next(batches, None)  # not even a header before the run has ended well
    rows = itertools.chain(() if first is None else (first,), batches)
    write_table(rows, dataset.schema, form, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _held_back(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Nothing before the run has ended well, unless the result outgrows what may wait in memory."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += batch.nbytes
        if held > _HELD_BYTES:
            yield from waiting
            waiting.clear()
            yield from batches
    yield from waiting


# ---- run --------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """Run a job file."""
    if options.job is None:
        _run_parser().print_help()
        return 0 if options.help else 2
    job = load_job(options.job)
    parser = _job_parser(job, options.job)
    if options.help:
        parser.print_help()
        return 0
    values = _job_values(job, parser, options.rest)
    with progress_bar() as bar, session_of(options, on_progress=bar) as session:
        made = job(session, **job.bound(values))
        if not isinstance(made, Dataset):
            raise ConfigError(f"job {job.name} returned {type(made).__name__}, expected a Dataset")
        if options.json and options.output is None and job.output is None:
            raise ConfigError("--json prints the summary on stdout: say with --output where the rows go")
        summary = _emit(made, options, filled_output(job, job.bound(values)))
    if options.json and summary is not None:
        print(json.dumps(summary.as_dict()))
    return 0


def _run_parser() -> argparse.ArgumentParser:
    subparsers = next(a for a in arguments.parser()._actions if isinstance(a, argparse._SubParsersAction))
    made: argparse.ArgumentParser = subparsers.choices["run"]
    return made


def _job_parser(job: Job, path: str) -> argparse.ArgumentParser:
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


def _job_values(job: Job, parser: argparse.ArgumentParser, rest: Sequence[str]) -> dict[str, Any]:
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


# ---- explain ----------------------------------------------------------------------------------------


def explain(options: argparse.Namespace) -> int:
    """Print the stages of a query or job."""
    with session_of(options) as session:
        if options.query.endswith((".py", ".toml")):
            job = load_job(options.query)
            values = _job_values(job, _job_parser(job, options.query), options.rest)
            dataset = job(session, **job.bound(values))
        else:
            dataset = session.sql(options.query, **_tables(session, options))
        print(dataset.explain())
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "sql": sql,
    "run": run,
    "explain": explain,
    "inspect": lambda options: inspect(session_of(options), options.path, options.opt, as_json=options.json),
    "doctor": lambda options: doctor(session_of(options), as_json=options.json),
}
