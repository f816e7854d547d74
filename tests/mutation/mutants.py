"""Mutation tests: a small change of the code that must not lose a row fails a test, or survivors.txt says why not.

python -m tests.mutation.mutants [GROUP [NUMBER] [PATTERN…]]     changes of one group (tests/mutation/groups.py): so many of
                                                                 them, at random, of these names

mutmut makes the changes, in a copy of the package in build/mutants; tests/mutation/judging.py tries them.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.groups import GROUPS

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
    (FOLDER / "site").mkdir(exist_ok=True)
    (FOLDER / "site" / "sitecustomize.py").write_text(SITE)


#: Writes the changed modules of its arguments, beside which their functions stay as they are.
_CHANGE = """
import sys
from pathlib import Path
from mutmut.mutation.file_mutation import mutate_file_contents
for name in sys.argv[1:]:
    Path(name).write_text(mutate_file_contents(name, Path(name).read_text()).code)
"""


def _python(*arguments: str) -> None:
    path = os.pathsep.join((str(FOLDER / "site"), str(FOLDER)))
    environment = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_PROFILE": "ci", "MUTANT_UNDER_TEST": ""}
    subprocess.run([sys.executable, *arguments], cwd=FOLDER, env=environment, check=True)


def _function(text: str, name: str) -> list[str]:
    found = re.search(rf"^( *)def {name}\(.*?\n(?=\1\S)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return textwrap.dedent(found[0]).rstrip().splitlines()[1:]


def _change(mutant: str) -> str:
    """Return the lines of a change before and after."""
    module, _, name = mutant.rpartition(".")
    text = (FOLDER / (module.replace(".", "/") + ".py")).read_text() + "\nend\n"
    original = _function(text, f"{name.rpartition('__mutmut_')[0]}__mutmut_orig")
    lines = difflib.unified_diff(original, _function(text, name), n=0, lineterm="")
    return "\n".join(
        f"{line[0]} {line[1:].strip()}"
        for line in lines
        if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")
    )


def _judge(group: str, patterns: tuple[str, ...]) -> int:
    """Try the changes of a group; return how many survive without a reason."""
    _copy()
    _python("-c", _CHANGE, *GROUPS[group].modules)
    results = FOLDER / f"results-{group}.jsonl"
    _python("-m", "tests.mutation.judging", group, str(results), *patterns)
    known = explained((HERE / "survivors.txt").read_text())
    total, survived = Counter[str](), Counter[str]()
    unexplained = 0
    for line in results.read_text().splitlines():
        name, outcome = json.loads(line)
        module = name.rpartition(".")[0].replace(".", "/") + ".py"
        total[module] += 1
        if outcome == "killed":
            continue
        survived[module] += 1
        change = _change(name)
        if Survivor(module, change) not in known:
            unexplained += 1
            print(f"{name}: {outcome}\n{change}\n")
    for module, count in total.items():
        killed = count - survived[module]
        print(f"{module}: {killed:,} of {count:,} killed ({killed / count:.1%})", flush=True)
    return unexplained


def main(group: str = "", *patterns: str) -> int:
    unexplained = sum(_judge(name, patterns) for name in ([group] if group else GROUPS))
    print(f"{unexplained} survivors are not in survivors.txt")
    return unexplained > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
