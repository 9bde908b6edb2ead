"""The site: `make docs` builds it from the Markdown files in this folder, which a code host shows as they are.

What only the site needs is added to pages while they are read: the navigation, and references made from the code.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # where references.py is

_PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_SOURCE = f"{_PROJECT['urls']['Source']}/blob/main"
_OUTWARD = re.compile(r"(?<=\]\()\.\.?/[^)\s]+(?=\))")

project = "Fieldmark"
release = _PROJECT["version"]
html_title = f"{project} {release}"
copyright = "the Fieldmark developers, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "references"]
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
highlight_language = "text"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

smartquotes_action = "q"  # -- is an option, not a dash
default_role = "code"  # docstrings put names between single backticks
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# set_score_request is scikit-learn's own, and so is what its docstring refers to
autodoc_default_options = {"members": True, "exclude-members": "set_score_request"}
maximum_signature_line_length = 80

GUIDE = (
    *("data", "recipes", "budgets", "verdicts", "explanations", "labelling", "parts-and-poses", "export", "serving"),
    *("camera-traps", "similarity", "enrolling", "verifying", "grades-trees-attributes", "background", "comparing"),
    *("seasons", "field-guide", "python", "speed", "gpus", "several-processes", "large-sets", "plugins"),
)
TRADES = ("wildlife", "plants", "medical-grades", "products-and-fakes", "vehicles-and-signs")
NAVIGATION = {
    "Begin": ["start", "tutorial"],
    "By trade": [f"trades/{name}" for name in TRADES],
    "Guide": [f"guide/{name}" for name in GUIDE],
    "Reference": ["reference/recipes", "reference/commands", "reference/python"],
    "Inside": ["architecture"],
}


def _navigation() -> str:
    trees = (
        "\n".join([":::{toctree}", ":hidden:", f":caption: {caption}", "", *pages, ":::"])
        for caption, pages in NAVIGATION.items()
    )
    return "\n\n".join(trees)


def _outward(page: str, text: str) -> str:
    """Links to files that are not on the site lead to where the source is."""

    def address(match: re.Match[str]) -> str:
        path, hash_, heading = match[0].partition("#")
        target = Path(os.path.relpath((HERE / page).parent / path, HERE.parent))
        return match[0] if target.parts[0] == HERE.name else f"{_SOURCE}/{target.as_posix()}{hash_}{heading}"

    return _OUTWARD.sub(address, text)


def _complete(app: Sphinx, page: str, content: list[str]) -> None:
    """Add to a page what only the site has."""
    if page == "index":
        content[0] += f"\n\n{_navigation()}\n"
    content[0] = _outward(page, content[0])


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _complete)
