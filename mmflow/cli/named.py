"""`run --name` and `submit --name`: the same command again resumes the run, joins it, or returns its result."""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from mmflow.api.jobs import Job
from mmflow.api.results import RunSummary, written_sentence
from mmflow.cli.options import flags_of
from mmflow.cli.parsing import Options
from mmflow.config import Settings
from mmflow.errors import EngineError
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import remove_locked
from mmflow.runs.named_run import (
    NamedRun,
    check_same_run,
    check_unchanged_since,
    committed_outputs,
    open_named,
)
from mmflow.runs.names import expand_name
from mmflow.runs.recorded_run import FACTS, SUMMARY, SUMMARY_SHAPE, RecordedRun, load_facts, resumed_settings
from mmflow.submit.status import ENDED, run_state

__all__ = ["is_submitted", "name_of", "open_requested"]


def name_of(options: Options, job: Job) -> str:
    """Return the name that a command gives its run, or one that no other run has."""
    if options.name is None:
        return uuid.uuid4().hex[:12]
    return expand_name(options.name, job=job.name, now=dt.datetime.now().astimezone())


def open_requested(
    options: Options,
    settings: Settings,
    name: str,
    facts: Mapping[str, Any],
    check: Callable[[], None],
) -> tuple[RecordedRun, Settings] | None:
    """Begin or resume the run of a name, with its settings; None if it is done, which is printed then.

    Args:
        options: Options of the command.
        settings: Its settings.
        name: Name of the run.
        facts: Facts of the command, as `RecordedRun.begin` takes them.
        check: Check of the output of a run that begins. Raises what is wrong with it.

    Raises:
        ConfigError: The name belongs to a run of another job, or with other parameters.
        SourceChangedError: The run is done, and an input has changed since.
        EngineError: The run is running, with `--no-join`; or it failed while this command waited for it.
    """

    def wait(holder: str) -> None:
        print(f"run {name} is running: {holder}; waiting for it", file=sys.stderr, flush=True)

    named = open_named(settings.runs_dir, name, join=options.join, on_wait=wait)
    if named.lock is None:
        _return_result(named, facts, options)
        return None
    try:
        if named.facts is None:
            try:
                check()
            except BaseException:
                remove_locked(named.directory, named.lock)  # there is no run
                raise
            staged_as = f"{name}+{uuid.uuid4().hex[:8]}"
            return RecordedRun.begin(name, settings, {**facts, "staged_as": staged_as}, named.lock), settings
        check_same_run(name, named.facts, facts, code=False)
        flags = flags_of(options)
        settings = Settings.load(flags, file=options.config, base=resumed_settings(named.facts, flags))
        resumed = RecordedRun.resume(name, settings, facts["parameters"], named.lock, code=facts["code"])
        return resumed, settings
    except BaseException:
        named.lock.release()
        raise


def _return_result(named: NamedRun, facts: Mapping[str, Any], options: Options) -> None:
    """Print the result of a run that has ended as the run did."""
    assert named.facts is not None  # it has ended
    assert named.summary is not None  # the same
    name, state = named.directory.name, named.summary["state"]
    check_same_run(name, named.facts, facts, code=state == "done")
    if state != "done":
        error = named.summary.get("error") or {}
        why = f": {error['message']}" if state == "failed" and error.get("message") else ""
        what = "was cancelled" if state == "cancelled" else f"failed{why}"
        raise EngineError(f"run {name}, which this command waited for, {what}; the same command resumes it")
    done = _print_done(named.directory, named.summary)
    if options.json and done:
        print(json.dumps(done))


def _print_done(directory: RunDirectory, summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Print what a run that is done has written, and return its summary."""
    check_unchanged_since(directory)
    print(f"run {directory.name} is done already", file=sys.stderr)
    outputs = committed_outputs(directory)
    for output in outputs:
        print(
            written_sentence(output["rows"], output["files"], output["bytes"], output["path"]),
            file=sys.stderr,
        )
    if not outputs:
        print("its rows were printed when it ran; give another name to compute them again", file=sys.stderr)
    facts = summary.get("summary") or {}
    if facts.get("bad_records") or facts.get("repaired"):
        print(f"warning: {RunSummary(**facts).bad_message()}", file=sys.stderr)
    return facts


def is_submitted(options: Options, settings: Settings, name: str, facts: Mapping[str, Any]) -> bool | None:
    """Return whether the run of a name needs no submission, since it runs or is done, which is printed then.

    Returns:
        None: there is no such run. False: there is one, which has to be resumed.

    Raises:
        ConfigError: The name belongs to a run of another job, or with other parameters.
        SourceChangedError: The run is done, and an input has changed since.
        EngineError: The run is running, with `--no-join`.
    """
    directory = RunDirectory(settings.runs_dir, name)
    directory.check()
    state = run_state(directory)
    if state.job is None:
        return None
    if directory.exists(FACTS):  # else its folder is elsewhere
        check_same_run(name, load_facts(directory), facts, code=state.state == "done")
    if state.state == "done":
        _print_done(directory, directory.read_object(SUMMARY, SUMMARY_SHAPE))
        return True
    if state.state in ENDED:
        return False
    if not options.join:
        raise EngineError(
            f"run {name} is {state.state}; wait for it with --join, or give another name", run=name
        )
    print(f"run {name} is {state.state} already", file=sys.stderr)
    return True
