"""The picture of a comparison: where two photographs agree and where not, and where they stand among other pairs."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from fieldmark.answering.explaining.agreement import Side
from fieldmark.answering.explaining.drawing import (
    AGAINST,
    FAINT,
    FOR,
    INK,
    PAPER,
    SOFT,
    STYLE,
    below_it,
    caption,
    enlarged,
    outline,
    overlaid,
    picture_axes,
)
from fieldmark.evaluation.verification import Verification
from fieldmark.gallery.judged import Verified
from fieldmark.pages import legible, shortened, wrapped

__all__ = ["draw_comparison", "png_of"]

_MOST = 2
"""Regions of either kind that are outlined."""
_BINS = 60
_TAILS = 0.002
"""The share of pairs at either end that the scale does not show."""


def draw_comparison(found: Verified, sides: tuple[Side, Side], among: Verification) -> Figure:
    """Draw the figure, without opening a window or changing global state. `among` are the pairs of the threshold."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 7.3), facecolor=PAPER)
        grid = GridSpec(2, 2, figure, 0.035, 0.055, 0.62, 0.84, 0.06, 0.14)
        beside = GridSpec(2, 1, figure, 0.635, 0.055, 0.965, 0.84, hspace=0.42, height_ratios=[0.85, 1])
        _title(figure, found)
        for column, side in enumerate(sides):
            above, below = (picture_axes(figure, grid[row, column]) for row in range(2))
            above.imshow(enlarged(side.pixels), extent=(0, 1, 1, 0))
            for sign, colour in ((1, FOR), (-1, AGAINST)):
                for k, region in enumerate(side.regions(sign)[:_MOST]):
                    outline(above, region.cells, colour, 2.4 if k == 0 else 1.3)
            caption(above, shortened(side.name.rsplit("/", 1)[-1], 24))
            below.imshow(overlaid(side.pixels, side.cells), extent=(0, 1, 1, 0))
            below_it(below, "as in the other", FOR)
            below_it(below, "not as in the other", AGAINST, at=1.0)
        _scale(figure.add_subplot(beside[0]), found, among)
        _words(figure.add_subplot(beside[1]), found)
        legible(figure)
        return figure


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG file that Fieldmark has signed."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": "Fieldmark"})
    return data.getvalue()


def _title(figure: Figure, found: Verified) -> None:
    figure.text(
        0.035, 0.965, found.answer.capitalize(), size=19, weight="bold", color=FOR if found.same else AGAINST, va="top"
    )
    figure.text(0.965, 0.962, found.said[0].partition(", ")[2], size=11, color=SOFT, va="top", ha="right")


def _scale(axes: Axes, found: Verified, among: Verification) -> None:
    """How alike pairs of one class are, and pairs of two, with the threshold and these two."""
    same = among.genuine
    left = min(float(np.quantile(among.scores[~same], _TAILS)), found.likeness)
    right = max(float(np.quantile(among.scores[same], 1 - _TAILS)), found.likeness)
    edges = np.linspace(left, right + 1e-9, _BINS + 1)
    top = 0.0
    for kind, colour in ((~same, AGAINST), (same, FOR)):
        heights, _ = np.histogram(among.scores[kind], edges)
        shares = heights / kind.sum()
        top = max(top, float(shares.max()))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(shares, edges, color=colour, linewidth=1.2)
    axes.axvline(found.point.threshold, 0, 0.86, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot([found.likeness] * 2, [0, 1.08 * top], color=INK, linewidth=2)
    near_end = found.likeness > left + 0.72 * (right - left)
    axes.text(
        found.likeness,
        1.12 * top,
        "these two",
        size=10,
        weight="bold",
        ha="right" if near_end else "left" if found.likeness < left + 0.28 * (right - left) else "center",
    )
    axes.set(xlim=(left, right), ylim=(0, 1.28 * top), yticks=[])
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    axes.tick_params(colors=SOFT, labelsize=8.5)
    axes.set_facecolor(PAPER)
    axes.set_xlabel("likeness, with the threshold dashed", size=9, color=SOFT)
    caption(axes, "How alike other pairs are")
    axes.text(0, 1.0, "■ of different classes", size=9, color=AGAINST, transform=axes.transAxes, va="top")
    axes.text(1, 1.0, "■ of one class", size=9, color=FOR, transform=axes.transAxes, va="top", ha="right")


def _words(axes: Axes, found: Verified) -> None:
    axes.axis("off")
    caption(axes, "What it means")
    said = [f"{one[0].upper()}{one[1:]}." for one in found.said[1:]]
    said.append(
        "Coloured is what a place adds to the likeness, compared with a picture that shows nothing in particular."
    )
    text = "\n\n".join(wrapped(one, 50) for one in said)
    axes.text(
        0, 0.98, text, size=9.5, color=SOFT, va="top", linespacing=1.4, transform=axes.transAxes, parse_math=False
    )
