"""The process that judges changes of one group of modules: tests are collected once, and each change is a fork of it.

python -m tests.mutation.judging GROUP RESULTS [NUMBER] [PATTERN…]     so many at random, the same ones each time

It runs in build/mutants, whose modules hold every change of every function beside the function itself (mutmut): the
environment says which of them is called. A first fork runs all tests, and says which functions each of them reaches,
how long it takes, and what it imports. A fork for a change runs those that reach its function, the quickest first, and
ends with the first that fails.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.groups import GROUPS

__all__ = ["mutants_of"]

_AT_ONCE = 2
#: Processor time of a change, beside ten times that of its tests, and time in all, in seconds.
_PROCESSOR_SECONDS, _SECONDS = 5, 120
#: Variable of the environment that says which change is called.
_CHANGE = "MUTANT_UNDER_TEST"
_NAME = re.compile(r"^mutants_\w+\['(\w+__mutmut_\d+)'\] = ", re.MULTILINE)


def mutants_of(module: str) -> list[str]:
    """Return the changes of a changed module, by name."""
    stem = module.removesuffix(".py").replace("/", ".")
    return [f"{stem}.{name}" for name in _NAME.findall(Path(module).read_text())]


def _function(mutant: str) -> str:
    return mutant.rpartition("__mutmut_")[0]


class Judge:
    """Plugin of pytest that runs forks instead of the tests."""

    def __init__(self, mutants: list[str], results: str) -> None:
        self.mutants = mutants
        self.results = results
        self._failed = ""
        self._folder = Path()
        self._running: dict[int, tuple[str, float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed = f"{report.nodeid}: {report.longreprtext}"

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # One for all forks: a change may write beside the path that it lost, and others would find that.
        self._folder = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # private to pytest
        reach, seconds, modules = self._all_tests(session)
        for name in modules:
            with contextlib.suppress(Exception):  # of platforms, and those that import their users
                importlib.import_module(name)
        items = {item.nodeid: item for item in session.items}
        with open(self.results, "w", buffering=1) as out:
            for mutant in self.mutants:
                chosen = sorted((seconds[name], name) for name in reach.get(_function(mutant), ()))
                if not chosen:
                    out.write(json.dumps([mutant, "no tests"]) + "\n")
                    continue
                while len(self._running) >= _AT_ONCE:
                    self._reap(out)
                self._start(mutant, [items[name] for _, name in chosen], sum(s for s, _ in chosen))
            while self._running:
                self._reap(out)
        return True

    def _enter_folder(self) -> None:
        os.chdir(tempfile.mkdtemp(dir=self._folder))

    def _run(self, item: pytest.Item) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _all_tests(self, session: pytest.Session) -> tuple[dict[str, list[str]], dict[str, float], list[str]]:
        """Run all tests in a fork; return those that reach each function, their seconds, and all modules."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            from mutmut.state import state  # installed by `make mutants` only

            os.environ[_CHANGE] = "stats"
            self._enter_folder()
            known = set(sys.modules)
            reach: dict[str, list[str]] = {}
            seconds: dict[str, float] = {}
            for item in session.items:
                state()._stats.clear()
                began = time.process_time()
                self._run(item)
                seconds[item.nodeid] = time.process_time() - began
                for function in state()._stats:
                    reach.setdefault(function, []).append(item.nodeid)
            new = [name for name in sys.modules if name not in known]
            with open(writing, "w") as pipe:
                json.dump([self._failed, reach, seconds, new], pipe)
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            failed, *found = json.load(pipe)
        os.waitpid(child, 0)
        if failed:
            pytest.exit(f"without a change, a test fails: {failed}", 2)
        return found[0], found[1], found[2]

    def _start(self, mutant: str, items: list[pytest.Item], seconds: float) -> None:
        child = os.fork()
        if child:
            self._running[child] = (mutant, time.monotonic())
            return
        os.setsid()
        self._enter_folder()
        limit = int(10 * seconds) + _PROCESSOR_SECONDS + int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        os.environ[_CHANGE] = mutant
        for item in items:
            self._run(item)
            if self._failed:
                os._exit(1)
        os._exit(0)

    def _reap(self, out: Any) -> None:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            for pid, (_, began) in self._running.items():
                if time.monotonic() - began > _SECONDS:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            return
        if child in self._running:
            mutant, _ = self._running.pop(child)
            with contextlib.suppress(ProcessLookupError):  # what its tests started
                os.killpg(child, signal.SIGKILL)
            out.write(json.dumps([mutant, "survived" if status == 0 else "killed"]) + "\n")


def _chosen(modules: tuple[str, ...], patterns: list[str]) -> Iterator[str]:
    for module in modules:
        for name in mutants_of(module):
            if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                yield name


def main(group: str, results: str, *patterns: str) -> int:
    from mutmut.configuration import config  # as above

    config()  # as long as this is the folder that it is read from
    found = GROUPS[group]
    number, *others = patterns if patterns and patterns[0].isdigit() else ("", *patterns)
    mutants = list(_chosen(found.modules, others))
    if number:
        mutants = random.Random(0).sample(mutants, min(int(number), len(mutants)))
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir=.", *found.tests]
    return int(pytest.main(arguments, plugins=[Judge(mutants, results)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
