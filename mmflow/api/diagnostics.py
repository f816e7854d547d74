"""Diagnostics of this machine, and of the cluster that the settings name."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from typing import Any

import mmflow_engine
from mmflow.api.assessment import assess, verdict_of
from mmflow.blocks import Found, found, shared_memory_folder
from mmflow.config import Settings
from mmflow.distribution import VERSION, install_command
from mmflow.engines.opening import open_engine
from mmflow.errors import MmflowError
from mmflow.mapping import sigbus_guard
from mmflow.mapping.system.limits import process_memory, read_limits, total_memory
from mmflow.runs.report.formatting import plural, size

__all__ = ["diagnose"]


def diagnose(settings: Settings) -> dict[str, Any]:
    """Return the facts that `Session.diagnose` documents."""
    limits = read_limits()
    shm = shared_memory_folder()
    spill = shutil.disk_usage(settings.spill_dir) if os.path.isdir(settings.spill_dir) else None
    memory = process_memory()
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "packages": {
            "mmflow": VERSION,
            **{p: _version(p) for p in ("pyarrow", "datafusion", "substrait", "numpy", "ray", "dask")},
        },
        "workers": settings.workers,
        "memory_budget": settings.memory,
        "memory_total": total_memory(),
        "memory_of_this_process": {"anonymous": memory.anonymous, "file_backed": memory.file_backed},
        "limits": dataclasses.asdict(limits),
        "shared_memory": None if shm is None else _disk(shm),
        "stores": [_store(f) for folder in (shm, settings.spill_dir) if folder for f in found(folder)],
        "spill": {"folder": str(settings.spill_dir), "free": None if spill is None else spill.free},
        "sigbus_guard": sigbus_guard.available(),
        "engines": {"local": "ready", "ray": _engine("ray", "ray"), "dask": _engine("dask", "distributed")},
    }
    errors, warnings = assess(settings, facts)
    problem = mmflow_engine.conflict()
    if problem is not None:
        warnings.append(problem)
    if settings.engine != "local":
        try:
            facts["engines"][settings.engine] = _answer(settings)
        except MmflowError as error:
            facts["engines"][settings.engine] = "not available"
            errors.append(str(error))
    verdict = verdict_of(errors, warnings)
    return {**facts, "verdict": verdict, "ready": not errors, "errors": errors, "warnings": warnings}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine(name: str, package: str) -> str:
    installed = importlib.util.find_spec(package) is not None
    return "installed" if installed else f"not installed: {install_command(name)}"


def _disk(folder: str) -> dict[str, Any]:
    usage = shutil.disk_usage(folder)
    return {"folder": folder, "size": usage.total, "free": usage.free}


def _store(store: Found) -> dict[str, Any]:
    state = "in use" if store.owned else "left by a run that died; the next run removes it"
    return {"folder": store.path, "bytes": store.nbytes, "state": state}


def _answer(settings: Settings) -> str:
    engine = open_engine(settings, "doctor")
    resources = engine.resources()
    engine.close()
    return f"ready: {plural(resources.slots, 'task')} at once, {size(resources.memory)} of memory for them"
