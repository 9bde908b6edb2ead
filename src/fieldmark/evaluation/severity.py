"""How bad mistakes are: the distance in the taxonomy between the answer and the truth.

Bertinetto et al., "Making better mistakes" (2020): the height of the lowest common ancestor, in levels: 0 for a right
answer, 1 within a genus, 2 within a family, …; where two classes share no level they meet at the root, one level above
the last. Shapes: N images, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.metrics import Score, mean_within

__all__ = ["severity"]


def severity(
    taxonomy: Taxonomy,
    answers: NDArray[np.integer],
    labels: NDArray[np.integer],
    units: NDArray[np.integer] | None = None,
) -> dict[str, Score]:
    """`tree_distance`, the mean over all images, and `mistake_severity`, the mean over mistakes if there are any.

    The second alone can mislead: a model that avoids only the small mistakes is left with the severe ones.
    """
    distances = taxonomy.distances(answers, labels).astype(np.float64)
    furthest = float(taxonomy.furthest)
    found = {"tree_distance": mean_within(distances, 0.0, furthest, units)}
    if (wrong := distances > 0).any():
        among = None if units is None else units[wrong]
        found["mistake_severity"] = mean_within(distances[wrong], 1.0, furthest, among)
    return found
