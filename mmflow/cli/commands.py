"""The commands: each takes parsed options and returns an exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from mmflow.cli import control, kubernetes
from mmflow.cli.doctor import doctor
from mmflow.cli.inspection import inspect
from mmflow.cli.numbered import head, tail, take
from mmflow.cli.options import flags_of, pair
from mmflow.cli.output import emit
from mmflow.cli.progress import progress_bar
from mmflow.cli.running import job_parser, job_values, run
from mmflow.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.jobs import load_job
from mmflow.plan.explain import explain as explain_plan
from mmflow.session import ExplainedSignal, Session

__all__ = ["COMMANDS", "session_of"]


def session_of(options: argparse.Namespace, **more: Any) -> Session:
    """A session with the settings of the command line."""
    return Session(config=options.config, **flags_of(options), **more)


# ---- sql ------------------------------------------------------------------------------------------


def sql(options: argparse.Namespace) -> int:
    """Run a query."""
    with progress_bar() as bar, session_of(options, on_progress=bar) as session:
        emit(session.sql(options.query, **_tables(session, options)), options, None)
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
        key, value = pair(rest, "--opt")
        given[name][key] = value
    return {n: session.read(path, given[n].pop("format", None), **given[n]) for n, path in paths.items()}


# ---- explain ----------------------------------------------------------------------------------------


def explain(options: argparse.Namespace) -> int:
    """Print the stages of a query or job."""
    with session_of(options) as session:
        if options.query.endswith((".py", ".toml")):
            job = load_job(options.query)
            values = job_values(job, job_parser(job, options.query), options.rest)
            session.explaining = True
            try:
                dataset = job(session, **job.bound(values))
            except ExplainedSignal as told:
                print(explain_plan(told.plan))
                return 0
        else:
            dataset = session.sql(options.query, **_tables(session, options))
        print(dataset.explain())
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "sql": sql,
    "run": run,
    "submit": control.submit,
    "status": control.status,
    "logs": control.logs,
    "cancel": control.cancel,
    "list": control.list_runs,
    "quarantine": control.quarantine,
    "k8s": kubernetes.render,
    "explain": explain,
    "inspect": lambda options: inspect(session_of(options), options.path, options.opt, as_json=options.json),
    "head": lambda options: head(session_of(options), options),
    "tail": lambda options: tail(session_of(options), options),
    "take": lambda options: take(session_of(options), options),
    "doctor": lambda options: doctor(session_of(options), as_json=options.json),
}
