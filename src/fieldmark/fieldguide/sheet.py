"""The page of a field guide that one shows around: every species, its name, and its marks pointed out."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fieldmark.fieldguide.guide import Genus, Guide, Species
from fieldmark.fieldguide.marks import mark_id
from fieldmark.fieldguide.render import Drawing, render, render_scene
from fieldmark.fieldguide.scene import PORTRAIT

__all__ = ["Pointer", "contact_sheet", "on_paper", "pointer", "portrait_of", "telling_marks"]

_PAPER, _INK, _FAINT, _RED = (246, 241, 228), (52, 44, 38), (132, 120, 106), (176, 58, 46)
_PORTRAIT, _SNAP, _GAP, _MARGIN = 340, 104, 9, 48
_CELL_WIDTH, _TITLE, _HEADING, _LABEL, _NAMES = 400, 128, 46, 44, 66


def contact_sheet(guide: Guide, *, num_species: int = 36) -> Image.Image:
    """One labelled page (RGB): a row for each genus, in it a portrait and three pictures of each species.

    It shows the first `num_species` species.
    """
    rows = [(genus, list(kinds)) for genus, kinds in groupby(guide.species[:num_species], key=lambda one: one.genus)]
    columns = max(2, *(len(kinds) for _, kinds in rows))
    strips = [_row(guide, genus, kinds, columns) for genus, kinds in rows]
    page = Image.new("RGB", (strips[0].width, _TITLE + sum(strip.height for strip in strips)), _PAPER)
    _title(page, guide, sum(len(kinds) for _, kinds in rows))
    y = _TITLE
    for strip in strips:
        page.paste(strip, (0, y))
        y += strip.height
    return page


def _row(guide: Guide, genus: Genus, kinds: list[Species], columns: int) -> Image.Image:
    """One genus; its species stand alike, so that one height fits all."""
    portraits = [portrait_of(kind, _PORTRAIT) for kind in kinds]
    top, height = portraits[0].box[1], portraits[0].box[3] + 12
    whole = _HEADING + 2 * _LABEL + height + _NAMES + _SNAP + 40
    row = Image.new("RGB", (2 * _MARGIN + columns * _CELL_WIDTH, whole), _PAPER)
    _heading(row, genus)
    for column, (kind, portrait) in enumerate(zip(kinds, portraits, strict=True)):
        middle = _MARGIN + column * _CELL_WIDTH + _CELL_WIDTH // 2
        corner = (middle - _PORTRAIT // 2, _HEADING + _LABEL)
        row.paste(Image.fromarray(on_paper(portrait)[top : top + height]), corner)
        for mark, text in telling_marks(guide, kind).items():
            _point_out(row, portrait, mark, text, (corner[0], corner[1] - top), (corner[1], height))
        _captions(row, guide, kind, middle, corner[1] + height + _LABEL)
    return row


def _write(page: Image.Image, at: tuple[float, float], text: str, size: int, colour: tuple[int, int, int],
           anchor: str) -> None:  # fmt: skip
    ImageDraw.Draw(page).text(at, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def _title(page: Image.Image, guide: Guide, shown: int) -> None:
    number = len(guide.species)
    which = f"{number} species" if shown == number else f"{shown} of {number} species"
    _write(page, (_MARGIN, 66), "A Field Guide to Birds That Do Not Exist", 38, _INK, "ls")
    line = (
        f"{which}, {len(guide.genera)} genera. Within a genus, only the field marks differ. Seed {guide.options.seed}."
    )
    _write(page, (_MARGIN, 98), line, 19, _FAINT, "ls")


def _heading(row: Image.Image, genus: Genus) -> None:
    ImageDraw.Draw(row).line([_MARGIN, 6, row.width - _MARGIN, 6], fill=(214, 204, 184), width=2)
    _write(row, (_MARGIN, 36), f"{genus.name}s", 23, _INK, "ls")
    _write(row, (row.width - _MARGIN, 36), genus.family, 17, _FAINT, "rs")


def _captions(row: Image.Image, guide: Guide, kind: Species, middle: int, y: int) -> None:
    _write(row, (middle, y + 22), kind.name, 23, _INK, "ms")
    _write(row, (middle, y + 46), kind.latin, 17, _FAINT, "ms")
    start = middle - (3 * _SNAP + 2 * _GAP) // 2
    for i in range(3):
        snap = Image.fromarray(render(guide, kind.index, i).pixels).resize((_SNAP, _SNAP), Image.Resampling.LANCZOS)
        row.paste(snap, (start + i * (_SNAP + _GAP), y + _NAMES))


def portrait_of(kind: Species, side: int) -> Drawing:
    """The species as a field guide shows it: from the side that has its marks."""
    return render_scene(kind.genus, kind.marks, replace(PORTRAIT, mirrored=kind.side == "left"), side)


def telling_marks(guide: Guide, kind: Species) -> dict[str, str]:
    """The marks to point at, and what they are called; of a species and its impostor the one that differs."""
    marks = kind.marks
    if guide.options.kind == "impostors":
        marks = {mark: marks[mark] for mark in guide.differing_marks(kind.index, kind.index ^ 1)}
    return {mark: f"{colour} {mark}" for mark, colour in marks.items()}


def on_paper(portrait: Drawing) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The portrait's paper matched to the page's."""
    paper = portrait.pixels[0, 0].astype(int)
    same = (np.abs(portrait.pixels.astype(int) - paper).max(axis=-1) <= 2)[..., None]
    return np.where(same, np.array(_PAPER, dtype=np.uint8), portrait.pixels)


class Pointer(NamedTuple):
    """Where a line from outside meets a mark: in pixels of the portrait."""

    x: int
    y: int
    above: bool
    """Whether the line comes from above."""


def pointer(portrait: Drawing, mark: str) -> Pointer:
    """The way to a mark from above or below, whichever crosses less of the bird."""
    rows, columns = np.nonzero(portrait.marks == mark_id(mark))
    column = int(np.median(columns))
    own = rows[columns == column]
    over, under = portrait.numbers[: own.min(), column], portrait.numbers[own.max() + 1 :, column]
    above = bool(np.count_nonzero(over) <= np.count_nonzero(under))
    return Pointer(column, int(own.min() + 2 if above else own.max() - 2), above)


def _point_out(row: Image.Image, portrait: Drawing, mark: str, text: str, corner: tuple[int, int],
               span: tuple[int, int]) -> None:  # fmt: skip
    """A line to the mark, and what it is called.

    `corner` is where the portrait's top left would be, `span` the top and height of the part that is shown.
    """
    to = pointer(portrait, mark)
    x, y = corner[0] + to.x, corner[1] + to.y
    end = span[0] - 14 if to.above else span[0] + span[1] + 10
    pen = ImageDraw.Draw(row)
    pen.line([x, y, x, end], fill=_RED, width=2)
    pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=_RED)
    half = pen.textlength(text, font=ImageFont.load_default(18)) / 2
    centre = min(max(x, corner[0] + half), corner[0] + _PORTRAIT - half)
    _write(row, (centre, end - 6 if to.above else end + 6), text, 18, _RED, "ms" if to.above else "mt")
