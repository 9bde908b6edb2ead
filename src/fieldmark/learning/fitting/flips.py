"""Whether training mirrors images: the recipe decides, or a measurement on the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.stream import Shown, batches
from fieldmark.augment.image import flip_keeps_meaning
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.core.seeds import Stream, generator
from fieldmark.core.wording import first_few
from fieldmark.data.attributes import attribute_values
from fieldmark.data.square import evaluation_view
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.training.mirror import SIZE, judge_mirroring, mirror_features
from fieldmark.runs.run import Run

__all__ = ["decide_flip", "num_measured"]

_BATCH = 64
_IMAGES, _OF_EACH, _MOST = 1000, 6, 3000
"""The largest number of images that is measured, within seconds; more where classes are many, to have a few of each."""


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
    if note := _said(found):
        listener.note(note)
    return bool(found["keeps_meaning"])


def _said(found: dict[str, Any]) -> str | None:
    """What the user is told of this; None where there is nothing to tell."""
    if not found["keeps_meaning"]:
        first, second = found["pair"]
        return (
            f"Training images are not mirrored: {100 * found['exchanged']:.0f} % of the mirror images of {first!r} and "
            f"{second!r} look like the other class (set augment.flip=true to mirror them anyway)"
        )
    unjudged = found.get("unjudged", [])
    if found.get("enough", True):  # a run of before does not say
        if not unjudged:
            return None
        return (
            f"Training images are mirrored, but whether left and right matter for {first_few(unjudged)} is not known: "
            f"too few {'images' if found.get('all', True) else 'of their images'} were looked at (set "
            "augment.flip=false if they do)"
        )
    who = "they are too few" if found.get("all", True) else f"the {found['images']:,} that were looked at are too few"
    likeliest = "; {!r} and {!r} look most like it".format(*found["pair"]) if "pair" in found else ""
    return (
        f"Training images are mirrored, but {who} to tell whether a mirror exchanges two classes{likeliest} "
        "(set augment.flip=false if left and right matter)"
    )


def num_measured(images: int, classes: int) -> int:
    """How many of so many training images are looked at, with their mirror images."""
    return min(images, max(_IMAGES, min(_MOST, _OF_EACH * classes)))


def _measured(recipe: Recipe, data: Prepared) -> dict[str, Any]:
    """What training images and their mirror images say."""
    rng = generator(Stream.FLIP, recipe.seed)
    learnt = data.catalog.rows("train")
    most = num_measured(len(learnt), len(data.catalog.classes))
    rows = learnt[_chosen(data.catalog.labels[learnt], data.units[learnt], most, rng)]
    images = recipe.images

    def see(row: int) -> Shown:
        pixels = data.pixels[row].pixels
        return Shown(evaluation_view(pixels, size=SIZE, crop=images.crop, whole=images.whole))

    features = mirror_features(batches(rows.tolist(), see, batch_size=_BATCH))
    judged = judge_mirroring(*features, data.catalog.labels[rows], data.units[rows], rng)
    found: dict[str, Any] = {
        "keeps_meaning": judged.keeps_meaning,
        "enough": judged.enough,
        "images": len(rows),
        "all": len(rows) == len(learnt),
        "unjudged": [data.catalog.classes[label] for label in judged.unjudged],
    }
    if judged.pair is not None:
        names = data.catalog.classes
        found |= {
            "pair": [names[judged.pair.first], names[judged.pair.second]],
            "right": round(judged.pair.right, 4),
            "exchanged": round(judged.pair.exchanged, 4),
            "probability": judged.probability,
        }
    return found


def _chosen(
    labels: NDArray[np.int64], units: NDArray[np.int64], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which images are measured, `most` of (N,): one of each unit before a second one, as many of each class."""
    order = rng.permutation(len(labels))
    again = _occurrence(units[order])
    order = order[np.argsort(again, kind="stable")]
    turn = np.lexsort([_occurrence(labels[order]), np.sort(again)])
    return np.sort(order[turn][:most])


def _occurrence(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand before each (N,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    places = np.empty_like(order)
    places[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return places
