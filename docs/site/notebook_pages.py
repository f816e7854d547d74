"""Extension of Sphinx: notebooks as pages, without outputs, which are not kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

__all__ = ["setup"]


class NotebookParser(MystParser):
    """Parser of notebooks: cells of text, and cells of code as fences."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        super().parse("\n\n".join(_cells(json.loads(inputstring))), document)


def _cells(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```{_language(text)}\n{text}\n```"


def _language(text: str) -> str:
    return "none" if text.startswith(("%%", "!", "%")) else "python"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
