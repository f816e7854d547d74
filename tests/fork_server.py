"""Commands in processes of their own that start in milliseconds: a process that has imported everything forks them.

    python -m tests.fork_server MODULE FUNCTION IMPORTED...

Each line on standard input is one command: environment, arguments, and files for its output. The function of the module
runs in a fork that ends as a process does, or is killed; its exit code is the answer. The server does nothing else, so
a fork holds nobody's lock: the threads that come with NumPy and Arrow (OpenBLAS, jemalloc) are made ready for forks.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["ForkServer", "run_mmflow"]

ROOT = Path(__file__).parents[1]
#: What most commands of `mmflow` import.
IMPORTED = (
    "mmflow.cli.query", "mmflow.cli.run", "mmflow.engines.local", "mmflow.engines.loop",
    "mmflow.worker.task_runner", "mmflow.formats.csv.kernel", "mmflow.plan.planner", "mmflow.runs.recorder",
    "mmflow.runs.report.page", "mmflow.api.session",
)  # fmt: skip


class ForkServer:
    """Processes that run a function of a module, as `subprocess.run` would.

    Args:
        module: Its name; it is imported once.
        function: Called with the arguments of a command, as texts; returns an exit code, or None.
        imported: Modules that the commands would import each for itself.
    """

    def __init__(self, module: str, function: str = "main", imported: Sequence[str] = ()) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, module, function, *imported],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: str | Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, and return what it said and its exit code, negative for the signal that ended it."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as errors:
            command = [dict(env or os.environ), arguments, str(cwd or os.getcwd()), out.name, errors.name]
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            texts = [Path(file.name).read_text() for file in (out, errors)]
        return subprocess.CompletedProcess([self._module, *arguments], code, *texts)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@cache
def _commands() -> ForkServer:
    server = ForkServer(__name__, "command", IMPORTED)
    atexit.register(server.close)
    return server


def run_mmflow(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command `mmflow`, and return what it said and its exit code."""
    return _commands().run(*arguments, env=env, cwd=cwd)


def command(*arguments: str) -> int:
    """Run the command `mmflow` in this process."""
    from mmflow.cli.main import main

    return main(arguments)


def _become(env: Mapping[str, str], folder: str, out: str, errors: str) -> None:
    """Take the environment, the folder and the files of a command."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for fd, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_APPEND),
        (2, errors, os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, fd)
        os.close(opened)


def serve(module: str, function: str, *imported: str) -> None:
    """Run the commands until the input ends.

    Raises:
        SystemExit: In a fork, once its command is over, so that it ends as a process does.
    """
    main = getattr(importlib.import_module(module), function)
    for name in imported:
        importlib.import_module(name)
    answers = os.dup(1)
    # By the descriptor: what a buffer has read ahead, a fork would hold too.
    with open(os.dup(0), "rb", buffering=0) as commands:
        while line := commands.readline():
            env, arguments, folder, out, errors = json.loads(line)
            child = os.fork()
            if not child:
                os.close(answers)
                commands.close()
                _become(env, folder, out, errors)
                sys.argv = [module, *arguments]
                raise SystemExit(main(*arguments))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.write(answers, f"{code}\n".encode())


if __name__ == "__main__":
    serve(*sys.argv[1:])
