"""Whether pose-based augmentation can do with this data what a recipe asks of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.pose import PoseChanges
from fieldmark.augment.similarity import FEWEST_POINTS
from fieldmark.commands.listener import Listener
from fieldmark.commands.prepare import Prepared
from fieldmark.data.splits import first_few
from fieldmark.errors import DataError, RecipeError
from fieldmark.recipe import Augment, Recipe

__all__ = ["bind_poses", "check_pose_options", "check_poses"]


def check_pose_options(recipe: Recipe) -> None:
    """Raises RecipeError where the recipe asks for changes that no image would see."""
    if not (asked := _asked(recipe.augment)):
        return
    if recipe.train.solver == "logistic":
        raise RecipeError(
            f"{asked} changes training images, and train.solver = 'logistic' looks at each as it is",
            "Use a recipe that trains by gradients, such as finetune, or leave it away.",
        )
    if not recipe.augment.crop:
        raise RecipeError(
            f"{asked} changes training images, and augment.crop = false shows them as they are",
            "Set augment.crop = true, or leave it away.",
        )


def check_poses(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Say once what the key points cannot carry. Raises DataError where they carry nothing."""
    if not (asked := _asked(recipe.augment)):
        return
    catalog = data.catalog
    parts = ("train", "val") if recipe.protocol == "crossfit" else ("train",)
    rows = np.flatnonzero(np.isin(catalog.splits, parts))
    changes = bind_poses(recipe, data, rows, flip=True)
    if changes is None:
        raise DataError(
            f"{asked} needs key points, and {catalog.name} has none",
            "Give its table the columns keypoint.<name>.x and keypoint.<name>.y; or train with part discovery, write "
            "the parts that it finds with `fieldmark parts RUN DATA`, and train on that table.",
        )
    if len(catalog.keypoint_names) < FEWEST_POINTS:
        names = ", ".join(catalog.keypoint_names)
        raise DataError(
            f"{asked} needs at least {FEWEST_POINTS} key points, and {catalog.name} has {names} only",
            "Mark more, or leave it away.",
        )
    if changes.canonical is None:
        raise DataError(
            f"No training image of {catalog.name} shows {FEWEST_POINTS} key points, which {asked} needs",
            "`fieldmark audit` says where key points lie outside their pictures.",
        )
    if len(unposed := changes.unposed()):
        images = f"{len(unposed):,} of {len(rows):,} training images"
        few = f"such as {catalog.paths[unposed[0]]}, show fewer than {FEWEST_POINTS} key points"
        listener.warn(f"{images}, {few}; {asked} leaves them as they are")
    if (changes.warp or changes.swap) and len(alone := np.setdiff1d(changes.alone(), unposed)):
        classes = first_few(dict.fromkeys(catalog.classes[label] for label in catalog.labels[alone]))
        listener.warn(
            f"{len(alone):,} of {len(rows):,} training images have no donor, another image of their class that shows "
            f"{FEWEST_POINTS} of the same key points, and are neither warped nor given other parts: {classes}"
        )


def bind_poses(recipe: Recipe, data: Prepared, rows: NDArray[np.int64], *, flip: bool) -> PoseChanges | None:
    """What the recipe asks for, with donors from `rows`; None where it asks for nothing or there are no key points."""
    if not _asked(recipe.augment) or data.catalog.keypoints is None:
        return None
    return PoseChanges.bind(recipe.augment, data.catalog, data.pixels.shapes[:, 2:], rows, flip=flip)


def _asked(options: Augment) -> str:
    """The keys that are set, as the user wrote them."""
    return ", ".join(f"augment.{name}" for name in ("align", "warp", "swap") if getattr(options, name))
