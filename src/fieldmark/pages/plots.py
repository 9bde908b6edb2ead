"""Plots as SVG in the colours of the page, so that they follow its light and dark modes.

matplotlib has no CSS variables: it draws in placeholder colours, which are replaced in the SVG that it writes.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from typing import Any, Final

import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ACCENT", "FAINT", "INK", "RIGHT", "WRONG", "canvas", "svg"]

INK: Final = "#010203"
FAINT: Final = "#010204"
ACCENT: Final = "#010205"
RIGHT: Final = "#010206"
WRONG: Final = "#010207"
"""Placeholders for the page's colours of text, background lines, the main series, right and wrong."""
_PAGE = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    ACCENT: "var(--accent)",
    RIGHT: "var(--right)",
    WRONG: "var(--wrong)",
}
_STYLE: Any = {  # the precise type lists every key of matplotlib
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=[ACCENT, INK, RIGHT, WRONG]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def canvas(width: float = 4.8, height: float = 2.8) -> tuple[Figure, Axes]:
    """A figure of this size in inches and its axes, in the style of the page, without windows or global state."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def svg(figure: Figure, *, title: str) -> Markup:
    """The figure as an `<svg>` that fills the space it gets; a screen reader reads `title`."""
    data = io.StringIO()
    salt = hashlib.sha256(title.encode()).hexdigest()[:8]  # two plots on a page must not share identifiers
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser writes the text, with fonts of its own
        figure.savefig(data, format="svg", metadata={"Date": None})
    text = data.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    label = Markup.escape(title)
    text = text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    for colour, own in _PAGE.items():
        text = text.replace(colour, own)
    return Markup(text)  # matplotlib escapes the texts that it writes
