"""Digests of functions: all of the user's code that they can reach counts, and nothing of where it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmflow.api.jobs import load_job
from mmflow.plan.fingerprint import digest

FILES = {
    "helper.py": "import functools\nimport logging\nimport os\nLOG = logging.getLogger(__name__)\nK = 1\nTABLE = {'a': 1}\nSEEN = os.environ.get('MMFLOW_TEST_SEEN')\n"
    "class Base:\n    rate = 1\n    def of(self, x):\n        return x * self.rate\n"
    "class Price(Base):\n    def __init__(self, tax):\n        self.tax = tax\n"
    "@functools.cache\ndef cached(x):\n    return other(x)\n"
    "def other(x):\n    return x\n"
    "def twice(x):\n    return x * 2\n",
    "pkg/__init__.py": "",
    "pkg/deep.py": "from . import deeper\nD = 1\n",
    "pkg/deeper.py": "E = 1\n",
    "late.py": "import later\nL = 1\n",
    "later.py": "M = 1\n",
    "named.py": "N = 1\n",
    "unnamed.py": "U = 1\n",
    "unused.txt": "1",
    "job.py": """
import functools
import importlib
import re
import helper
from helper import TABLE, cached
from pkg import deep
import mmflow as mf

price = helper.Price(3)
digits = re.compile("[0-9]+").match

def f(batch):
    import late
    named = importlib.import_module("named")
    helper.LOG.info("%s", __name__)
    return helper.K, TABLE, helper.SEEN, cached(1), price.of(2), digits("1"), deep.D, late.L, named.N

def made_up(batch):
    return importlib.import_module("un" + "named").U, f

def sees(batch):
    return helper.K

@mf.job
def j(session: mf.Session) -> mf.Dataset:
    raise NotImplementedError
""",
}


def _folder(at: Path) -> Path:
    for name, text in FILES.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(text)
    return at


def _key(folder: Path, name: str = "f", change: Callable[..., object] | None = None) -> str:
    """Return the digest of a function of the job as it is loaded now, after a change in memory."""
    names = load_job(str(folder / "job.py")).build.__globals__
    if change is not None:
        change(names)
    return digest(names[name])


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


EDITS = [
    ("helper.py", "K = 1", "K = 2"),
    ("helper.py", "def other(x):\n    return x", "def other(x):\n    return -x"),
    ("pkg/__init__.py", "", "x = 1"),
    ("pkg/deep.py", "D = 1", "D = 2"),
    ("pkg/deeper.py", "E = 1", "E = 2"),
    ("late.py", "L = 1", "L = 2"),
    ("later.py", "M = 1", "M = 2"),
    ("named.py", "N = 1", "N = 2"),
    ("job.py", "price.of(2)", "price.of(3)"),
]


@pytest.mark.parametrize(("file", "before", "after"), EDITS)
def test_an_edit_of_any_module_that_a_function_reaches_counts(
    tmp_path: Path, file: str, before: str, after: str
) -> None:
    folder = _folder(tmp_path)
    if file != "named.py":  # else all files of the folder count, whatever is found in the code
        _edit(folder / "job.py", "importlib.import_module", "print")
    first = _key(folder)
    assert _key(folder) == first
    status = (folder / file).stat()
    _edit(folder / file, before, after)
    os.utime(folder / file, ns=(status.st_atime_ns, status.st_mtime_ns))  # within one tick of the clock
    assert _key(folder) != first


def test_unreached_code_and_the_place_of_a_folder_do_not_count(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "a")
    made_up = _key(folder, "made_up")
    (folder / "unnamed.py").write_text("U = 2\n")
    assert _key(folder, "made_up") != made_up
    # From here on, code says what it imports.
    _edit(folder / "job.py", "importlib.import_module", "print")
    first = _key(folder)
    (folder / "unnamed.py").write_text("U = 3\n")
    (folder / "unused.txt").write_text("2")
    assert _key(folder) == first
    shutil.copytree(folder, tmp_path / "b" / "deeper")
    assert _key(tmp_path / "b" / "deeper") == first
    assert not list(tmp_path.rglob("*.pyc"))


# Functions are those of the job's folder: a lambda of this module would reach all tests that are loaded.
CHANGES: dict[str, Callable[..., object]] = {
    "a global of a module": lambda names: setattr(names["helper"], "K", 5),
    "what a global holds": lambda names: names["TABLE"].update(a=2),
    "an attribute of an object": lambda names: setattr(names["price"], "tax", 4),
    "an attribute of a base class": lambda names: setattr(names["helper"].Base, "rate", 2),
    "a method": lambda names: setattr(names["helper"].Base, "of", names["helper"].twice),
    "a function behind a cache": lambda names: setattr(names["helper"], "other", names["helper"].twice),
    "a bound method of a package's object": lambda names: names.update(
        digits=__import__("re").compile("x").match
    ),
    "an attribute of the function": lambda names: setattr(names["f"], "table", 7),
    "a default": lambda names: setattr(names["f"], "__defaults__", (7,)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_values_that_a_function_reaches_count_as_they_are(tmp_path: Path, what: str) -> None:
    folder = _folder(tmp_path)
    assert _key(folder, change=CHANGES[what]) != _key(folder)
    assert _key(folder, change=CHANGES[what]) == _key(folder, change=CHANGES[what])


def test_a_value_that_was_read_from_the_environment_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder(tmp_path)
    first, other = _key(folder), _key(folder, "sees")
    monkeypatch.setenv("MMFLOW_TEST_SEEN", "1")
    assert _key(folder) != first
    assert _key(folder, "sees") == other  # it names nothing that the variable changed


def test_values_without_a_digest_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import threading, sys\nimport mmflow as mf\n"
        "class Own(dict):\n    def __reduce_ex__(self, n):\n        raise RuntimeError('no')\n"
        "lock, lines, own = threading.Lock(), (x for x in 'ab'), Own()\n"
        "loop = []\nloop.append(loop)\n"
        "nested = []\n"
        "for _ in range(5000):\n    nested = [nested]\n"
        "many = {n: str(n) for n in range(100_000)}\n"
        "def f(batch):\n    return lock, lines, own, loop, many, f, sys.stdout\n"
        "def deep(batch):\n    return nested\n"
        "@mf.job\ndef j(session: mf.Session) -> mf.Dataset:\n    raise NotImplementedError\n"
    )
    assert _key(tmp_path) == _key(tmp_path)
    assert _key(tmp_path) != _key(tmp_path, change=lambda names: names["many"].update({7: "x"}))
    assert _key(tmp_path, "deep")


SCRIPT = """
import fakelib, helper
from mmflow.plan.fingerprint import digest
def f(batch):
    return fakelib.one(helper.K)
print(digest(f))
"""


@pytest.mark.integration
def test_functions_of_a_script_count_with_its_modules_and_the_versions_of_packages(tmp_path: Path) -> None:
    def install(name: str, version: str, requires: str = "") -> None:
        info = tmp_path / "libs" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
        (info / "RECORD").write_text(f"{name}.py,,\n")
        (tmp_path / "libs" / f"{name}.py").write_text("def one(x):\n    return x\n")

    def key() -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "libs"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(tmp_path / "script.py")]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout

    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("K = 1\n")
    install("fakelib", "1.0", "Requires-Dist: fakebase>=1; python_version > '3'\n")
    install("fakebase", "1.0")
    keys = [key()]
    (tmp_path / "helper.py").write_text("K = 2\n")
    keys.append(key())
    shutil.rmtree(tmp_path / "libs" / "fakebase-1.0.dist-info")
    install("fakebase", "1.1")
    keys.append(key())
    assert len(set(keys)) == 3
    assert key() == keys[-1]
