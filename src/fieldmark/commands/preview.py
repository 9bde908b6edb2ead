"""Preview: training images as a recipe augments them → one page to look at, before anything is learnt."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fieldmark.commands.fit import training_samples
from fieldmark.commands.flips import decide_flip
from fieldmark.commands.listener import Listener, relayed_warnings
from fieldmark.commands.poses import bind_poses, check_poses
from fieldmark.commands.prepare import Prepared, prepare
from fieldmark.commands.train import resolve_recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.loader import Samples, derive_seed
from fieldmark.datasets import find
from fieldmark.pages import picture, render
from fieldmark.recipe import Recipe
from fieldmark.storage import write_bytes

__all__ = ["preview"]

_STREAM = 7  # of random numbers
_SIDE = 224
"""Of a picture on the page, in pixels."""
_VIEWS = 5
_DOT = 3


def preview(
    data: Path | str | Catalog,
    recipe: str | Recipe = "finetune",
    *,
    out: Path | str,
    root: Path | str | None = None,
    overrides: Sequence[str] = (),
    count: int = 8,
    listener: Listener | None = None,
) -> Path:
    """Write a page of `count` training images, each as it is and as the first five epochs see it, and return it.

    Boxes and key points are drawn where they are known. What is shown is what training with this recipe and seed
    sees, except for what it does with whole batches (mixing) and in the method (crops). Raises FieldmarkError.
    """
    listener = listener or Listener()
    resolved = resolve_recipe(recipe, overrides=overrides)
    if not isinstance(data, Catalog):
        with relayed_warnings(listener):
            data = find(data, root, tell=listener.note)
    prepared = prepare(data, resolved, listener)
    check_poses(resolved, prepared, listener)
    flip = decide_flip(None, resolved, prepared, listener)
    rows = prepared.catalog.rows("train")
    poses = bind_poses(resolved, prepared, rows, flip=flip)
    changed = rows if poses is None else np.setdiff1d(rows, poses.unposed())
    size = resolved.images.train_size
    samples = training_samples(resolved, prepared, rows, flip=flip, size=size, interpolation="bicubic")
    shown = _spread(prepared.catalog.labels, changed, count, resolved.seed)
    page = render(
        "preview.html",
        name=prepared.catalog.name,
        size=size,
        mix=resolved.augment.mix,
        points=[
            _Point(name, "#" + bytes(colour).hex())
            for name, colour in zip(prepared.catalog.keypoint_names, _colours(prepared), strict=True)
        ],
        settings=_settings(resolved, flip),
        images=[_row(samples, prepared, row) for row in shown],
    )
    path = Path(out)
    write_bytes(path, page.encode())
    return path


class _Point(NamedTuple):
    name: str
    colour: str


class _Row(NamedTuple):
    path: str
    label: str
    plain: Markup
    views: list[Markup]


def _spread(labels: NDArray[np.int64], rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` of `rows` in random order, of as many classes as there are."""
    rows = np.random.default_rng(derive_seed(seed, _STREAM)).permutation(rows)
    seen: dict[int, int] = {}
    turn = np.array([seen.update({label: seen.get(label, -1) + 1}) or seen[label] for label in labels[rows].tolist()])
    return rows[np.argsort(turn, kind="stable")[:count]]


def _settings(recipe: Recipe, flip: bool) -> str:
    """What [augment] says beyond nothing, as one would write it."""
    values = recipe.augment.model_dump(exclude={"if_missing"}) | {"flip": flip}
    kept = {key: value for key, value in values.items() if value and value != "none" and not key.startswith("mix_")}
    return ", ".join(f"{key} = {str(value).lower()}" for key, value in kept.items())


def _row(samples: Samples, data: Prepared, row: int) -> _Row:
    colours = _colours(data)
    marked = samples.marked(row)
    views = []
    for epoch in range(_VIEWS):
        image, _, _, *marks = samples[epoch, row]
        box, points = (None if known is None else known.numpy() for known in marks)
        views.append(_drawn(image.permute(1, 2, 0).numpy(), box, points, colours))
    catalog = data.catalog
    plain = _drawn(marked.pixels, marked.box, marked.keypoints, colours)
    return _Row(catalog.paths[row], catalog.classes[catalog.labels[row]], plain, views)


def _drawn(
    pixels: NDArray[np.uint8],
    box: NDArray[np.float32] | None,
    points: NDArray[np.float32] | None,
    colours: list[tuple[int, int, int]],
) -> Markup:
    """The picture with its box and key points, as large as it is shown, so that dots stay dots."""
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


def _colours(data: Prepared) -> list[tuple[int, int, int]]:
    """One for each key point, all different, neighbours in the list unlike."""
    count = len(data.catalog.keypoint_names)
    colours = []
    for i in range(count):
        r, g, b = colorsys.hsv_to_rgb((i * 0.618) % 1, 0.9, 0.95 if i % 2 else 0.65)
        colours.append((round(255 * r), round(255 * g), round(255 * b)))
    return colours
