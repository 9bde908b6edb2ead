"""How bad mistakes are: the distance in the taxonomy between what was answered and what it is.

Bertinetto et al., "Making better mistakes" (2020): the height of the lowest common ancestor, in levels: 0 for a right
answer, 1 within a genus, 2 within a family, …; where two classes share no level they meet at the root, one level above
the last. Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.metrics import Score, mean_within

__all__ = ["severity", "tree_distances"]


def tree_distances(
    taxonomy: Mapping[str, Sequence[str]], answers: NDArray[np.integer], labels: NDArray[np.integer]
) -> NDArray[np.int64]:
    """(N,) levels climbed from the class to the lowest common ancestor, for answers and labels (N,).

    Levels that divide nothing, or as finely as the classes, are no steps.
    """
    distances = (answers != labels).astype(np.int64)
    for names in taxonomy.values():
        if 1 < len(set(names)) < len(names):
            number = np.unique(np.array(names), return_inverse=True)[1]
            distances += number[answers] != number[labels]
    return distances


def severity(
    taxonomy: Mapping[str, Sequence[str]],
    answers: NDArray[np.integer],
    labels: NDArray[np.integer],
    units: NDArray[np.integer] | None = None,
) -> dict[str, Score]:
    """`tree_distance`, the mean over all images, and `mistake_severity`, over mistakes where there are any.

    The second alone can be misread: who avoids the small mistakes only is left with the severe ones.
    """
    distances = tree_distances(taxonomy, answers, labels).astype(np.float64)
    furthest = 1.0 + sum(1 < len(set(names)) < len(names) for names in taxonomy.values())
    found = {"tree_distance": mean_within(distances, 0.0, furthest, units)}
    if (wrong := distances > 0).any():
        among = None if units is None else units[wrong]
        found["mistake_severity"] = mean_within(distances[wrong], 1.0, furthest, among)
    return found
