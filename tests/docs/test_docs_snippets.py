"""Every snippet of README.md and docs/ runs, in the order given, from an empty folder with the files of `page_files`.

Python runs in this process, with one set of variables a page; `mmflow` in forks of one that has imported everything.
"""

from __future__ import annotations

import gc
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from mmflow.usercode import tracebacks
from tests.docs.markdown_blocks import Block, blocks_of
from tests.docs.page_files import make_files
from tests.fork_server import run_mmflow

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
BLOCKS = {page: list(blocks_of(ROOT / page, page)) for page in PAGES}
SNIPPETS = {"python", "sql", "toml", "shell"}

#: Reasons why a snippet is not run, and the number of such blocks. What could run here must.
NOT_RUN = {
    "builds and tests the repository": 5,
    "builds packages, as tests/release does": 1,
    "installs packages": 6,
    "is interrupted by hand": 1,
    "needs Docker": 2,
    "needs Docker, a Mac and PyPI": 1,
    "needs Kubernetes": 8,
    "needs Prefect": 1,
    "needs a cluster": 4,
    "needs a collector": 1,
    "needs servers": 1,
    "needs zsh and fish": 1,
    "starts Ray, as tests/contract does": 2,
}

#: What differs between two runs, and what stands in its place.
_VARIES = (
    (re.compile(r"\b\d+(\.\d+)? (ms|s)\b"), "TIME"),
    (re.compile(r"\([\d,]+ bytes\)"), "(SIZE)"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "RUN"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "DATE"),
    (re.compile(r"\b[\d,]+ page faults"), "FAULTS"),
    (re.compile(r"\(\d+% in the page cache\)"), "(SHARE in the page cache)"),
)
#: A shell runs lines with these words; others are a command alone, which needs no process that starts from nothing.
_OPERATORS = {"|", "<", ">", "(", "&&", "||"}


class _Page:
    """State between the snippets of a page: a folder, the variables of Python, and the output of the last snippet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: dict[str, Any] = {"__name__": "__main__"}
        self.output = ""

    def run(self, block: Block) -> None:
        if block.kind == "output":
            assert self._stable(self.output) == self._stable(block.text), block.place
        else:
            getattr(self, f"_{block.kind}")(block)

    def _stable(self, text: str) -> str:
        text = text.replace(str(self.folder), "/data")
        for pattern, word in _VARIES:
            text = pattern.sub(word, text)
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    def _python(self, block: Block) -> None:
        """Run Python, in the variables of the page. An error is its output, and fails only if the page does not show it."""
        path = self.folder / "job.py"
        path.write_text(block.text)
        if named := re.match(r"# (\w+\.py)\n", block.text):  # for commands further down
            (self.folder / named[1]).write_text(block.text)
        if "__main__" in block.text:  # starts processes that import it
            self.output = self._script(f"{sys.executable} {path}", block)
            return
        linecache.checkcache(str(path))
        printed = io.StringIO()
        try:
            with redirect_stdout(printed), redirect_stderr(printed), tracebacks.restored():
                exec(compile(block.text, str(path), "exec"), self.variables)
        except mf.MmflowError as error:
            if not _shows_an_error(block):
                raise
            frames = error.__traceback__.tb_next if error.__traceback__ else None
            traceback.print_exception(type(error), error, frames, file=printed, chain=False)
        self.output = printed.getvalue().replace(f"{self.folder}/job.py", "job.py")

    def _sql(self, block: Block) -> None:
        """Run statements, which end with `;`, with parameters from the variables of the page."""
        for statement in filter(None, map(str.strip, block.text.split(";\n"))):
            names = {name: self.variables[name] for name in re.findall(r"\$(\w+)", statement)}
            self.output = str(mf.sql(statement, **names).to_arrow())

    def _toml(self, block: Block) -> None:
        """Keep settings, which count for the rest of the page's Python and commands if they are read."""
        tomllib.loads(block.text)
        if named := re.match(r"# (\w+\.toml)\n", block.text):  # for commands further down, which read it
            (self.folder / named[1]).write_text(block.text)
            return
        (self.folder / "settings.toml").write_text(block.text)
        with mf.Session(config=self.folder / "settings.toml") as session:
            for name in tomllib.loads(block.text).get("sources", {}):
                assert session.source(name).schema

    def _shell(self, block: Block) -> None:
        """Run the commands of a block, or of a transcript with `$ `, whose output must be what it shows."""
        self.output = ""
        for line, shown in _commands(block.text.replace("\\\n", " ")):
            self.output = self._command(line, block)
            if shown:
                assert self._stable(self.output) == self._stable(shown), block.place

    def _command(self, line: str, block: Block) -> str:
        words = shlex.split(line.replace("\\$", "$"), comments=True)
        operators = _OPERATORS.intersection(shlex.shlex(line, posix=True, punctuation_chars=True))
        if words[0] != "mmflow" or operators:
            return self._script(line, block)
        ended = run_mmflow(*words[1:], cwd=self.folder)
        assert ended.returncode == 0, f"{block.place}: {line}: {ended.stderr}"
        return ended.stderr + ended.stdout

    def _script(self, line: str, block: Block) -> str:
        """Run a line by bash, with the `mmflow` of this environment."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ended = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, f"{block.place}: {line}: {ended.stderr}"
        return ended.stderr + ended.stdout


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Return the commands of a block, each with what the block shows of its output."""
    if text.startswith("$ "):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown
    else:
        yield from ((line, "") for line in text.splitlines() if line.strip())


def _shows_an_error(block: Block) -> bool:
    page = BLOCKS[block.page]
    after = page[page.index(block) + 1 :][:1]
    return any(b.kind == "output" and "Traceback" in b.text for b in after)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, the working directory, without what other pages have left."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.setenv("MMFLOW_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "80")
    return path


@pytest.mark.parametrize(
    "page", [page for page in BLOCKS if any(b.kind in SNIPPETS and not b.not_run for b in BLOCKS[page])]
)
def test_snippets_of_a_page_run(page: str, folder: Path, tpch_csv: Path) -> None:
    make_files(page, folder, tpch_csv)
    state = _Page(folder)
    for block in BLOCKS[page]:
        if block.kind != "picture" and not block.not_run:
            try:
                state.run(block)
            except Exception as error:
                error.add_note(f"in the snippet at {block.place}")
                raise
    state.variables.clear()  # before the files are removed that arrays have open
    gc.collect()


def test_snippets_that_are_not_run_have_a_known_reason() -> None:
    reasons = Counter(block.not_run for blocks in BLOCKS.values() for block in blocks if block.not_run)
    assert reasons == NOT_RUN


def test_every_block_that_looks_like_a_command_is_a_snippet() -> None:
    for blocks in BLOCKS.values():
        for block in blocks:
            assert block.kind != "picture" or not re.search(r"^(\$ )?mmflow ", block.text, re.MULTILINE), (
                block.place
            )


def test_every_reason_stands_above_a_snippet() -> None:
    for page, blocks in BLOCKS.items():
        comments = (ROOT / page).read_text().count("<!-- not run: ")
        assert comments == sum(block.not_run is not None for block in blocks), page
