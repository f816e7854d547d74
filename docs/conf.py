"""Settings of Sphinx for the documentation site, which `make docs` builds into build/docs."""

import re
import site
import sys
from pathlib import Path

from sphinx.application import Sphinx

_ROOT = Path(__file__).parents[1]
# Sphinx has an environment of its own, since it wants another docutils than twine. mmflow and its dependencies come
# from that of the repository, behind it.
site.addsitedir(str(next(_ROOT.glob(".venv/lib/python3.*/site-packages"))))
sys.path.insert(0, str(_ROOT / "docs" / "site"))

project = "mmflow"
author = "the authors of mmflow"
html_title = "mmflow"
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",  # not numpydoc, which reads NumPy's style only: some docstrings are of Google's
    "sphinx_copybutton",
    "sphinx_design",
    "api_pages",
    "llms_text",
    "notebook_pages",
]
exclude_patterns = ["site"]
# SQL of DataFusion (`=>`), and commands of notebooks. That snippets are right is checked by running them.
suppress_warnings = ["misc.highlighting_failure"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_typehints = "signature"
autosummary_generate = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_maximum_signature_line_length = 88
default_role = "code"
copybutton_prompt_text = r">>> |\.\.\. |\$ |mmflow> "
copybutton_prompt_is_regexp = True
highlight_language = "none"  # of indented lines, too, which are commands; fences say what they are

html_theme = "pydata_sphinx_theme"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = True  # llms.txt links to it
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {"default_mode": "auto"}
copyright = "the authors of mmflow, Apache-2.0"  # noqa: A001  (Sphinx's name)


def _links_to_root(app: Sphinx, docname: str, source: list[str]) -> None:
    """Lead links to pages beside README.md to the pages that include them."""
    source[0] = re.sub(r"\]\(\.\./([A-Z]+)\.md", lambda m: f"]({m[1].lower()}.md", source[0])


def setup(app: Sphinx) -> None:
    """Connect what is of this site alone."""
    app.connect("source-read", _links_to_root)
