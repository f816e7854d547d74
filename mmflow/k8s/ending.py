"""How a run in a pod tells how it goes, and its end, to whoever can't see its folder: in lines that it prints.

    #mmflow-event {"event": "progress", ...}     what is new of its events, every few seconds
    #mmflow-file report.html 1/3 H4sIAAAA...     a small file of the run's folder, packed
    #mmflow-end {"v": 1, "run": "3f2a", "code": 0, ...}

Logs are what everybody who may look at a run can read, without a shell in the pod and without its volumes.
`mmflow logs` leaves these lines out.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmflow.runs.directory import RunDirectory

__all__ = ["FILES", "MARK", "Ending", "event_lines", "last_lines", "parse_events", "parse_lines"]

MARK = "#mmflow-"
FILES = ("report.html", "run.json", "summary.json")
#: The kubelet breaks lines at 16 KiB.
_PIECE = 12_000
#: Beyond that a report stays in its folder: nodes keep 10 MiB of logs by default.
_MOST = 2 << 20
_VERSION = 1


#: There is one of each task, and their counts are in the progress.
_UNTOLD = ("task_done", "task_restored")


def event_lines(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Events as lines: of several of progress the last one; none that is too long for a line."""
    told = [e for e in events if e["event"] not in _UNTOLD]
    latest = next((e for e in reversed(told) if e["event"] == "progress"), None)
    for event in told:
        text = json.dumps(event, separators=(",", ":"))
        if (event["event"] != "progress" or event is latest) and len(text) <= _PIECE:
            yield f"{MARK}event {text}"


def parse_events(lines: Iterable[str], after: float) -> Iterator[str]:
    """The events, each as JSON, that came after a time (seconds since 1970) among what a run printed."""
    for line in lines:
        kind, _, rest = line.partition(MARK)[2].partition(" ")
        if kind == "event":
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(rest)["t"] > after:
                    yield rest


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        code: Exit code of `mmflow run`.
        summary: summary.json; empty: there is none.
        files: Of the run's folder.
    """

    code: int
    summary: dict[str, Any]
    files: dict[str, bytes]


def last_lines(directory: RunDirectory, code: int) -> Iterator[str]:
    """What a driver prints at its end."""
    for name in FILES:
        data = directory.read_bytes(name)
        if data is None:
            continue
        packed = base64.b64encode(zlib.compress(data, 9)).decode()
        if len(packed) > _MOST:
            continue
        pieces = [packed[i : i + _PIECE] for i in range(0, len(packed), _PIECE)] or [""]
        for number, piece in enumerate(pieces, start=1):
            yield f"{MARK}file {name} {number}/{len(pieces)} {piece}"
    yield f"{MARK}end {end_line(directory, code)}"


def end_line(directory: RunDirectory, code: int) -> str:
    """The end as one JSON object of at most 4 KiB, which a pod's status can hold."""
    summary: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        summary = json.loads(directory.read("summary.json") or "{}")
    short = {
        k: summary.get(k) for k in ("state", "seconds", "rows", "records", "bad", "error") if k in summary
    }
    error = short.get("error")
    if isinstance(error, dict):
        short["error"] = {k: str(v)[:2000] for k, v in error.items()}
    return json.dumps({"v": _VERSION, "run": directory.name, "code": code, **short})


def parse_lines(lines: Iterable[str]) -> Ending | None:
    """The end of a run from what it printed; None: it is not among these lines.

    Where a run was started again in another pod, the last end counts.
    """
    pieces: dict[str, dict[int, str]] = {}
    totals: dict[str, int] = {}
    found: Ending | None = None
    for line in lines:
        kind, _, rest = line.partition(MARK)[2].partition(" ")
        if kind == "file":
            words = rest.split()
            if len(words) != 3 or words[0] not in FILES:
                continue
            number, _, total = words[1].partition("/")
            if not (number.isdigit() and total.isdigit()):
                continue
            if number == "1":
                pieces[words[0]] = {}
            pieces.setdefault(words[0], {})[int(number)] = words[2]
            totals[words[0]] = int(total)
        elif kind == "end":
            made = _ended(rest)
            if made is None:
                continue
            files = {}
            for name, parts in pieces.items():
                if len(parts) == totals[name] and (
                    data := _unpacked("".join(parts[i] for i in sorted(parts)))
                ):
                    files[name] = data
            found = Ending(int(made.get("code") or 0), made, files)
    return found


def _ended(text: str) -> dict[str, Any] | None:
    try:
        made = json.loads(text)
    except ValueError:
        return None
    return made if isinstance(made, dict) and made.get("v") == _VERSION else None


def _unpacked(text: str) -> bytes | None:
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error):
        return None
