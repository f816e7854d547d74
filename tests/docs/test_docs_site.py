"""The documentation site, without Sphinx: its pages are found, its lists are current, and public names have docstrings."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmflow as mf
from benchmarks.chart import CHART, chart, figures
from mmflow.cli.tree import command_line
from tests.docs.generated_pages import PAGES, with_list
from tests.docs.pictures import PICTURES, STATIC

DOCS = Path(__file__).parents[2] / "docs"
#: Toctrees of Markdown and of reStructuredText, with the lines below them.
_TOCTREE = re.compile(
    r"^(?::::\{toctree\}\n(.*?)^:::|\.\. toctree::\n((?:[ ].*\n|\n)*))", re.MULTILINE | re.DOTALL
)


def _pages() -> Iterator[Path]:
    for suffix in ("md", "rst", "ipynb"):
        yield from (path for path in DOCS.rglob(f"*.{suffix}") if "site" not in path.relative_to(DOCS).parts)


def _entries(page: Path) -> Iterator[str]:
    for match in _TOCTREE.finditer(page.read_text()):
        for line in (match[1] or match[2]).splitlines():
            if line.strip() and not line.strip().startswith(":"):
                yield str((page.parent / line.strip()).relative_to(DOCS))


def test_every_page_is_in_one_table_of_contents() -> None:
    listed = Counter(entry for page in _pages() for entry in _entries(page))
    names = {str(path.relative_to(DOCS).with_suffix("")) for path in _pages()}
    assert listed == Counter(names - {"index"})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_lists_are_current(path: Path) -> None:
    page = path.read_text()
    assert with_list(page, PAGES[path]) == page, "run python -m tests.docs.generated_pages"


def _documented() -> Iterator[tuple[str, object]]:
    for name in mf.__all__:
        value = getattr(mf, name)
        yield name, value
        if inspect.isclass(value) and not issubclass(value, Exception):
            for member, found in inspect.getmembers(value):
                if not member.startswith("_") and (inspect.isroutine(found) or isinstance(found, property)):
                    yield f"{name}.{member}", found


def test_public_names_have_docstrings() -> None:
    assert [name for name, value in _documented() if not (inspect.getdoc(value) or "").strip()] == []


def test_troubleshooting_has_words_that_messages_have() -> None:
    headings = re.findall(r"^### (.*`.*)$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    sources = "".join(path.read_text() for path in (DOCS.parent / "mmflow").rglob("*.py"))
    # Texts go over several lines, and have names and values in them.
    said = re.sub(r'"\s*f?"', "", sources)
    said = re.sub(r"\{[^{}]*\}", "*", said)
    words = [text for heading in headings for text in re.findall(r"`([^`]+)`", heading)]
    assert len(words) > 20
    assert [text for text in words if text not in said] == []


def test_the_chart_shows_the_figures_of_the_page() -> None:
    found = figures((DOCS / "benchmarks.md").read_text())
    assert CHART.read_text() == chart(found), "run python benchmarks/chart.py"


def _inline_commands() -> Iterator[tuple[str, str]]:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for command in re.findall(r"`mmflow ([^`]+)`", prose):
            yield page.name, command


def test_commands_in_prose_exist_with_their_options() -> None:
    """Check commands within sentences: `test_docs_snippets` runs those in blocks."""
    tree, wrong, seen = command_line(), [], 0
    commands = {name for topic in tree.topics.values() for name in topic}
    for page, text in _inline_commands():
        words = text.split()
        if words[0] not in commands:
            if not (words[0].isupper() or words[0].startswith(("-", "…", "*"))):
                wrong.append(f"{page}: mmflow {text}")
            continue
        seen += 1
        options = {option for parameter in tree.command_of(words[0]).params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words[1:] if word.startswith("--") and len(word) > 2}
        # Jobs have options of their own.
        if words[0] not in ("run", "submit", "k8s") and (
            unknown := given - options - {"--help", "--traceback"}
        ):
            wrong.append(f"{page}: mmflow {text}: {unknown}")
    assert wrong == []
    assert seen > 50


#: A newcomer's tasks: the heading of the answer, and what must stand below it.
TASKS = {
    "read a semicolon file with decimal commas": (
        "how_to.md#read-a-file-with-semicolons-and-decimal-commas",
        r'delimiter=";", decimal=","',
    ),
    "resume a failed run": ("how_to.md#resume-a-run-that-failed", r"mmflow run --resume "),
    "write to a Delta table": ("how_to.md#write-to-a-delta-table", r"write_delta\("),
    "run on Ray": ("how_to.md#run-on-ray-or-dask", r"--engine ray --address"),
    "find why a job is slow": ("how_to.md#find-out-why-a-job-is-slow", r"EXPLAIN ANALYZE"),
}


def _links(page: str) -> set[str]:
    """Return where a click on a page leads, as `PAGE` or `PAGE#ANCHOR`: links and cards, but no tables of contents."""
    text = (DOCS / page).read_text()
    found = re.findall(r"\]\(([^)\s]+)\)", text) + [
        f"{n}.md" for n in re.findall(r"^:link: (\S+)\n:link-type: doc$", text, re.MULTILINE)
    ]
    targets = (page + link if link.startswith("#") else link for link in found)
    return {t for t in targets if (DOCS / t.partition("#")[0]).is_file()}


def _below(target: str) -> str:
    """Return what stands on a page below the heading of an anchor, up to the next one."""
    page, _, anchor = target.partition("#")
    parts = re.split(r"^#+ (.*)\n", (DOCS / page).read_text(), flags=re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in parts[1::2]]
    return parts[2::2][slugs.index(anchor)]


@pytest.mark.parametrize("task", TASKS)
def test_tasks_of_newcomers_are_answered_within_two_clicks(task: str) -> None:
    answer, words = TASKS[task]
    first = _links("index.md")
    second = {link for page in first if page.endswith(".md") for link in _links(page)}
    assert answer in first | second
    assert re.search(words, _below(answer))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_those_of_their_script(name: str) -> None:
    assert (STATIC / f"{name}.svg").read_text() == PICTURES[name](), "run python -m tests.docs.pictures"
    assert any(f"{name}.svg" in page.read_text() for page in DOCS.glob("*.md"))
