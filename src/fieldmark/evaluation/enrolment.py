"""Classes that a few photographs show, beside those that were learnt.

A learnt class knows hundreds of directions in which its images differ from others; of a new one a handful of images is
known. A classifier fitted to both knows the new ones as exceptions only. So the known classes keep their logits among
each other, and PLDA says how much likelier an image is of a new class than of any known one. That gives the new
class's logit, relative to all of the known ones together:

    logit of k = log Σ exp(logits of known classes) + (log p(x | k) − log Σ p(x | known class)) / T − offset

T keeps log-densities in hundreds of dimensions from being taken at their word. The offset is where no more than a few
of the held-out images that are answered rightly go to a new class.

Shapes: N held-out images, K known classes, E new ones, M photographs of new ones, D embedding (unit length).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from fieldmark.core.arrays import Array
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.plda import Plda, means_and_counts
from fieldmark.evaluation.unknown import class_means, nearness

__all__ = [
    "GATE_SHAPES",
    "KEPT_SHAPES",
    "MOST_KEPT",
    "SHOWN_SHAPES",
    "TEMPERATURE",
    "Fitted",
    "Gate",
    "Kept",
    "Shown",
    "fit_enrolment",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_KEPT = 4_000
"""Images of each kind that a bundle keeps."""
TEMPERATURE = 4.0
LOST = 0.04
"""The share of rightly answered held-out images that new classes may take."""
UNMEASURED = 2.0
"""The offset where nothing was held out to measure it: about what is found where something was."""
_FOLDS = 3
_ODD = 0.02
"""The share of known images that would be taken for odd among as many photographs of their own class."""

_UNIT = Array("half", ("N", "D"), least=-1.01, most=1.01)
KEPT_SHAPES: Mapping[str, Array] = {
    "logits": Array("float", ("N", "K"), least=-1e9, most=1e9),
    "near": Array("float", ("N",), least=-1.01, most=1.01),
    "labels": Array("int64", ("N",), least=0, most="K", shortest=1),
    "units": Array("int64", ("N",)),
    "embedding": _UNIT,
    "learnt": replace(_UNIT, sides=("T", "D"), optional=True),
    "learnt_labels": Array("int64", ("T",), least=0, most="K", optional=True),
    "means": Array("float", ("K", "D"), least=-1.01, most=1.01),
    "counts": Array("int64", ("K",), least=0),
}
SHOWN_SHAPES: Mapping[str, Array] = {
    "logits": Array("float", ("M", "K"), least=-1e9, most=1e9),
    "embedding": replace(_UNIT, sides=("M", "D")),
    "labels": Array("int64", ("M",), least=0, most="E", ascending=True, shortest=1),
}
GATE_SHAPES: Mapping[str, Array] = {
    "centre": Array("float", ("D",), least=-2, most=2),
    "axes": Array("float", ("D", "D")),
    "expected": Array("float", ("C", "D")),
    "variance": Array("float", ("C", "D"), least=1, most=1e12),
    "offset": Array("float", (1,), least=-1e6, most=1e6),
}


class Kept(NamedTuple):
    """What a bundle keeps of its images, so that classes can be enrolled later."""

    logits: NDArray[np.float32]
    """(N, K) answers for images by a model that has not learnt from them."""
    near: Floats
    """(N,) their nearness to the closest class mean, in the space of the model that answered."""
    labels: Ints
    units: Ints
    """(N,) images that belong together share a number."""
    embedding: NDArray[np.float16]
    """(N, D) by the model that is shipped."""
    means: NDArray[np.float32]
    """(K, D) of the embeddings of images that were learnt from; not of unit length."""
    counts: Ints
    """(K,) the number of images that each mean is of; 0 for a class that was not learnt."""
    learnt: NDArray[np.float16] | None = None
    """(T, D) embeddings of images that were learnt from. None if the N images are such, as in a cross-fit, whose
    answers come from other models than the one that is shipped, but embeddings from this one."""
    learnt_labels: Ints | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays, by name, as `KEPT_SHAPES` has them."""
        return {name: values for name, values in self._asdict().items() if values is not None}

    def plda(self, without: NDArray[np.bool_] | None = None) -> Plda:
        """Fitted to what was learnt; without the classes (K,) that this is true of."""
        learnt, labels = self.embedding, self.labels
        if self.learnt is not None and self.learnt_labels is not None:
            learnt, labels = self.learnt, self.learnt_labels
        counts = self.counts if without is None else np.where(without, 0, self.counts)
        rows = counts[labels] > 0
        return Plda.fit(learnt[rows].astype(np.float64), labels[rows], self.means.astype(np.float64), counts)


class Shown(NamedTuple):
    """Photographs of new classes."""

    logits: NDArray[np.float32]
    """(M, K) of the known classes."""
    embedding: NDArray[np.float16]
    """(M, D)."""
    labels: Ints
    """(M,) in [0, E), ascending."""

    @property
    def counts(self) -> Ints:
        """(E,) the number of photographs of each class."""
        return np.bincount(self.labels)

    def of(self, label: int) -> Shown:
        """The photographs of one class."""
        own = self.labels == label
        return Shown(self.logits[own], self.embedding[own], self.labels[own])


@dataclass(frozen=True, eq=False)
class Gate:
    """What gives new classes their logits."""

    plda: Plda
    expected: Floats
    """(C + E, D) where images of each class that was learnt, and of each new one, are expected, in coordinates."""
    variance: Floats
    """(C + E, D) and how far from there."""
    num_new: int
    """E."""
    offset: float = 0.0

    @classmethod
    def of(cls, plda: Plda, means: Floats, counts: Ints, shown: Shown) -> Gate:
        """From the means (K, D) of so many images (K,) of known classes, and photographs of new ones."""
        new, shots = means_and_counts(shown.embedding.astype(np.float64), shown.labels, len(shown.counts))
        learnt = counts > 0
        both = np.concatenate([means[learnt], new])
        expected, variance = plda.known(plda.coordinates(both), np.concatenate([counts[learnt], shots]))
        return cls(plda, expected, variance, len(shots))

    def scores(self, embedding: NDArray[np.floating]) -> Floats:
        """(N, C + E) log-densities, for embeddings (N, D)."""
        return self.plda.log_densities(
            self.plda.coordinates(unit(embedding.astype(np.float64))), self.expected, self.variance
        )

    def joined(self, logits: NDArray[np.floating], scores: Floats) -> Floats:
        """(N, K + E) the logits of all classes, for those of known ones (N, K) and `scores`."""
        known = logits.astype(np.float64)
        lead = scores[:, -self.num_new :] - logsumexp(scores[:, : -self.num_new], axis=1, keepdims=True)
        new = logsumexp(known, axis=1, keepdims=True) + lead / TEMPERATURE - self.offset
        return np.concatenate([known, new], axis=1)

    def __call__(self, logits: NDArray[np.floating], embedding: NDArray[np.floating]) -> Floats:
        """(N, K + E) the logits of all classes, for those of known ones (N, K) and embeddings (N, D)."""
        return self.joined(logits, self.scores(embedding))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays, by name, as `GATE_SHAPES` has them. Single precision is what the network computes with."""
        single = {"axes": self.plda.axes, "expected": self.expected, "variance": self.variance}
        return {
            "centre": self.plda.centre,
            "offset": np.array([self.offset]),
            **{name: values.astype(np.float32) for name, values in single.items()},
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], num_new: int) -> Gate:
        """From `arrays`. How means are spread is of no use any more, and left out."""
        plda = Plda(arrays["centre"].astype(np.float64), arrays["axes"].astype(np.float64), np.zeros(0))
        expected, variance = (arrays[name].astype(np.float64) for name in ("expected", "variance"))
        return cls(plda, expected, variance, num_new, float(arrays["offset"][0]))


class Fitted(NamedTuple):
    """What becomes of photographs of new classes."""

    gate: Gate
    calibration: Calibration | None
    odd: NDArray[np.bool_]
    """(M,) the photographs that do not look like the others of their class."""
    recognised: NDArray[np.bool_]
    """(M,) those that would be recognised if they were not among the others."""


def fit_enrolment(kept: Kept, shown: Shown, base: Calibration | None, taxonomy: Taxonomy, *, seed: int = 0) -> Fitted:
    """Make new classes of photographs, beside the classes of a bundle that is calibrated by `base`.

    `taxonomy` is that of all K + E classes. Without `base` nothing was held out: the offset is then `UNMEASURED`, and
    nothing is calibrated.
    """
    means, counts = kept.means.astype(np.float64), kept.counts
    gate = Gate.of(kept.plda(), means, counts, shown)
    scores, usual = _as_if_new(kept, gate, shown, seed)
    offset = _offset(gate, kept, scores) if base else UNMEASURED
    gate = replace(gate, offset=offset)
    own, likeness = _left_out(gate, shown)
    return Fitted(
        gate,
        _calibration(gate, kept, scores, shown, own, base, taxonomy, seed) if base else None,
        likeness < usual[shown.labels],
        own.argmax(axis=1) - kept.logits.shape[1] == shown.labels,
    )


def _as_if_new(kept: Kept, gate: Gate, shown: Shown, seed: int) -> tuple[Floats, Floats]:
    """(N, C + E) the scores of held-out images, and (E,) how little like each other photographs of one class are.

    Both by a PLDA that has not seen the images: those that it was fitted to look closer to their classes than any
    others will, which would let new classes take far too many.
    """
    scores = np.zeros((len(kept.labels), len(gate.expected)))
    alike: list[list[Floats]] = [[] for _ in shown.counts]
    rng = np.random.default_rng(seed)
    for rows, plda, own, (means, counts), (donors, of_class) in _unseen(kept, gate.plda, seed):
        found = gate if plda is gate.plda else Gate.of(plda, means, counts, shown)
        scores[rows] = _spread_out(found.scores(own), counts, kept.counts, gate.num_new)
        for k, count in enumerate(shown.counts):
            alike[k].append(_of_one_class(plda, own, kept.labels[rows], donors, of_class, int(count) - 1, rng))
    usual = [np.concatenate(one) for one in alike]
    return scores, np.array([np.quantile(one, _ODD) if len(one) else -np.inf for one in usual])


def _unseen(
    kept: Kept, plda: Plda, seed: int
) -> Iterator[tuple[Ints, Plda, Floats, tuple[Floats, Ints], tuple[Floats, Ints]]]:
    """Held-out rows with a PLDA that has not seen them: their embeddings, means and counts of classes, and the images
    that it was fitted to with their labels."""
    own, means = kept.embedding.astype(np.float64), kept.means.astype(np.float64)
    if kept.learnt is not None and kept.learnt_labels is not None:
        fitted = kept.learnt.astype(np.float64), kept.learnt_labels
        yield np.arange(len(own)), plda, own, (means, kept.counts), fitted
        return
    groups = np.unique(kept.units, return_inverse=True)[1]
    fold = (np.random.default_rng(seed).permutation(groups.max() + 1) % _FOLDS)[groups]
    for one in np.unique(fold):
        out, rest = np.flatnonzero(fold == one), np.flatnonzero(fold != one)
        gone, number = means_and_counts(own[out], kept.labels[out], len(means))
        left = (kept.counts - number).clip(0)
        others = (kept.counts[:, None] * means - number[:, None] * gone) / left.clip(1)[:, None]
        if (left > 1).sum() < 2:  # too few images to leave any out
            yield out, plda, own[out], (means, kept.counts), (own, kept.labels)
            continue
        yield (
            out,
            Plda.fit(own[rest], kept.labels[rest], others, left),
            own[out],
            (others, left),
            (own[rest], kept.labels[rest]),
        )


def _spread_out(scores: Floats, counts: Ints, all_counts: Ints, num_new: int) -> Floats:
    """Scores whose classes are those with images in `counts`, with the columns of those that are in `all_counts`."""
    kept = (counts > 0)[all_counts > 0]
    found = np.full((len(scores), len(kept) + num_new), -np.inf)
    found[:, np.flatnonzero(np.append(kept, np.ones(num_new, np.bool_)))] = scores
    return found


def _of_one_class(
    plda: Plda, own: Floats, labels: Ints, donors: Floats, of_class: Ints, count: int, rng: np.random.Generator
) -> Floats:
    """The likeness of images (N, D) to so many others of their class, where there are as many, or to as many as the
    largest class has: with fewer it is less sure, which takes fewer photographs for odd."""
    order = np.argsort(of_class, kind="stable")
    first, last = (np.searchsorted(of_class[order], labels, side=side) for side in ("left", "right"))
    count = min(count, int((last - first).max(initial=0)))
    if count < 1:
        return np.zeros(0)
    enough = np.flatnonzero(last - first >= count)
    drawn = np.stack([order[rng.choice(np.arange(first[i], last[i]), count, replace=False)] for i in enough])
    means = plda.coordinates(donors[drawn].mean(axis=1))
    return plda.likeness(plda.coordinates(own[enough]), means, np.full(len(enough), count))


def _offset(gate: Gate, kept: Kept, scores: Floats) -> float:
    """Where new classes take no more than `LOST` of the images that are answered rightly; never below zero, since
    classes that lie far apart gain nothing by taking any."""
    joint = gate.joined(kept.logits, scores)
    known, new = joint[:, : -gate.num_new], joint[:, -gate.num_new :]
    right = known.argmax(axis=1) == kept.labels
    if not right.any():
        return UNMEASURED
    lead = (new.max(axis=1) - known.max(axis=1))[right]
    return max(0.0, float(np.quantile(lead, 1 - LOST, method="higher")))


def _left_out(gate: Gate, shown: Shown) -> tuple[Floats, Floats]:
    """(M, K + E) the logits of photographs as if each were not among those of its class, and (M,) how much it looks
    like the others. Of a single photograph, nothing is known without it: its likeness is infinite."""
    embedding, others = shown.embedding.astype(np.float64), shown.counts[shown.labels] - 1
    scores, plda = gate.scores(embedding), gate.plda
    likeness = np.full(len(embedding), np.inf)
    rows = np.flatnonzero(others)
    own, means = plda.coordinates(embedding[rows]), plda.coordinates(_sums_of_others(shown)[rows] / others[rows, None])
    expected, variance = plda.known(means, others[rows])
    columns = len(gate.expected) - gate.num_new + shown.labels[rows]
    scores[rows, columns] = -0.5 * (np.square(own - expected) / variance + np.log(variance)).sum(axis=1)
    likeness[rows] = plda.likeness(own, means, others[rows])
    return gate.joined(shown.logits, scores), likeness


def _sums_of_others(shown: Shown) -> Floats:
    """(M, D) the sum of the embeddings of the other photographs of each one's class."""
    embedding = shown.embedding.astype(np.float64)
    sums = np.zeros((len(shown.counts), embedding.shape[1]))
    np.add.at(sums, shown.labels, embedding)
    found: Floats = sums[shown.labels] - embedding
    return found


def _near_others(shown: Shown, known: Floats, new: Floats) -> Floats:
    """(M,) the nearness of photographs to the means of known classes (K, D) and of new ones (E, D), of its own class to
    that of the others."""
    directions = unit(shown.embedding.astype(np.float64))
    cosines = directions @ new.T
    cosines[np.arange(len(directions)), shown.labels] = (directions * unit(_sums_of_others(shown))).sum(axis=1)
    found: Floats = np.maximum(nearness(directions, known), cosines.max(axis=1))
    return found


def _calibration(
    gate: Gate,
    kept: Kept,
    scores: Floats,
    shown: Shown,
    left_out: Floats,
    base: Calibration,
    taxonomy: Taxonomy,
    seed: int,
) -> Calibration:
    """The calibration of all classes: held-out images of known ones, and each photograph of a new class as if it were
    not among those that show the class."""
    new_means = class_means(shown.embedding.astype(np.float64), shown.labels, gate.num_new)
    means = np.concatenate([base.means, new_means])
    several = shown.counts[shown.labels] > 1
    near = _near_others(shown, base.means, new_means)
    held = Held(
        np.concatenate([gate.joined(kept.logits, scores), left_out[several]]).astype(np.float32),
        np.concatenate([np.maximum(kept.near, nearness(kept.embedding, new_means)), near[several]]),
        np.concatenate([kept.labels, len(base.means) + shown.labels[several]]),
        np.concatenate([kept.units, kept.units.max() + 1 + np.flatnonzero(several)]),
    )
    return Calibration.fit(held, means, taxonomy, source=base.source, seed=seed)
