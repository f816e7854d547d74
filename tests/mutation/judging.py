"""The process that judges changes of one group of modules: tests are collected once, and each change is a fork of it.

python -m tests.mutation.judging GROUP RESULTS NUMBER [PATTERN…]     so many of each module; "": all

It runs in build/mutants/GROUP, whose modules hold every change of every function beside the function itself (mutmut): the
environment says which of them is called. A first fork runs all tests, and says which functions each of them reaches and
what it imports. Others run them as a change will find them, several at once and the quickest first, and say how long each
takes: all must pass. A fork for a change runs those that reach its function, the quickest first, and ends with the first that fails.

    survived    all tests passed
    killed      a test failed
    timeout     more than ten times the time that they take without a change, and some seconds; without the time
                for which processes of other work had the processor
    crashed     the process of the tests ended otherwise
    no tests    none reaches the function

RESULTS has a line for each: its name, the outcome, and the test that failed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.mutation import reach
from tests.mutation.groups import GROUPS

__all__ = ["mutants_of"]

_AT_ONCE = len(os.sched_getaffinity(0))
#: Limits of a change: processor time and time in all, in seconds, beside ten times those of its tests.
_PROCESSOR_SECONDS, _SECONDS, _TIMES = 5, 20, 10
#: Variable of the environment that says which change is called.
_CHANGE = "MUTANT_UNDER_TEST"
_NAME = re.compile(r"^mutants_\w+\['(\w+__mutmut_\d+)'\] = ", re.MULTILINE)


def mutants_of(module: str) -> list[str]:
    """Return the changes of a changed module, by name."""
    stem = module.removesuffix(".py").replace("/", ".")
    return [f"{stem}.{name}" for name in _NAME.findall(Path(module).read_text())]


def _delay(process: int) -> float:
    """Return for how many seconds a process wanted a processor and got none, as other work had it."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9


def _function(mutant: str) -> str:
    return mutant.rpartition("__mutmut_")[0]


class Judge:
    """Plugin of pytest that runs forks instead of the tests."""

    def __init__(self, mutants: list[str], results: str) -> None:
        self.mutants = mutants
        self.results = results
        self._failed = ""
        self._folder = Path()
        self._running: dict[int, tuple[str, float, float]] = {}
        self._late: set[int] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed = f"{report.nodeid}: {report.longreprtext}"

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # One for all forks: a change may write beside the path that it lost, and others would find that.
        self._folder = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # private to pytest
        ((reached, quickest, modules),) = self._unchanged(lambda: self._reach(session.items))
        for name in modules:
            with contextlib.suppress(Exception):  # of platforms, and those that import their users
                importlib.import_module(name)
        items = {item.nodeid: item for item in session.items}
        times = self._unchanged(lambda: self._time([items[name] for name in quickest]), _AT_ONCE)
        with open(self.results, "w", buffering=1) as out:
            for mutant in self.mutants:
                chosen = [name for name in quickest if name in reached.get(_function(mutant), ())]
                if not chosen:
                    out.write(json.dumps([mutant, "no tests", ""]) + "\n")
                    continue
                while len(self._running) >= _AT_ONCE:
                    self._reap(out)
                limits = [
                    _TIMES * max(sum(seconds[name][clock] for name in chosen) for seconds in times)
                    for clock in (0, 1)
                ]
                self._start(mutant, [items[name] for name in chosen], *limits)
            while self._running:
                self._reap(out)
        return True

    def _enter_folder(self) -> None:
        os.chdir(tempfile.mkdtemp(dir=self._folder))

    def _run(self, item: pytest.Item) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _unchanged(self, work: Callable[[], Any], at_once: int = 1) -> list[Any]:
        """Run tests in forks, without a change; return their results."""
        pipes: list[int] = []
        for _ in range(at_once):
            reading, writing = os.pipe()
            pipes.append(reading)
            if not os.fork():
                try:
                    self._enter_folder()
                    result = work()
                    with open(writing, "w") as pipe:
                        json.dump([self._failed, result], pipe)
                finally:
                    os._exit(0)
            os.close(writing)
        results: list[Any] = []
        for reading in pipes:
            with open(reading) as pipe:
                failed, result = json.loads(pipe.read() or '["the process of the tests ended", null]')
            os.wait()
            if failed:
                pytest.exit(f"without a change, a test fails: {failed}", 2)
            results.append(result)
        return results

    def _reach(self, items: list[pytest.Item]) -> tuple[dict[str, list[str]], list[str], list[str]]:
        """Return the tests that reach each function, all tests, the quickest first, and the modules that they import."""
        os.environ[_CHANGE] = "stats"
        reach.begin(Path.cwd())
        known = set(sys.modules)
        reached: dict[str, list[str]] = {}
        seconds: dict[str, float] = {}
        for item in items:
            reach.take()
            began = time.monotonic()
            self._run(item)
            seconds[item.nodeid] = time.monotonic() - began
            for function in reach.take():
                reached.setdefault(function, []).append(item.nodeid)
        return reached, sorted(seconds, key=seconds.__getitem__), [n for n in sys.modules if n not in known]

    def _time(self, items: list[pytest.Item]) -> dict[str, tuple[float, float]]:
        """Return the processor time of this process and the time in all of each test."""
        seconds = {}
        for item in items:
            began = time.process_time(), time.monotonic()
            self._run(item)
            seconds[item.nodeid] = time.process_time() - began[0], time.monotonic() - began[1]
        return seconds

    def _start(self, mutant: str, items: list[pytest.Item], processor: float, in_all: float) -> None:
        child = os.fork()
        if child:
            self._running[child] = mutant, time.monotonic() + in_all + _SECONDS, _delay(os.getpid())
            return
        status = 1
        try:
            os.setsid()
            self._enter_folder()
            limit = int(processor + time.process_time()) + _PROCESSOR_SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            os.environ[_CHANGE] = mutant
            for item in items:
                self._run(item)
                if self._failed:
                    break
            else:
                status = 0
        finally:  # whatever pytest lets through, as Ctrl-C, is noticed
            (self._folder / f"failed-{os.getpid()}").write_text(self._failed.partition(": ")[0])
            os._exit(status)

    def _reap(self, out: IO[str]) -> None:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            now, delay = time.monotonic(), _delay(os.getpid())
            for pid, (_, end, before) in self._running.items():
                # Where it waits for a process of its own that gets no processor, this one gets as little.
                if now - max(delay - before, _delay(pid)) > end and pid not in self._late:
                    self._late.add(pid)
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            return
        if child in self._running:
            mutant, *_ = self._running.pop(child)
            with contextlib.suppress(ProcessLookupError):  # what its tests started
                os.killpg(child, signal.SIGKILL)
            shutil.rmtree(
                f"/dev/shm/mmflow-world-{child}", ignore_errors=True
            )  # of a history that was cut short
            code = os.waitstatus_to_exitcode(status)
            late = child in self._late or code == -signal.SIGXCPU
            self._late.discard(child)
            outcome = "timeout" if late else {0: "survived", 1: "killed"}.get(code, "crashed")
            note = self._folder / f"failed-{child}"
            out.write(json.dumps([mutant, outcome, note.read_text() if note.exists() else ""]) + "\n")
            note.unlink(missing_ok=True)


def _chosen(module: str, number: str, patterns: tuple[str, ...]) -> list[str]:
    names = [
        name
        for name in mutants_of(module)
        if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]
    # Those of one function stay the same when another function is changed.
    return sorted(names, key=lambda name: zlib.crc32(name.encode()))[: int(number) if number else None]


def main(group: str, results: str, number: str, *patterns: str) -> int:
    found = GROUPS[group]
    mutants = [name for module in found.modules for name in _chosen(module, number, patterns)]
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir=.", *found.tests]
    return int(pytest.main(arguments, plugins=[Judge(mutants, results)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
