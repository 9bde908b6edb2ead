"""How often flips are switched off: photographs that a mirror leaves in their class, and drawings that it does not.

    FIELDMARK_DATA=… python benchmarks/mirror_images.py            # half an hour of one core, most of it once
    python benchmarks/mirror_images.py --only signs                # a part of it

Features are computed once for each set and kept in --cache. Then each line is measured on --subsets random subsets: so
many groups of each class, of which train would see no others. Signs are 33 drawn traffic signs beside one pair that a
mirror exchanges; a group is a track of three frames. The pair has 8 and 5 groups, the others 5 to 13. No mirror
exchanges two of the 33, but digits and letters are handed, too, so that flips are no good for all of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fieldmark.core.storage import cache_folder
from fieldmark.data.decode import decode
from fieldmark.data.sets import read
from fieldmark.data.square import evaluation_view
from fieldmark.fieldguide import Kind, make_guide, render
from fieldmark.learning.training.mirror import SIZE, Mirroring, judge_mirroring, mirror_features

PHOTOGRAPHS = {"CUB-50": "CUB_200_2011_first50", "Flowers-102": "flowers-102", "Cars-60": "cars-60"}
PHOTOGRAPHS_OF_A_CLASS, DRAWINGS_OF_A_CLASS, TRACKS_OF_A_CLASS, FRAMES = 20, 40, 20, 3

Pixels = NDArray[np.uint8]
Picture = tuple[Pixels, int, int]
"""Pixels, label, group."""


class Measured(NamedTuple):
    """Features of a set's images and of their mirror images, labels and groups."""

    own: NDArray[np.float32]
    mirrored: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def subset(self, classes: Iterable[int], sizes: Iterable[int], rng: np.random.Generator) -> Measured:
        """So many random groups of each of these classes."""
        kept: list[int] = []
        for label, size in zip(classes, sizes, strict=True):
            groups = rng.permutation(np.unique(self.groups[self.labels == label]))[:size]
            kept += np.flatnonzero(np.isin(self.groups, groups)).tolist()
        return Measured(self.own[kept], self.mirrored[kept], self.labels[kept], self.groups[kept])


def photographs(root: Path) -> Iterator[Picture]:
    catalog, rng = read(root), np.random.default_rng(0)
    for label in range(len(catalog.classes)):
        for row in rng.permutation(np.flatnonzero(catalog.labels == label))[:PHOTOGRAPHS_OF_A_CLASS]:
            yield decode(catalog.file(row), short_side=SIZE * 3 // 2).pixels, label, int(row)


def drawings(seed: int, kind: Kind) -> Iterator[Picture]:
    guide = make_guide(species=12 if kind == "mirror" else 20, images_per_species=DRAWINGS_OF_A_CLASS, seed=seed,
                       kind=kind)  # fmt: skip
    for label in range(len(guide.species)):
        for i in range(DRAWINGS_OF_A_CLASS):
            yield render(guide, label, i).pixels, label, label * DRAWINGS_OF_A_CLASS + i


# Signs: two classes for each entry of PAIRED, right first, then UNPAIRED.

SIDE = 128
WHITE, RED, BLUE, BLACK, YELLOW = (235, 235, 235), (190, 25, 30), (25, 70, 165), (20, 20, 20), (235, 190, 30)
PAIRED = {
    "keep": ("disc", [(42, 38), (76, 76)], 18, 12),
    "turn": ("disc", [(48, 96), (48, 58), (76, 58)], 18, 12),
    "ahead or": ("disc", [(52, 98), (52, 78), (78, 78)], 14, 10),
    "bend": ("triangle", [(58, 98), (58, 84), (66, 74), (70, 62)], 9, 8),
    "double bend": ("triangle", [(70, 98), (60, 84), (70, 72), (60, 56)], 0, 8),
}
UNPAIRED = [
    *(("ring", text) for text in ("20", "30", "50", "60", "70", "80", "100", "120", "X", "T", "")),
    *(("triangle", text) for text in ("!", "+", "*", "%", "X", "T", "K", "W", "H", "O", "M", "U", "")),
    *(("disc", text) for text in ("H", "P", "8", "A", "")),
    *(("octagon", text) for text in ("STOP", "")),
    *(("diamond", text) for text in ("", "!")),
]  # fmt: skip

SYMMETRIC = set("80!+*XTWHOMUA")


def board(shape: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGBA", (SIDE, SIDE))
    pen = ImageDraw.Draw(picture)
    match shape:
        case "disc":
            pen.ellipse([8, 8, 120, 120], fill=BLUE, outline=WHITE, width=3)
        case "ring":
            pen.ellipse([8, 8, 120, 120], fill=WHITE, outline=RED, width=13)
        case "triangle":
            pen.polygon([(64, 8), (122, 112), (6, 112)], fill=RED)
            pen.polygon([(64, 30), (104, 102), (24, 102)], fill=WHITE)
        case "octagon":
            pen.regular_polygon((64, 64, 58), 8, rotation=22, fill=RED)
        case _:
            pen.polygon([(64, 6), (122, 64), (64, 122), (6, 64)], fill=WHITE)
            pen.polygon([(64, 22), (106, 64), (64, 106), (22, 64)], fill=YELLOW)
    return picture, pen


def lettered(shape: str, text: str) -> Image.Image:
    picture, pen = board(shape)
    size = 34 if len(text) > 3 else 42 if len(text) > 2 or shape == "triangle" else 56
    fill = WHITE if shape in ("disc", "octagon") else BLACK
    pen.text((64, 76 if shape == "triangle" else 66), text, fill, ImageFont.load_default(size=size), anchor="mm")
    return picture


def pointed(name: str, *, left: bool) -> Image.Image:
    shape, line, head, width = PAIRED[name]
    picture, pen = board(shape)
    fill = BLACK if shape == "triangle" else WHITE
    points = np.array(line, float)
    if left:
        points[:, 0] = SIDE - points[:, 0]
    pen.line([tuple(point) for point in points], fill=fill, width=width, joint="curve")
    ahead = (points[-1] - points[-2]) / np.linalg.norm(points[-1] - points[-2]) * head
    across = np.array([-ahead[1], ahead[0]])
    if head:
        pen.polygon([tuple(points[-1] + offset) for offset in (ahead, across, -across)], fill=fill)
    if name == "ahead or":
        pen.line([(points[0, 0], 80), (points[0, 0], 46)], fill=fill, width=width)
        pen.polygon([(points[0, 0] + x, y) for x, y in ((0, 30), (16, 48), (-16, 48))], fill=fill)
    return picture


def track(sign: Image.Image, noise: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """Frames in which the sign comes nearer. Light, tilt and ground are the track's, noise and blur the frame's."""
    ground, texture = rng.integers(30, 220, 3), rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    light = rng.uniform(0.35, 1.2) * rng.uniform(0.85, 1.15, 3)
    angle, shear = rng.normal(0, 4 * noise), rng.normal(0, 0.06 * noise)
    sheared = (1, shear, -shear * SIDE / 2, 0, 1, 0)
    for frame in range(FRAMES):
        side = int(24 * (1 + frame / (FRAMES - 1) * rng.uniform(0.5, 2)))
        tilted = sign.rotate(angle + rng.normal(), Image.Resampling.BICUBIC)
        tilted = tilted.transform((SIDE, SIDE), Image.Transform.AFFINE, sheared, Image.Resampling.BICUBIC)
        own = int(side * rng.uniform(0.73, 1))
        small = tilted.resize((own, own), Image.Resampling.LANCZOS)
        coarse = np.asarray(Image.fromarray(texture).resize((side, side), Image.Resampling.BICUBIC))
        picture = Image.fromarray((coarse * 0.4 + ground * 0.6).astype(np.uint8))
        x, y = ((side - own) // 2 + int(rng.integers(-side // 14 - 1, side // 14 + 2)) for _ in range(2))
        picture.paste(small, (x, y), small)
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, side / 40)))
        noisy = np.asarray(picture) * light + rng.normal(0, 6 * noise, (side, side, 3))
        yield noisy.clip(0, 255).astype(np.uint8)


def signs(noise: int) -> Iterator[Picture]:
    rng = np.random.default_rng(noise)
    boards = [pointed(name, left=left) for name in PAIRED for left in (False, True)]
    boards += [lettered(*kind) for kind in UNPAIRED]
    for label, sign in enumerate(boards):
        for number in range(TRACKS_OF_A_CLASS):
            for pixels in track(sign, noise, rng):
                yield pixels, label, label * TRACKS_OF_A_CLASS + number


def measured(file: Path, pictures: Callable[[], Iterable[Picture]]) -> Measured:
    """The features of these pictures, from `file` where they are there already."""
    if not file.exists():
        labels: list[int] = []
        groups: list[int] = []

        def views() -> Iterator[np.ndarray]:
            for pixels, label, group in pictures():
                labels.append(label)
                groups.append(group)
                yield evaluation_view(pixels, size=SIZE)[None]

        own, mirrored = mirror_features(views())
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, own=own, mirrored=mirrored, labels=labels, groups=groups)
    with np.load(file) as found:
        return Measured(*(found[name] for name in ("own", "mirrored", "labels", "groups")))


Sizes = int | Callable[[np.random.Generator], Iterable[int]]
Line = tuple[str, Measured, Sequence[int], Sizes]
"""What a line is called, and how many groups of which classes it takes of what."""


def photograph_lines(cache: Path) -> Iterator[Line]:
    for name, folder in PHOTOGRAPHS.items():
        data = measured(cache / f"{folder}.npz", partial(photographs, Path(os.environ["FIELDMARK_DATA"]) / folder))
        for size in (5, 10, 20):
            yield f"{name}, {size} images a class", data, range(data.labels.max() + 1), size


def drawing_lines(cache: Path) -> Iterator[Line]:
    kinds: list[tuple[Kind, int]] = [("mirror", 7), ("mirror", 8), ("mirror", 9), ("species", 15), ("impostors", 16)]
    for kind, seed in kinds:
        data = measured(cache / f"{kind}-{seed}.npz", partial(drawings, seed, kind))
        for size in (6, 10, 20):
            yield f"`--kind {kind} --seed {seed}`, {size} images a species", data, range(data.labels.max() + 1), size


def sign_lines(cache: Path) -> Iterator[Line]:
    paired = 2 * len(PAIRED)
    others = range(paired, paired + len(UNPAIRED))
    every = range(others.stop)
    same = [label for label, (_, text) in zip(others, UNPAIRED, strict=True) if set(text) <= SYMMETRIC]
    for noise in (1, 2):
        data = measured(cache / f"signs-{noise}.npz", partial(signs, noise))
        for i, name in enumerate(PAIRED):
            classes = (2 * i, 2 * i + 1, *others)
            yield f"signs, noise {noise}: one pair, {name!r}", data, classes, lambda rng: (8, 5, *few(rng, others))
        yield f"signs, noise {noise}: all five pairs", data, every, lambda rng: few(rng, every)
        yield f"signs, noise {noise}: no pair", data, others, lambda rng: few(rng, others)
        yield f"signs, noise {noise}: no pair, 20 tracks each", data, others, 20
        yield f"signs, noise {noise}: only such as are their own mirror images", data, same, lambda rng: few(rng, same)


def few(rng: np.random.Generator, classes: Sequence[int]) -> list[int]:
    return rng.integers(5, 14, len(classes)).tolist()


def report(what: str, data: Measured, classes: Sequence[int], sizes: Sizes, subsets: int) -> None:
    """One line of the table: of so many random subsets, how many lose their flips, how many are said to be too few."""
    found: list[Mirroring] = []
    for seed in range(subsets):
        rng = np.random.default_rng(seed)
        subset = data.subset(classes, [sizes] * len(classes) if isinstance(sizes, int) else sizes(rng), rng)
        found.append(judge_mirroring(*subset, rng))
    off = sum(not one.keeps_meaning for one in found)
    unclear = sum(one.keeps_meaning and not one.enough for one in found)
    print(f"| {what} | {off} | {unclear} | {subsets - off - unclear} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("photographs", "drawings", "signs"))
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=cache_folder() / "benchmarks" / "mirror_images")
    options = parser.parse_args()
    torch.set_num_threads(1)

    print(f"| of {options.subsets} subsets | flips off | on, too few to tell | on |\n|---|---|---|---|")
    for part, lines in (("photographs", photograph_lines), ("drawings", drawing_lines), ("signs", sign_lines)):
        if options.only in (None, part):
            for what, data, classes, sizes in lines(options.cache):
                report(what, data, classes, sizes, options.subsets)


if __name__ == "__main__":
    main()
