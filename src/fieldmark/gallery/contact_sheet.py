"""Contact sheets: pictures with their nearest neighbours in a gallery, as a page and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fieldmark.answering.things import Thing
from fieldmark.gallery.finding import Found
from fieldmark.gallery.store import Hit
from fieldmark.pages import legible, picture, render, shortened

__all__ = ["MOST_DRAWN", "MOST_SHOWN", "compose_sheet", "draw_sheet"]

Look = Callable[[Thing], "NDArray[np.uint8] | None"]
"""The pixels (H, W, 3) of a picture, or None if its file is gone or damaged."""

MOST_SHOWN: Final = 100
"""Pictures on a page."""
MOST_DRAWN: Final = 8
"""Pictures in a drawing, which has no room for more."""

_SIDE = 240
_COLUMNS = 6
_CELL, _TEXT = 1.75, 0.62
"""Inches of a picture's side and of the lines below it."""
_INK, _SOFT, _PAPER, _QUERY, _SAME = "#22252a", "#626872", "#fbfaf7", "#2b6a8c", "#8a6110"
_STYLE: Any = {"font.family": "sans-serif", "font.size": 8.5, "text.color": _INK}


@dataclass(frozen=True)
class _Card:
    """A neighbour on the page."""

    image: Markup | None
    name: str
    path: str
    label: str | None
    group: str | None
    similarity: str
    same: bool
    own_group: bool


def compose_sheet(found: Sequence[Found], look: Look, *, about: str, num_pictures: int) -> str:
    """The page as HTML. `about` says what was asked, of a gallery of `num_pictures`."""
    shown = found[:MOST_SHOWN]
    return render(
        "contact.html",
        about=about,
        num_pictures=num_pictures,
        num_found=len(found),
        rows=[(one, _image(one.picture.thing, look), [_card(one, hit, look) for hit in one.hits]) for one in shown],
    )


def _card(found: Found, hit: Hit, look: Look) -> _Card:
    entry = hit.entry
    return _Card(
        _image(_thing(hit), look),
        entry.path.rsplit("/", 1)[-1],
        entry.path,
        entry.label,
        entry.group,
        f"{hit.similarity:.3f}",
        found.is_same(hit),
        entry.group is not None and entry.group == found.picture.group,
    )


def _thing(hit: Hit) -> Thing:
    """The picture of a neighbour."""
    return Thing(hit.entry.path, Path(hit.entry.path))


def _image(thing: Thing, look: Look) -> Markup | None:
    pixels = look(thing)
    return None if pixels is None else picture(pixels, side=_SIDE)


def draw_sheet(found: Sequence[Found], look: Look) -> Figure:
    """The first pictures with their neighbours, without opening a window or changing global state."""
    shown = found[:MOST_DRAWN]
    lines = [-(-(1 + len(one.hits)) // _COLUMNS) for one in shown]
    height = sum(lines) * (_CELL + _TEXT) + 0.2
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_COLUMNS * (_CELL + 0.15) + 0.15, height), facecolor=_PAPER)
        top = height - 0.1
        for one, count in zip(shown, lines, strict=True):
            _draw(_axes(figure, 0, top), look(one.picture.thing), _QUERY)
            _write(
                figure,
                0,
                top,
                [f"query{_of_group(one.picture.group)}", _named(one.picture.label), _file(one.path)],
                _QUERY,
            )
            for at, hit in enumerate(one.hits, 1):
                column, below = at % _COLUMNS, top - (at // _COLUMNS) * (_CELL + _TEXT)
                same = one.is_same(hit)
                _draw(_axes(figure, column, below), look(_thing(hit)), _SAME if same else "")
                first = f"{hit.similarity:.3f}" + ("  the same file" if same else _of_group(hit.entry.group))
                _write(figure, column, below, [first, _named(hit.entry.label), _file(hit.entry.path)], _SAME * same)
            top -= count * (_CELL + _TEXT)
        legible(figure)
        return figure


def _axes(figure: Figure, column: int, top: float) -> Axes:
    width, height = figure.get_size_inches()
    left = 0.15 + column * (_CELL + 0.15)
    axes = figure.add_axes((left / width, (top - _CELL) / height, _CELL / width, _CELL / height))
    axes.set(xticks=[], yticks=[])
    return axes


def _draw(axes: Axes, pixels: NDArray[np.uint8] | None, colour: str) -> None:
    """A picture in a square, with a frame of a colour if there is one."""
    if pixels is None:
        axes.text(0.5, 0.5, "image\nnot found", ha="center", va="center", color=_SOFT, transform=axes.transAxes)
    else:
        axes.imshow(pixels, aspect="equal")
        height, width = pixels.shape[:2]
        half = max(height, width) / 2
        axes.set(xlim=(width / 2 - half, width / 2 + half), ylim=(height / 2 + half, height / 2 - half))
    axes.set_facecolor("#ebe9e3")
    for spine in axes.spines.values():
        spine.set(visible=bool(colour), color=colour or _SOFT, linewidth=2.5)


def _write(figure: Figure, column: int, top: float, lines: Sequence[str], colour: str) -> None:
    width, height = figure.get_size_inches()
    for at, (line, weight) in enumerate(zip(lines, ("bold", "normal", "normal"), strict=True)):
        figure.text(
            (0.15 + column * (_CELL + 0.15)) / width,
            (top - _CELL - 0.06 - 0.16 * at) / height,
            line,
            va="top",
            weight=weight,
            color=(colour or _INK, _INK, _SOFT)[at],
            parse_math=False,
        )


def _of_group(group: str | None) -> str:
    return "" if group is None else f"  group {shortened(group, 14)}"


def _named(label: str | None) -> str:
    return "" if label is None else shortened(label, 24)


def _file(path: str) -> str:
    return shortened(path.rsplit("/", 1)[-1], 24)
