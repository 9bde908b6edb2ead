"""Whether training mirrors images: the recipe decides, or a measurement on the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from fieldmark.answering.stream import Shown, batches
from fieldmark.augment.image import evaluation_view, flip_keeps_meaning
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.core.seeds import Stream, generator
from fieldmark.data.attributes import attribute_values
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.training.mirror import SIZE, find_mirror_pair, mirror_features
from fieldmark.runs.run import Run

__all__ = ["decide_flip"]

_BATCH = 64
_MOST_IMAGES = 1000
"""The largest number of images that is measured: enough for a pair among few classes, within seconds."""


def decide_flip(run: Run | None, recipe: Recipe, data: Prepared, listener: Listener) -> bool:
    """Decide whether to mirror half of the training images.

    With flip = "auto" this is measured on training images, once for a run, and the result is kept in the run, if there
    is one.
    """
    chosen = recipe.augment.flip
    if not isinstance(chosen, str):
        return chosen
    if recipe.train.solver == "logistic" or not recipe.augment.crop:
        return True  # no image is mirrored anyway
    if not flip_keeps_meaning(data.catalog.classes):
        listener.note("Training images are not mirrored: some class names differ only by left and right")
        return False
    for name, values in attribute_values(data.catalog, recipe.labels.attributes).items():
        if not flip_keeps_meaning(values):
            listener.note(f"Training images are not mirrored: some values of {name!r} differ only by left and right")
            return False
    found = run.decided("flip") if run else None
    if found is None:
        found = _measured(recipe, data)
        if run:
            run.decide("flip", found)
    if found["keeps_meaning"]:
        return True
    first, second = found["pair"]
    listener.note(
        f"Training images are not mirrored: {100 * found['exchanged']:.0f} % of the mirror images of {first!r} and "
        f"{second!r} look like the other class (set augment.flip=true to mirror them anyway)"
    )
    return False


def _measured(recipe: Recipe, data: Prepared) -> dict[str, Any]:
    """What a probe says of training images and their mirror images."""
    rows = data.catalog.rows("train")
    rng = generator(Stream.FLIP, recipe.seed)
    rows = np.sort(rng.permutation(rows)[:_MOST_IMAGES])
    images = recipe.images

    def see(row: int) -> Shown:
        pixels = data.pixels[row].pixels
        return Shown(evaluation_view(pixels, size=SIZE, crop=images.crop, whole=images.whole))

    views = batches(rows.tolist(), see, batch_size=_BATCH)
    pair = find_mirror_pair(*mirror_features(views), data.catalog.labels[rows], data.units[rows], seed=recipe.seed)
    found: dict[str, Any] = {"keeps_meaning": pair is None, "images": len(rows)}
    if pair is not None:
        names = data.catalog.classes
        found |= {
            "pair": [names[pair.first], names[pair.second]],
            "right": round(pair.right, 4),
            "exchanged": round(pair.exchanged, 4),
            "probability": pair.probability,
        }
    return found
