"""What a training looks at: which images when, and how they are augmented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.image import ImageAugment, mirror_permutation
from fieldmark.augment.views import PlainViews, RandomViews
from fieldmark.core.recipe import Recipe
from fieldmark.data.loader import Augmentation, Samples, Schedule
from fieldmark.learning.fitting.backgrounds import bind_background
from fieldmark.learning.fitting.poses import bind_poses
from fieldmark.learning.fitting.prepare import Prepared

__all__ = ["schedule_of", "training_samples"]


def schedule_of(recipe: Recipe, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Schedule:
    """When each of the rows (N,), which belong to classes (N,), is learnt from."""
    train = recipe.train
    once = Schedule(
        rows,
        train.batch_size,
        1,
        recipe.seed,
        labels=None if train.sampling == "shuffled" else labels,
        images_per_class=train.images_per_class if train.sampling == "class_batches" else 1,
        views=recipe.augment.num_views,
    )
    return replace(once, epochs=train.num_epochs(once.steps_per_epoch))


def training_samples(
    recipe: Recipe, data: Prepared, rows: NDArray[np.int64], *, flip: bool, size: int, interpolation: str
) -> Samples:
    """The training images as the recipe augments them; `rows` are those that are learnt from."""
    augmentation = _augmentation(recipe, data, flip, size, interpolation)
    changes = bind_background(recipe, data, rows), bind_poses(recipe, data, rows, flip=flip)
    return Samples(data.catalog, data.pixels, augmentation, recipe.seed, changes=[c for c in changes if c])


def _augmentation(recipe: Recipe, data: Prepared, flip: bool, size: int, interpolation: str) -> Augmentation:
    """What training images go through."""
    names = data.catalog.keypoint_names
    chosen = recipe.augment
    options = ImageAugment(
        min_scale=chosen.min_scale, flip=flip, color=chosen.color, trivial=chosen.trivial, erasing=chosen.erasing
    )
    if not chosen.crop:
        return PlainViews(size, recipe.images.crop, recipe.images.whole, interpolation)
    return RandomViews(size, options, mirror_permutation(names) if names else None, interpolation)
