"""Check of a built site without a network: every link to a page, file or anchor of it leads somewhere.

`python docs/site/check_links.py build/docs` prints links that don't, and then fails.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class _Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.add(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")


def broken_links(folder: Path) -> list[str]:
    """Return the links of all pages below a folder that lead nowhere, as `PAGE: LINK`."""
    pages = {
        path.resolve(): _Page(path.read_text())
        for path in folder.rglob("*.html")
        if "_static" not in path.parts
    }
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            name, anchor = urldefrag(link)
            target = (path.parent / unquote(urlsplit(name).path)).resolve() if name else path
            if target not in pages:
                there = target.is_file()
            else:
                there = unquote(anchor) in pages[target].anchors or target.name == "search.html"
            if not there:
                found.append(f"{path.relative_to(folder.resolve())}: {link}")
    return found


if __name__ == "__main__":
    broken = broken_links(Path(sys.argv[1]))
    sys.exit("links that lead nowhere:\n" + "\n".join(broken) if broken else 0)
