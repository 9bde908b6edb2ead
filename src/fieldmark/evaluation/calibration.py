"""`Calibration`: what a bundle knows about its own answers, from images that it has not learnt from.

The promises (accuracy of given answers, coverage of sets) are made from images that are independent of each other:
only one of several photographs that belong together counts. What is fitted (temperature, bursts) uses all of them.
Images of a class that the answering model never learnt take no part: no answer to them can be right.

Shapes: N images, K classes, D embedding, L levels from the class upwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.core.arrays import Array
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.backoff import ACCURACIES, promise
from fieldmark.evaluation.blocks import blocks, by_blocks
from fieldmark.evaluation.bursts import fit_power, of_one_label, pool
from fieldmark.evaluation.conformal import Penalty, mean_sizes, score, set_limits, standing
from fieldmark.evaluation.order import Order, choose_order
from fieldmark.evaluation.scaling import Calibrated, Scaling, calibrate
from fieldmark.evaluation.unknown import Familiarity, fit_familiarity

__all__ = ["COVERAGE", "SHAPES", "Calibration", "Held", "Source", "Values"]

Source = Literal["validation", "out-of-fold"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COVERAGE = 0.9
"""The coverage of prediction sets, unless the user asks for another."""
_FOR_TUNING = 0.2
_ENOUGH_TO_TUNE = 500
_PENALTIES = (Penalty(), *(Penalty(weight, free) for weight in (0.01, 0.05, 0.1, 0.2) for free in (1, 2, 3, 5)))

_LEAST, _MOST = -1e-6, 1 + 1e-6  # of probabilities, up to rounding
SHAPES: Mapping[str, Array] = {
    "scale": Array("float", ("K",), least=1e-9, most=1e9),
    "bias": Array("float", ("K",), least=-1e9, most=1e9),
    "sharpened": Array("float", ("Q",), _LEAST, _MOST, ascending=True, optional=True),  # earlier bundles knew only one
    "calibrated": Array("float", ("Q",), _LEAST, _MOST, optional=True),
    "centre": Array("float", (2,), least=-1e9, most=1e9),
    "spread": Array("float", (2,), least=1e-9, most=1e9),
    "known": Array("float", ("T",), least=-1e12, most=1e12, ascending=True, shortest=1),
    "means": Array("float", ("K", "D"), least=-1.001, most=1.001),
    "labels": Array("int64", ("M",), least=0, most="K"),
    "above": Array("float", ("M",), _LEAST, _MOST),
    "rank": Array("int64", ("M",), least=0, most="K"),
    "confidences": Array("float", ("N", "L"), least=-1, most=_MOST),
    "right": Array("bool", ("N", "L")),
    # earlier bundles have none of these, or none of their values
    "truth": Array("int64", ("I",), least=0, most="K", optional=True),
    "own": Array("float", ("I",), _LEAST, _MOST, optional=True),
    "burst_confidences": Array("float", ("B", "L"), least=-1, most=_MOST, optional=True),
    "burst_right": Array("bool", ("B", "L"), optional=True),
}
"""The arrays of `Calibration.arrays`: K classes, D embedding, L levels, Q quantiles, B bursts; T, M, N and I images."""


class PenaltyValues(TypedDict):
    """The fields of `Penalty`."""

    weight: Annotated[float, Interval(ge=0, le=1e9)]
    free: Annotated[int, Interval(ge=0, lt=2**53)]


class Values(TypedDict):
    """The small values of a calibration, as model.json has them."""

    source: Source
    images: Annotated[int, Interval(ge=1, lt=2**53)]
    scaling: Literal["temperature", "vector"]
    sharpness: NotRequired[Annotated[float, Interval(gt=0, le=1e9)]]
    penalty: PenaltyValues
    power: Annotated[float, Interval(ge=0, le=1)]


class Held(NamedTuple):
    """Answers for images that the model has not learnt from."""

    logits: NDArray[np.float32]
    """(N, K)."""
    nearness: Floats
    """(N,) the nearness to the closest class mean, in the space of the model that gave the answer."""
    labels: Ints
    """(N,)."""
    units: Ints
    """(N,) images that belong together (a burst, near-duplicates) share a number."""
    attributes: tuple[NDArray[np.float32], ...] = ()
    """The logits (N, V) of each attribute that is learnt. Promises cover only the class."""
    learnt: NDArray[np.bool_] | None = None
    """(N,) whether the model that answered has learnt the image's class; None if all have been."""
    embedding: NDArray[np.float32] | None = None
    """(N, D) by the model that is shipped; None if others gave the answers."""

    def of_learnt_classes(self) -> Held:
        """Without the images that no answer could be right for."""
        if self.learnt is None or self.learnt.all():
            return self
        return self.at(np.flatnonzero(self.learnt))._replace(learnt=None)

    def at(self, rows: Ints) -> Held:
        """Those of some rows."""
        return Held(
            self.logits[rows],
            self.nearness[rows],
            self.labels[rows],
            self.units[rows],
            tuple(values[rows] for values in self.attributes),
            None if self.learnt is None else self.learnt[rows],
            None if self.embedding is None else self.embedding[rows],
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a bundle knows about its own answers."""

    source: Source
    """Where the images come from: a validation split, or the folds of a cross-fit, whose models are not the one that is
    shipped. Coverage from folds is reported but never called guaranteed."""
    num_images: int
    scaling: Scaling
    order: Order
    penalty: Penalty
    power: float
    """The power for pooled frames; see `fieldmark.evaluation.bursts`."""
    familiarity: Familiarity
    means: Floats
    """(K, D) class means of the model that is shipped, of unit length."""
    labels: Ints
    """(M,) the labels of the independent images that set the sets' thresholds."""
    above: Floats
    """(M,) the total probability of the classes more likely than the right one."""
    rank: Ints
    """(M,) the number of these classes."""
    confidences: Floats
    """(N', L) the confidence in the best name of each level, by `order`, for all independent images; −1 for an image
    that is not recognised as familiar."""
    right: NDArray[np.bool_]
    """(N', L) whether that name is correct."""
    truth: Ints
    """(N',) the labels of all independent images."""
    own: Floats
    """(N',) the calibrated probabilities of these labels."""
    burst_confidences: Floats
    """(U, L) `confidences` for bursts of two or more images, pooled."""
    burst_right: NDArray[np.bool_]
    """(U, L) `right` for these."""

    @classmethod
    def fit(
        cls,
        held: Held,
        means: Floats,
        taxonomy: Taxonomy,
        *,
        source: Source,
        seed: int = 0,
        calibrated: Calibrated | None = None,
    ) -> Calibration:
        """Fit a calibration to held-out answers; `means` are the class means of the model that is shipped.

        `calibrated` is the result of `calibrate` for the same answers, if it is known already. Images of classes that
        were not learnt take no part.
        """
        held = held.of_learnt_classes()
        scaling, log_probabilities, _ = calibrated or calibrate(held.logits, held.labels, held.units, seed=seed)
        familiarity = fit_familiarity(_confidence(log_probabilities), held.nearness)
        groups = np.unique(held.units, return_inverse=True)[1]
        alone = _one_of_each(groups, seed)
        own = log_probabilities if len(alone) == len(groups) else log_probabilities[alone]
        order = choose_order(own, held.labels[alone], scaling.temperature)
        penalty, witnesses = _penalty(log_probabilities, held.labels, alone)
        above, rank = _standing(log_probabilities, held.labels, witnesses)
        power = fit_power(log_probabilities, held.labels, groups)

        def judged(answers: Floats, near: Floats, labels: Ints) -> tuple[Floats, NDArray[np.bool_]]:
            names, confidences = order(taxonomy, answers)
            familiar = familiarity.accepts(familiarity.score(_confidence(answers), near))
            confidences[~familiar] = -1  # below every threshold
            return confidences, taxonomy.right(names, labels)

        confidences, right = judged(own, held.nearness[alone], held.labels[alone])
        frames = np.bincount(groups)
        bursts = of_one_label(held.labels, groups) & (frames > 1)
        of_bursts = bursts[groups]
        pooled = pool(log_probabilities[of_bursts], np.unique(groups[of_bursts], return_inverse=True)[1], power)
        near = (np.bincount(groups, held.nearness) / frames)[bursts]
        pictured = np.zeros_like(frames)
        pictured[groups] = held.labels
        burst_confidences, burst_right = judged(pooled, near, pictured[bursts])
        return cls(
            source=source,
            num_images=len(held.labels),
            scaling=scaling,
            order=order,
            penalty=penalty,
            power=power,
            familiarity=familiarity,
            means=means,
            labels=held.labels[witnesses],
            above=above,
            rank=rank,
            confidences=confidences,
            right=right,
            truth=held.labels[alone],
            own=np.exp(own[np.arange(len(alone)), held.labels[alone]]),
            burst_confidences=burst_confidences,
            burst_right=burst_right,
        )

    def promises(self) -> dict[str, float | None]:
        """For each accuracy, such as "0.95", the share of the independent images that get a name; None if it cannot be
        promised."""
        found = {accuracy: promise(self.confidences, self.right, accuracy) for accuracy in ACCURACIES}
        return {f"{accuracy:g}": None if one.threshold is None else one.share for accuracy, one in found.items()}

    # ---- on disk

    def values(self) -> dict[str, Any]:
        """The small values, as model.json has them."""
        return {
            "source": self.source,
            "images": self.num_images,
            "independent_images": len(self.right),
            "scaling": self.scaling.kind,
            "temperature": round(self.scaling.temperature, 4),
            "sharpness": self.order.sharpness,
            "penalty": vars(self.penalty),
            "power": round(self.power, 4),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays, by name."""
        return {
            "scale": self.scaling.scale,
            "bias": self.scaling.bias,
            "sharpened": self.order.sharpened,
            "calibrated": self.order.calibrated,
            "centre": self.familiarity.centre,
            "spread": self.familiarity.spread,
            "known": self.familiarity.known,
            "means": self.means.astype(np.float32),
            "labels": self.labels,
            "above": self.above,
            "rank": self.rank,
            "confidences": self.confidences,
            "right": self.right,
            "truth": self.truth,
            "own": self.own,
            "burst_confidences": self.burst_confidences,
            "burst_right": self.burst_right,
        }

    @classmethod
    def restored(cls, values: Values, arrays: Mapping[str, NDArray[Any]]) -> Calibration:
        """Rebuild a calibration from its `values` and `arrays`, which are as `Values` and `SHAPES` say."""
        return cls(
            source=values["source"],
            num_images=values["images"],
            scaling=Scaling(values["scaling"], arrays["scale"], arrays["bias"]),
            order=Order(values["sharpness"], arrays["sharpened"], arrays["calibrated"])
            if "sharpness" in values
            else Order(),  # earlier bundles knew only one order
            penalty=Penalty(values["penalty"]["weight"], values["penalty"]["free"]),
            power=values["power"],
            familiarity=Familiarity(arrays["centre"], arrays["spread"], arrays["known"]),
            means=arrays["means"].astype(np.float64),
            **{name: arrays[name] for name in ("labels", "above", "rank", "confidences", "right")},
            # earlier bundles knew neither of these
            truth=arrays.get("truth", arrays["labels"][:0]),
            own=arrays.get("own", arrays["above"][:0]),
            burst_confidences=arrays.get("burst_confidences", arrays["confidences"][:0]),
            burst_right=arrays.get("burst_right", arrays["right"][:0]),
        )


def _one_of_each(groups: Ints, seed: int) -> Ints:
    """One row of each group (N,), drawn at random, in ascending order."""
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def _confidence(log_probabilities: Floats) -> Floats:
    """(N,) the highest probability of each image, for log-probabilities (N, K)."""
    return by_blocks(lambda some: np.exp(some).max(axis=1), log_probabilities)


def _standing(log_probabilities: Floats, labels: Ints, rows: Ints) -> tuple[Floats, Ints]:
    """The `standing` of the labels of some rows, for log-probabilities (N, K) and labels (N,)."""
    some = [rows[block] for block in blocks(len(rows), log_probabilities.shape[1])]
    found = [standing(np.exp(log_probabilities[block]), labels[block]) for block in some]
    return np.concatenate([above for above, _ in found]), np.concatenate([rank for _, rank in found])


def _penalty(log_probabilities: Floats, labels: Ints, rows: Ints) -> tuple[Penalty, Ints]:
    """The penalty with the smallest sets, and the rows left for calibration, which had no part in the choice.

    Of a fifth of the rows, where there are enough; else APS and all rows.
    """
    if len(rows) < _ENOUGH_TO_TUNE:
        return Penalty(), rows
    tuning, rest = rows[:: round(1 / _FOR_TUNING)], np.delete(rows, slice(None, None, round(1 / _FOR_TUNING)))
    own, truth = np.exp(log_probabilities[tuning]), labels[tuning]
    above, rank = standing(own, truth)
    limits = [set_limits(score(above, rank, penalty), truth, own.shape[1], COVERAGE) for penalty in _PENALTIES]
    sizes = mean_sizes(own, list(zip(limits, _PENALTIES, strict=True)))
    return _PENALTIES[int(np.argmin(sizes))], rest
