"""Does a flip change the meaning? Measured on training images, before anything is learnt.

Half the sum of the features of an image and of its mirror image is its *even* part, which a flip leaves as it is; half
their difference is its *odd* part, of which a flip changes the sign. Both are whitened. With a bar for the mean over a
class, two classes a and b are

    |ē_a − ē_b|² apart by their even parts, which is all that flips leave,
    |ō_a − ō_b|² apart by their odd parts, which is what flips destroy;

and the mirror images of a are |ē_a − ē_b|² + |ō_a + ō_b|² away from b. If a mirror exchanges a and b, the mirror images
of a are where b is, and only the odd parts tell the two apart. So the two *look exchanged* where the last distance is
less than half of the second, and the more *clearly*, the more standard deviations the second is long. Squared lengths
are free of bias: products of a vote with itself are left out.

Chance is the same for all pairs at once. Where a flip keeps the meaning, an image is as likely as its mirror image, and
the sign of its odd part is a coin toss. Tossed again and again, the signs show how clear the clearest pair of all is by
chance. Pairs that even parts tell apart never come into question, so that many ordinary classes hide no exchange.

The features are those of the small network that comes along, on a grid of 2 × 4 cells, since a mean over the picture
would not know left from right. They are the same for every backbone, so that the answer is, too.

Shapes: N images, D features, V votes (of units), R whitened directions, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage
from torch.nn import functional as F

from fieldmark.core.recipe import Backbone as BackboneChoice
from fieldmark.model.backbone import build_backbone

__all__ = ["LEVEL", "SIZE", "MirrorPair", "Mirroring", "judge_mirroring", "mirror_features"]

SIZE = 112
"""Side of the views that features are computed from, in pixels."""
_DOUBT = 0.25
"""What looks exchanged with a probability between this and `LEVEL` may be."""
LEVEL = 0.05
"""Chance of finding an exchange where there is none. An exchange that is overlooked spoils two classes, a needless
caution costs a point or two: so a probability is enough that would be too large to claim a discovery."""
_GRID = (2, 4)
_TOSSES = 299
_FEWEST = 3
"""Votes of a class that is judged: when one is held out, the length of the mean of the others can be told."""

Floats = NDArray[np.floating]


class MirrorPair(NamedTuple):
    """Two classes that look as if a mirror exchanged them."""

    first: int
    second: int
    """Their labels."""
    right: float
    """Share of held-out images of the two that are nearer to their own class."""
    exchanged: float
    """Share of their mirror images that are nearer to the other of the two."""


class Mirroring(NamedTuple):
    """What the images say of flips."""

    pair: MirrorPair | None
    """The classes that look exchanged most clearly; None where none do."""
    probability: float
    """That any two look exchanged so clearly by chance alone."""
    enough: bool
    """Whether there are enough images to tell: the exchange of two classes that are as far apart as classes of these
    data usually are would be found more often than not, and so would that of the pair that looks exchanged, if chance
    does not explain it well."""
    unjudged: tuple[int, ...] = ()
    """The labels of classes with too few votes to be judged."""

    @property
    def keeps_meaning(self) -> bool:
        """Whether training images should be mirrored."""
        return self.pair is None or self.probability > LEVEL


def mirror_features(batches: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, D) of images (B, 3, `SIZE`, `SIZE`), and of their mirror images."""
    choice = BackboneChoice(name="test_resnet", weights="fieldguide")
    with torch.random.fork_rng(devices=[]):  # nothing that follows depends on whether this was measured
        backbone = build_backbone(choice, size=SIZE).eval()
    own: list[NDArray[np.float32]] = []
    mirrored: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for images in map(torch.from_numpy, batches):
            for views, features in ((images, own), (images.flip(3), mirrored)):
                cells = F.adaptive_avg_pool2d(backbone(backbone.normalization(views)).map, _GRID)
                features.append(cells.flatten(1).numpy())
    return np.concatenate(own), np.concatenate(mirrored)


def judge_mirroring(
    features: Floats, mirrored: Floats, labels: NDArray[np.int64], units: NDArray[np.int64], rng: np.random.Generator
) -> Mirroring:
    """Whether a mirror exchanges two classes.

    features and mirrored (N, D), labels (N,); the images of a class that are of one unit (N,), such as a burst, have
    one vote together. Classes with fewer than three votes are not judged.
    """
    votes, unjudged = _cast(features, mirrored, labels, units)
    if votes is None:
        return Mirroring(None, 1.0, enough=False, unjudged=unjudged)
    kept, deviation = _apart(*_products(votes, votes.even))[0], _deviation(votes)

    def clearness(odd: Floats) -> Floats:
        lost, sums = _apart(*_products(votes, odd))
        return np.where(kept + sums < lost / 2, np.maximum(lost, 0) / deviation, 0)

    found = clearness(votes.odd)
    tosses = rng.choice([-1.0, 1.0], (_TOSSES, votes.units.max() + 1))
    by_chance = np.array([clearness(votes.odd * signs[votes.units, None]).max() for signs in tosses])
    clear = np.quantile(by_chance, 1 - LEVEL)
    enough = bool(np.median(kept) / np.median(deviation) >= clear)
    if not found.any():
        return Mirroring(None, 1.0, enough, unjudged)
    as_clear = by_chance >= found.max() * (1 - 1e-9)  # the same signs again, but for rounding
    first, second = (int(classes[found.argmax()]) for classes in np.triu_indices(len(votes.labels), 1))
    probability, likeliest = float((1 + as_clear.sum()) / (1 + _TOSSES)), found.argmax()
    if LEVEL < probability <= _DOUBT:
        enough = enough and bool(kept[likeliest] / deviation[likeliest] >= clear)
    return Mirroring(_compared(votes, first, second), probability, enough, unjudged)


class _Votes(NamedTuple):
    """Whitened features of all votes, class by class."""

    even: Floats
    odd: Floats
    """(V, R)."""
    units: NDArray[np.int64]
    """(V,) from 0; votes of one unit, in several classes, are tossed together."""
    labels: NDArray[np.int64]
    """(K,)."""
    starts: NDArray[np.int64]
    """(K,) the first vote of each class."""
    counts: NDArray[np.int64]
    """(K,) its number of votes."""


def _cast(
    features: Floats, mirrored: Floats, labels: NDArray[np.int64], units: NDArray[np.int64]
) -> tuple[_Votes | None, tuple[int, ...]]:
    """The votes of the classes that are judged, None where fewer than two are; and the labels of all others."""
    (classes, voters), images = np.unique(np.stack([labels, units]), axis=1, return_inverse=True)
    found, counts = np.unique(classes, return_counts=True)
    judged, unjudged = np.isin(classes, found[counts >= _FEWEST]), tuple(found[counts < _FEWEST].tolist())
    found, starts, counts = np.unique(classes[judged], return_index=True, return_counts=True)
    if len(found) < 2:
        return None, unjudged
    means = np.zeros((len(classes), 2, features.shape[1]))
    np.add.at(means, images.ravel(), np.stack([features, mirrored], axis=1))
    own, other = np.moveaxis((means / np.bincount(images.ravel())[:, None, None])[judged], 1, 0)
    even, odd = (own + other) / 2, (own - other) / 2
    units = np.unique(voters[judged], return_inverse=True)[1]
    return _Votes(_whitened(even - even.mean(0)), _whitened(odd), units, found, starts, counts), unjudged


def _whitened(vectors: Floats) -> Floats:
    """Vectors (V, D) around 0 in directions (V, R) of equal variance, shrunk as Ledoit and Wolf (2004) propose.

    Each feature is brought to the same scale first. Neither depends on the vectors' signs.
    """
    vectors = vectors / (np.sqrt((vectors**2).mean(0)) + 1e-4)
    left, lengths, _ = np.linalg.svd(vectors, full_matrices=False)
    variances = lengths**2 / len(vectors)
    shrinkage = ledoit_wolf_shrinkage(vectors, assume_centered=True)
    common = variances.sum() / vectors.shape[1]
    return left * (lengths / np.sqrt((1 - shrinkage) * variances + shrinkage * common + 1e-6))


def _products(votes: _Votes, vectors: Floats) -> tuple[Floats, Floats]:
    """Products of the mean vectors of two classes (K, K), and their squared lengths (K,), the latter without bias."""
    sums, counts = np.add.reduceat(vectors, votes.starts), votes.counts
    products, itself = sums @ sums.T, np.add.reduceat(np.einsum("vr,vr->v", vectors, vectors), votes.starts)
    return products / np.outer(counts, counts), (np.diag(products) - itself) / (counts * (counts - 1))


def _apart(products: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """Squared lengths of the difference and of the sum of each two classes' mean vectors, (K · (K − 1) / 2,) each."""
    pairs = np.triu_indices(len(squares), 1)
    both, twice = squares[pairs[0]] + squares[pairs[1]], 2 * products[pairs]
    return both - twice, both + twice


def _deviation(votes: _Votes) -> Floats:
    """The standard deviation, over all signs, of the first of these lengths of the odd parts, (K · (K − 1) / 2,)."""
    squares = (votes.odd @ votes.odd.T) ** 2
    np.fill_diagonal(squares, 0)
    sums = np.add.reduceat(np.add.reduceat(squares, votes.starts), votes.starts, axis=1)  # (K, K)
    within = 2 * np.diag(sums) / (votes.counts * (votes.counts - 1)) ** 2
    variances = within[:, None] + within + 4 * sums / np.outer(votes.counts, votes.counts) ** 2
    return np.sqrt(variances[np.triu_indices(len(within), 1)]) + 1e-12


def _compared(votes: _Votes, first: int, second: int) -> MirrorPair:
    """Each vote of two classes, and its mirror image, is held against the other votes of its class and the other's."""
    flip = np.repeat([1.0, -1.0], [votes.even.shape[1], votes.odd.shape[1]])
    mine, theirs = (
        np.hstack([votes.even, votes.odd])[votes.starts[k] : votes.starts[k] + votes.counts[k]] for k in (first, second)
    )
    right = exchanged = 0
    for own, other in ((mine, theirs), (theirs, mine)):
        far, far_square = _mean(other)
        for i, vector in enumerate(own):
            near, near_square = _mean(np.delete(own, i, axis=0))
            towards, middle = near - far, (near_square - far_square) / 2
            right += int(vector @ towards > middle)
            exchanged += int((vector * flip) @ towards < middle)
    labels, total = votes.labels, len(mine) + len(theirs)
    return MirrorPair(int(labels[first]), int(labels[second]), right / total, exchanged / total)


def _mean(vectors: Floats) -> tuple[Floats, float]:
    """The mean (R,) of vectors (V, R) and its squared length without bias."""
    total, number = vectors.sum(0), len(vectors)
    return total / number, float((total @ total - (vectors**2).sum()) / (number * (number - 1)))
