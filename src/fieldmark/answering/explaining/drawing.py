"""The picture of an explanation: what decided, the same region in known images, and the effect of replacing it."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fieldmark.answering.explaining.explanation import Example, Explanation, RegionFound, odds
from fieldmark.pages import legible, shortened, wrapped

__all__ = [
    "AGAINST",
    "FAINT",
    "FOR",
    "INK",
    "PAPER",
    "SOFT",
    "STYLE",
    "below_it",
    "caption",
    "close_up",
    "draw",
    "enlarged",
    "meaning",
    "outline",
    "outlined",
    "overlaid",
    "picture_axes",
]

FOR: Final = "#0f7a72"
AGAINST: Final = "#c4581b"
"""Colours for A and for B that people with red–green colour blindness can tell apart."""
INK, SOFT, PAPER, FAINT = "#22252a", "#626872", "#fbfaf7", "#dedcd5"
_SIDE = 420
STYLE: Any = {"font.family": "sans-serif", "font.size": 10, "text.color": INK}
_SMALL = 3
"""The number of regions that are outlined."""


def draw(explanation: Explanation) -> Figure:
    """Draw the figure, without opening a window or changing global state."""
    with mpl.rc_context(STYLE):
        first = explanation.regions[0] if explanation.regions else None
        rows = 2 if first and (first.first or first.second) else 1
        figure = Figure(figsize=(11.5, 5.4 if rows == 1 else 7.7), facecolor=PAPER)
        heights = [1.0] if rows == 1 else [1.0, 0.44]
        top = 1 - 1.15 / figure.get_figheight()
        grid = GridSpec(rows, 1, figure, 0.035, 0.04, 0.965, top, hspace=0.36, height_ratios=heights)
        _title(figure, explanation)
        _above(figure, grid[0].subgridspec(1, 3, width_ratios=[1, 1, 1.05], wspace=0.07), explanation)
        if first and rows == 2:
            _below(figure, grid[1].subgridspec(1, 7, wspace=0.12), explanation, first)
        legible(figure)
        return figure


def _title(figure: Figure, explanation: Explanation) -> None:
    verdict, (p, q) = explanation.verdict, explanation.probabilities
    given = ""
    if verdict.name != verdict.label:
        given = shortened(f"verdict: {verdict.said}" + (f" ({verdict.reason})" if verdict.reason else ""), 60)
    top = 1 - 0.24 / figure.get_figheight()
    strange = verdict.familiar is False  # then the probabilities of classes say nothing
    first, second = shortened(explanation.first, 40), shortened(explanation.second, 40)
    sure = first if strange else f"{first}  {min(100 * p, 99.9):.1f} %"  # never certain
    figure.text(0.035, top, sure, size=17, weight="bold", color=FOR, va="top", parse_math=False)
    below = top - 0.37 / figure.get_figheight()
    text = f"why not {second}" + ("" if strange else f"  {100 * q:.1f} %")
    figure.text(0.035, below, text, size=12.5, color=AGAINST, va="top", parse_math=False)
    figure.text(0.965, top, given, size=10, color=SOFT, va="top", ha="right", parse_math=False)
    shown = shortened(explanation.verdict.path, 60)
    figure.text(0.965, below, shown, size=8.5, color=SOFT, va="top", ha="right", parse_math=False)


def _above(figure: Figure, grid: Any, explanation: Explanation) -> None:
    left, middle = picture_axes(figure, grid[0]), picture_axes(figure, grid[1])
    decided = explanation.cells if explanation.decided is None else explanation.decided
    left.imshow(overlaid(explanation.pixels, decided), extent=(0, 1, 1, 0))
    caption(left, "What decided")
    below_it(left, f"for {shortened(explanation.first)}", FOR)
    below_it(left, "against it", AGAINST, at=1.0)
    middle.imshow(enlarged(explanation.pixels), extent=(0, 1, 1, 0))
    caption(middle, f"Why not {shortened(explanation.second, 24)}")
    for number, found in enumerate(explanation.regions[:_SMALL]):
        outline(middle, found.region.cells, FOR if number == 0 else INK, 2.6 if number == 0 else 1.2)
        _numbered(middle, found.region.cells, number + 1, number == 0)
    if explanation.whole and explanation.whole.cells.any():
        outline(middle, explanation.whole.cells, AGAINST, 1.6)
        below_it(middle, f"where {shortened(explanation.second, 24)} would differ", AGAINST)
    _words(figure.add_subplot(grid[2]), explanation)


def below_it(axes: Axes, text: str, colour: str, at: float = 0.0) -> None:
    """A word beneath a picture, with a square of its colour."""
    side = "left" if at == 0 else "right"
    axes.text(
        at, -0.055, f"■ {text}", color=colour, size=9, ha=side, va="center", transform=axes.transAxes, parse_math=False
    )


def _words(axes: Axes, explanation: Explanation) -> None:
    """Bars of the odds, with what they mean."""
    axes.axis("off")
    caption(axes, "How the odds change")
    axes.text(1, 1.04, "logarithmic bars", size=8.5, color=SOFT, ha="right", va="bottom", transform=axes.transAxes)
    first = explanation.regions[0] if explanation.regions else None
    bars = [("this picture", explanation.margin, FOR)]
    a, b = shortened(explanation.first, 20), shortened(explanation.second, 22)
    if first and first.as_second:
        what = shortened(first.title, 22)
        if first.as_first:
            bars.append((f"{what} from other {a}", first.as_first.margin, FOR))
        bars.append((f"{what} from {b}", first.as_second.margin, AGAINST))
    if explanation.whole:
        bars.append((f"also with the mark of {b}", explanation.whole.exchange.margin, AGAINST))
    reach = max(1.0, *(abs(margin) for _, margin, _ in bars))
    left = min(0.0, *(margin for _, margin, _ in bars)) / reach
    room = 0.022 * max(len(odds(margin)) for _, margin, _ in bars)  # as a share of the width, behind the longest bar
    axes.set_xlim(left - 0.02, (1.03 - room * left) / (1 - room))
    axes.set_ylim(6.2, -0.6)
    for at, (name, margin, colour) in enumerate(bars):
        y = 1.15 * at
        axes.plot([0, 0], [y + 0.06, y + 0.5], color=SOFT, linewidth=1)  # even odds, not through the name
        axes.barh(y + 0.28, margin / reach, height=0.34, color=colour if margin >= 0 else AGAINST, left=0)
        axes.text(left, y - 0.12, name, size=9.5, va="center", parse_math=False)
        axes.text(max(margin / reach, 0) + 0.03, y + 0.28, odds(margin), size=10.5, weight="bold", va="center")
    said = [meaning(explanation), *([f"{explanation.doubt}."] if explanation.doubt else []), *explanation.notes]
    text = "\n\n".join(wrapped(one, 46) for one in said)
    axes.text(left, 1.15 * len(bars) + 0.1, text, size=9.5, color=SOFT, va="top", linespacing=1.4, parse_math=False)


def meaning(explanation: Explanation) -> str:
    """The region that contributes most and the effect of replacing it, in sentences."""
    a, b = explanation.first, explanation.second
    if not explanation.regions:
        return f"Nothing in the picture speaks for {a} against {b}."
    one = explanation.regions[0]
    text = f"{one.title.capitalize()}: {100 * one.region.share:.0f} % of the evidence for {a}."
    if one.as_second is None:
        return text
    lost = explanation.margin - one.as_second.margin
    if one.as_second.margin < 0:
        return f"{text} With the features of {b} there, it would be taken for {b}."
    if explanation.whole and explanation.whole.exchange.margin < 0:
        return f"{text} With the features of {b} there, and the mark of {b} as well, it would be taken for {b}."
    if lost <= 0:
        return f"{text} But {b} looks the same there: replacing it does not lower the odds."
    fall = f"the odds fall from {odds(explanation.margin)} to {odds(one.as_second.margin)}"
    return f"{text} With the features of {b} there, {fall}."


def _below(figure: Figure, grid: Any, explanation: Explanation, found: RegionFound) -> None:
    """The region, and its counterparts in known images of A and of B."""
    own = picture_axes(figure, grid[0])
    _close(own, explanation.pixels, found.region.cells, FOR)
    caption(own, shortened(found.title.capitalize(), 15), "in this picture")
    for at, examples, colour in ((1, found.first, FOR), (4, found.second, AGAINST)):
        for i in range(3):
            axes = picture_axes(figure, grid[at + i])
            if i >= len(examples):
                axes.set_visible(False)
                continue
            _example(axes, examples[i], colour)
            if i == 0:
                name = shortened(examples[0].label, 34)
                caption(axes, name, "most similar known images", colour)


def _example(axes: Axes, example: Example, colour: str) -> None:
    if example.pixels is None:
        axes.text(0.5, 0.5, "image\nnot found", ha="center", va="center", color=SOFT, size=9)
    else:
        _close(axes, example.pixels, example.cells, colour)
    name = example.path.rsplit("/", 1)[-1]
    axes.text(0, -0.05, shortened(name, 22), size=7, color=SOFT, transform=axes.transAxes, va="top", parse_math=False)


def picture_axes(figure: Figure, place: Any) -> Axes:
    """Axes for a picture, without ticks."""
    axes = figure.add_subplot(place)
    axes.set(xticks=[], yticks=[], aspect="equal", anchor="NW")
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    return axes


def caption(axes: Axes, text: str, below: str = "", colour: str = INK) -> None:
    """A title above a picture, and a line below the title."""
    lift = 1.16 if below else 1.04
    axes.text(
        0, lift, text, size=11, weight="bold", color=colour, transform=axes.transAxes, va="bottom", parse_math=False
    )
    if below:
        axes.text(0, 1.04, below, size=9, color=SOFT, transform=axes.transAxes, va="bottom")


def enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as (_SIDE, _SIDE, 3)."""
    return np.asarray(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def overlaid(pixels: NDArray[np.uint8], cells: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture in pale grey, overlaid with the evidence for A and for B: (_SIDE, _SIDE, 3)."""
    grey = np.asarray(Image.fromarray(enlarged(pixels)).convert("L"), np.float32)[..., None] / 255
    base = np.repeat(0.42 + 0.58 * grey, 3, axis=2)
    strength = _smooth(cells) / max(float(np.abs(cells).max()), 1e-9)
    colours = _COLOURS(0.5 + 0.5 * np.clip(strength, -1, 1))[..., :3]
    weight = np.clip(np.abs(strength) * 1.3, 0, 0.85)[..., None]
    return np.rint(255 * (base * (1 - weight) + colours * weight)).astype(np.uint8)


_COLOURS = LinearSegmentedColormap.from_list("for", [AGAINST, "#f0a46e", "#f4f2ec", "#6fb9b1", FOR])


def _smooth(cells: NDArray[np.float32], side: int = _SIDE) -> NDArray[np.float32]:
    """(h, w) → (side, side), smooth."""
    return np.asarray(Image.fromarray(cells.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))


def outline(axes: Axes, cells: NDArray[np.bool_], colour: str, width: float) -> None:
    """A smooth line around cells, on axes from 0 to 1; white beneath, so that it is seen on any ground."""
    padded = np.pad(cells.astype(np.float32), 1)
    inside = ndimage.gaussian_filter(ndimage.zoom(padded, 8, order=0, grid_mode=True, mode="nearest"), 3)
    step = [1 / n for n in cells.shape]
    y, x = (
        (np.arange(inside.shape[i]) + 0.5) / 8 * step[i] - step[i] for i in (0, 1)
    )  # the centres of the enlarged cells
    for line, tint in ((width + 2, "white"), (width, colour)):
        axes.contour(x, y, inside, levels=[0.45], colors=[tint], linewidths=[line])
    axes.set(xlim=(0, 1), ylim=(1, 0))


def _numbered(axes: Axes, cells: NDArray[np.bool_], number: int, first: bool) -> None:
    rows, columns = np.nonzero(cells)
    corner = int((columns - rows).argmax())  # the cell furthest up and to the right
    x, y = (columns[corner] + 1) / cells.shape[1], rows[corner] / cells.shape[0]
    box = {"boxstyle": "circle,pad=0.18", "facecolor": FOR if first else INK, "edgecolor": "white", "linewidth": 1}
    axes.text(
        min(x, 0.95),
        max(y, 0.05),
        str(number),
        size=9,
        color="white",
        weight="bold",
        ha="center",
        va="center",
        bbox=box,
    )


def _window_of(cells: NDArray[np.bool_], least: float = 0.34) -> tuple[float, float, float]:
    """left, top and side of a square around cells, as shares of the picture: room to see what it is a part of."""
    rows, columns = np.nonzero(cells)
    height, width = cells.shape
    top, bottom, left, right = (
        rows.min() / height,
        (rows.max() + 1) / height,
        columns.min() / width,
        (columns.max() + 1) / width,
    )
    side = float(min(1.0, max(least, 1.7 * max(bottom - top, right - left))))
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    return float(np.clip(x, 0, 1 - side)), float(np.clip(y, 0, 1 - side)), side


def _close(axes: Axes, pixels: NDArray[np.uint8], cells: NDArray[np.bool_], colour: str) -> None:
    x, y, side = _window_of(cells)
    axes.imshow(enlarged(pixels), extent=(0, 1, 1, 0))
    outline(axes, cells, colour, 1.6)
    axes.set_xlim(x, x + side)
    axes.set_ylim(y + side, y)


def close_up(pixels: NDArray[np.uint8], cells: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Cut out the square around cells."""
    x, y, side = _window_of(cells)
    height, width = pixels.shape[:2]
    left, top = round(x * width), round(y * height)
    return pixels[top : top + max(1, round(side * height)), left : left + max(1, round(side * width))]


def outlined(pixels: NDArray[np.uint8], cells: NDArray[np.bool_], colour: str) -> NDArray[np.uint8]:
    """The picture, enlarged, with a line around cells drawn into it: (_SIDE, _SIDE, 3)."""
    picture = enlarged(pixels).copy()
    padded = np.pad(cells, 1).astype(np.float32)
    scale = _SIDE / np.array(cells.shape)
    smooth = ndimage.gaussian_filter(ndimage.zoom(padded, scale, order=0, grid_mode=True, mode="nearest"), scale * 0.35)
    top, left = (round(one) for one in scale)
    inside = smooth[top : top + _SIDE, left : left + _SIDE] > 0.45
    far = ndimage.distance_transform_edt(~inside)
    picture[(far > 0) & (far <= 7)] = 255
    picture[(far > 1.5) & (far <= 5.5)] = np.array(mpl.colors.to_rgb(colour)) * 255
    return picture
