"""What probes and networks within a budget have in common: the same images to learn from, the same to be judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.views import short_side
from fieldmark.data.cache import build_store
from fieldmark.evaluation.outputs import Outputs
from fieldmark.evaluation.paired import gain
from fieldmark.learning.budget.costs import Costs
from fieldmark.learning.budget.purse import Purse
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.flips import decide_flip
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.model.model import Model

__all__ = ["Chosen", "Work", "percent"]

Ints = NDArray[np.int64]

_FEWEST_JUDGES = 30
"""Validation images: a share of fewer says nothing."""


class Chosen(NamedTuple):
    """A model, the share of validation images that it has right, and what it is known to say of images."""

    fit: Fit
    model: Model
    accuracy: float
    learnt: Outputs | None
    """Of those that it learnt from; None where nobody has asked."""
    held: Outputs | None
    """Of the validation images."""


@final
@dataclass(frozen=True)
class Work:
    """All that a search needs."""

    purse: Purse
    fit: Fit
    """With the recipe that was asked for, at the size that begins."""
    rows: Ints
    validation: Ints
    because: list[str]
    """Why something was chosen, in sentences."""

    @property
    def costs(self) -> Costs:
        """What things cost, as far as it is known by now."""
        return self.purse.costs

    @property
    def judged(self) -> bool:
        """Whether there are enough validation images to judge by."""
        return len(self.validation) >= _FEWEST_JUDGES

    @property
    def step_size(self) -> int:
        """The images of a step."""
        return min(self.fit.recipe.train.batch_size, len(self.rows))

    def right(self, outputs: Outputs) -> NDArray[np.bool_]:
        """(V,) which validation images are right."""
        return outputs.logits.argmax(axis=1) == self.fit.data.catalog.labels[self.validation]

    def accuracy(self, outputs: Outputs) -> float:
        """The share of validation images that is right."""
        return float(self.right(outputs).mean())

    def gained(self, before: Outputs | None, after: Outputs | None) -> str:
        """ " (+1.1 to +11.3 points)": the 95 % interval of what `after` gains on the same validation images; "" where
        what one of them said is not known any more."""
        if before is None or after is None:
            return ""
        units = self.fit.data.units[self.validation]
        found = gain(self.right(before), self.right(after), units, seed=self.fit.recipe.seed)
        return f" ({100 * found.low:+.1f} to {100 * found.high:+.1f} points)"

    def with_flips(self) -> Work:
        """The same with training images mirrored where that keeps the meaning, which takes a look at them."""
        flip = decide_flip(self.fit.run, self.fit.recipe, self.fit.data, self.fit.listener)
        images = self.fit.recipe.images.model_copy(update={"mirror": flip and self.purse.recipe.images.mirror})
        recipe = self.fit.recipe.model_copy(update={"images": images})
        return replace(self, fit=replace(self.fit, recipe=recipe, flip=flip))

    def pictures(self, size: int) -> Prepared:
        """The data with pixels for another size, decoded as whoever answers will decode them."""
        data, images = self.fit.data, self.fit.recipe.images
        if size == images.size:
            return data
        other = images.model_copy(update={"size": size})
        rows = np.sort(np.concatenate([self.rows, self.validation]))
        pixels, limit = data.pixels, other.cache_gb
        some = build_store(
            data.catalog.select(rows), side=short_side(other), grey_bits=pixels.grey_bits, limit_gb=limit
        )
        found = {name: getattr(pixels, name).copy() for name in ("offsets", "shapes", "checksums")}
        found["offsets"][:] = -1  # of pictures that are not learnt from, nothing is kept
        for name, values in found.items():
            values[rows] = getattr(some, name)
        return replace(data, pixels=replace(pixels, side=some.side, file=some.file, **found))


def percent(share: float) -> str:
    """ "71.4 %"."""
    return f"{100 * share:.1f} %"
