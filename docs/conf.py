"""Settings of Sphinx: `sphinx-build -W docs build/html` builds the documentation as a site.

The pages are written for a reader of the repository, whose links lead to any file of it. On the
site a file outside of docs/ is a download, and the first page is the README.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

from arrayred import __version__

project = "arrayred"
project_copyright = "The arrayred developers"
version = release = __version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
html_theme = "furo"
html_title = f"arrayred {__version__}"

myst_heading_anchors = 3
# Blocks may have a file's name after their language, which Sphinx takes for options.
suppress_warnings = ["misc.highlighting_failure"]

autosummary_generate = True
numpydoc_show_class_members = False

_TO_ELSEWHERE = re.compile(r"\]\((?!\w+:|#|docs/)(?=[^)]*\))")
_TO_A_PAGE_ELSEWHERE = re.compile(r"\[([^\]]*)\]\((\.\./[^)#]*\.md)\)")


def _as_page_of_the_site(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the README on the first page, and make links lead where they do in the repository."""
    del app
    if name == "index":
        readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
        source[0] = _TO_ELSEWHERE.sub("](../", readme).replace("](docs/", "](") + source[0]
    source[0] = _TO_A_PAGE_ELSEWHERE.sub(r"{download}`\1 <\2>`", source[0])


def setup(app: Sphinx) -> None:
    """Connect the handler of pages."""
    app.connect("source-read", _as_page_of_the_site)
