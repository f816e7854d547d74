"""Mutation tests: a small change of the code that must not lose a row fails a test, or survivors.txt says why not.

python -m tests.mutation.mutants

mutmut changes a copy of the package in build/mutants, and runs the tests that reach a change: [tool.mutmut] in
pyproject.toml says in which modules, and which tests. Results are kept there, so that a second run tries only what
changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Survivor", "explained"]

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
FOLDER = REPOSITORY / "build" / "mutants"
#: What the tests need besides the package.
COPIED = ("mmflow", "tests", "conftest.py", "pyproject.toml", "configs", "jobs", "docs", "README.md")

#: Processes import the changed package, although the original one is installed in place.
SITE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable_skbc_")]
"""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test notices: the module, and its lines before and after."""

    module: str
    change: str


def explained(text: str) -> set[Survivor]:
    """Return the survivors that survivors.txt explains.

    >>> explained("m.py: why it makes no difference\\n    - a\\n    + b\\n")
    {Survivor(module='m.py', change='- a\\n+ b')}
    """
    found: set[Survivor] = set()
    module, change = "", list[str]()
    for line in [*text.splitlines(), "end:"]:
        if line.startswith("    "):
            change.append(line.strip())
        elif line and not line.startswith("#"):
            if change:
                found.add(Survivor(module, "\n".join(change)))
            module, change = line.partition(":")[0], []
    return found


def _copy() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(
                source, FOLDER / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(source, FOLDER / name)
    kernels = importlib.util.find_spec("mmflow._kernels")
    assert kernels is not None
    assert kernels.origin is not None
    shutil.copy2(kernels.origin, FOLDER / "mmflow")
    for name in ("site", "mutants"):  # a path that is missing when Python starts is never looked at again
        (FOLDER / name).mkdir(exist_ok=True)
    (FOLDER / "site" / "sitecustomize.py").write_text(SITE)


def _mutmut(*arguments: str, quiet: bool = True) -> str:
    path = os.pathsep.join(str(FOLDER / name) for name in ("site", "mutants"))
    environment = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_PROFILE": "ci"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=FOLDER,
        env=environment,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        check=True,
    )
    return done.stdout or ""


def _change(mutant: str) -> str:
    lines = _mutmut("show", mutant).splitlines()
    return "\n".join(
        f"{line[0]} {line[1:].strip()}"
        for line in lines
        if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")
    )


def main() -> int:
    _copy()
    _mutmut("run", quiet=False)
    known = explained((HERE / "survivors.txt").read_text())
    total, survived = Counter[str](), Counter[str]()
    unexplained = 0
    for line in _mutmut("results", "--all", "true").splitlines():
        name, _, status = line.strip().partition(": ")
        module = name.rpartition(".")[0].replace(".", "/") + ".py"
        total[module] += 1
        if status not in ("survived", "no tests", "suspicious"):
            continue
        survived[module] += 1
        change = _change(name)
        if Survivor(module, change) not in known:
            unexplained += 1
            print(f"{name}: {status}\n{change}\n")
    for module, count in total.items():
        killed = count - survived[module]
        print(f"{module}: {killed:,} of {count:,} killed ({killed / count:.1%})")
    print(f"{unexplained} survivors are not in survivors.txt")
    return unexplained > 0


if __name__ == "__main__":
    sys.exit(main())
