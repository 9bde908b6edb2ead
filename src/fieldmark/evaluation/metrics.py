"""How often a model is right and how well its confidence reflects that, each with a 95 % interval.

These are pure functions of logits and labels. An interval says how far the score would move with another sample of as
many images; it says nothing about other training runs. Images of one unit (a burst, a patient) are not independent, so
another sample is one of as many units; without `units`, each image is its own.

Shapes: N images, K classes, R replicates, U units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.evaluation.blocks import by_blocks
from fieldmark.evaluation.paired import interval, resampled_means, resamples

__all__ = [
    "NUM_BINS",
    "ConfusedPair",
    "Score",
    "ScoreValues",
    "Z",
    "bootstrapped",
    "confused_pairs",
    "equal_mass_bins",
    "majority",
    "mean_within",
    "paired",
    "scores",
    "share",
    "unseen_share",
    "widened",
    "wilson",
    "wilson_interval",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_BINS = 15
"""The number of bins of a calibration error, if there are enough images."""
_LEAST_IN_BIN = 10
_MOST = {"top1": 1.0, "top5": 1.0, "mean_class_accuracy": 1.0, "nll": np.inf, "calibration_error": 1.0}
"""The largest possible value of each score; only the likelihood is not a share."""
Z = 1.959964
"""The normal quantile of a 95 % interval."""


class ScoreValues(TypedDict):
    """A figure and its interval in a file, which has null for what is not finite."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, repr=False)
class Score:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float
    percent: bool = field(default=True, compare=False)
    """Whether the figure is a share, which is printed in percent."""

    def __str__(self) -> str:
        if self.percent:
            return f"{100 * self.value:.1f} % ({100 * self.low:.1f}–{100 * self.high:.1f})"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"

    def __repr__(self) -> str:
        return f"Score({self})"

    def as_dict(self) -> dict[str, float]:
        """The values as scores.json has them."""
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def of(cls, written: ScoreValues, *, percent: bool = True) -> Score:
        """The score that `as_dict` gave, read from a file."""
        value, low, high = (
            math.nan if number is None else number for number in (written["value"], written["low"], written["high"])
        )
        return cls(value, low, high, percent)


def scores(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    units: NDArray[np.integer] | None = None,
    *,
    learnt: NDArray[np.bool_] | None = None,
    seed: int = 0,
    replicates: int = 1000,
) -> dict[str, Score]:
    """The scores of one split; logits (N, K) finite, or log-probabilities; labels (N,), units (N,).

    `learnt` (N,): whether the model has learnt the image's class; None if it has learnt all.

    - `top1`, `top5`: the label is the first, or among the first min(5, K). Of equal logits, the one with the lower
      class index counts as higher, as in argmax.
    - `mean_class_accuracy`: the mean, over the classes that occur, of the share of their images that are right.
    - `nll`: mean negative log-likelihood in nats, of the images whose class was learnt; NaN if there are none.
    - `calibration_error`: expected calibration error of the top answer in 15 bins of equally many images
      (Naeini et al. 2015; Nguyen & O'Connor 2015), fewer if they would hold less than ten; images of equal
      confidence share a bin. It is not corrected for bias: with few images even a perfectly calibrated model has some.

    Intervals are percentiles over bootstrap replicates of the units (Efron 1979), with two corrections. If all answers
    are right, no resample differs and the percentiles claim certainty, so the interval of an accuracy is never
    narrower than Wilson's (1927) for U images. And a resample is calibrated worse than the sample itself, so the
    replicates of the calibration error are shifted back to have its value as their mean.
    """
    images = _per_image(np.asarray(logits), np.asarray(labels), learnt)
    units = np.arange(len(labels)) if units is None else units
    value = _measure(images, np.ones(len(labels)))
    drawn = resamples(units, seed=seed, replicates=replicates)
    resampled = np.array([_measure(images, times) for times in drawn])  # (R, 5)
    resampled[:, 4] -= resampled[:, 4].mean() - value[4]
    low, high = np.transpose([_ends(column) for column in resampled.clip(0, list(_MOST.values())).T])
    wilson_low, wilson_high = wilson_interval(value[:3], len(np.unique(units)))
    low[:3], high[:3] = np.minimum(low[:3], wilson_low), np.maximum(high[:3], wilson_high)
    low, high = np.minimum(low, value), np.maximum(high, value)
    return {
        name: Score(float(value[at]), float(low[at]), float(high[at]), percent=bool(np.isfinite(most)))
        for at, (name, most) in enumerate(_MOST.items())
    }


def _ends(values: Floats) -> Floats:
    """(2,) the percentiles of replicates (R,), of which those without an image to score are NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return np.quantile(known, [0.025, 0.975]) if len(known) else np.full(2, np.nan)


def bootstrapped(
    measure: Callable[[Floats], float],
    units: NDArray[np.integer],
    *,
    percent: bool = False,
    seed: int = 0,
    replicates: int = 1000,
) -> Score:
    """A score with its percentile interval (Efron 1979); `measure` receives how often each image counts (N,).

    `measure` may return NaN for a resample that has nothing to measure; such resamples are left out.
    """
    value = measure(np.ones(len(units)))
    drawn = [measure(times) for times in resamples(units, seed=seed, replicates=replicates)]
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (value, value)
    return Score(float(value), min(float(low), value), max(float(high), value), percent=percent)


def mean_within(values: Floats, least: float, most: float, units: NDArray[np.integer] | None = None) -> Score:
    """The mean of values (N,) that can lie between `least` and `most`, with a bootstrap interval.

    If all values are equal, no resample differs and percentiles claim certainty; the interval is then that of a share
    of which nothing was seen (Wilson 1927), for values at either end.
    """
    units = np.arange(len(values)) if units is None else units
    found = bootstrapped(lambda times: float(times @ values / times.sum()), units)
    return Score(found.value, *widened(found.low, found.high, values, units, least, most), percent=False)


def unseen_share(units: NDArray[np.integer]) -> float:
    """The largest share that may exist although no unit has shown it: the upper end of Wilson's interval (1927)."""
    return float(wilson_interval(np.array(0.0), len(np.unique(units)))[1])


def widened(
    low: float, high: float, values: Floats, units: NDArray[np.integer], least: float, most: float
) -> tuple[float, float]:
    """The interval, widened for what could be unseen if all values (N,) or replicates (R,) are equal."""
    if np.ptp(values) > 0:
        return low, high
    unseen = unseen_share(units)
    return low - unseen * (low - least), high + unseen * (most - high)


class _PerImage(NamedTuple):
    """All that the scores need to know of each image, each (N,)."""

    label: Ints
    top1: Floats
    top5: Floats
    nll: Floats
    learnt: Floats
    """Whether the class was learnt (1) or not (0)."""
    overconfidence: Floats
    """Confidence minus right (1) or wrong (0)."""
    bin: Ints


def _per_image(
    logits: NDArray[np.floating], labels: NDArray[np.integer], learnt: NDArray[np.bool_] | None
) -> _PerImage:
    _check(logits, labels)
    own = np.take_along_axis(logits, labels[:, None], axis=1)  # (N, 1)
    rank = by_blocks(_rank, logits, own, labels)
    top = logits.max(axis=1, keepdims=True).astype(np.float64)
    total = by_blocks(lambda some, highest: np.exp(some - highest).sum(axis=1), logits, top)
    confidence = 1 / total
    right = (rank == 0).astype(np.float64)
    return _PerImage(
        label=labels.astype(np.int64),
        top1=right,
        top5=(rank < 5).astype(np.float64),
        nll=np.log(total) + (top - own)[:, 0],
        learnt=np.ones(len(labels)) if learnt is None else learnt.astype(np.float64),
        overconfidence=confidence - right,
        bin=equal_mass_bins(confidence),
    )


def _rank(logits: NDArray[np.floating], own: NDArray[np.floating], labels: NDArray[np.integer]) -> Ints:
    """(N,) how many classes come before the label (N,), whose logits are `own` (N, 1)."""
    before = (logits == own) & (np.arange(logits.shape[1]) < labels[:, None])
    rank: Ints = (logits > own).sum(axis=1) + before.sum(axis=1)
    return rank


def _check(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    assert logits.ndim == 2, f"logits are {logits.shape}, not (N, K)"
    assert labels.shape == logits.shape[:1], f"labels are {labels.shape} for logits {logits.shape}"
    assert len(labels), "no images"
    assert np.isfinite(logits).all(), "logits are not finite"
    assert labels.min() >= 0
    assert labels.max() < logits.shape[1]


def equal_mass_bins(confidence: Floats) -> Ints:
    """(N,) bins of equally many images by rising confidence; images of equal confidence share the bin of the first.

    There are 15 bins, or fewer if they would hold less than ten images: a share of one or two says nothing.
    """
    num_bins = min(NUM_BINS, max(1, len(confidence) // _LEAST_IN_BIN))
    confidence = confidence.round(12)  # equal ones differ in the last digit where classes are summed in another order
    first = np.searchsorted(np.sort(confidence), confidence, side="left")
    return (first * num_bins // len(confidence)).astype(np.int64)


def _measure(images: _PerImage, weights: Floats) -> Floats:
    """(5,) the scores when image i counts weights[i] times; the weights sum to N."""
    of_class = np.bincount(images.label, weights)
    right_of_class = np.bincount(images.label, weights * images.top1)
    present = of_class > 0
    over_in_bin = np.bincount(images.bin, weights * images.overconfidence)
    total, weighed = weights.sum(), weights * images.learnt
    return np.array(
        [
            weights @ images.top1 / total,
            weights @ images.top5 / total,
            (right_of_class[present] / of_class[present]).mean(),
            weighed @ images.nll / weighed.sum() if weighed.any() else np.nan,
            np.abs(over_in_bin).sum() / total,
        ]
    )


def wilson_interval(share: Floats, count: int) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share of `count` images."""
    spread = Z * np.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    middle = share + Z**2 / (2 * count)
    scale = 1 + Z**2 / count
    return ((middle - spread) / scale).clip(0, 1), ((middle + spread) / scale).clip(0, 1)


def wilson(right: int, total: int) -> Score:
    """The share of `total` images that are right, with Wilson's score interval."""
    assert 0 <= right <= total
    assert total
    low, high = wilson_interval(np.array([right / total]), total)
    return Score(right / total, float(low[0]), float(high[0]))


def share(right: NDArray[np.bool_], units: NDArray[np.integer] | None = None) -> Score:
    """The share of images that are right (N,), with Wilson's score interval for as many images as there are units."""
    assert len(right)
    value = float(right.mean())
    low, high = wilson_interval(np.array(value), len(right) if units is None else len(np.unique(units)))
    return Score(value, float(low), float(high))


def majority(labels: NDArray[np.integer], units: NDArray[np.integer] | None = None) -> Score:
    """The accuracy of always giving the most frequent of these labels (N,): what a model has to be better than."""
    return share(labels == np.bincount(labels).argmax(), units)


def paired(
    gains: Floats,
    units: NDArray[np.integer] | None = None,
    *,
    seed: int = 0,
    replicates: int = 2000,
    percent: bool = True,
) -> Score:
    """The mean of gains (N,), one for each image, with a bootstrap interval over units.

    The same images are on both sides of a gain, so what makes an image hard cancels out. Gains of shares (`percent`)
    lie within ±1, which bounds the interval if all are equal.
    """
    assert len(gains)
    units = np.arange(len(gains)) if units is None else units
    value = float(gains.mean())
    means = resampled_means(gains[:, None], units, seed=seed, replicates=replicates)[:, 0]
    low, high = interval(value, means)
    return Score(value, *(widened(low, high, gains, units, -1.0, 1.0) if percent else (low, high)), percent)


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that the model mistakes for each other."""

    first: str
    second: str
    first_as_second: int
    """The number of images of `first` that were taken for `second`."""
    second_as_first: int
    num_first: int
    """The number of images of `first`, whatever they were taken for."""
    num_second: int

    @property
    def mistakes(self) -> int:
        """The number of mistakes in either direction."""
        return self.first_as_second + self.second_as_first

    @property
    def share(self) -> float:
        """The share of the pair's images that were mistaken within the pair."""
        return self.mistakes / (self.num_first + self.num_second)


def confused_pairs(
    logits: NDArray[np.floating], labels: NDArray[np.integer], classes: Sequence[str], *, most: int = 10
) -> list[ConfusedPair]:
    """The pairs with the most mistakes; ties are ordered by the larger share of mistakes, then by class.

    logits (N, K), labels (N,), names of the K classes. Pairs without a mistake are left out.
    """
    _check(logits, labels)
    assert len(classes) == logits.shape[1]
    taken = logits.argmax(axis=1)
    wrong = taken != labels
    mistakes, times = np.unique(np.stack([labels[wrong], taken[wrong]], axis=1), axis=0, return_counts=True)
    count = {(int(label), int(answer)): int(n) for (label, answer), n in zip(mistakes, times, strict=True)}
    number = np.bincount(labels, minlength=len(classes))
    pairs = [
        ConfusedPair(classes[a], classes[b], count.get((a, b), 0), count.get((b, a), 0), int(number[a]), int(number[b]))
        for a, b in sorted({(min(pair), max(pair)) for pair in count})
    ]
    return sorted(pairs, key=lambda pair: (-pair.mistakes, -pair.share))[:most]
