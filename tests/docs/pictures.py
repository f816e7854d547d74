"""The drawings of the pages on how mmflow works. After a change, `python -m tests.docs.pictures` writes them.

Colours are readable on light and on dark pages: text beside boxes is of a middle grey, and text within them white.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from xml.sax.saxutils import escape

__all__ = ["PICTURES", "STATIC"]

STATIC = Path(__file__).parents[2] / "docs" / "site" / "static"
_WIDTH = 760
#: Okabe and Ito's blue, vermilion and green, dark enough for white text, and two greys.
_BLUE, _RED, _GREEN, _GREY, _PALE = "#0069a6", "#c25100", "#00805c", "#5c5c5c", "#747474"
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#777}.in{fill:#fff}.name{font-weight:bold}"
    ".line{stroke:#777;stroke-width:1.5;fill:none}.dashed{stroke-dasharray:5 4}"
)
_ARROW = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>'
)


def _svg(height: int, label: str, *parts: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">\n<style>{_STYLE}</style>\n{_ARROW}\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    classes = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{classes}>{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str, *lines: str) -> str:
    parts = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{colour}"/>']
    top = y + height / 2 + 5 - 8 * (len(lines) - 1)
    parts += (
        _text(x + width / 2, top + 16 * n, line, anchor="middle", kind="in") for n, line in enumerate(lines)
    )
    return "\n".join(parts)


def _frame(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="line dashed" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3"/>'


def _line(*points: tuple[float, float], tip: bool = True, dashed: bool = False) -> str:
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    end = ' marker-end="url(#tip)"' if tip else ""
    return f'<path class="line{" dashed" if dashed else ""}" d="{path}"{end}/>'


def _shards() -> str:
    """Draw a file of nine records, cut into three shards whose ends lie within records."""
    left, widths = 20, (70, 95, 60, 110, 80, 65, 100, 75, 65)
    begins = [*accumulate(widths, initial=left)]
    cuts, colours = (left, 260, 540, begins[-1]), (_BLUE, _RED, _GREEN)
    parts = [_text(left, 20, "a file, nine records, cut at pages into three shards", kind="name")]
    firsts = [*(next(b for b in begins if b >= cut) for cut in cuts[:-1]), begins[-1]]
    for n, (begin, width) in enumerate(zip(begins, widths, strict=False)):
        shard = next(k for k in range(3) if begin < firsts[k + 1])
        parts.append(_box(begin + 1, 34, width - 2, 32, colours[shard], f"{n + 1}"))
    parts += (_line((cut, 26), (cut, 82), tip=False, dashed=True) for cut in cuts[1:-1])
    for k, (colour, first, following) in enumerate(zip(colours, firsts, firsts[1:], strict=False)):
        y = 100 + 44 * k
        parts.append(_box(first, y, following - first, 28, colour, f"worker {k + 1}"))
        if k:
            parts.append(_text(first - 8, y + 19, f"first = {first - left}", anchor="end"))
        if k < 2:
            parts.append(_text(following + 8, y + 19, f"next = {following - left}"))
            parts.append(_line((following, y + 28), (following, y + 44), tip=False))
    parts.append(
        _text(left, 246, "A worker reads the records that begin in its shard, and finishes the last one.")
    )
    parts.append(_text(left, 266, "The boundary check: each shard begins where the one before it ended."))
    return _svg(276, "A file cut into shards, and the boundary check between them", *parts)


def _mapping() -> str:
    """Draw the way of the bytes of a file to a decoder, by reading and by mapping."""
    parts = []
    for left, title in ((20, "reading"), (400, "mapping")):
        reads = left == 20
        parts.append(_text(left, 20, title, kind="name"))
        parts.append(_box(left, 34, 340, 34, _PALE, "disk"))
        parts.append(_line((left + 170, 68), (left + 170, 96)))
        parts.append(_box(left, 96, 340, 40, _BLUE, "page cache of the system"))
        if reads:
            parts.append(_line((left + 170, 136), (left + 170, 176)))
            parts.append(_text(left + 180, 161, "copied, by a system call"))
            parts.append(_box(left, 176, 340, 40, _RED, "buffer: memory of the process"))
        else:
            parts.append(_line((left + 170, 136), (left + 170, 176), tip=False, dashed=True))
            parts.append(_text(left + 180, 161, "the same pages"))
            parts.append(_frame(left, 176, 340, 40))
            parts.append(_text(left + 170, 201, "window: no memory of its own", anchor="middle"))
        parts.append(_line((left + 170, 216), (left + 170, 244)))
        parts.append(_box(left, 244, 340, 34, _GREEN, "decoder: columns that the query needs"))
    return _svg(288, "Reading copies the page cache into a buffer; mapping uses its pages", *parts)


def _memory() -> str:
    """Draw the parts of the budget, and what stands beside it."""
    parts = [_text(20, 20, "not counted: the system takes these pages back when it needs them", kind="name")]
    parts.append(_box(20, 32, 720, 34, _PALE, "pages of mapped files, in the page cache"))
    parts.append(_text(20, 100, "--memory", kind="name"))
    left = 20.0
    for share, colour, lines in (
        (3, _BLUE, ("three eighths: blocks", "rows between stages")),
        (3, _GREEN, ("three eighths: tasks", "sorts, groups, joins, in equal shares")),
        (2, _GREY, ("a quarter", "batches in flight")),
    ):
        parts.append(_box(left + 1, 112, 90 * share - 2, 52, colour, *lines))
        left += 90 * share
    parts.append(_line((155, 164), (155, 200)))
    parts.append(_line((425, 164), (425, 200)))
    parts.append(_frame(20, 200, 540, 36))
    parts.append(
        _text(
            290,
            223,
            "what exceeds a part: files in spill_dir, or one part of the keys after the other",
            anchor="middle",
        )
    )
    parts.append(_frame(580, 200, 160, 36))
    parts.append(_text(660, 223, "base: at most 160 MiB", anchor="middle"))
    return _svg(246, "The memory of a run: blocks, tasks, batches in flight, and what is not counted", *parts)


def _runs() -> str:
    """Draw a run that is killed, and the one that resumes it."""
    parts = [_text(20, 20, "mmflow run … --name nightly", kind="name")]
    for n in range(6):
        x = 20 + 90 * n
        if n < 4:
            parts.append(_box(x, 32, 82, 34, _BLUE, f"task {n + 1}"))
            parts.append(_line((x + 41, 66), (x + 41, 96)))
        else:
            parts.append(_frame(x, 32, 82, 34))
            parts.append(_text(x + 41, 54, f"task {n + 1}", anchor="middle"))
    parts.append(_text(572, 54, "killed: tasks 5, 6 not done"))
    parts.append(_box(20, 96, 352, 34, _GREY, "journal: one line for each finished task"))
    parts.append(_text(384, 118, "and checkpoints of what the tasks returned"))
    parts.append(_text(384, 166, "the same command, later", kind="name"))
    for n in range(6):
        x = 20 + 90 * n
        if n < 4:
            parts.append(_line((x + 41, 130), (x + 41, 182), dashed=True))
            parts.append(_frame(x, 182, 82, 34))
            parts.append(_text(x + 41, 204, "restored", anchor="middle"))
        else:
            parts.append(_box(x, 182, 82, 34, _BLUE, f"task {n + 1}"))
    parts.append(_line((560, 199), (596, 199)))
    parts.append(_box(598, 182, 142, 34, _GREEN, "commit: once"))
    return _svg(226, "A run that is killed after four of six tasks, and resumed", *parts)


def _exactly_once() -> str:
    """Draw the way of files from attempts to a destination."""
    parts = [_text(20, 20, "attempts of tasks", kind="name"), _text(290, 20, "staging, hidden", kind="name")]
    parts.append(_text(560, 20, "out/, what readers see", kind="name"))
    rows = (
        ("task 1, attempt 1", "part 1", True),
        ("task 2, attempt 1: lost", "part 2, torn", False),
        ("task 2, attempt 2", "part 2", True),
        ("task 3, attempt 1", "part 3", True),
    )
    for n, (attempt, part, counts) in enumerate(rows):
        y = 34 + 42 * n
        parts.append(_box(20, y, 200, 32, _BLUE if counts else _PALE, attempt))
        parts.append(_line((220, y + 16), (288, y + 16), dashed=not counts))
        parts.append(_box(290, y, 140, 32, _RED if counts else _PALE, part))
    parts.append(_frame(550, 34, 190, 158))
    parts += (_box(575, 48 + 36 * n, 140, 28, _GREEN, f"part {n + 1}") for n in range(3))
    parts.append(_box(575, 156, 140, 28, _GREY, "manifest"))
    parts.append(_line((440, 113), (548, 113)))
    parts.append(_text(494, 104, "one rename", anchor="middle"))
    parts.append(
        _text(
            20,
            222,
            "Before the rename readers see the old state, after it the new one. The torn file never gets there.",
        )
    )
    return _svg(232, "Files of attempts are staged, and published all at once", *parts)


PICTURES: dict[str, Callable[[], str]] = {
    "shards": _shards,
    "mapping": _mapping,
    "memory": _memory,
    "runs": _runs,
    "exactly_once": _exactly_once,
}


if __name__ == "__main__":
    for name, drawn in PICTURES.items():
        (STATIC / f"{name}.svg").write_text(drawn())
