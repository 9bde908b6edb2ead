"""Self-contained HTML pages: no outside resource, no script that is needed, light and dark, phone and desktop.

A page is a template beside this file that extends `base.html`; `render` fills it, `picture` and `svg` put pixels and
plots into it. Whatever a class or a file is called, it is text: the templates escape it.
"""

from fieldmark.pages.page import picture, render
from fieldmark.pages.plots import ACCENT, FAINT, INK, RIGHT, WRONG, canvas, svg

__all__ = ["ACCENT", "FAINT", "INK", "RIGHT", "WRONG", "canvas", "picture", "render", "svg"]
