"""`find_doubts`: labels that are probably wrong, the most doubtful first.

Two witnesses are heard, who err in different ways: a model that has not seen the image (`confidence`), and the images
that look most like it (`neighbours`). Each ranks all images by its margin, and the mean of the two ranks decides, so
neither has a scale or a weight that would have to be tuned. An image is in doubt only if a witness prefers another
class to its label.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fieldmark.labelling.confidence import margin, unbiased
from fieldmark.labelling.neighbours import look_alikes, neighbours, votes

__all__ = ["CANDIDATES", "Doubt", "Kind", "doubtfulness", "find_doubts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["label", "copy", "leak"]

CANDIDATES = 5
"""Classes that are offered for a label, the likeliest first."""


@final
@dataclass(frozen=True)
class Doubt:
    """An image that a person should look at. Rows are those of the arrays that were given."""

    row: int
    kind: Kind
    """"label": it looks like another class; "copy": the same picture has another label; "leak": the same picture is in
    another split."""
    score: float
    """From 0 to 1: the share of all images that are less doubtful; 1 for copies and leaks."""
    candidates: tuple[int, ...]
    """The likeliest classes other than its label."""
    belief: float
    """The probability of its label, by a model that has not seen it."""
    support: float
    """The share of the votes of its look-alikes for its label."""
    other: int
    """The row of its look-alike among the suggested class, or of its copy; −1 if there is none."""
    same: int
    """The row of its look-alike among its own class; −1 if there is none."""

    def among(self, rows: Ints) -> Doubt:
        """The same, if what was judged are these `rows` (N,) of a catalogue."""
        row, other, same = (int(rows[at]) if at >= 0 else -1 for at in (self.row, self.other, self.same))
        return replace(self, row=row, other=other, same=same)


def doubtfulness(probabilities: Floats, voted: Floats, labels: Ints) -> Floats:
    """(N,) from 0 to 1: the mean rank of both margins, 1 for the most doubtful.

    `probabilities` and `voted` are (N, K), of models that have not seen the image and of its look-alikes.
    """
    ranks = [rankdata(-margin(values, labels)) for values in (unbiased(probabilities, labels), voted)]
    return np.asarray((np.mean(ranks, axis=0) - 1) / max(len(labels) - 1, 1))


def find_doubts(probabilities: Floats, embedding: NDArray[np.floating], labels: Ints, units: Ints) -> list[Doubt]:
    """The labels (N,) in doubt, the most doubtful first.

    `probabilities` (N, K) are those of models that have not seen the image, nor any other of its unit (N,): what
    belongs together. Images of a class that has only one unit are passed over: nobody could know them.
    """
    num_classes = probabilities.shape[1]
    voted = votes(neighbours(embedding, units), labels, num_classes)
    scores = doubtfulness(probabilities, voted, labels)
    of_classes = np.unique(np.stack([units, labels], axis=1), axis=0)[:, 1]
    num_units = np.bincount(of_classes, minlength=num_classes)
    doubted = (margin(probabilities, labels) < 0) | (margin(voted, labels) < 0)
    rows = np.flatnonzero(doubted & (num_units[labels] > 1))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    believed = (probabilities + voted) / 2
    believed[np.arange(len(labels)), labels] = -1
    likeliest = np.argsort(-believed[rows], axis=1, kind="stable")[:, : min(CANDIDATES, num_classes - 1)]
    others, sames = (
        look_alikes(embedding[rows], units[rows], embedding, labels, units, wanted)
        for wanted in (likeliest[:, 0], labels[rows])
    )
    own = np.arange(len(labels)), labels
    beliefs, supports = probabilities[own], voted[own]
    return [
        Doubt(
            int(row),
            "label",
            float(scores[row]),
            tuple(likeliest[at].tolist()),
            float(beliefs[row]),
            float(supports[row]),
            int(others[at]),
            int(sames[at]),
        )
        for at, row in enumerate(rows)
    ]
