"""`find_doubts`: labels that are probably wrong, the most doubtful first.

Two witnesses are heard, who err in different ways: a model that has not seen the image (`confidence`), and the images
that look like it (`neighbours`). Their probabilities p and v are pooled as pᵃ · vᵇ (a logarithmic opinion pool: Heskes,
"Selecting weighting factors in logarithmic opinion pools", 1998). The weights are those that make the given labels
likeliest. So each data set says itself how far either can be trusted, and nothing has to be tuned. An image is in doubt
if the pool prefers another class to its label.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from fieldmark.labelling.confidence import margin, self_confidence
from fieldmark.labelling.neighbours import look_alikes, votes

__all__ = ["CANDIDATES", "Doubt", "Kind", "find_doubts", "pooled"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["label", "copy", "leak"]

CANDIDATES = 5
"""Classes that are offered for a label, the likeliest first."""
_LEAST = 1e-6
"""The probability that stands for 0, which no evidence could outweigh."""
_MOST_WEIGHT = 10.0


@final
@dataclass(frozen=True)
class Doubt:
    """An image that a person should look at. Rows are those of the arrays that were given."""

    row: int
    kind: Kind
    """"label": it looks like another class; "copy": the same picture has another label; "leak": the same picture is in
    another split."""
    score: float
    """The probability that its label is wrong, as both witnesses see it together; 1 for copies and leaks."""
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


def pooled(probabilities: Floats, voted: Floats, labels: Ints) -> Floats:
    """(N, K) what both witnesses believe together, given probabilities of models that have not seen the image and votes
    of its look-alikes, (N, K) each, and the labels (N,)."""
    witnesses = np.log(np.stack([probabilities, voted]).clip(_LEAST))

    def pool(weights: Floats) -> Floats:
        return np.asarray(log_softmax(np.tensordot(weights, witnesses, 1), axis=1))

    def loss(weights: Floats) -> float:
        return float(-self_confidence(pool(weights), labels).mean())

    weights = minimize(loss, np.array([1.0, 0.1]), bounds=[(0, _MOST_WEIGHT)] * 2).x
    return np.exp(pool(weights))


def find_doubts(probabilities: Floats, embedding: NDArray[np.floating], labels: Ints, units: Ints) -> list[Doubt]:
    """The labels (N,) in doubt, the most doubtful first.

    `probabilities` (N, K) are those of models that have not seen the image, nor any other of its unit (N,): what
    belongs together. Images of a class that has only one unit are passed over: nobody could know them.
    """
    num_classes = probabilities.shape[1]
    voted = votes(embedding, labels, units, num_classes)
    believed = pooled(probabilities, voted, labels)
    scores = 1 - self_confidence(believed, labels)
    of_classes = np.unique(np.stack([units, labels], axis=1), axis=0)[:, 1]
    num_units = np.bincount(of_classes, minlength=num_classes)
    rows = np.flatnonzero((margin(believed, labels) < 0) & (num_units[labels] > 1))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
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
