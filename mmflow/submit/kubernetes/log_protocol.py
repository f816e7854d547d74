"""Log protocol: lines by which a run in a pod reports its progress and outcome to clients without access to its
folder.

    #mmflow-event {"event": "progress", ...}     new events, every few seconds
    #mmflow-file report.html 1/3 H4sIAAAA...     a small file of the run's folder, compressed
    #mmflow-end {"v": 1, "run": "3f2a", "code": 0, ...}

Everyone who may see a run can read its logs, without a shell in the pod and without its volumes. `mmflow logs` leaves
these lines out.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmflow.lazy.dataclasses import dataclass
from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorded_run import SUMMARY, SUMMARY_SHAPE
from mmflow.storage.format_versions import POD_END

__all__ = [
    "FILES",
    "LINE_PREFIX",
    "RunOutcome",
    "event_lines",
    "outcome_lines",
    "parse_events",
    "parse_outcome",
]

LINE_PREFIX = "#mmflow-"
FILES = ("report.html", "run.json", "summary.json")
#: Characters of a line; the kubelet breaks lines at 16 KiB.
_MAX_LINE = 12_000
#: Larger files (compressed) are not printed: nodes keep 10 MiB of logs by default.
_MAX_PACKED = 2 << 20


#: One for each task; the progress events have their counts.
_OMITTED_EVENTS = ("task_done", "task_restored")


def event_lines(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield events as lines: of consecutive progress events the last one, and none that is too long for a line."""
    shown = [e for e in events if e["event"] not in _OMITTED_EVENTS]
    latest = next((e for e in reversed(shown) if e["event"] == "progress"), None)
    for event in shown:
        text = json.dumps(event, separators=(",", ":"))
        if (event["event"] != "progress" or event is latest) and len(text) <= _MAX_LINE:
            yield f"{LINE_PREFIX}event {text}"


def parse_events(lines: Iterable[str], after: float) -> Iterator[str]:
    """Yield the events, each as JSON, after a time (seconds since 1970) among the lines that a run printed."""
    for line in lines:
        kind, _, rest = line.partition(LINE_PREFIX)[2].partition(" ")
        if kind == "event":
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(rest)["t"] > after:
                    yield rest


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Outcome of a run.

    Attributes:
        code: Exit code of `mmflow run`.
        summary: Content of summary.json; empty if there is none.
        files: Files of the run's folder, by name.
    """

    code: int
    summary: dict[str, Any]
    files: dict[str, bytes]


def outcome_lines(directory: RunDirectory, code: int) -> Iterator[str]:
    """Yield the lines that a driver prints at its end."""
    for name in FILES:
        data = directory.read_bytes(name)
        if data is None:
            continue
        packed = base64.b64encode(zlib.compress(data, 9)).decode()
        if len(packed) > _MAX_PACKED:
            continue
        pieces = [packed[i : i + _MAX_LINE] for i in range(0, len(packed), _MAX_LINE)] or [""]
        for number, piece in enumerate(pieces, start=1):
            yield f"{LINE_PREFIX}file {name} {number}/{len(pieces)} {piece}"
    yield f"{LINE_PREFIX}end {outcome_json(directory, code)}"


def outcome_json(directory: RunDirectory, code: int) -> str:
    """Return the outcome as one JSON object of at most 4 KiB, which fits into a pod's status."""
    summary = directory.read_object(SUMMARY, SUMMARY_SHAPE)
    short = {
        k: summary.get(k) for k in ("state", "seconds", "rows", "records", "bad", "error") if k in summary
    }
    error = short.get("error")
    if isinstance(error, dict):
        short["error"] = {k: str(v)[:2000] for k, v in error.items()}
    return json.dumps({"v": POD_END.version, "run": directory.name, "code": code, **short})


def parse_outcome(lines: Iterable[str]) -> RunOutcome | None:
    """Return the outcome of a run from the lines that it printed; None if they don't include it.

    Where a run was restarted in another pod, its last outcome counts.
    """
    pieces: dict[str, dict[int, str]] = {}
    totals: dict[str, int] = {}
    found: RunOutcome | None = None
    for line in lines:
        kind, _, rest = line.partition(LINE_PREFIX)[2].partition(" ")
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
            end = _parse_end(rest)
            if end is None:
                continue
            files = {}
            for name, parts in pieces.items():
                if len(parts) == totals[name] and (data := _unpack("".join(parts[i] for i in sorted(parts)))):
                    files[name] = data
            found = RunOutcome(int(end.get("code") or 0), end, files)
    return found


def _parse_end(text: str) -> dict[str, Any] | None:
    try:
        end = json.loads(text)
    except ValueError:
        return None
    return end if isinstance(end, dict) and end.get("v") == POD_END.version else None


def _unpack(text: str) -> bytes | None:
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error):
        return None
