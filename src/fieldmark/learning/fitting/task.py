"""What the labels mean, according to the recipe and the data: grades, attributes, a taxonomy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.recipe import Recipe
from fieldmark.data.attributes import attribute_codes, attribute_values
from fieldmark.data.catalog import Catalog
from fieldmark.data.grades import grades_of
from fieldmark.data.task import Attribute, Task
from fieldmark.model.losses.loss import LOSSES

__all__ = ["check_labels", "codes_of", "task_of"]


def task_of(catalog: Catalog, recipe: Recipe, rows: NDArray[np.int64]) -> Task:
    """The task that is to be learnt from these rows. Raises RecipeError if the data lacks what the recipe asks for."""
    values = attribute_values(catalog, recipe.labels.attributes)
    codes = attribute_codes(catalog, values)[rows]
    points = catalog.keypoints
    seen = points is not None and bool((points[rows, :, 2] > 0).any())
    counts = _counts(catalog.labels[rows], len(catalog.classes))
    return Task(
        len(catalog.classes),
        counts,
        catalog.taxonomy,
        keypoints=catalog.keypoint_names if seen else (),
        grades=grades_of(catalog.classes, recipe.labels.order),
        attributes=tuple(
            Attribute(name, known, _counts(code[code >= 0], len(known)))
            for (name, known), code in zip(values.items(), codes.T, strict=True)
        ),
        unlearnt=tuple(label for label, count in enumerate(counts) if not count),
    )


def codes_of(catalog: Catalog, task: Task) -> NDArray[np.int64]:
    """(N, A) each image's value of each attribute of the task, −1 where it is unknown."""
    return attribute_codes(catalog, {one.name: one.values for one in task.attributes})


def check_labels(catalog: Catalog, recipe: Recipe) -> None:
    """Raise RecipeError if the recipe asks for labels that the data does not have."""
    task = task_of(catalog, recipe, np.flatnonzero(catalog.splits != "test"))
    LOSSES.get(recipe.loss.name)(task, **LOSSES.complete(*recipe.loss.pair))  # a loss knows what it needs


def _counts(codes: NDArray[np.int64], number: int) -> tuple[int, ...]:
    return tuple(np.bincount(codes, minlength=number).tolist())
