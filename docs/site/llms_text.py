"""Extension of Sphinx: llms.txt, the pages of the site with their first sentences, as links to their Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import docname_join

__all__ = ["setup"]

_HEAD = """# mmflow

> mmflow runs columnar jobs over files that are too large to load: SQL and Python (names of Polars) over CSV, NDJSON, \
logs, binary records, Arrow and Parquet, on one machine, Ray or Dask. Install `mmflow-engine`, `import mmflow as mf`.
"""


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        (app.outdir / "llms.txt").write_text("\n".join((_HEAD, *_sections(app), "")))


def _sections(app: Sphinx) -> Iterator[str]:
    for tree in app.env.get_doctree("index").findall(addnodes.toctree):
        for _, name in tree["entries"]:
            yield f"## {app.env.titles[name].astext()}\n"
            for below in app.env.get_doctree(name).findall(addnodes.toctree):
                for _, entry in below["entries"]:
                    yield from _entry(app, entry, "")
            yield ""


def _entry(app: Sphinx, name: str, indent: str) -> Iterator[str]:
    page = app.env.get_doctree(name)
    section = next(page.findall(nodes.section))
    first = next((_text(app, p) for p in section.children if isinstance(p, nodes.paragraph)), "")
    sentence = re.split(r"(?<=[.:])\s", " ".join(first.split()))[0].removesuffix(":")
    suffix = app.env.doc2path(name).suffix
    link = f"[{app.env.titles[name].astext()}](_sources/{name}{suffix}.txt)"
    yield f"{indent}- {link}: {sentence}" if sentence else f"{indent}- {link}"
    for tree in page.findall(addnodes.toctree):
        for _, below in tree["entries"]:
            yield from _entry(app, below, indent + "  ")


def _text(app: Sphinx, paragraph: nodes.paragraph) -> str:
    """Return a paragraph as text, with the titles of the pages to which it refers."""
    text = paragraph.astext()
    for link in paragraph.findall(addnodes.pending_xref):
        if link["reftype"] == "doc":
            title = app.env.titles[docname_join(link["refdoc"], link["reftarget"])].astext()
            text = text.replace(link.astext(), f"“{title}”", 1)
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
