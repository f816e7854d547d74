"""Runs by a name of the user's choice: who comes second waits for the first, and takes over its result or its work.

    open_named("nightly-2026-11-30")
        nobody had the name       --> locked, no facts          begin
        failed, cancelled, died   --> locked, with its facts    resume
        done                      --> its summary               nothing to do
        runs                      --> waits; then one of these  (a failure of the run it waited for is its result, too)

Invariant: of all processes that open a name, at most one has its lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmflow.errors import ConfigError, EngineError, SourceChangedError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.streams import STREAM_TAG
from mmflow.mapping.system.owner_lock import HeldError
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import RunLock, Watch, take_lock
from mmflow.runs.recorded_run import FACTS, SUMMARY, SUMMARY_SHAPE, load_facts
from mmflow.runs.recorder import BLOCKS, EVENT_SHAPE, EVENTS, read_sources
from mmflow.runs.redaction import HIDDEN, Redactor
from mmflow.storage import clock

__all__ = ["NamedRun", "check_same_run", "check_unchanged_since", "committed_outputs", "open_named"]

_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.1, 2.0
_MOST_TEXT = 60
_MOST_CHANGES = 3


@dataclass(frozen=True, slots=True)
class NamedRun:
    """Run of a name.

    Attributes:
        directory: Folder of the run.
        lock: Its lock, if there is something to do: the run has to be begun or resumed.
        facts: Content of run.json; None: the run has to be begun.
        summary: Content of summary.json of a run that has ended; None where the lock is held.
    """

    directory: RunDirectory
    lock: RunLock | None
    facts: dict[str, Any] | None
    summary: dict[str, Any] | None


def open_named(
    runs_dir: str, name: str, *, join: bool, on_wait: Callable[[str], None] = lambda _: None
) -> NamedRun:
    """Open the run of a name, and wait for the process that runs it now.

    Args:
        runs_dir: Folder of all runs: a path, or a URL.
        name: Name of the run.
        join: Whether to wait for a run that another process drives.
        on_wait: Called once before waiting, with the holder of the lock.

    Raises:
        EngineError: Another process drives the run, and `join` is false; or the folder can't be used.
        ConfigError: The folder is damaged, or of another version of mmflow.
    """
    directory = RunDirectory(runs_dir, name)
    before: dict[str, Any] | None = None
    watch, pause = Watch(), _POLL_SECONDS
    directory.make()
    while True:
        try:
            lock = take_lock(directory, watch=watch)
            break
        except FileNotFoundError:  # its folder has just been removed
            directory.make()
            continue
        except HeldError as held:
            if not join:
                raise EngineError(
                    f"run {name} is running: {held.holder}; wait for it with --join, or give another name",
                    run=name,
                ) from None
            if before is None:
                before = _summary(directory) or {}
                on_wait(held.holder)
            clock.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)
    try:
        summary = _summary(directory)
        facts = load_facts(directory) if directory.exists(FACTS) else None
        joined = (
            before is not None and summary is not None and summary.get("opening") != before.get("opening")
        )
        if facts is not None and summary is not None and (joined or summary.get("state") == "done"):
            if summary.get("state") == "done":
                directory.remove(BLOCKS)  # a driver may have died before it did
            lock.release()
            return NamedRun(directory, None, facts, summary)
    except BaseException:
        lock.release()
        raise
    return NamedRun(directory, lock, facts, None)


def _summary(directory: RunDirectory) -> dict[str, Any] | None:
    return directory.read_object(SUMMARY, SUMMARY_SHAPE) or None


# ---- is it the same run? ----------------------------------------------------------------------------------


def check_same_run(name: str, known: Mapping[str, Any], now: Mapping[str, Any], *, code: bool) -> None:
    """Check that a command asks for the run that has the name: the same job, parameters, output and folder.

    Args:
        name: Name of the run.
        known: Content of its run.json.
        now: Facts of the command, as `RecordedRun.begin` takes them.
        code: Whether the code of the job must be the same, too.

    Raises:
        ConfigError: It asks for another one.
    """
    redactor = Redactor(parameters=now.get("parameters"))
    changes = list(_changes(known, redactor.data(dict(now))))
    if code and not changes and known.get("code") != now.get("code"):
        changes = ["the code of the job has changed"]
    if changes:
        more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
        raise ConfigError(
            f"name {name} belongs to a run that differs: {'; '.join(changes[:_MOST_CHANGES])}{more}; {_advice(name)}"
        )


def _advice(name: str) -> str:
    return f"give another name, or forget that run: mmflow clean {name}"


def _changes(known: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if os.path.basename(known.get("job") or "") != os.path.basename(now.get("job") or ""):
        yield f"its job is {known.get('job')}"
    for kind, flag in (("parameters", "--"), ("output", "--"), ("named_sources", "source ")):
        before, after = known.get(kind) or {}, now.get(kind) or {}
        for key in dict.fromkeys((*before, *after)):
            a, b = before.get(key), after.get(key)
            if a != b and HIDDEN not in f"{a}{b}":  # secrets are not kept
                yield f"{flag}{key.replace('_', '-')} was {_text(a)} and is {_text(b)}"
    if known.get("folder") != now.get("folder"):
        yield f"it was started in {known.get('folder')}"


def _text(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def check_unchanged_since(directory: RunDirectory) -> None:
    """Check that the local inputs of a finished run are what they were. One that is gone may have been used up.

    Raises:
        SourceChangedError: One was written to, or replaced.
    """
    changed = []
    for fact in read_sources(directory):
        if (fact.get("tag") or "").startswith(STREAM_TAG):
            raise SourceChangedError(
                f"run {directory.name} read the stream {fact['path']}, and nobody can tell whether that gives the same "
                f"rows again; {_advice(directory.name)}"
            )
        if "://" in fact["path"]:
            continue
        try:
            status = os.stat(fact["path"])
        except OSError:
            continue
        if (status.st_size, status.st_mtime_ns) != (fact["size"], fact["mtime_ns"]):
            changed.append(fact["path"])
    if changed:
        more = f" and {len(changed) - 1:,} more inputs" if len(changed) > 1 else ""
        raise SourceChangedError(
            f"{changed[0]}{more} changed since run {directory.name} was done; {_advice(directory.name)}",
            code="MMF-SRC-007",
        )


def committed_outputs(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return what a run has published: `path`, `files`, `rows`, `bytes` of each output, the last state of each path."""
    shape = EVENT_SHAPE | {"event": "committed".__eq__, "path": str, "files": int, "rows": int, "bytes": int}
    return list({e["path"]: e for e in directory.read_facts(EVENTS, shape)}.values())
