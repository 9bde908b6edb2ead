"""The page of a guide: what it draws, how its pictures vary, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fieldmark.fieldguide.copies import changed, copy_of
from fieldmark.fieldguide.guide import Guide, Species
from fieldmark.fieldguide.habitat import HABITATS
from fieldmark.fieldguide.plumage import PARTS
from fieldmark.fieldguide.render import Drawing, marks_worn, render, render_scene
from fieldmark.fieldguide.scene import BURST, NUM_INDIVIDUALS, NUM_STAGES, PORTRAIT, STAGE_FEATHERS, Scene, make_scene
from fieldmark.fieldguide.sheet import on_paper, pointer, portrait_of, telling_marks
from fieldmark.fieldguide.truth import Sighting, classes, label_of, sightings, wrong_label
from fieldmark.pages import picture
from fieldmark.pages import render as fill

__all__ = ["gallery"]

_SIDE, _SNAP, _PICTURE = 320, 160, 240
"""Pixels of a portrait, of the pictures below it, and of those that stand alone."""
_MARGIN = 26
"""Room above and below a portrait for what points at it, in its pixels."""
_SHOWN, _EXAMPLES = 36, 6


class Callout(NamedTuple):
    """A line to a mark, and what it is called; in pixels of the portrait."""

    x: int
    y: int
    end: int
    text: str
    text_x: int
    text_y: int
    anchor: str


@dataclass(frozen=True)
class Portrait:
    """A bird on paper."""

    image: Markup
    width: int
    height: int
    title: str
    callouts: Sequence[Callout] = ()
    caption: str = ""


@dataclass(frozen=True)
class Plate:
    """A species: portraits, names, and pictures of it."""

    name: str
    latin: str
    note: str
    portraits: Sequence[Portrait]
    snaps: Sequence[tuple[Markup, str]]


def gallery(guide: Guide) -> str:
    """The page as HTML. It shows the first `_SHOWN` species."""
    shown = guide.species[:_SHOWN]
    genera = [(genus, [_plate(guide, one) for one in ones]) for genus, ones in groupby(shown, lambda one: one.genus)]
    pictures = list(sightings(guide))
    return fill(
        "guide.html",
        guide=guide,
        shown=len(shown),
        what=_WHAT[guide.options.kind],
        command=command_of(guide),
        banner=_banner(guide, pictures),
        genera=genera,
        num_classes=len(classes(guide)),
        counts={split: sum(one.split == split for one in pictures) for split in ("train", "val", "test")},
        varieties=_varieties(guide),
        truths=_truths(guide),
        unknown=[_plate(guide, one) for one in guide.unknown[:_EXAMPLES]],
        copies=list(islice(_copies(guide, pictures), _EXAMPLES)),
        mistakes=list(islice(_mistakes(guide, pictures), _EXAMPLES)),
        sizes=_sizes(guide, pictures) if guide.options.long_tail > 1 else [],
    )


_WHAT = {
    "species": "The species of a genus share build and plumage and differ in one or two field marks.",
    "stages": "The class is the stage of the moult, from no new feathers to a plumage full of them. "
    "The species of the bird does not matter.",
    "individuals": f"The class is the individual: each has its own spots on breast and flank. "
    f"Pictures come in bursts of {BURST}, and a burst stays in one split.",
    "attributes": "The class shows in build and plumage. The marks vary freely from bird to bird, and each is "
    "an attribute of the picture.",
    "impostors": "Each genuine species has an impostor that differs from it only in the colour of one of three marks.",
    "mirror": "Two species of a genus have the same mark, one on its left side and the other on its right: "
    "each is the mirror image of the other.",
}


def command_of(guide: Guide) -> str:
    """The command that draws this guide."""
    options, default = guide.options, type(guide.options)()
    words = []
    for name, value in vars(options).items():
        if value != getattr(default, name):
            flag = {"images_per_species": "images"}.get(name, name).replace("_", "-")
            words.append(f"--{flag} {value:g}" if isinstance(value, float) else f"--{flag} {value}")
    return " ".join(["fieldmark draw birds", *words])


def _banner(guide: Guide, pictures: Sequence[Sighting]) -> list[tuple[Markup, str]]:
    """Eight pictures from all over the guide."""
    found = []
    for i in range(8):
        one = pictures[len(pictures) * i // 8 + 3 * i % max(len(pictures) // 8, 1)]
        drawing = render(guide, one.species, one.index)
        found.append((picture(drawing.pixels, side=_SNAP, quality=85), guide.find(one.species).name))
    return found


# ---- plates


def _plate(guide: Guide, one: Species) -> Plate:
    snaps = [_snap(guide, one, index) for index in range(3)]
    return Plate(one.name, one.latin, _note(guide, one), list(_portraits(guide, one)), snaps)


def _snap(guide: Guide, one: Species, index: int) -> tuple[Markup, str]:
    drawing = render(guide, one.index, index)
    return picture(drawing.pixels, side=_SNAP, quality=85), label_of(guide, one.index, drawing.scene)


def _note(guide: Guide, one: Species) -> str:
    """Of genuine species and impostors, what they share."""
    if guide.options.kind != "impostors":
        return ""
    shared = [f"{colour} {mark}" for mark, colour in one.marks.items() if mark not in telling_marks(guide, one)]
    return f"Shared with {'the impostor' if one.index % 2 == 0 else 'the genuine one'}: {', '.join(shared)}"


def _portraits(guide: Guide, one: Species) -> Iterator[Portrait]:
    match guide.options.kind:
        case "stages":
            for stage in range(NUM_STAGES):
                scene = replace(PORTRAIT, stage=stage, new_feathers=sum(STAGE_FEATHERS[stage]) // 2)
                yield _portrait(render_scene(one.genus, one.marks, scene, _SIDE), f"stage {stage}", caption=str(stage))
        case "individuals":
            for number in range(NUM_INDIVIDUALS):
                own = make_scene(guide, one.index, number * BURST)
                scene = replace(PORTRAIT, pattern=own.pattern, sex=own.sex, plumage=own.plumage)
                drawing = render_scene(one.genus, one.marks, scene, _SIDE)
                yield _portrait(drawing, f"{one.name} {number + 1}", caption=str(number + 1))
        case "attributes":
            for index in _unlike(guide, one):
                worn = marks_worn(guide, one, PORTRAIT, index)
                text = ", ".join(f"{colour} {mark}" for mark, colour in worn.items()) or "no marks"
                yield _portrait(render_scene(one.genus, worn, PORTRAIT, _SIDE), text, caption=text)
        case "mirror":
            for mirrored in (True, False):
                scene = replace(PORTRAIT, mirrored=mirrored)
                worn = marks_worn(guide, one, scene, 0)
                yield _portrait(
                    render_scene(one.genus, worn, scene, _SIDE), one.name, caption=f"from its {scene.side}"
                )  # fmt: skip
        case _:
            yield _portrait(portrait_of(one, _SIDE), one.name, telling_marks(guide, one))


def _unlike(guide: Guide, one: Species) -> list[int]:
    """Four pictures whose birds wear different marks."""
    seen = {tuple(marks_worn(guide, one, PORTRAIT, index).items()): index for index in reversed(range(12))}
    return sorted(seen.values())[:4]


def _portrait(drawing: Drawing, title: str, texts: dict[str, str] | None = None, *, caption: str = "") -> Portrait:
    """The strip of the portrait that the bird stands in, with what points at its marks."""
    top = max(drawing.box[1] - _MARGIN, 0)
    bottom = min(drawing.box[1] + drawing.box[3] + _MARGIN, _SIDE)
    pixels = on_paper(drawing)[top:bottom]
    callouts = []
    for mark, text in (texts or {}).items():
        to = pointer(drawing, mark)
        end = 20 if to.above else bottom - top - 20
        anchor = "start" if to.x < 0.3 * _SIDE else "end" if to.x > 0.7 * _SIDE else "middle"
        x = {"start": max(to.x - 20, 2), "end": min(to.x + 20, _SIDE - 2), "middle": to.x}[anchor]
        callouts.append(Callout(to.x, to.y - top, end, text, x, 14 if to.above else bottom - top - 7, anchor))
    return Portrait(picture(pixels, side=_SIDE, quality=88), _SIDE, bottom - top, title, callouts, caption)


# ---- how pictures vary, and what is known of them


def _varieties(guide: Guide) -> list[tuple[str, list[tuple[Markup, str]]]]:
    """One bird in every habitat, light and pose."""
    one, side = guide.species[0], min(guide.options.size, _PICTURE)
    scene = replace(make_scene(guide, 0, 0), crowd=0, stoop=0.0, pitch=0.0, new_feathers=0, mirrored=False,
                    brightness=1.05, warmth=0.03, hardness=0.7, azimuth=-0.6, noise=2.0)  # fmt: skip

    def shown(changed: Scene) -> Markup:
        worn = marks_worn(guide, one, changed, 0)
        return picture(render_scene(one.genus, worn, changed, side).pixels, side=_SNAP, quality=85)

    lights: dict[str, Scene] = {}
    for index in range(60):
        drawn = make_scene(guide, 0, index)
        lights.setdefault(drawn.light, replace(scene, brightness=drawn.brightness, warmth=drawn.warmth,
                                               hardness=drawn.hardness, azimuth=drawn.azimuth))  # fmt: skip
    poses = {"stooping": -0.3, "level": 0.0, "upright": 0.32}
    return [
        ("Habitats", [(shown(replace(scene, habitat=name)), name) for name in HABITATS]),
        ("Light", [(shown(replace(lit, habitat="meadow")), name) for name, lit in sorted(lights.items())]),
        ("Pose", [(shown(replace(scene, stoop=turn, habitat="lake")), name) for name, turn in poses.items()]),
        ("Sex", [(shown(replace(scene, sex=sex, habitat="garden")), sex) for sex in ("female", "male")]),
        ("In front of the bird", [(shown(replace(scene, crowd=crowd, habitat="forest")), text)
                              for crowd, text in ((0, "nothing"), (2, "a little"), (5, "a lot"))]),
    ]  # fmt: skip


_TINTS = np.array(
    [(236, 230, 214), (94, 129, 172), (163, 120, 82), (214, 185, 122), (140, 170, 110), (208, 112, 72), (88, 98, 130),
     (30, 28, 30)], dtype=np.uint8,
)  # fmt: skip
_MARKED = (190, 40, 52)


def _truths(guide: Guide) -> list[tuple[Markup, str]]:
    """One picture, and what the table and the mask say about it."""
    scene = make_scene(guide, 0, 0)
    worn = marks_worn(guide, guide.species[0], scene, 0)
    drawing = render_scene(guide.species[0].genus, worn, scene, _PICTURE)
    parts = _TINTS[drawing.parts]
    parts[drawing.marks > 0] = _MARKED
    images: list[tuple[NDArray[np.uint8], str]] = [
        (drawing.pixels, "the picture"),
        (parts, f"its mask: {', '.join(PARTS[1:])}, and the places of the marks"),
        (_pinned(drawing), "its box and key points; hollow ones are hidden"),
    ]
    return [(picture(pixels, side=_PICTURE, quality=88), text) for pixels, text in images]


def _pinned(drawing: Drawing) -> NDArray[np.uint8]:
    image = Image.fromarray(drawing.pixels)
    pen = ImageDraw.Draw(image)
    x, y, width, height = drawing.box
    pen.rectangle([x, y, x + width, y + height], outline=(255, 250, 235), width=2)
    for left, top, visible in drawing.keypoints.tolist():
        spot = [left - 4, top - 4, left + 4, top + 4]
        pen.ellipse(spot, fill=_MARKED if visible else None, outline=(255, 250, 235), width=2)
    return np.asarray(image)


# ---- what was done to the data


def _copies(guide: Guide, pictures: Sequence[Sighting]) -> Iterator[tuple[Markup, Markup, str]]:
    """Originals, their copies and what was done: the first of each change, then others."""
    found = ((one, copy) for one in pictures if (copy := copy_of(guide, one)))
    seen: set[str] = set()
    for one, copy in found:
        if copy.change in seen:
            continue
        seen.add(copy.change)
        drawing = render(guide, one.species, one.index)
        again = changed(drawing, copy)
        yield (
            picture(drawing.pixels, side=_SNAP, quality=85),
            picture(again.pixels, side=_SNAP, quality=copy.quality if copy.change == "re-encoded" else 85),
            f"{copy.change}: from {one.split} to {copy.split}",
        )


def _mistakes(guide: Guide, pictures: Sequence[Sighting]) -> Iterator[tuple[Markup, str, str]]:
    """Pictures, what they are called and what they are."""
    for one in pictures:
        scene = make_scene(guide, one.species, one.index)
        true = label_of(guide, one.species, scene)
        if wrong := wrong_label(guide, one, true):
            yield picture(render(guide, one.species, one.index).pixels, side=_SNAP, quality=85), wrong, true


def _sizes(guide: Guide, pictures: Sequence[Sighting]) -> list[tuple[str, int]]:
    """Classes with their number of training pictures, the largest first."""
    counts = {one.index: 0 for one in guide.species}
    for picture_ in pictures:
        counts[picture_.species] += picture_.split == "train"
    return sorted(((one.name, counts[one.index]) for one in guide.species), key=lambda entry: -entry[1])
