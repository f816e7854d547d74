"""Install a wheel into an empty environment without a compiler, as its users do, and run queries there.

    python release/smoke.py WHEEL [FOLDER]        `make smoke`

Packages come from the package registry, as wheels only, in the versions of constraints.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "ninja", "make")


def smoke(wheel: Path, folder: Path) -> str:
    """Install a wheel below a folder, run queries, and return what they print.

    Raises:
        CalledProcessError: A step fails; it has printed why.
        RuntimeError: A compiler is on PATH.
    """
    environment = folder / "environment"
    venv.create(environment, with_pip=False, clear=True)
    path = str(environment / "bin")
    found = [name for name in COMPILERS if shutil.which(name, path=path)]
    if found:
        raise RuntimeError(f"{path} has {', '.join(found)}: it must have no compiler")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MMFLOW_", "VIRTUAL_ENV"))}
    env = {**kept, "PATH": path}
    pip = (sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"))
    _run(
        *pip,
        "install",
        "-q",
        "--no-compile",
        "--only-binary",
        ":all:",
        "-c",
        str(ROOT / "constraints.txt"),
        str(wheel),
        env=env,
    )
    _run(*pip, "check", env=env)
    # From a folder that has nothing of the project.
    return _run(
        str(environment / "bin" / "python"),
        "-I",
        str(ROOT / "release" / "smoke_queries.py"),
        env=env,
        cwd=folder,
    )


def _run(*command: str, env: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="", file=sys.stderr)
        done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        try:
            print(smoke(Path(sys.argv[1]).resolve(), Path(temporary)), end="")
        except (RuntimeError, subprocess.CalledProcessError) as error:
            sys.exit(f"error: {error}")
