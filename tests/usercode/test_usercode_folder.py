"""Modules of jobs' folders: imported like those of a script, each job with its own, here and in workers."""

from __future__ import annotations

import gc
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmflow
from mmflow.api.jobs import load_job
from mmflow.errors import ConfigError
from mmflow.usercode.shipped import CodeSpace, dumps

FILES = {
    "helper.py": """
import functools
import logging
import threading
import typing
import helper2
K = {k}
log = logging.getLogger(__name__)
T = typing.TypeVar("T")
P = typing.ParamSpec("P")
Number = typing.NewType("Number", int)
LOCK = threading.Lock()

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

class Of(typing.Generic[T]):
    pass

def locked(of: Of[Number] = Of()):
    with LOCK:
        return helper2.doubled(K)
""",
    # Modules that import each other.
    "helper2.py": "import helper\ndef doubled(x):\n    return 2 * helper.K\n",
    "pkg/__init__.py": "from .deep import D\n",
    "pkg/deep.py": "from . import deeper\nD = deeper.E + {k}\n",
    "pkg/deeper.py": "E = 10\n",
    "folder/inner.py": "I = {k}\n",  # without __init__.py
    "late.py": """
from __future__ import annotations
import dataclasses
from pkg.lazy import Z

@dataclasses.dataclass
class Point:
    x: int

L = Point({k}).x + Z
""",
    "pkg/lazy.py": "from ..late2 import Q\nZ = 100 + Q\n",
    "late2.py": "Q = {k}\n",
    "plugin.py": "P = {k}\n",
    "json.py": "J = {k}\n",  # the user's, here
    "job.py": """
from __future__ import annotations
import dataclasses
import functools
import importlib
from importlib import import_module
import helper
import json
import pkg.deep
import mmflow as mf

class Base:
    def of(self, x):
        from folder import inner
        return x + inner.I

class Own(Base):
    def of(self, x):
        return super().of(x) + self.ten

    @functools.cached_property
    def ten(self):
        return helper.fib(10)

def f(batch):
    @dataclasses.dataclass
    class Local:
        x: int
    import folder.inner
    import late
    from pkg import lazy
    assert importlib.import_module("plugin") is import_module("plugin")
    assert late.Z == lazy.Z and json.J == helper.K
    plugin = importlib.import_module("".join(["plu", "gin"])).P
    return [helper.locked(), pkg.deep.D, late.L, plugin, folder.inner.I, Own().of(0)]

def missing(batch):
    import pkg.nothing

@mf.job
def j(session: mf.Session) -> mf.Dataset:
    raise NotImplementedError
""",
}


def _folder(at: Path, k: int) -> Path:
    for name, text in FILES.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(text.replace("{k}", str(k)))
    return at


def _loaded(folder: Path) -> dict[str, Any]:
    return load_job(str(folder / "job.py")).build.__globals__


def _expected(k: int) -> list[int]:
    return [2 * k, 10 + k, 2 * k + 100, k, k, k + 55]


def test_jobs_of_one_process_have_each_their_own_modules(tmp_path: Path) -> None:
    before = set(sys.modules)
    first, second = (_loaded(_folder(tmp_path / str(k), k)) for k in (1, 2))
    assert first["f"](None) == _expected(1)
    assert second["f"](None) == _expected(2)
    assert first["f"](None) == _expected(1)
    edited = _loaded(_folder(tmp_path / "1", 3))
    assert edited["f"](None) == _expected(3)
    assert first["f"](None) == _expected(1)
    for name in ("helper", "pkg", "plugin", "late", "folder"):
        assert name not in sys.modules or name in before
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'pkg.nothing'$"):
        first["missing"](None)


def test_functions_run_in_one_worker_with_each_their_own_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The functions run in the same process, as threads of a Dask worker do, and without the folders."""
    codes = []
    for k in (1, 2):
        names = _loaded(_folder(tmp_path / "job", k))
        codes.append(dumps(names["f"]))
        shutil.rmtree(tmp_path / "job")
    for name in [n for n in sys.modules if n.startswith("mmflow_job")]:
        monkeypatch.delitem(sys.modules, name)  # as in a worker
    functions: list[Callable[..., Any]] = [pickle.loads(code) for code in codes]
    for _ in range(2):
        assert [function(None) for function in functions] == [_expected(1), _expected(2)]
    functions.clear()
    gc.collect()
    CodeSpace("mmflow_job_other")  # the next task
    assert not [name for name in sys.modules if name.startswith("mmflow_job")]


def test_functions_see_the_modules_as_they_were_when_they_were_sent(tmp_path: Path) -> None:
    names = _loaded(_folder(tmp_path, 1))
    names["helper"].K = 5
    names["json"].J = 5
    made = pickle.loads(dumps(names["f"]))
    assert made(None)[0] == 10
    made.__globals__["helper"].K = 6  # one namespace: of the module, and of its functions
    assert made.__globals__["helper"].locked() == 12
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'pkg"):
        pickle.loads(dumps(names["missing"]))(None)


SCRIPT = """
import sys
import helper
from mmflow.usercode.shipped import dumps
def f():
    import late, importlib
    return helper.K + late.L + importlib.import_module("named").N
sys.stdout.buffer.write(dumps(f))
"""


def test_functions_of_a_script_import_its_modules_in_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for name, text in {"helper": "K = 1", "late": "import helper\nL = helper.K", "named": "N = 40"}.items():
        (tmp_path / f"{name}.py").write_text(text + "\n")
    command = [sys.executable, str(tmp_path / "script.py")]
    code = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    shutil.rmtree(tmp_path)
    assert pickle.loads(code)() == 42


def test_a_package_under_development_is_there_once(tmp_path: Path) -> None:
    """A job's folder may be that of a package that is loaded already."""
    root = Path(mmflow.__file__).parent.parent
    link = tmp_path / "mmflow"
    link.symlink_to(root / "mmflow")
    (tmp_path / "job.py").write_text(
        "import mmflow as mf\n@mf.job\ndef j(session: mf.Session) -> mf.Dataset:\n    raise NotImplementedError\n"
    )
    assert _loaded(tmp_path)["mf"] is mmflow


@pytest.mark.parametrize("given", ["'HOME'", "['A=B']", "[1]", "7"])
def test_an_environment_that_is_no_list_of_names_is_refused(tmp_path: Path, given: str) -> None:
    (tmp_path / "job.py").write_text(
        f"import mmflow as mf\n@mf.job(environment={given})\ndef j(session: mf.Session) -> mf.Dataset: ...\n"
    )
    with pytest.raises(ConfigError, match="expected a list of names"):
        load_job(str(tmp_path / "job.py"))
    toml = tmp_path / "job.toml"
    toml.write_text(f"environment = {given}\n[source]\npath = 'a.csv'\n")
    with pytest.raises(ConfigError, match=r"job\.toml: environment is .* expected a list of names"):
        load_job(str(toml))
