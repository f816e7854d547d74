"""One seed is one history: runs of one job and of another one at a destination, faults, and what must be true of it.

    Script.of(seed)  -->  play(script)  -->  None, or what is wrong
                              |
                              +-- shrink(script): the same fault with fewer causes, to be printed

What must be true, however processes die, pause and fail:

- a reader of the destination sees one of the states between whole results, and what was acknowledged stays;
- with faults stopped, each run ends within a bounded time, with its rows, once;
- afterwards nothing is left that belongs to no run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import mmflow.blocks.checkpoints as checkpoints
import mmflow.runs.directory as directories
import mmflow.sinks.commit.destination_store as destinations
from mmflow.api import run_context
from mmflow.api.destinations import FileDestination
from mmflow.config import Settings
from mmflow.engines import loop
from mmflow.engines.loop import execute
from mmflow.errors import MmflowError, SinkError, SourceChangedError
from mmflow.plan.stages import Forward, Hash, Plan, Range, SortKey, Write
from mmflow.runs.directory import RunDirectory
from mmflow.runs.named_run import open_named
from mmflow.runs.recorded_run import RecordedRun
from mmflow.runs.recorder import CANCEL
from mmflow.shards import plan_shards
from mmflow.sinks import SinkSpec, open_commit, sink_spec
from mmflow.sinks.commit import local
from tests.scheduler import toy
from tests.simulation.engine import Files, SimulatedEngine
from tests.simulation.power import Unsynced
from tests.simulation.store import Store
from tests.simulation.world import FITS, Fault, Process, World

__all__ = ["Script", "WrongError", "play", "shrink"]

Place = Literal["local", "object"]
IfExists = Literal["error", "replace", "append"]
Shape = Literal["copy", "group", "sort", "gather"]
#: Calls of which a history has few, most of them in commits.
_RARE = (
    "rename",
    "replace",
    "link",
    "fsync",
    "unlink",
    "copy",
    "create",
    "delete",
    "list",
    "info",
    "run",
    "batch",
)
#: Parts of the paths of calls in locks and commits, and in folders of runs, by where these are.
_PLACES = {
    "local": (
        "data/out",
        "/.out.",
        "/result",
        "/_mmflow_manifest",
        "-lock",
        "/placed",
        "/attempts/",
        "/publishing",
    ),
    "object": ("/_mmflow_lock", "/_mmflow_manifest", "/intent", "data/out/part", "/open.json", "/_mmflow/"),
    "runs": (
        "/journal",
        "/run.json",
        "/.run.json",
        "/.sources",
        "summary.json",
        "/blocks/",
        "/driver",
        "/openings/",
    ),
}
#: Bytes of a shard; a record has up to eight.
_CUT_BYTES = 16
#: Seconds within which users come.
_TIMES = (0.0, 0.5, 2.0, 2.0, 20.0, 150.0, 800.0)
_MAIN, _OTHER, _NEXT = "main", "other", "next"
_MANIFEST = "_mmflow_manifest.json"
#: Seconds of virtual time within which a run ends once faults have stopped.
_BOUND = 2_000.0


class WrongError(AssertionError):
    """Something that must be true is not."""


@dataclass(frozen=True)
class Actor:
    """Process that does one thing after `at` seconds: drive, second, other, cancel, change, recode, read."""

    at: float
    does: str


@dataclass(frozen=True)
class Script:
    """History before it happens.

    Attributes:
        output, runs: Where the destination and the folder of the runs are.
        exclusive: Whether the object store creates objects exclusively.
        one_file: Whether the destination is one file.
        cluster: Whether workers outlive their driver.
        sizes: Records of each file.
        uneven: Share of the calls after which other processes go on for a while.
        cut: Whether files are cut into shards, whose first records are guessed.
        leaves: Whether workers leave, after their tasks have stopped early.
        swaps: Whether the local file system exchanges names, as NFS does not.
    """

    seed: int
    shape: Shape
    if_exists: IfExists
    output: Place
    runs: Place
    exclusive: bool
    one_file: bool
    cluster: bool
    sizes: tuple[int, ...]
    actors: tuple[Actor, ...]
    faults: tuple[Fault, ...]
    uneven: float = 0.0
    swaps: bool = True
    cut: bool = False
    leaves: bool = False

    @classmethod
    def of(cls, seed: int) -> Script:
        """Return the script of a seed.

        Half of the faults happen anywhere, the others where commits, locks and records of runs are at work. In a
        quarter of the histories, another run comes to the destination at nearly the same time.
        """
        r = random.Random(seed)
        one_file = r.random() < 0.2
        output: Place = r.choice(["local", "local", "object"])
        runs: Place = r.choice(["local", "local", "local", "object"])
        meets = r.random() < 0.25
        if meets and output == "object" and r.random() < 0.5:
            runs = "object"
        actors = [Actor(0.0, "drive")]
        for does, share, most in (
            ("second", 0.4, 2),
            ("other", 1.0 if meets else 0.4, 2),
            ("cancel", 0.2, 1),
            ("change", 0.12, 1),
            ("recode", 0.2, 1),
        ):
            if r.random() < share:
                times = (1.0,) if meets and does == "other" else _TIMES
                actors += [
                    Actor(round(r.choice(times) * r.random(), 3), does) for _ in range(r.randrange(most) + 1)
                ]
        actors += [Actor(round(4 * r.random(), 3), "read") for _ in range(r.choice([0, 1, 3]))]
        places = (
            *_PLACES[output],
            *_PLACES[output],
            *(_PLACES["runs"] if runs == "local" else ("/openings/",)),
        )
        modes: list[IfExists] = ["error", "replace"]
        if not one_file:
            modes += ["append", "append", "append", "append"] if meets else ["append"]
        faults = _faults(r, places)
        if meets and output == "object" and r.random() < 0.5:
            # One hangs for longer than its locks live.
            faults = (Fault(r.randrange(60), "hang", round(60 + 800 * r.random(), 3)), *faults)
        return cls(
            seed,
            "gather" if one_file else r.choice(["copy", "group", "sort"]),
            r.choice(modes),
            output,
            runs,
            r.random() < 0.8,
            one_file,
            r.random() < 0.5,
            tuple(r.randrange(9) for _ in range(r.choice([1, 2, 3]))),
            tuple(actors),
            tuple(sorted(faults, key=lambda f: f.at)),
            r.choice([0.1, 0.3, 0.6] if meets else [0.0, 0.0, 0.0, 0.02, 0.1, 0.3]),
            r.random() < 0.7,
            r.random() < 0.4,
            r.random() < 0.3,
        )


def _faults(r: random.Random, places: Sequence[str]) -> tuple[Fault, ...]:
    kinds = sorted(FITS)
    faults = []
    for _ in range(r.choice([0, 1, 1, 2, 2, 3, 5])):
        kind = r.choice(["die", "die", "die after", "power", "power", "hang", *kinds])
        seconds = round(r.choice([0.05, 0.5, 5.0, 45.0, 600.0, 900.0]) * r.random(), 3)
        if r.random() < 0.5:
            faults.append(Fault(r.randrange(r.choice([30, 80, 150, 300])), kind, seconds, r.choice(places)))
        else:
            what = r.choice(_RARE) if r.random() < 0.5 else ""
            faults.append(Fault(r.randrange(r.choice([60, 120, 300, 500])), kind, seconds, what))
    return tuple(faults)


@dataclass
class _History:
    script: Script
    root: Path
    world: World
    files: Files = field(default_factory=Files)
    acknowledged: list[str] = field(default_factory=list)
    refused: dict[str, MmflowError] = field(default_factory=dict)
    changed: bool = False
    shape: Shape = "copy"
    #: Processes that drive a run, and the last engine of each process.
    drivers: dict[str, Process] = field(default_factory=dict)
    engines: dict[Process, SimulatedEngine] = field(default_factory=dict)
    #: True once a run has ended at the destination after the last fault.
    settled: bool = False

    def __post_init__(self) -> None:
        script = self.script
        self.shape = script.shape
        self.store = Store(self.world, exclusive=script.exclusive)
        runs = str(self.root / "runs") if script.runs == "local" else "s3://bucket/runs"
        self.settings = _settings(runs)
        name = "out.csv" if script.one_file else "out"
        self.output = (
            str(self.root / "data" / name) if script.output == "local" else f"s3://bucket/data/{name}"
        )
        self.paths = [str(self.root / f"in{number}") for number in range(len(script.sizes))]
        self._other = [str(self.root / f"other{number}") for number in range(len(script.sizes))]
        for number, count in enumerate(script.sizes):
            self.files.put(self._file(self.paths[number], number, count, 0), 10**18)
            self.files.put(self._file(self._other[number], 100 + number, count, 0), 10**18)
        self._versions = [self._rows(self.paths)]
        if script.output == "local":
            (self.root / "data").mkdir()
        if any(fault.kind == "power" for fault in script.faults):
            self.world.unsynced = Unsynced(self.root, ("data", "runs"))
            self.world.on_power = self._come_back

    def _come_back(self) -> None:
        """Let users go on after a power cut, as they do after any end of their runs."""
        jobs = [a.does for a in self.script.actors if a.does in ("drive", "other") and a.at <= self.world.now]
        for number, does in enumerate(dict.fromkeys(jobs)):
            self.world.start(f"{does} again", self.actor(does), at=60.0 + 0.1 * number)

    # ---- the model ------------------------------------------------------------------------------------------

    def _file(self, path: str, number: int, count: int, version: int) -> toy.ToyFile:
        r = random.Random(f"{self.script.seed} {number}")
        records = []
        for n in range(count):
            length = r.randrange(2, 9)
            inner = tuple(sorted({r.randrange(1, length) for _ in range(r.choice([0, 0, 1, 2]))}))
            records.append(toy.ToyRecord(100 * number + n + 10 * version, length, inner))
        return toy.ToyFile(path, tuple(records))

    def _rows(self, paths: Sequence[str]) -> list[int]:
        return [record.value for path in paths for record in self.files.now(path).records]

    def results(self, name: str) -> list[list[int]]:
        """Return the results that a run may have: of each version of the files."""
        versions = [self._rows(self._other)] if name == _OTHER else self._versions
        return [sorted(rows) for rows in versions]

    def plan(self, name: str, shape: Shape) -> tuple[Plan, SinkSpec]:
        paths = self._other if name == _OTHER else self.paths
        return _plan(shape, self.output, self.script.if_exists, tuple(paths))

    # ---- processes --------------------------------------------------------------------------------------------

    def drive(self, name: str, *, code: str = "1") -> bool:
        """Begin, resume, or wait for a run; return whether its result is there."""
        named = open_named(self.settings.runs_dir, name, join=True)
        if named.lock is None:
            assert named.summary is not None
            if named.summary["state"] == "done":
                self._acknowledge(name)
                return True
            return False
        try:
            if named.facts is None:
                facts = {
                    "job": name,
                    "parameters": {},
                    "code": code,
                    "staged_as": f"{name}+{os.urandom(4).hex()}",
                }
                opened = RecordedRun.begin(name, self.settings, facts, named.lock)
            else:
                opened = RecordedRun.resume(name, self.settings, {}, named.lock, code=code)
        except BaseException:
            named.lock.release()
            raise
        with self._alone(name), opened as run:
            context = run_context.RunContext(self.settings, recorder=run.recorder)
            plan, spec = self.plan(name, self.shape)
            run_name = context.new_run_name()
            destination = FileDestination(spec, run_name, plan, toy.ROWS, resumable=context.resumable)
            context.write(plan, run_name, destination)
            self._acknowledge(name)
            engine = self.engines.get(self.world.current())  # none, if all was committed before
            if engine is not None and (left := engine.blocks_left()):
                raise WrongError(f"{left} blocks were not deleted")
            run.done({})
        return True

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Check that no other process drives the run during the block.

        On an object store, one that gave no signs of life for a minute loses its lock. Where objects can't be created
        exclusively, a lock is as strict as what the store shows is fresh (docs/formats.md).
        """
        now, before = self.world.current(), self.drivers.get(name)
        faults = self.script.faults
        lost = any(f.kind in ("pause", "hang") and f.seconds > 30 for f in faults)
        lost |= not self.script.exclusive and any(f.kind == "stale" for f in faults)
        if before is not None and before.alive and not (lost and self.script.runs == "object"):
            raise WrongError(f"{before.name} and {now.name} drive run {name}")
        self.drivers[name] = now
        try:
            yield
        finally:
            if self.drivers.get(name) is now:
                del self.drivers[name]

    def _acknowledge(self, name: str) -> None:
        self.world.note(f"{name} is acknowledged")
        if name not in self.acknowledged:
            self.acknowledged.append(name)

    def actor(self, does: str) -> Callable[[], None]:
        def act() -> None:
            with contextlib.suppress(OSError), _errors():
                match does:
                    case "drive" | "second":
                        self.drive(_MAIN)
                    case "other":
                        self.drive(_OTHER)
                    case "cancel":
                        directory = RunDirectory(self.settings.runs_dir, _MAIN)
                        if directory.exists("run.json"):
                            directory.write(CANCEL, "now\n")
                    case "change":
                        self._change()
                    case "recode":
                        if not self.script.one_file:
                            self.shape = "group" if self.shape == "copy" else "copy"
                        self.drive(_MAIN, code="2")
                    case "read":
                        self.check_seen()

        return act

    def _change(self) -> None:
        self.changed = True
        number = len(self.paths) - 1
        self.files.put(self._file(self.paths[number], number, self.script.sizes[number], 1), 10**18 + 10**9)
        self._versions.append(self._rows(self.paths))

    def finish(self) -> None:
        """Do what a user does at last: run each job until it is done, or can't be."""
        jobs = [_MAIN, *([_OTHER] if any(a.does == "other" for a in self.script.actors) else [])]
        for name in jobs:
            self._until_done(name)
        if _MAIN in self.refused and isinstance(self.refused[_MAIN], SourceChangedError):
            self._until_done(_NEXT)

    def _until_done(self, name: str) -> None:
        begun = self.world.now
        error: MmflowError | None = None
        while True:
            try:
                if self.drive(name):
                    return
            except SourceChangedError as changed:
                if not self.changed:
                    raise
                self.refused[name] = changed
                return
            except SinkError as failed:
                error = failed
                if self._is_taken(failed):
                    self.refused[name] = failed
                    return
                if not any(words in str(failed) for words in _PASSING):
                    raise
            if self.world.now - begun > _BOUND:
                raise WrongError(f"run {name} does not end: {error!r}")
            self.world.wait(30.0, "user")

    def _is_taken(self, error: SinkError) -> bool:
        """Return whether the destination holds the output of another run, which may not be replaced."""
        return self.script.if_exists == "error" and "exists" in str(error)

    # ---- what is there ------------------------------------------------------------------------------------------

    def seen(self) -> list[int] | None:
        """Return the rows that a reader sees, sorted; None: there is nothing."""
        if self.script.output == "local":
            return self._seen_locally()
        objects = self.store.objects
        if self.script.one_file:
            return None if self.output not in objects else _numbers(objects[self.output][0])
        found = objects.get(f"{self.output}/{_MANIFEST}")
        if found is None:
            return None
        names = [f"{self.output}/{f['path']}" for f in _manifest(found[0])["files"]]
        if missing := [name for name in names if name not in objects]:
            raise WrongError(f"the manifest names what is not there: {missing}")
        return sorted(row for name in names for row in _numbers(objects[name][0]))

    def _seen_locally(self) -> list[int] | None:
        try:
            if self.script.one_file:
                return _numbers(_content(self.output))
            found = _manifest(_content(f"{self.output}/{_MANIFEST}"))
            return sorted(
                row for f in found["files"] for row in _numbers(_content(f"{self.output}/{f['path']}"))
            )
        except FileNotFoundError as error:
            if str(error.filename).endswith((_MANIFEST, "out.csv")):
                return None
            raise WrongError(f"the manifest names what is not there: {error.filename}") from None

    def allowed(self) -> list[tuple[set[str], list[int]]]:
        """Return the whole states, with the runs whose rows they hold."""
        mains = self.results(_MAIN)
        others = self.results(_OTHER)
        made = [({_MAIN}, rows) for rows in mains] + [({_OTHER}, rows) for rows in others]
        if self.script.if_exists == "append":
            made += [({_MAIN, _OTHER}, sorted(a + b)) for a in mains for b in others]
            if self.changed:  # by the runs main and next
                more = [sorted(a + b) for a in mains for b in mains]
                made += [({_MAIN, _NEXT}, rows) for rows in more]
                made += [({_MAIN, _OTHER, _NEXT}, sorted(rows + b)) for rows in more for b in others]
                made += [({_OTHER, _NEXT}, sorted(a + b)) for a in mains for b in others]
        return made

    @property
    def may_vanish(self) -> bool:
        """True if a folder is replaced by two renames, between which there is none."""
        script = self.script
        return not script.swaps and script.output == "local" and not script.one_file

    def check_seen(self) -> set[str]:
        """Check that a reader sees a whole state, with all that was acknowledged; return its possible runs."""
        acknowledged = set(self.acknowledged)
        rows = self.seen()
        if rows is None:
            if acknowledged and not (self.may_vanish and not self.settled):
                raise WrongError(f"{acknowledged} were acknowledged, and nothing is there")
            return set()
        holders = [names for names, state in self.allowed() if state == rows]
        if not holders:
            raise WrongError(f"rows are not those of whole results: {_short(rows)}")
        if self.script.if_exists == "append" and not self.changed and all(self.results(_MAIN)):
            missing = [acknowledged - names for names in holders]
            if all(missing):
                raise WrongError(f"acknowledged, and not there: {missing[0]}")
        return set().union(*holders)

    def leftovers(self) -> list[str]:
        """Return what is left that belongs to no run."""
        found = []
        if self.script.output == "local":
            found += [
                n for n in os.listdir(os.path.dirname(self.output)) if n != os.path.basename(self.output)
            ]
            if not self.script.one_file and (rows := self._manifest_files()) is not None:
                there = {
                    os.path.relpath(os.path.join(here, n), self.output)
                    for here, _, names in os.walk(self.output)
                    for n in names
                }
                found += sorted(there - rows - {_MANIFEST})
        else:
            base = f"{self.output}/" if not self.script.one_file else "s3://bucket/data/"
            names = {n.removeprefix(base) for n in self.store.objects if n.startswith("s3://bucket/data/")}
            known = {_MANIFEST} | (self._manifest_files() or set())
            found += sorted(names - (known if not self.script.one_file else {"out.csv"}))
        for name in self.acknowledged:
            blocks = f"{self.settings.runs_dir}/{name}/blocks"
            if self.script.runs == "local" and os.path.exists(blocks):
                found.append(blocks)
            if self.script.runs == "object":
                found += [n for n in self.store.objects if n.startswith(f"{blocks}/")]
        return found

    def _manifest_files(self) -> set[str] | None:
        if self.script.output == "local":
            path = f"{self.output}/{_MANIFEST}"
            return {f["path"] for f in _manifest(_content(path))["files"]} if os.path.exists(path) else None
        found = self.store.objects.get(f"{self.output}/{_MANIFEST}")
        return None if found is None else {f["path"] for f in _manifest(found[0])["files"]}

    def sweep(self) -> None:
        """Prepare and give up a further run, which recovers what dead ones left."""
        spec = sink_spec(self.output, "csv", if_exists="replace")
        begun = self.world.now
        while True:
            try:
                with open_commit(spec, "sweeper+1") as commit:
                    commit.prepare()
                return
            except SinkError as error:  # a dead run's lock, which is broken at last
                if self.world.now - begun > _BOUND:
                    raise WrongError(f"the destination stays locked: {error}") from error
            self.world.wait(30.0, "user")


#: What a run may say that begins while a late one still ends; nothing else, once faults have stopped.
_PASSING = ("is being written by", "while this run computed", "the run was stopped")


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Let errors pass that people may get; not those that are mmflow's own."""
    try:
        yield
    except MmflowError as error:
        if "bug:" in str(error):
            raise


@functools.cache
def _settings(runs: str) -> Settings:
    return Settings.load(
        {"runs_dir": runs, "workers": 2, "memory": "64MiB", "shard_size": _CUT_BYTES, "retries": 20}
    )


@functools.cache
def _plan(shape: Shape, output: str, if_exists: IfExists, paths: tuple[str, ...]) -> tuple[Plan, SinkSpec]:
    spec = sink_spec(output, "csv", if_exists=if_exists)
    write = Write(spec)
    inputs = [toy.scan(paths)]
    match shape:
        case "copy":
            stages = [toy.stage(0, inputs, write)]
        case "gather":
            stages = [
                toy.stage(0, inputs, Hash((0,), 1)),
                toy.stage(1, [toy.read_exchange("partition", 0)], write),
            ]
        case "group":
            stages = [
                toy.stage(0, inputs, Hash((0,), 2)),
                toy.stage(1, [toy.read_exchange("partition", 0)], write),
            ]
        case "sort":
            stages = [
                toy.stage(0, inputs, Forward((SortKey(0),))),
                toy.stage(1, [toy.read_exchange("forward", 0)], Range((SortKey(0),), 2, 40)),
                toy.stage(2, [toy.read_exchange("partition", 1)], write),
            ]
    return Plan(tuple(stages)), spec


def _numbers(text: bytes) -> list[int]:
    try:
        return sorted(int(line) for line in text.decode().split("\n")[1:] if line)
    except ValueError:
        raise WrongError(f"a file is damaged: {text[:60]!r}") from None


def _manifest(text: bytes) -> dict[str, Any]:
    try:
        made = json.loads(text)
    except ValueError:
        made = None
    if not isinstance(made, dict):
        raise WrongError(f"the manifest is damaged: {text[:60]!r}")
    return made


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _short(rows: list[int]) -> str:
    return f"{rows[:12]}{'…' if len(rows) > 12 else ''} ({len(rows)} rows, {sum(n - 1 for n in Counter(rows).values())} twice)"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Give an empty folder of memory whose path is the same each time in a process."""
    root = (
        Path(tempfile.gettempdir() if not os.path.isdir("/dev/shm") else "/dev/shm") / f"mmflow-world-{_PID}"
    )
    with contextlib.suppress(FileNotFoundError):
        _empty(root)
        root.rmdir()
    root.mkdir()
    try:
        yield root
    finally:
        _empty(root)
        root.rmdir()


def _empty(folder: str | os.PathLike[str]) -> None:
    """Delete all in a folder; `shutil.rmtree` takes three times as long."""
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                _empty(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)


_PID = os.getpid()


def play(script: Script, trace: list[str] | None = None) -> str:
    """Let a history happen.

    Args:
        script: What happens.
        trace: Gets a line for each call.

    Returns:
        What is wrong; "": nothing is.
    """
    with _folder() as root:
        world = World(script.seed, root, script.faults, script.uneven)
        world.trace = trace
        with world.installed(), _patched(history := _History(script, root, world)):
            try:
                _act(history)
            except AssertionError as error:
                return f"{type(error).__name__}: {error}"
    return ""


def _act(history: _History) -> None:
    world, script = history.world, history.script
    for number, actor in enumerate(script.actors):
        elsewhere = actor.does in ("second", "recode") or (actor.does == "other" and number % 2 == 0)
        host = "b" if elsewhere else "a"
        world.start(f"{actor.does}{number}", history.actor(actor.does), at=actor.at, host=host)
    world.run()
    world.cut_power_at_rest()
    world.run()
    _raise(world)
    world.stop_faults()
    history.check_seen()
    world.start("user", history.finish, host="c")
    world.run()
    _raise(world)
    history.settled = True
    seen = history.check_seen()
    jobs = set(history.acknowledged)
    if script.if_exists != "append" and jobs and not jobs & (seen | {_NEXT}):
        raise WrongError(f"of {jobs} nothing is there")
    world.start("sweeper", history.sweep, host="c")
    world.run()
    _raise(world)
    if left := history.leftovers():
        raise WrongError(f"left behind: {left}")


def _raise(world: World) -> None:
    for error in world.errors:
        if isinstance(error, WrongError):
            raise error
        raise WrongError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _patched(history: _History) -> Iterator[None]:
    """Put the store, the engine and the clock of a history where runs look for them."""
    store, world = history.store, history.world

    def open_engine(settings: Settings, name: str) -> SimulatedEngine:
        del settings, name
        script = history.script
        made = SimulatedEngine(world, history.files, cluster=script.cluster, leaves=script.leaves)
        history.engines[world.current()] = made
        return made

    others: list[tuple[Any, str, Any]] = [
        *(
            (module, "open_store", lambda *_, **__: store)
            for module in (checkpoints, directories, destinations)
        ),
        (run_context, "open_engine", open_engine),
        (run_context, "execute", functools.partial(execute, clock=lambda: world.now)),
        (run_context, "Catalog", object),  # toy plans need none, and it takes a millisecond
        (loop, "boundaries", toy.boundaries),
    ]
    if history.script.leaves:
        others.append((loop, "PART_BYTES", 4))
    if history.script.cut:
        others.append((loop, "plan_shards", functools.partial(plan_shards, page_size=_CUT_BYTES)))
    if not history.script.swaps:
        others.append((local, "swap", lambda source, target: False))
    known = [(target, name, vars(target)[name]) for target, name, _ in others]
    try:
        for target, name, other in others:
            setattr(target, name, other)
        yield
    finally:
        for target, name, before in known:
            setattr(target, name, before)


def shrink(script: Script) -> Script:
    """Return a script with as few actors and faults as make something wrong."""
    again = True
    while again:
        again = False
        for name in ("faults", "actors", "sizes"):
            for number in range(len(getattr(script, name)) - 1, -1, -1):
                held = getattr(script, name)
                fewer = replace(script, **{name: held[:number] + held[number + 1 :]})
                if (name == "faults" or held[1:]) and play(fewer):
                    script, again = fewer, True
    return script
