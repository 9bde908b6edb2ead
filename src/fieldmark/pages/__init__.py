"""Self-contained HTML pages without anything from outside, in light and dark, for phone and desktop.

A page is a template beside this file that extends `base.html`. `render` fills it; `picture` and `svg` put pixels and
plots into it. The names of classes and files are always text: the templates escape them. Some have a
script beside them, which becomes part of the page.
"""

from fieldmark.pages.lettering import legible, shortened, wrapped
from fieldmark.pages.page import picture, render
from fieldmark.pages.plots import ACCENT, FAINT, INK, RIGHT, WRONG, canvas, svg

__all__ = [
    "ACCENT",
    "FAINT",
    "INK",
    "RIGHT",
    "WRONG",
    "canvas",
    "legible",
    "picture",
    "render",
    "shortened",
    "svg",
    "wrapped",
]
