"""The page of a preview: training images as a recipe augments them, with their boxes and key points."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fieldmark.core.recipe import Recipe
from fieldmark.core.seeds import Stream, generator
from fieldmark.data.catalog import Catalog
from fieldmark.data.loader import Samples
from fieldmark.pages import picture, render

__all__ = ["compose_preview", "spread"]

_SIDE = 224
"""The side of a picture on the page, in pixels."""
_VIEWS = 5
_DOT = 3


def compose_preview(catalog: Catalog, samples: Samples, rows: Iterable[int], recipe: Recipe, *, flip: bool) -> str:
    """The page as HTML: these rows unchanged, and as the first five epochs see them."""
    colours = _colours(len(catalog.keypoint_names))
    return render(
        "preview.html",
        name=catalog.name,
        size=recipe.images.train_size,
        mix=recipe.augment.mix,
        points=[
            _Point(name, "#" + bytes(colour).hex())
            for name, colour in zip(catalog.keypoint_names, colours, strict=True)
        ],
        settings=_settings(recipe, flip),
        images=[_row(catalog, samples, row, colours) for row in rows],
    )


class _Point(NamedTuple):
    name: str
    colour: str


class _Row(NamedTuple):
    path: str
    label: str
    plain: Markup
    views: list[Markup]


def spread(labels: NDArray[np.int64], rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` of `rows` in random order, from as many classes as possible."""
    rows = generator(Stream.PREVIEW, seed).permutation(rows)
    seen: dict[int, int] = {}
    turn = np.array([seen.update({label: seen.get(label, -1) + 1}) or seen[label] for label in labels[rows].tolist()])
    return rows[np.argsort(turn, kind="stable")[:count]]


def _settings(recipe: Recipe, flip: bool) -> str:
    """The settings of [augment] that have an effect, as they would be written."""
    values = recipe.augment.model_dump(exclude={"if_missing"}) | {"flip": flip}
    kept = {key: value for key, value in values.items() if value and value != "none" and not key.startswith("mix_")}
    return ", ".join(f"{key} = {str(value).lower()}" for key, value in kept.items())


def _row(catalog: Catalog, samples: Samples, row: int, colours: list[tuple[int, int, int]]) -> _Row:
    marked = samples.marked(row)
    views = []
    for epoch in range(_VIEWS):
        image, _, _, *marks = samples[epoch, row]
        box, points = (None if known is None else known.numpy() for known in marks)
        views.append(_drawn(image.permute(1, 2, 0).numpy(), box, points, colours))
    plain = _drawn(marked.pixels, marked.box, marked.keypoints, colours)
    return _Row(catalog.paths[row], catalog.classes[catalog.labels[row]], plain, views)


def _drawn(
    pixels: NDArray[np.uint8],
    box: NDArray[np.float32] | None,
    points: NDArray[np.float32] | None,
    colours: list[tuple[int, int, int]],
) -> Markup:
    """The picture with its box and key points, drawn at the size at which it is shown, so that dots stay round."""
    scale = _SIDE / max(pixels.shape[:2])
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    if box is not None and np.isfinite(box).all():
        x, y, width, height = (box * scale).tolist()
        pen.rectangle([x, y, x + width - 1, y + height - 1], outline=(255, 220, 60))
    for (x, y, visible), colour in zip([] if points is None else points.tolist(), colours, strict=False):
        if visible > 0:
            x, y = x * scale, y * scale
            pen.ellipse([x - _DOT, y - _DOT, x + _DOT, y + _DOT], fill=colour, outline=(255, 255, 255))
    return picture(np.asarray(image), side=_SIDE, quality=85)


def _colours(count: int) -> list[tuple[int, int, int]]:
    """A colour for each key point, all different, with neighbours in the list far apart."""
    colours = []
    for i in range(count):
        r, g, b = colorsys.hsv_to_rgb((i * 0.618) % 1, 0.9, 0.95 if i % 2 else 0.65)
        colours.append((round(255 * r), round(255 * g), round(255 * b)))
    return colours
