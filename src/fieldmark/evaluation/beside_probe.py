"""A trained network beside a probe of the same weights, on the same images: is the training worth its time?"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.wording import counted
from fieldmark.evaluation.paired import gain

__all__ = ["BesideProbe", "Trial"]


class BesideProbe(NamedTuple):
    """Shares of validation images that are right, and their difference with its 95 % interval."""

    probe: float
    trained: float
    gain: float
    low: float
    high: float

    @classmethod
    def of(cls, probe: NDArray[np.bool_], trained: NDArray[np.bool_], units: NDArray[np.integer], *, seed: int) -> Self:
        """Compare which images (N,) each has right; those of one unit (N,), such as a burst, are not independent."""
        found = gain(probe, trained, units, seed=seed)
        return cls(float(probe.mean()), float(trained.mean()), found.value, found.low, found.high)

    def sentence(self, number: int) -> str:
        """What it says about so many validation images, without a full stop."""
        text = (
            f"A probe is right for {100 * self.probe:.1f} % of {counted(number, 'validation image')}, this model for "
            f"{100 * self.trained:.1f} % ({100 * self.low:+.1f} to {100 * self.high:+.1f} points)"
        )
        if self.high < 0:
            return f"{text}: --recipe probe is better here"
        if self.low <= 0:
            return f"{text}: no clear difference, so --recipe probe would do, in a fraction of the time"
        return text


_LEAD = 0.5
"""Standard errors of the difference by which a probe must be ahead, so that it is the better one with a probability of
about 0.7. A network that is passed over costs seven to thirteen points where it is better, a probe two to six
(benchmarks/README.md, "Few images"), and the network gains more from the images that a trial holds out."""


class Trial(NamedTuple):
    """Shares of images that were held out of the training images to choose between the two, before anything was learnt
    from all of them."""

    images: int
    probe: float
    network: float
    error: float = 0.0
    """The standard error of their difference; 0 where it was not kept."""

    @classmethod
    def of(cls, probe: NDArray[np.bool_], network: NDArray[np.bool_]) -> Self:
        """Which of the images (N,), two or more, each has right."""
        apart = network.astype(np.float64) - probe
        error = float(apart.std(ddof=1)) / len(apart) ** 0.5
        return cls(len(apart), float(probe.mean()), float(network.mean()), error)

    @property
    def solver(self) -> Literal["gradient", "logistic"]:
        """What learns from all images."""
        return "gradient" if self.network - self.probe > -_LEAD * self.error else "logistic"

    def sentence(self) -> str:
        """What it found, without a full stop."""
        learner = "a probe"
        if self.solver == "gradient":
            close = "too close to tell, and a network gains more from further images, so it"
            learner = "the network" if self.network > self.probe else close
        return (
            f"In a trial on {counted(self.images, 'held-out training image')}, a probe was right for "
            f"{100 * self.probe:.1f} %, the network for {100 * self.network:.1f} %: {learner} learns from all of them"
        )
