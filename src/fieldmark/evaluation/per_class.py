"""How well each class is recognised, and what that means for a class that matters more than others.

An accuracy over all images hides a rare class. Its recall, its precision and the area under its ROC curve do not, nor
does the share of its images whose prediction set contains it.

The operating point of a class of interest comes from held-out images of that class alone: the largest threshold that
as many of them reach as asked, with the correction for a finite number of images that split conformal prediction makes
(Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005). So a new image of the class reaches it with
at least that probability, whatever the model.

Shapes: N images, K classes, M held-out images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RunError
from fieldmark.core.wording import CROSSFIT, counted
from fieldmark.evaluation.metrics import Score, bootstrapped, share

__all__ = [
    "ClassScore",
    "Detection",
    "area_under_roc",
    "check_detection",
    "class_scores",
    "detection",
    "operating_point",
    "worst",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


_FEW = 20
"""Images of a class up to which it is quicker to count than to sort."""


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised."""

    name: str
    num_images: int
    recall: Score
    """The share of its images that are answered with it."""
    precision: Score | None
    """The share of the answers with it that are right; None if there is none."""
    auroc: float | None
    """The probability that an image of the class is given a higher probability of it than another image; None if all
    images are of this class."""
    covered: Score | None = None
    """The share of its images whose prediction set contains it; None if there are no sets."""
    band: tuple[float, float] | None = None
    """The interval in which `covered` lies with 95 % probability if the class is covered like all others."""

    @property
    def is_below(self) -> bool:
        """Whether the coverage is lower than chance would explain."""
        return self.covered is not None and self.band is not None and self.covered.value < self.band[0]

    @property
    def is_above(self) -> bool:
        """Whether it is higher."""
        return self.covered is not None and self.band is not None and self.covered.value > self.band[1]


@dataclass(frozen=True)
class Detection:
    """A class of interest: found or not found, at one operating point."""

    name: str
    asked: float
    """The sensitivity that was asked for."""
    threshold: float
    """The probability of the class from which on an image counts as found."""
    num_held_out: int
    """The number of independent held-out images of the class that the threshold comes from."""
    num_images: int
    """The number of scored images of the class."""
    sensitivity: Score
    """The share of the images of the class that are found."""
    specificity: Score
    """The share of all other images that are not."""
    auroc: Score

    def as_dict(self) -> dict[str, Any]:
        """The values as scores.json has them."""
        values = dict(vars(self))
        return values | {name: values[name].as_dict() for name in ("sensitivity", "specificity", "auroc")}


def class_scores(
    log_probabilities: NDArray[np.floating],
    labels: Ints,
    classes: Sequence[str],
    *,
    units: Ints,
    covered: Bools | None = None,
    bands: Sequence[tuple[float, float] | None] = (),
) -> list[ClassScore]:
    """The scores of each class that occurs among the labels (N,), in class order.

    Log-probabilities (N, K); `covered` (N,): whether an image's prediction set contains its class; `bands` (K): of the
    coverage of each class.
    """
    answers = log_probabilities.argmax(axis=1)
    images, answered = _rows_of(labels, len(classes)), _rows_of(answers, len(classes))
    found = []
    for k in np.unique(labels).tolist():
        own, said = images[k], answered[k]
        found.append(
            ClassScore(
                classes[k],
                len(own),
                recall=share(answers[own] == k, units[own]),
                precision=share(labels[said] == k, units[said]) if len(said) else None,
                auroc=_area_of_few(log_probabilities[:, k], own),
                covered=None if covered is None else share(covered[own], units[own]),
                band=None if covered is None else bands[k],
            )
        )
    return found


def _rows_of(labels: Ints, num_classes: int) -> list[Ints]:
    """The rows of each class."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=num_classes))[:-1])


def _area_of_few(scores: NDArray[np.floating], rows: Ints) -> float | None:
    """`area_under_roc` where few of the images (N,) are positive: those of `rows`.

    What each of these is above is counted, since to sort all images for each of 10,000 classes takes minutes.
    """
    positive = np.zeros(len(scores), np.bool_)
    positive[rows] = True
    if len(rows) > _FEW:
        return area_under_roc(scores, positive)
    others = scores[~positive]
    if not len(rows) or not len(others):
        return None
    above = sum((others < one).sum() + (others == one).sum() / 2 for one in scores[rows])
    return float(above / (len(rows) * len(others)))


def worst(found: Sequence[ClassScore], most: int) -> list[ClassScore]:
    """The classes with the lowest recall, by the upper end of its interval, so that few images make no class worst."""
    return sorted(found, key=lambda one: (one.recall.high, one.recall.value))[:most]


def area_under_roc(scores: NDArray[np.floating], positive: Bools) -> float | None:
    """The probability that one of the `positive` (N,) images scores higher than another image; ties count half.

    None if one of both kinds is missing.
    """
    return _area(scores, positive, np.ones(len(scores))) if positive.any() and not positive.all() else None


def operating_point(probabilities: Floats, sensitivity: float) -> float:
    """The largest threshold that a new image reaches with this probability, from those of held-out images (M,).

    Zero, which everything reaches, if there are too few of them.
    """
    missed = math.floor(round((1 - sensitivity) * (len(probabilities) + 1), 9))
    return float(np.sort(probabilities)[missed - 1]) if missed else 0.0


def check_detection(name: str, num_held_out: int, positive: Bools, *, sensitivity: float) -> None:
    """Raise RunError if a class cannot be found at this sensitivity, or not scored on images of which some are
    `positive` (N,), of the class."""
    needed = math.ceil(round(1 / (1 - sensitivity), 9)) - 1
    if num_held_out < needed:
        raise RunError(
            f"A sensitivity of {100 * sensitivity:g} % for {name!r} takes {counted(needed, 'held-out image')} of it, "
            f"but the model was calibrated on {num_held_out:,}",
            f"Ask for a lower --sensitivity, train with more images of this class, or hold each out: {CROSSFIT}.",
        )
    if not positive.any() or positive.all():
        missing = "no image of it" if not positive.any() else "no other image"
        raise RunError(f"{name!r} cannot be scored: there is {missing} among those scored", "Score other images.")


def detection(
    name: str,
    probabilities: Floats,
    positive: Bools,
    held_out: Floats,
    *,
    sensitivity: float,
    units: Ints,
) -> Detection:
    """Score a class of interest: its probabilities (N,), which images are of it (N,), and its probability for held-out
    images of it (M,); see `check_detection`."""
    threshold = operating_point(held_out, sensitivity)
    flagged = probabilities >= threshold
    return Detection(
        name,
        sensitivity,
        threshold,
        len(held_out),
        int(positive.sum()),
        sensitivity=share(flagged[positive], units[positive]),
        specificity=share(~flagged[~positive], units[~positive]),
        auroc=bootstrapped(lambda times: _area(probabilities, positive, times), units),
    )


def _area(scores: NDArray[np.floating], positive: Bools, times: Floats) -> float:
    """The area under the ROC curve if image i counts times[i] times (N,); NaN if one of both kinds is missing."""
    value, place = np.unique(scores, return_inverse=True)
    hits = np.bincount(place, times * positive, minlength=len(value))
    others = np.bincount(place, times * ~positive, minlength=len(value))
    pairs = hits.sum() * others.sum()
    below = np.cumsum(others) - others / 2
    return float(hits @ below / pairs) if pairs else math.nan
