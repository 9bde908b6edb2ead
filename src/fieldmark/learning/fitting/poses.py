"""Whether this data's key points can do what a recipe asks of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.pose import PoseChanges
from fieldmark.augment.similarity import FEWEST_POINTS, pose_of
from fieldmark.core.errors import DataError, RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Augment, Recipe
from fieldmark.core.wording import first_few
from fieldmark.learning.fitting.prepare import Prepared

__all__ = ["bind_poses", "check_pose_options", "check_poses", "check_supervision"]


def check_pose_options(recipe: Recipe) -> None:
    """Raises RecipeError where the recipe asks for changes that no image would see."""
    if (asked := _asked(recipe.augment)) and not recipe.augment.crop:
        raise RecipeError(
            f"With augment.crop = false images are looked at as they are, without {asked}",
            "Set augment.crop = true, or leave it out.",
        )


def check_poses(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Say once what the key points cannot carry. Raises DataError where they carry nothing, if the recipe insists."""
    if not (asked := _asked(recipe.augment)):
        return
    catalog = data.catalog
    rows = data.learnt(recipe)
    changes = bind_poses(recipe, data, rows, flip=True)
    if changes is None:
        if recipe.augment.if_missing == "error":
            raise _nothing_to_carry(data, rows, asked)
        listener.note(f"Going without {asked}: {_nothing_to_carry(data, rows, 'it').problem}")
        return
    _tell_outside(data, rows, listener)
    if len(unposed := changes.unposed()):
        images = f"{len(unposed):,} of {len(rows):,} training images"
        few = f"such as {catalog.paths[unposed[0]]}, show fewer than {FEWEST_POINTS} key points"
        listener.warn(f"{images}, {few}, and stay as they are for {asked}")
    if (changes.warp or changes.swap) and len(alone := np.setdiff1d(changes.alone(), unposed)):
        classes = first_few(dict.fromkeys(catalog.classes[label] for label in catalog.labels[alone]))
        listener.warn(
            f"{len(alone):,} of {len(rows):,} training images have no donor, another image of their class that shows "
            f"{FEWEST_POINTS} of the same key points, and are neither warped nor given other parts: {classes}"
        )


def check_supervision(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Say once of how many images `method.supervise` learns nothing. Raises DataError where it is all of them."""
    catalog = data.catalog
    if not recipe.method.options.get("supervise") or catalog.keypoints is None:  # the latter is refused by the method
        return
    rows = catalog.rows("train")
    seen = np.isfinite(_poses(data, rows)).any(axis=1)
    if not seen.any():
        raise DataError(
            f"method.supervise learns from key points, and no training image of {catalog.name} shows one inside it",
            _to_see_more(data, rows),
        )
    if not _asked(recipe.augment):  # else it has been said
        _tell_outside(data, rows, listener)
    if len(blank := rows[~seen]):
        share = f"{len(blank):,} of {len(rows):,} training images"
        listener.warn(f"{share} show no key point, such as {catalog.paths[blank[0]]}: method.supervise passes them by")


def _tell_outside(data: Prepared, rows: NDArray[np.int64], listener: Listener) -> None:
    """Say once how many key points are marked as visible where there is no picture."""
    outside = _outside(data, rows)
    if len(images := rows[outside.any(axis=1)]):
        listener.warn(
            f"{len(images):,} of {len(rows):,} training images have key points outside the picture, "
            f"{outside.sum():,} in all, which count as not seen: such as {data.catalog.paths[images[0]]}"
        )


def _outside(data: Prepared, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, P) said to be visible, and not in the picture."""
    assert data.catalog.keypoints is not None
    return (data.catalog.keypoints[rows, :, 2] > 0) & np.isnan(_poses(data, rows))


def _poses(data: Prepared, rows: NDArray[np.int64]) -> NDArray[np.complex128]:
    """(N, P)."""
    assert data.catalog.keypoints is not None
    return pose_of(data.catalog.keypoints[rows], data.pixels.shapes[rows][:, 2:])


def _to_see_more(data: Prepared, rows: NDArray[np.int64]) -> str:
    """What may be done where too few key points are seen."""
    if _outside(data, rows).any():
        return "`fieldmark audit` says where key points lie outside their pictures."
    return "Blank ones and those marked as not visible do not count: fill in x and y, and 1 in a column .visible."


def _nothing_to_carry(data: Prepared, rows: NDArray[np.int64], asked: str) -> DataError:
    """Why the key points carry nothing of what is asked."""
    catalog = data.catalog
    if catalog.keypoints is None:
        return DataError(
            f"{catalog.name} has no key points for {asked}",
            "Give its table the columns keypoint.<name>.x and keypoint.<name>.y; or train with part discovery, write "
            "the parts that it finds with `fieldmark parts RUN DATA`, and train on that table.",
        )
    if len(catalog.keypoint_names) < FEWEST_POINTS:
        names = ", ".join(catalog.keypoint_names)
        return DataError(
            f"{catalog.name} has too few key points for {asked}: {names}",
            f"Expected at least {FEWEST_POINTS}.",
        )
    return DataError(
        f"No training image of {catalog.name} shows {FEWEST_POINTS} key points, too few for {asked}",
        _to_see_more(data, rows),
    )


def bind_poses(recipe: Recipe, data: Prepared, rows: NDArray[np.int64], *, flip: bool) -> PoseChanges | None:
    """What the recipe asks for, with donors from `rows`; None where it asks for nothing or key points carry nothing."""
    if not _asked(recipe.augment) or len(data.catalog.keypoint_names) < FEWEST_POINTS:
        return None
    changes = PoseChanges.bind(recipe.augment, data.catalog, data.pixels.shapes[:, 2:], rows, flip=flip)
    return None if changes.canonical is None else changes


def _asked(options: Augment) -> str:
    """The keys that are set, as the user wrote them."""
    return ", ".join(f"augment.{name}" for name in ("align", "warp", "swap") if getattr(options, name))
