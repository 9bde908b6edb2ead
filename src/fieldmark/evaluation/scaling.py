"""Probabilities that mean what they say: scaling fitted to held-out images, and its remaining error.

Temperature and vector scaling: Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks" (2017).
Four deviations. Both fits count one image more, answered as the others are on average, and wrongly: where all images
are right, their number alone says how sure an answer can be (45 of 45: about 98 %), as in Platt, "Probabilistic outputs
for support vector machines" (1999), and without it a temperature of zero, which is certainty, would be the best. Both
carry a weak prior (ln of the scale and the biases have standard deviation 1), for classes of which hardly an image is
known. Hundreds of images outweigh either. Vector scaling keeps its scales positive, so that it never turns a class
round. And it scales a class of which no image is known as it does the others on average.

Calibration error: the debiased estimator of Kumar, Liang & Ma, "Verified uncertainty calibration" (2019).

Shapes: N images, K classes, B bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from fieldmark.evaluation.blocks import blocks, by_blocks
from fieldmark.evaluation.metrics import NUM_BINS, Z, equal_mass_bins, wilson_interval

__all__ = [
    "Bin",
    "Calibrated",
    "Scaling",
    "calibrate",
    "calibrated_reference",
    "calibration_error",
    "fit_temperature",
    "fit_vector",
    "nll",
    "reliability",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FOLDS = 5
_MOST = 2**26
"""Logits that a scaling is fitted to: 6,700 images of 10,000 classes say more than well enough what one number is."""
_FURTHEST = 7.0
"""Bound of ln scale and of a bias. A fit that ends there has found no scale: its labels contradict its logits."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """log-probabilities = log softmax(scale · logits + bias)."""

    kind: Literal["temperature", "vector"]
    scale: Floats
    """(K,) positive; a temperature T is 1 / T throughout."""
    bias: Floats
    """(K,) zero for a temperature."""

    def __call__(self, logits: NDArray[np.floating]) -> Floats:
        """Logits (N, K) or (K,) → log-probabilities of the same shape."""
        return self._scaled(logits) if logits.ndim == 1 else by_blocks(self._scaled, logits)

    def _scaled(self, logits: NDArray[np.floating]) -> Floats:
        return log_softmax(self.scale * logits.astype(np.float64) + self.bias, axis=-1)

    @property
    def temperature(self) -> float:
        """The number by which logits are divided, as a geometric mean over classes."""
        return float(np.exp(-np.log(self.scale).mean()))

    @property
    def at_bound(self) -> bool:
        """Whether the fit ended where it may go no further, in the scale or the bias of any class."""
        return bool(max(np.abs(np.log(self.scale)).max(), np.abs(self.bias).max()) >= 0.999 * _FURTHEST)


def nll(log_probabilities: Floats, labels: Ints) -> Floats:
    """(N,) the negative log-likelihood of each image, in nats."""
    return -np.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]


def fit_temperature(logits: NDArray[np.floating], labels: Ints) -> Scaling:
    """The temperature that makes the labels (N,) most likely given logits (N, K); it keeps the order of classes."""
    num_images, num_classes = logits.shape

    def loss(x: Floats) -> tuple[float, Floats]:
        value, slope = 0.5 * x[0] ** 2 / num_images, x[0] / num_images
        for rows in blocks(num_images, num_classes):
            z = logits[rows].astype(np.float64)
            z -= z.max(axis=1, keepdims=True)
            added, gradient = _loss_and_gradient(np.exp(x[0]) * z, labels[rows], num_images)
            value, slope = value + added, slope + (gradient * z).sum() * np.exp(x[0])
        return value, np.array([slope])

    scale = float(np.exp(_minimum(loss, np.zeros(1))[0]))
    return Scaling("temperature", np.full(num_classes, scale), np.zeros(num_classes))


def fit_vector(logits: NDArray[np.floating], labels: Ints) -> Scaling:
    """A scale and a bias for each class, starting from the temperature; the order of classes may change.

    Both are fitted for the classes that the labels (N,) name, among these alone: any other would only lose likelihood
    by being likely, and so be silenced. It is scaled as these are on average. A single class gives a temperature.
    """
    present, labels_among = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return fit_temperature(logits, labels)
    shown = np.take(logits, present, axis=1)
    scale, bias = _vector(shown, labels_among)
    every = np.full(logits.shape[1], scale.mean()), np.full(logits.shape[1], bias.mean())
    for values, fitted in zip(every, (scale, bias), strict=True):
        values[present] = fitted
    return Scaling("vector", *every)


def _vector(logits: NDArray[np.floating], labels: Ints) -> tuple[Floats, Floats]:
    """The scales and biases (K,) that make the labels (N,) most likely given logits (N, K)."""
    base = fit_temperature(logits, labels).scale[0]
    num_images, num_classes = logits.shape

    def loss(x: Floats) -> tuple[float, Floats]:
        scale, bias = base * np.exp(x[:num_classes]), x[num_classes:]
        value, slope = 0.5 * float(x @ x) / num_images, x / num_images
        for rows in blocks(num_images, num_classes):
            z = logits[rows].astype(np.float64)
            added, gradient = _loss_and_gradient(scale * z + bias, labels[rows], num_images)
            value += added
            slope = slope + np.concatenate([(gradient * z).sum(axis=0) * scale, gradient.sum(axis=0)])
        return value, slope

    x = _minimum(loss, np.zeros(2 * num_classes))
    return base * np.exp(x[:num_classes]), x[num_classes:]


class Calibrated(NamedTuple):
    """A scaling, and held-out answers for the images that it was fitted to, from scalings that have not seen them."""

    scaling: Scaling
    held_out: Floats
    """(N, K) log-probabilities; each fold is scaled by the scaling of the other folds. A bias that has seen an image's
    own label moves the image towards that label, so scores and promises based on it would be too good."""
    at_bound: bool = False
    """Whether this scaling or that of a fold ended where it may go no further."""


def calibrate(
    logits: NDArray[np.floating], labels: Ints, groups: NDArray[np.integer] | None = None, *, seed: int = 0
) -> Calibrated:
    """Fit a temperature, or vector scaling if held-out images are clearly more likely under it.

    Logits (N, K), labels (N,). There are five folds, which never separate images of one of the groups (N,); with a
    single group nothing can be held out. "Clearly" means that the 95 % interval of the mean paired gain excludes zero.
    The likelihood is that among the classes which the labels name: images can tell nothing of the others but that they
    do not show them. Of more than `_MOST` logits, a temperature is fitted to some of the images, and vector scaling is
    not tried.
    """
    present = np.unique(labels)
    group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)[1]
    fold = (np.random.default_rng(seed).permutation(group.max() + 1) % _FOLDS)[group]
    fits = [fit_temperature]
    if len(labels) >= 2 * len(present) and logits.size <= _MOST:  # no fewer images than numbers to fit
        fits.append(fit_vector)
    held_out, bounds = zip(*(_by_the_others(fit, logits, labels, fold) for fit in fits), strict=True)
    losses = [nll(values, labels) + by_blocks(partial(_total, present), values) for values in held_out]
    gain = losses[0] - losses[-1]
    certain = len(fits) > 1 and gain.mean() > Z * gain.std(ddof=1) / np.sqrt(len(gain))
    chosen = 1 if certain else 0
    some = _some(np.arange(len(labels)), logits.shape[1])
    scaling = fits[chosen](logits[some], labels[some])
    return Calibrated(scaling, held_out[chosen], scaling.at_bound or bounds[chosen])


def _by_the_others(
    fit: Callable[[NDArray[np.floating], Ints], Scaling], logits: NDArray[np.floating], labels: Ints, fold: Ints
) -> tuple[Floats, bool]:
    """(N, K) log-probabilities, each fold's by what is fitted to the other folds, to all where there is one fold; and
    whether one of these fits ended at its bound."""
    width = logits.shape[1]
    if (fold == fold[0]).all():
        some = _some(np.arange(len(labels)), width)
        scaling = fit(logits[some], labels[some])
        return scaling(logits), scaling.at_bound
    answers, at_bound = np.empty(logits.shape, np.float64), False
    for held in (fold == k for k in np.unique(fold)):
        some = _some(np.flatnonzero(~held), width)
        scaling = fit(logits[some], labels[some])
        answers[held], at_bound = scaling(logits[held]), at_bound or scaling.at_bound
    return answers, at_bound


def _total(classes: Ints, log_probabilities: Floats) -> Floats:
    """(N,) ln of what these classes have together, for log-probabilities (N, K)."""
    return logsumexp(log_probabilities[:, classes], axis=1)


def _some(rows: Ints, width: int) -> Ints:
    """As many of the rows (N,), evenly spaced, as have `_MOST` logits; all of them nearly always."""
    return rows[:: -(-len(rows) * width // _MOST)]


def calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """The root of the mean squared calibration error in up to 15 bins of equally many images, corrected for bias.

    In each bin (mean confidence − share right)² is too large by the variance of that share, which is subtracted as
    Kumar et al. (2019) do; a sum below zero is zero. The root weighs large errors more than the plain mean does, so it
    is never below the expected calibration error of the same bins before either is corrected. confidence and right
    are (N,).
    """
    return float(np.sqrt(max(0.0, _debiased(confidence, right[None].astype(np.float64))[0])))


def calibrated_reference(confidence: Floats, *, simulations: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The calibration error of a perfectly calibrated model with these confidences (N,): mean and 95th percentile.

    Answers are simulated to be right with the probability that is claimed.
    """
    right = np.random.default_rng(seed).random((simulations, len(confidence))) < confidence
    errors = np.sqrt(_debiased(confidence, right.astype(np.float64)).clip(0))
    return float(errors.mean()), float(np.quantile(errors, 0.95))


@dataclass(frozen=True)
class Bin:
    """One point of a reliability diagram."""

    num_images: int
    confidence: float
    """The mean confidence."""
    accuracy: float
    """The share of right answers."""
    low: float
    high: float
    """Wilson's 95 % interval of that share."""


def reliability(confidence: Floats, right: NDArray[np.bool_]) -> list[Bin]:
    """The reliability diagram, from least to most confident, in bins of equally many images without empty ones."""
    bins = equal_mass_bins(confidence)
    diagram = []
    for inside in (bins == k for k in np.unique(bins)):
        count, share = int(inside.sum()), float(right[inside].mean())
        low, high = wilson_interval(np.array(share), count)
        diagram.append(Bin(count, float(confidence[inside].mean()), share, float(low), float(high)))
    return diagram


def _debiased(confidence: Floats, right: Floats) -> Floats:
    """(S,) debiased squared error for confidence (N,) and S draws of right (S, N)."""
    bins = equal_mass_bins(confidence)
    member = (bins[:, None] == np.arange(NUM_BINS)).astype(np.float64)  # (N, B)
    count = member.sum(axis=0)
    member, count = member[:, count > 0], count[count > 0]
    share, claimed = right @ member / count, confidence @ member / count
    # a bin of one image says nothing about its own variance: the largest that it can be is taken
    variance = np.where(count > 1, share * (1 - share) / (count - 1).clip(1), 0.25)
    squared: Floats = ((claimed - share) ** 2 - variance) @ count / len(confidence)
    return squared


def _loss_and_gradient(z: Floats, labels: Ints, num_images: int) -> tuple[float, Floats]:
    """What these images (N) add to the mean negative log-likelihood of all `num_images`, with one image more, answered
    wrongly, and its gradient by their logits (N, K).

    That image's likelihood is the mean of −ln(1 − p) over the images, p being the probability of their answers.
    Exponentials, the slow part, are taken once: of the other classes, beside the best of them, so that none is lost.
    """
    count, rows = num_images, np.arange(len(labels))
    answers = z.argmax(axis=1)
    best = z[rows, answers]
    others = z.copy()
    others[rows, answers] = -np.inf
    second = others.max(axis=1)
    shares = np.exp(others - second[:, None])  # of the other classes; none of an answer
    rest = shares.sum(axis=1)
    total = best + np.log1p(rest * np.exp(second - best))  # ln Σ exp z
    sure, wrong = np.exp(best - total), second + np.log(rest) - total  # p and ln(1 − p)
    gradient = shares * (np.exp(second - total) - sure / rest / count)[:, None]
    gradient[rows, answers] = sure + sure / count
    gradient[rows, labels] -= 1
    return float((total - z[rows, labels]).sum() / count - wrong.sum() / count / count), gradient / count


def _minimum(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    from scipy.optimize import minimize  # slow to import, and no answer needs it

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-_FURTHEST, _FURTHEST)] * len(start))
    x: Floats = found.x
    return x
