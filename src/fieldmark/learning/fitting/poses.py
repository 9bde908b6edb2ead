"""Whether the data's key points allow what a recipe asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.pose import PoseChanges
from fieldmark.augment.similarity import FEWEST_POINTS, pose_of
from fieldmark.core.errors import DataError, RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Augment, Recipe
from fieldmark.core.wording import counted, first_few
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.model.method import METHODS

__all__ = ["bind_poses", "check_pose_options", "check_poses", "check_supervision"]


def check_pose_options(recipe: Recipe) -> None:
    """Raise RecipeError if the recipe asks for changes that would affect no image."""
    if (asked := _asked(recipe.augment)) and not recipe.augment.crop:
        raise RecipeError(
            f"augment.crop = false turns augmentation off, so it cannot be combined with {asked}",
            f"Set augment.crop = true, or leave out {asked}.",
        )


def check_poses(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Report where the key points do not suffice. Raises DataError if they never do and the recipe insists."""
    if not (asked := _asked(recipe.augment)):
        return
    catalog = data.catalog
    rows = data.learnt(recipe)
    changes = bind_poses(recipe, data, rows, flip=True)
    if changes is None:
        if recipe.augment.if_missing == "error":
            raise _nothing_to_carry(data, rows, asked)
        listener.note(f"Continuing without {asked}: {_nothing_to_carry(data, rows, asked).problem}")
        return
    _tell_outside(data, rows, listener)
    if len(unposed := changes.unposed()):
        images = f"{len(unposed):,} of {counted(len(rows), 'training image')}"
        example = catalog.paths[unposed[0]]
        listener.warn(
            f"Fewer than {FEWEST_POINTS} key points are visible in {images}, such as {example}, "
            f"so {asked} will leave them unchanged"
        )
    if (changes.warp or changes.swap) and len(alone := np.setdiff1d(changes.alone(), unposed)):
        classes = first_few(dict.fromkeys(catalog.classes[label] for label in catalog.labels[alone]))
        listener.warn(
            f"There is no donor for {len(alone):,} of {counted(len(rows), 'training image')}: no other image of the "
            f"class shows {FEWEST_POINTS} of the same key points, so these images are neither warped nor given "
            f"other parts (classes: {classes})"
        )


def check_supervision(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Report from how many images a method that needs key points learns nothing. Raises DataError if it is all."""
    catalog, name = data.catalog, recipe.method.name
    if not METHODS.get(name).needs_keypoints(recipe.method.options):
        return
    if catalog.keypoints is None:
        raise DataError(
            f"The method {name!r} with these options learns from key points, but {catalog.name} has none",
            "Add columns keypoint.<name>.x and keypoint.<name>.y to its table, or choose other options (method.…).",
        )
    rows = catalog.rows("train")
    seen = np.isfinite(_poses(data, rows)).any(axis=1)
    if not seen.any():
        raise DataError(
            f"The method {name!r} with these options learns from key points, but no training image of {catalog.name} "
            "shows one within the picture",
            _to_see_more(data, rows),
        )
    if not _asked(recipe.augment):  # else it has been said
        _tell_outside(data, rows, listener)
    if len(blank := rows[~seen]):
        share = f"{len(blank):,} of {counted(len(rows), 'training image')}"
        listener.warn(
            f"No key point is visible in {share}, where the method {name!r} finds none to learn from, "
            f"such as {catalog.paths[blank[0]]}"
        )


def _tell_outside(data: Prepared, rows: NDArray[np.int64], listener: Listener) -> None:
    """Report how many key points are marked as visible outside the picture."""
    outside = _outside(data, rows)
    if len(images := rows[outside.any(axis=1)]):
        listener.warn(
            f"{counted(int(outside.sum()), 'key point')} outside the picture, in {len(images):,} of "
            f"{counted(len(rows), 'training image')}, will count as not visible, "
            f"such as in {data.catalog.paths[images[0]]}"
        )


def _outside(data: Prepared, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, P) said to be visible, and not in the picture."""
    assert data.catalog.keypoints is not None
    return (data.catalog.keypoints[rows, :, 2] > 0) & np.isnan(_poses(data, rows))


def _poses(data: Prepared, rows: NDArray[np.int64]) -> NDArray[np.complex128]:
    """(N, P)."""
    assert data.catalog.keypoints is not None
    return pose_of(data.catalog.keypoints[rows], data.sizes[rows])


def _to_see_more(data: Prepared, rows: NDArray[np.int64]) -> str:
    """A hint for data in which too few key points are visible."""
    if _outside(data, rows).any():
        return "`fieldmark audit` lists key points that lie outside their pictures."
    return "Key points that are blank or marked as not visible do not count: fill in .x and .y, and set .visible to 1."


def _nothing_to_carry(data: Prepared, rows: NDArray[np.int64], asked: str) -> DataError:
    """The reason why the key points do not allow what the recipe asks for."""
    catalog = data.catalog
    if catalog.keypoints is None:
        return DataError(
            f"{catalog.name} has no key points for {asked}",
            "Add columns keypoint.<name>.x and keypoint.<name>.y to its table. Or train with part discovery, write the "
            "parts that it finds with `fieldmark parts RUN DATA`, and train on the resulting table.",
        )
    if len(catalog.keypoint_names) < FEWEST_POINTS:
        names = ", ".join(catalog.keypoint_names)
        return DataError(
            f"{catalog.name} has too few key points for {asked}: {names}",
            f"Expected at least {FEWEST_POINTS}.",
        )
    return DataError(
        f"No training image of {catalog.name} shows the {FEWEST_POINTS} key points that {asked} needs",
        _to_see_more(data, rows),
    )


def bind_poses(recipe: Recipe, data: Prepared, rows: NDArray[np.int64], *, flip: bool) -> PoseChanges | None:
    """The changes that the recipe asks for, with donors from `rows`; None if it asks for none or key points are few."""
    if not _asked(recipe.augment) or len(data.catalog.keypoint_names) < FEWEST_POINTS:
        return None
    changes = PoseChanges.bind(recipe.augment, data.catalog, data.sizes, rows, flip=flip)
    return None if changes.canonical is None else changes


def _asked(options: Augment) -> str:
    """The options that are set, as the user wrote them."""
    return ", ".join(f"augment.{name}" for name in ("align", "warp", "swap") if getattr(options, name))
