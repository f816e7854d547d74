"""Functions for workers: installed packages go by reference wherever they lie, the user's modules by value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute  # for its file
import pytest

from mmflow.usercode.ownership import _editable, is_installed

# A module that can't be pickled by value, as pyarrow's can't.
LIBRARY = "import threading\nLOCK = threading.Lock()\ndef plus(x):\n    with LOCK:\n        return x + 1\n"
JOB = """
import sys
import pyarrow.compute as pc
import fakelib.sums
import helpers
import mmflow as mf
from mmflow.engines.messages import pack_stage

def work(batch):
    assert pc.sum(batch.column("n")).as_py() == helpers.SUM
    plus = fakelib.sums.plus
    return batch.set_column(0, "n", [plus(x) for x in batch.column("n").to_pylist()])

ds = mf.from_arrow({"n": [1, 2]})
plan = ds.map_batches(work, schema=ds.schema)._plan()
(stage,) = [s for s in plan.stages if s.steps]
sys.stdout.buffer.write(pack_stage(stage, plan.functions, "r").code)
"""
# A worker: not in the job's folder.
WORKER = """
import pickle, sys
import pyarrow as pa
stage, _ = pickle.loads(sys.stdin.buffer.read())
(function,) = [s.function for s in stage.steps if hasattr(s, "function")]
made = function(pa.record_batch({"n": [1, 2]}))
print(made.column("n").to_pylist())
"""


def _install(folder: Path, info: str = "fakelib-1.0.dist-info", *, record: bool = True) -> None:
    package = folder / "fakelib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sums.py").write_text(LIBRARY)
    if record:
        (folder / info).mkdir()
        (folder / info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakelib\nVersion: 1.0\n")
        (folder / info / "RECORD").write_text("fakelib/__init__.py,,\nfakelib/sums.py,,\n")


def _layout(name: str, tmp: Path) -> list[Path]:
    """Install `fakelib` in some way; folders for PYTHONPATH."""
    match name:
        case "pip install --target, on PYTHONPATH":
            _install(tmp / "libs")
            return [tmp / "libs"]
        case "user site":
            _install(tmp / "base" / "lib" / "python3.11" / "site-packages", record=False)
            return [tmp / "base" / "lib" / "python3.11" / "site-packages"]
        case "a layer below":
            _install(tmp / "layer" / "dist-packages", record=False)
            return [tmp / "layer" / "dist-packages"]
        case "editable, by setuptools":
            _install(tmp / "project" / "src", record=False)
            (tmp / "project" / "src" / "fakelib.egg-info").mkdir()
            (tmp / "project" / "src" / "fakelib.egg-info" / "top_level.txt").write_text("fakelib\n")
            return [tmp / "project" / "src"]
    # Editable, by a builder that lists nothing: its metadata say only where the project is.
    _install(tmp / "project" / "src", record=False)
    info = tmp / "site" / "fakelib-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakelib\nVersion: 1.0\n")
    (info / "RECORD").write_text("_editable_fakelib.pth,,\n")
    url = (tmp / "project").as_uri()
    (info / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))
    return [tmp / "site", tmp / "project" / "src"]


def _python(
    script: str, folders: list[Path], cwd: Path, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, script] if script.endswith(".py") else [sys.executable, "-c", script]
    return subprocess.run(command, input=data, capture_output=True, env=env, cwd=cwd, timeout=120)


LAYOUTS = [
    "pip install --target, on PYTHONPATH",
    "user site",
    "a layer below",
    "editable, by setuptools",
    "editable, by others",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_installed_packages_are_known_in_every_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    folders = _layout(layout, tmp_path)
    for folder in folders:
        monkeypatch.syspath_prepend(str(folder))
    _editable.cache_clear()
    try:
        package = folders[-1] / "fakelib"
        assert is_installed("fakelib", str(package / "__init__.py"))
        assert is_installed("fakelib.sums", str(package / "sums.py"))
        # Beside it, in the project: the user's own, also where it has a package's name.
        jobs = tmp_path / "project" / "jobs"
        for name in ("job", "helpers", "fakelib_job", "project"):
            assert not is_installed(name, str(jobs / f"{name}.py"))
        assert not is_installed("fakelib", str(tmp_path / "other" / "fakelib.py"))
        assert not is_installed("jobs.helpers", str(jobs / "helpers.py"))
    finally:
        _editable.cache_clear()


def test_modules_of_python_and_of_this_environment_are_installed() -> None:
    for module in (json, pa, pa.compute, pytest, subprocess):
        assert module.__file__ is not None
        assert is_installed(module.__name__, module.__file__)
    assert not is_installed(__name__, __file__)


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_installed_packages_go_by_reference_and_helpers_by_value(tmp_path: Path, layout: str) -> None:
    folders = _layout(layout, tmp_path)
    jobs, elsewhere = tmp_path / "project" / "jobs", tmp_path / "elsewhere"
    jobs.mkdir(parents=True)
    elsewhere.mkdir()
    (jobs / "helpers.py").write_text("SUM = 3\n")
    (jobs / "job.py").write_text(JOB)
    packed = _python("job.py", folders, jobs)
    assert packed.returncode == 0, packed.stderr.decode()
    ran = _python(WORKER, folders, elsewhere, packed.stdout)
    assert ran.stdout == b"[2, 3]\n", ran.stderr.decode()
