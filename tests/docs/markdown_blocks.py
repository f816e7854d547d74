"""Code blocks of a Markdown page: snippets to run, what they print, and the reasons why some are not run.

    ```python, ```sql, ```toml, ```sh, indented lines    snippets
    <!-- output --> above ```                            output of the snippet before it
    <!-- not run: reason --> above a snippet             not run
    ``` without a language                               pictures and listings, which are not looked at
    <!-- Written by … -->                                generated, up to <!-- End of what is written -->

Invariant: a block lies on one page between two lines that belong to it alone; comments are the line directly above it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of"]

_NOT_RUN = re.compile(r"\s*<!-- not run: (.+) -->")
_OUTPUT = "<!-- output -->"
#: Info strings of fences, and the kinds of their blocks.
_KINDS = {"python": "python", "sql": "sql", "toml": "toml", "sh": "shell"}


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    kind: str  # python, sql, toml, shell, output or picture
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path, page: str) -> Iterator[Block]:
    """Read the blocks of a page in their order.

    Raises:
        ValueError: The language of a fence is not one of those that are run.
    """
    # The reference of commands, which tests/cli compares with the commands.
    page_text = re.sub(
        r"<!-- Written by .*<!-- End of what is written", _blank, path.read_text(), flags=re.DOTALL
    )
    lines = page_text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        above = lines[at - 1] if at else ""
        begin = at
        if line.lstrip().startswith("```"):
            language = line.strip().removeprefix("```")
            at = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == "```")
            kind = "output" if above.strip() == _OUTPUT else _KINDS[language] if language else "picture"
            text = lines[begin + 1 : at]
            number = begin + 2
        elif (
            line.startswith("    ") and line.strip() and (not above.strip() or above.rstrip().endswith("-->"))
        ):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            text, kind, number = lines[begin:at], "shell", begin + 1
            at -= 1
        else:
            at += 1
            continue
        reason = _NOT_RUN.fullmatch(above)
        yield Block(
            page,
            number,
            kind,
            textwrap.dedent("\n".join(text)).rstrip() + "\n",
            reason[1] if reason else None,
        )
        at += 1
