"""Mutation tests: a small change of the code that must not lose a row fails a test, or survivors.txt says why not.

python -m tests.mutation.mutants [NUMBER] [GROUP [PATTERN…]]     so many changes of each module, always the same ones, of
                                                                 one group (tests/mutation/groups.py), of these names

mutmut makes the changes, in a copy of the package in build/mutants/GROUP; tests/mutation/judging.py tries them.
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

#: Processes import the changed package, although the original one is installed in place, and say which functions they reach.
SITE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable_skbc_")]
from tests.mutation.reach import install
install()
"""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test notices: the module, the function, and its lines before and after."""

    module: str
    function: str
    change: str


def explained(text: str) -> set[Survivor]:
    """Return the survivors that survivors.txt explains.

    >>> explained("m.py: C.f: why they make no difference\\n    - a\\n    + b\\n    - a\\n    + c\\n") == {
    ...     Survivor("m.py", "C.f", "- a\\n+ b"),
    ...     Survivor("m.py", "C.f", "- a\\n+ c"),
    ... }
    True
    """
    found: set[Survivor] = set()
    for entry in re.finditer(r"^(\S+): (\S+): .+\n((?:    .+\n)+)", text, re.MULTILINE):
        lines = textwrap.dedent(entry[3])
        found |= {
            Survivor(entry[1], entry[2], m[0].strip())
            for m in re.finditer(r"(?:^-.*\n)+(?:^\+.*\n)*", lines, re.MULTILINE)
        }
    return found


def _copy(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(source, folder / name)
    kernels = importlib.util.find_spec("mmflow._kernels")
    assert kernels is not None
    assert kernels.origin is not None
    shutil.copy2(kernels.origin, folder / "mmflow")
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(SITE)


#: Writes the changed modules of its arguments, beside which their functions stay as they are.
_CHANGE = """
import sys
from pathlib import Path
from mutmut.mutation.file_mutation import mutate_file_contents
for name in sys.argv[1:]:
    Path(name).write_text(mutate_file_contents(name, Path(name).read_text()).code)
"""


def _python(folder: Path, *arguments: str) -> None:
    path = os.pathsep.join((str(folder / "site"), str(folder)))
    environment = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_PROFILE": "mutants", "MUTANT_UNDER_TEST": ""}
    environment.pop("CI", None)  # has failing tests run twice
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True)


def _lines(text: str, name: str) -> list[str]:
    found = re.search(rf"^( *)def {name}\(.*?\n(?=\1[^\s)])", text, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return textwrap.dedent(found[0]).replace(name, "", 1).rstrip().splitlines()


def _survivor(mutant: str, folder: Path) -> Survivor:
    module, _, name = mutant.rpartition(".")
    path = module.replace(".", "/") + ".py"
    text = (folder / path).read_text() + "\nend\n"
    original = name.rpartition("__mutmut_")[0]
    lines = difflib.unified_diff(
        _lines(text, f"{original}__mutmut_orig"), _lines(text, name), n=0, lineterm=""
    )
    change = "\n".join(
        f"{line[0]} {line[1:].strip()}"
        for line in lines
        if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")
    )
    return Survivor(path, original.removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."), change)


def _judge(group: str, number: str, patterns: tuple[str, ...]) -> int:
    """Try the changes of a group; return how many survive without a reason."""
    folder = FOLDER / group
    _copy(folder)
    _python(folder, "-c", _CHANGE, *GROUPS[group].modules)
    results = folder / "results.jsonl"
    _python(folder, "-m", "tests.mutation.judging", group, str(results), number, *patterns)
    known = explained((HERE / "survivors.txt").read_text())
    outcomes: dict[str, Counter[str]] = {}
    survivors: set[Survivor] = set()
    unexplained = 0
    for line in results.read_text().splitlines():
        name, outcome, _ = json.loads(line)
        path = name.rpartition(".")[0].replace(".", "/") + ".py"
        outcomes.setdefault(path, Counter())[outcome] += 1
        if outcome in ("survived", "no tests"):
            survivor = _survivor(name, folder)
            survivors.add(survivor)
            if survivor in known:
                continue
            unexplained += 1
            change = textwrap.indent(survivor.change, "    ")
            print(f"{name}: {outcome}\n{survivor.module}: {survivor.function}: \n{change}\n")
        elif outcome != "killed":
            print(f"{name}: {outcome}")
    for path, count in outcomes.items():
        total, noticed = count.total(), count.total() - count["survived"] - count["no tests"]
        others = "".join(f", {count[o]} {o}" for o in ("timeout", "crashed") if count[o])
        print(f"{path}: {noticed:,} of {total:,} noticed ({noticed / total:.1%}){others}", flush=True)
    if not number and not patterns:
        for survivor in sorted(
            (s for s in known - survivors if s.module in outcomes), key=lambda s: (s.module, s.function)
        ):
            print(f"survivors.txt has a change that does not survive: {survivor}")
    return unexplained


def main(*arguments: str) -> int:
    number = arguments[0] if arguments and arguments[0].isdigit() else ""
    group, *patterns = arguments[bool(number) :] or ("",)
    unexplained = sum(_judge(name, number, tuple(patterns)) for name in ([group] if group else GROUPS))
    print(f"{unexplained} survivors are not in survivors.txt")
    return unexplained > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
