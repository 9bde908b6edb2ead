"""`render`: one picture and the whole truth about it.

Shapes: S the side of the picture in pixels, P key points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from fieldmark.core.errors import RecipeError
from fieldmark.fieldguide.anatomy import Anatomy, pose
from fieldmark.fieldguide.canvas import FINER, Canvas
from fieldmark.fieldguide.colours import Colour, mix, scaled
from fieldmark.fieldguide.guide import Genus, Guide, Species
from fieldmark.fieldguide.habitat import HABITATS, PAPER, Habitat, background, colour_of, cover
from fieldmark.fieldguide.light import expose, relief
from fieldmark.fieldguide.marks import EXTRAS, FIRST_MARK, MARKS, mark_id
from fieldmark.fieldguide.plumage import PARTS, paint_bird
from fieldmark.fieldguide.scene import Scene, make_scene
from fieldmark.fieldguide.shapes import Points, box_of, points, spline

__all__ = ["Drawing", "marks_worn", "render", "render_scene"]

_CROWD = {"blades": 2, "leaves": 3, "twigs": 1, "flakes": 5}
_HIDDEN = 0.3
"""The greatest share of a mark's place that twigs may hide, but for careless pictures."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture and its truth; coordinates in pixels from the top left corner."""

    pixels: NDArray[np.uint8]
    """(S, S, 3)"""
    box: tuple[int, int, int, int]
    """x, y, width, height of what can be seen of the bird."""
    keypoints: NDArray[np.float32]
    """(P, 3) x, y, visible (0 or 1: hidden by something in front), in the order of `KEYPOINTS`."""
    numbers: NDArray[np.uint8]
    """(S, S) as in mask files: 0 not the bird, 1 … the part's place in `PARTS`, above `FIRST_MARK` a mark's place."""
    occlusion: float
    """The share of the bird that something in front hides, 0 … 1."""
    scene: Scene

    @property
    def parts(self) -> NDArray[np.uint8]:
        """(S, S) the part's place in `PARTS`, beneath marks too; 0 is not the bird."""
        table = np.arange(256, dtype=np.uint8)
        for name, part in _PART_OF.items():
            table[FIRST_MARK + mark_id(name)] = PARTS.index(part)
        return table[self.numbers]

    @property
    def marks(self) -> NDArray[np.uint8]:
        """(S, S) `mark_id` where a mark of this genus has its place, whether this bird shows it or not; else 0."""
        return np.where(self.numbers > FIRST_MARK, self.numbers - FIRST_MARK, 0).astype(np.uint8)


def render(guide: Guide, species: int, index: int, *, marks_of: int | None = None) -> Drawing:
    """Picture `index` of `species`; with `marks_of`, the same bird and scene with that species' marks.

    Only pixels at the marks that differ change. Raises RecipeError where the guide has no such species, or where
    `marks_of` is of another genus (build and plumage would differ too).
    """
    bird = guide.find(species)
    donor = bird if marks_of is None else guide.find(marks_of)
    if donor.genus != bird.genus and donor.genus.name == bird.genus.name:
        raise RecipeError(
            f"A {bird.name} cannot be drawn with the marks of a {donor.name}: one of them is an unknown species",
            "Choose two known species, or two unknown ones.",
        )
    if donor.genus != bird.genus:
        raise RecipeError(
            f"A {bird.name} cannot be drawn with the marks of a {donor.name}: {bird.genus.name} and {donor.genus.name} "
            "are different genera",
            f"Choose a {bird.genus.name}.",
        )
    scene = make_scene(guide, species, index)
    return render_scene(bird.genus, marks_worn(guide, donor, scene, index), scene, guide.options.size)


def marks_worn(guide: Guide, species: Species, scene: Scene, index: int) -> Mapping[str, str]:
    """Mark → colour on the bird of picture `index`, as far as the side that is seen has them."""
    if species.side not in ("", scene.side):
        return {}
    if not species.variants:
        return species.marks
    rng = np.random.default_rng([8, guide.options.seed, species.index, index])
    return {mark: colours[int(rng.integers(2))] for mark, colours in species.variants.items() if rng.random() < 0.5}


def render_scene(genus: Genus, marks: Mapping[str, str], scene: Scene, side: int) -> Drawing:
    """A bird of `genus` with these marks (name → colour) in `scene`, `side` pixels square."""
    habitat = PAPER if scene.habitat == "paper" else HABITATS[scene.habitat]
    bird = pose(genus, scene)
    canvas = _framed(bird, scene, side)
    back = np.asarray(_setting(habitat, bird, canvas, scene), dtype=np.float32)
    _perch(habitat, bird, canvas, scene)
    paint_bird(canvas, bird, genus, marks, scene)
    colours, covered, numbers = canvas.finished()
    wing = np.isin(numbers, _WING).astype(np.float32)
    picture = back * (1 - covered[..., None]) + colours * relief(covered, wing, scene)
    front = _foreground(habitat, scene, numbers)
    hidden = front[..., 3:] / np.float32(255)
    if scene.crowd:
        picture = picture * (1 - hidden) + front[..., :3]
    seen = np.where(hidden[..., 0] > 0.5, 0, numbers).astype(np.uint8)
    keypoints = _keypoints(bird, canvas, hidden[..., 0])
    occlusion = 1 - np.count_nonzero(seen) / np.count_nonzero(numbers)
    return Drawing(expose(picture, scene), box_of(seen), keypoints, seen, occlusion, scene)


_PART_OF = {name: mark.part for name, mark in MARKS.items()} | EXTRAS
_WING = [PARTS.index("wing"), *(FIRST_MARK + mark_id(name) for name, part in _PART_OF.items() if part == "wing")]


def _framed(bird: Anatomy, scene: Scene, side: int) -> Canvas:
    """The canvas on which the bird has the scene's extent and place."""
    least, most = bird.extent
    fine = side * FINER
    scale = scene.extent * fine / float((most - least).max())
    room = fine - (most - least) * scale
    margin = np.minimum(0.025 * fine, room / 2)
    corner = margin + (room - 2 * margin) * points(scene.place)[0]
    return Canvas(side, scale, corner - least * scale, scene.mirrored)


def _setting(habitat: Habitat, bird: Anatomy, canvas: Canvas, scene: Scene) -> Image.Image:
    """The background, with the bird's shadow where it stands on the ground."""
    picture = background(habitat, scene.seeds[0], canvas.side)
    if habitat.perch != "ground":
        return picture
    (x, y), wide = canvas.place(bird.foot)[0] / FINER, 0.42 * canvas.scale / FINER
    ground = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(ground)
    pen.rectangle([0, y - canvas.side * 0.03, canvas.side, canvas.side], fill=255)
    soil = Image.new("RGB", picture.size, _ints(colour_of(habitat.perch_colour)))
    picture = Image.composite(soil, picture, ground.filter(ImageFilter.GaussianBlur(canvas.side * 0.02)).point(_HALF))
    shadow = Image.new("L", picture.size, 0)
    ImageDraw.Draw(shadow).ellipse([x - wide, y - wide * 0.05, x + wide, y + wide * 0.22], fill=110)
    shadow = shadow.filter(ImageFilter.GaussianBlur(canvas.side * 0.02))
    return Image.composite(Image.new("RGB", picture.size, (40, 34, 36)), picture, shadow)


_HALF = [round(level * 0.7) for level in range(256)]


def _ints(colour: Colour) -> tuple[int, int, int]:
    return (round(colour[0]), round(colour[1]), round(colour[2]))


def _perch(habitat: Habitat, bird: Anatomy, canvas: Canvas, scene: Scene) -> None:
    """A twig, a rock or a post under the feet."""
    rng = np.random.default_rng(scene.seeds[1])
    colour = scaled(colour_of(habitat.perch_colour), rng.uniform(0.85, 1.1))
    x, y = bird.foot[0]
    tilt, bend, half = rng.normal(0, 0.12), rng.normal(0, 0.06), rng.uniform(0.028, 0.045)
    if habitat.perch == "twig":
        reach = np.array([-3.0, -1.2, 0.0, 1.2, 3.0]) * (0.16 if habitat is PAPER else 1.0)
        line = spline(np.stack([x + reach, y + half + reach * tilt + bend * np.abs(reach)], 1), closed=False)
        knobs = half * (1 + 0.12 * np.sin(7 * line[:, :1] + 5 * bend))
        below = line + np.concatenate([np.zeros_like(knobs), knobs], axis=1)
        above = line - np.concatenate([np.zeros_like(knobs), knobs], axis=1)
        canvas.fill(np.concatenate([above, below[::-1]]), colour, 0)
        lower = line + np.concatenate([np.zeros_like(knobs), knobs * 0.3], axis=1)
        canvas.fill(np.concatenate([lower, below[::-1]]), scaled(colour, 0.78), 0)
    elif habitat.perch == "rock":
        top = [(-2.2, 0.9), (-0.75, 0.22), (-0.4, 0.02), (0.1, -0.01), (0.45, 0.04), (0.8, 0.25), (2.2, 0.9), (0, 3)]
        canvas.fill(bird.foot + spline(points(top)), colour, 0)
    elif habitat.perch == "post":
        canvas.fill(bird.foot + points([(-0.28, 0.01), (0.3, 0.01), (0.3, 3), (-0.28, 3)]), colour, 0)
        rim = bird.foot + points([(-0.33, 0.01), (0.35, 0.01), (0.35, 0.1), (-0.33, 0.1)])
        canvas.fill(rim, mix(colour, (255, 255, 255), 0.15), 0)


def _foreground(habitat: Habitat, scene: Scene, numbers: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What stands in front: red, green and blue times cover, and cover (S, S, 4) in 0…255.

    Things that would hide a mark are left out, unless the picture is careless.
    It looks at the places of the genus's marks, not at the marks shown: a redrawn bird has the same foreground.
    """
    side = len(numbers)
    front = Image.new("RGBA", (side, side))
    if not (scene.crowd and habitat.cover_hues):
        return np.zeros((side, side, 4), dtype=np.float32)
    rng = np.random.default_rng(scene.seeds[1] + 1)
    places = np.where(numbers > FIRST_MARK, numbers, 0)
    area = np.bincount(places.ravel(), minlength=FIRST_MARK + len(MARKS) + 1)
    taken = np.zeros((side, side), dtype=bool)
    pen = ImageDraw.Draw(front)
    for _ in range(_CROWD[habitat.cover] * scene.crowd):
        outline, colour = cover(habitat, rng)
        corners = (outline * side).ravel().tolist()
        mask = Image.new("1", (side, side))
        ImageDraw.Draw(mask).polygon(corners, fill=1)
        after = taken | np.asarray(mask)
        lost = np.bincount(places[after], minlength=len(area))
        if scene.careless or not (lost[1:] > _HIDDEN * area[1:]).any():
            taken = after
            pen.polygon(corners, fill=(*colour, 255))
    return np.asarray(front.filter(ImageFilter.GaussianBlur(side * 0.006)), dtype=np.float32)


def _keypoints(bird: Anatomy, canvas: Canvas, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    where: Points = canvas.place(bird.keypoints) / FINER
    column, row = np.clip(where, 0, canvas.side - 1).astype(int).T
    return np.column_stack([where, hidden[row, column] <= 0.5]).astype(np.float32)
