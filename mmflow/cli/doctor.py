"""`doctor`: the diagnostics of this machine, and of the cluster if one is named."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from mmflow.cli.options import session_of
from mmflow.cli.parsing import Options
from mmflow.runs.report.formatting import plural, size

__all__ = ["doctor"]

_WIDTH = 80
_LABEL = 15
_VERDICTS = {
    "fine": "Fine: nothing here keeps mmflow from using all of this machine.",
    "works with limits": "Works with limits:",
    "does not work": "Does not work:",
}


def doctor(options: Options) -> int:
    """Print the diagnostics; return 0 if a run can start, else 1."""
    facts = session_of(options).diagnose()
    if options.json:
        print(json.dumps(facts, default=str))
    else:
        print(_VERDICTS[facts["verdict"]])
        for text in (*facts["errors"], *facts["warnings"]):
            print(textwrap.fill(text, _WIDTH, initial_indent="  - ", subsequent_indent="    "))
        print()
        for label, text in _lines(facts):
            indent = " " * _LABEL
            print(textwrap.fill(text, _WIDTH, initial_indent=f"{label:{_LABEL}}", subsequent_indent=indent))
    return int(not facts["ready"])


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    limits, shared, spill = facts["limits"], facts["shared_memory"], facts["spill"]
    packages = facts["packages"]
    yield "versions", f"mmflow {packages['mmflow']}, Python {facts['python']}, kernel {facts['kernel']}"
    yield "packages", ", ".join(f"{n} {v}" for n, v in packages.items() if v is not None and n != "mmflow")
    for name, state in facts["engines"].items():
        yield f"engine {name}", str(state)
    yield "tasks", f"{facts['workers']} at once, with {size(facts['memory_budget'])} of memory together"
    yield "memory", f"{size(facts['memory_total'])}, {size(limits['available_memory'])} available"
    if limits["cgroup"] is not None:
        yield "", _cgroup(limits["cgroup"])
    yield "shared memory", "none" if shared is None else _disk(shared["folder"], shared["free"])
    yield "spill", _disk(spill["folder"], spill["free"])
    for store in facts["stores"]:
        yield "blocks", f"{store['folder']}: {size(store['bytes'])}, {store['state']}"
    yield "limits", ", ".join(_limits(limits))
    yield "SIGBUS guard", "there" if facts["sigbus_guard"] else "not here"


def _disk(folder: str, free: int | None) -> str:
    return f"{folder}, missing" if free is None else f"{folder}, {size(free)} free"


def _cgroup(group: Mapping[str, Any]) -> str:
    limit = "without a limit" if group["limit"] is None else f"which may have {size(group['limit'])}"
    return f"of the control group (cgroup v{group['version']}), {limit}; it has {size(group['usage'])}"


def _limits(limits: Mapping[str, Any]) -> Iterator[str]:
    files, mappings, space = limits["open_files"], limits["max_mappings"], limits["address_space"]
    yield "any number of open files" if files is None else plural(files, "open file")
    if mappings is not None:
        yield f"{plural(mappings, 'mapping')} ({limits['mappings']:,} taken)"
    yield "any address space" if space is None else f"{size(space)} of address space"
