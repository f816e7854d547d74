"""`doctor`: what this machine, and the cluster if one is named, can and can't do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from typing import Any

from mmflow.engines.run import open_engine
from mmflow.errors import MmflowError
from mmflow.mapping import guard
from mmflow.mapping.limits import process_memory, read_limits, total_memory
from mmflow.session import Session
from mmflow.store import Found, found, shared_memory_folder

__all__ = ["doctor"]

#: What Docker and Kubernetes give a container that asks for nothing.
_LITTLE_SHARED = 64 << 20


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def doctor(session: Session, *, as_json: bool) -> int:
    """Limits of this machine and what of them matters; whether the engine that the settings name answers.

    Returns:
        0 if a run can start, else 1.
    """
    limits = read_limits()
    settings = session.settings
    shm = shared_memory_folder()
    spill = shutil.disk_usage(settings.spill_dir) if os.path.isdir(settings.spill_dir) else None
    memory = process_memory()
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "packages": {
            p: _version(p) for p in ("mmflow", "pyarrow", "datafusion", "substrait", "numpy", "ray", "dask")
        },
        "workers": settings.workers,
        "memory_budget": settings.memory,
        "memory_total": total_memory(),
        "memory_of_this_process": {"anonymous": memory.anonymous, "file_backed": memory.file_backed},
        "limits": {k: getattr(limits, k) for k in limits.__slots__},
        "shared_memory": None if shm is None else _disk(shm),
        "stores": [_store(f) for folder in (shm, settings.spill_dir) if folder for f in found(folder)],
        "spill": {"folder": str(settings.spill_dir), "free": None if spill is None else spill.free},
        "sigbus_guard": guard.available(),
        "engines": {"local": "ready", "ray": _engine("ray", "ray"), "dask": _engine("dask", "distributed")},
    }
    problems = _problems(session, facts)
    facts["warnings"] = problems
    if as_json:
        print(json.dumps(facts, default=str))
        return int(any(p.startswith("can't run") for p in problems))
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, item in value.items():
                print(f"  {name}: {_shown(item)}")
        elif isinstance(value, list):
            print(f"{key}:{'' if value else ' none'}")
            for item in value:
                print("  " + (item if isinstance(item, str) else ", ".join(map(_shown, item.values()))))
        else:
            print(f"{key}: {_shown(value)}")
    return int(any(p.startswith("can't run") for p in problems))


def _engine(name: str, package: str) -> str:
    installed = importlib.util.find_spec(package) is not None
    return "installed" if installed else f"not installed: pip install 'mmflow[{name}]'"


def _disk(folder: str) -> dict[str, Any]:
    usage = shutil.disk_usage(folder)
    return {"folder": folder, "size": usage.total, "free": usage.free}


def _store(store: Found) -> dict[str, Any]:
    state = "in use" if store.owned else "left by a run that died; the next run removes it"
    return {"folder": store.path, "bytes": store.nbytes, "state": state}


def _problems(session: Session, facts: dict[str, Any]) -> list[str]:
    settings, found = session.settings, []
    shared = facts["shared_memory"]
    if shared is None:
        found.append("no /dev/shm: processes share blocks through spill_dir, at the speed of its disk")
    elif shared["size"] <= _LITTLE_SHARED:
        found.append(
            f"/dev/shm has {shared['size'] >> 20} MiB, which is what containers get that ask for nothing; blocks "
            f"beyond that go to {settings.spill_dir}. Give it more: docker run --shm-size=4g, or in Kubernetes "
            "an emptyDir with medium: Memory at /dev/shm; Ray needs it too"
        )
    if not os.path.isdir(settings.spill_dir):
        found.append(f"can't run: spill_dir {settings.spill_dir} does not exist")
    if settings.engine != "local":
        try:
            engine = open_engine(settings, "doctor")
            resources = engine.resources()
            engine.close()
            facts["engines"][settings.engine] = (
                f"ready: {resources.slots} tasks at once, {resources.memory:,} bytes of memory for them"
            )
        except MmflowError as error:
            facts["engines"][settings.engine] = "not to be had"
            found.append(f"can't run: {error}")
    return found


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
