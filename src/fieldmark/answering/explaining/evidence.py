"""Each cell's contribution to the margin of A over B: activation × gradient, averaged on the way from an empty map.

This is Sundararajan, Taly & Yan, "Axiomatic attribution for deep networks" (2017), applied to a map of the backbone
instead of pixels: the contributions add up to the margin less that of an empty map, up to a gap that the steps of the
sum leave. There are more steps where the gap is wide, up to a bound, and what is left of it is told. For a linear head
over the average of the cells the gradient is the same all the way, so it is plain gradient × activation, and exact:
wₐ − w_b times each cell, divided by their number; what is left is the difference of the two biases. A head that divides
features by their length divides by that of the image all the way: a faint map has the same direction as a strong one.

Networks that normalise every cell (transformers, ConvNeXt) see no difference between a faint map and a strong one, so
the way from an empty one leads through nothing. There it begins with the mean cell everywhere: no place differs.

Which map: see `taps`. On small pictures a cell of the last map is as large as a head, so a finer one is read.

Shapes: K classes, C channels, h × w cells, n maps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fieldmark.answering.explaining.taps import Network, Tap, answers, last_map, read
from fieldmark.model.heads.linear import LinearClassifier

__all__ = ["AgainstAll", "Contrast", "Evidence", "Margin", "find_evidence", "mean_gradient", "start_of"]

Floats = NDArray[np.float32]

Margin: TypeAlias = Callable[[Tensor], Tensor]
"""A function from logits (n, K) to the lead of A (n,)."""
STEPS, MOST_STEPS = 5, 45
"""Steps from an empty map, and three times as many, as often as their gap is wide, up to so many. Cells of equal
steps come nearer to exact ones than those of as many Gauss–Legendre nodes: networks have kinks."""
CLOSE = 0.05
"""A gap is narrow below this share of all contributions, whatever their signs. The margin itself is no measure: it may
be nothing where much speaks for either class."""


@final
@dataclass(frozen=True)
class Contrast:
    """A against B: margin = scaleₐ · logitₐ − scale_b · logit_b + bias. With a bundle's scaling: log odds."""

    first: int
    second: int
    scales: tuple[float, float] = (1.0, 1.0)
    bias: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        """(n, K) → (n,) margins."""
        return self.scales[0] * logits[:, self.first] - self.scales[1] * logits[:, self.second] + self.bias


@final
@dataclass(frozen=True, eq=False)
class AgainstAll:
    """A against all other classes at once: log p(A) − log(1 − p(A)), where p = softmax(scale · logits + bias)."""

    first: int
    scale: Tensor
    """(K,)"""
    bias: Tensor
    """(K,)"""

    def __call__(self, logits: Tensor) -> Tensor:
        """(n, K) → (n,) margins."""
        scaled = self.scale * logits + self.bias
        others = torch.arange(logits.shape[1], device=logits.device) != self.first
        return scaled[:, self.first] - scaled[:, others].logsumexp(1)


@final
@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence for A and against B in one image."""

    margin: float
    """The lead of A over B."""
    cells: Floats
    """(h, w) the contribution of each cell, negative if it is evidence for B."""
    map: Tensor
    """(C, h, w)."""
    last: Tensor
    """(C', h', w') the last map, by which regions are compared."""
    parts: Tensor | None
    """(M, h″, w″) part maps, of methods that have them."""
    logits: Tensor
    """(K,)"""
    gap: float
    """What the cells lack to the margin less that of the start, because of the steps."""

    @property
    def rest(self) -> float:
        """The remaining margin; for a linear head over pooled cells, the difference of the biases."""
        return self.margin - float(self.cells.sum())


def find_evidence(method: Network, image: Tensor, contrast: Margin, place: Tap) -> Evidence:
    """Find the evidence in a normalised image (1, 3, S, S) for one class against the other, read at `place`."""
    method.eval()
    end = last_map(method)
    with torch.no_grad(), read((place, end)) as found:
        prediction = method(image)
    own = found[place]
    slope, gaps = mean_gradient(method, image, contrast, place, own)
    return Evidence(
        float(contrast(prediction.logits)[0]),
        ((own - start_of(method, own)) * slope).sum(1)[0].numpy(force=True),
        own[0].cpu(),
        found[end][0].cpu(),
        None if prediction.parts is None else prediction.parts[0],
        prediction.logits[0],
        float(gaps[0]),
    )


def start_of(method: Network, own: Tensor) -> Tensor:
    """(n, C, h, w) where the way to `own` begins: see above."""
    if any(isinstance(layer, nn.LayerNorm) for layer in method.backbone.modules()):
        return own.mean((2, 3), keepdim=True).expand_as(own)
    return torch.zeros_like(own)


def mean_gradient(method: Network, image: Tensor, contrast: Margin, place: Tap, own: Tensor) -> tuple[Tensor, Tensor]:
    """(n, C, h, w) the gradient of the margin, averaged on the way from the start to each of n maps `own`, and (n,) the
    gaps that its steps leave.

    The image (1, 3, S, S) is what comes before `place`, and has no say where the map is all that is read.
    """
    start = start_of(method, own)

    def margins(maps: Tensor) -> Tensor:
        with lengths.given(len(maps) // len(own)):
            return contrast(answers(method, image, place, maps))

    def slope(shares: Tensor) -> Tensor:
        """The mean at these shares of the way."""
        maps = torch.lerp(start, own, shares[:, None, None, None, None]).flatten(0, 1).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(margins(maps).sum(), maps)
        return gradient.unflatten(0, (len(shares), -1)).mean(0)

    lengths = _Lengths(method)
    with _frozen(method), torch.no_grad():
        with lengths.read():
            whole = contrast(answers(method, image, place, own))
        wanted = whole - margins(start)
        found = torch.zeros_like(own)
        steps = STEPS
        while True:
            middles = (torch.arange(steps, device=own.device) + 0.5) / steps
            if steps == STEPS:
                found = slope(middles)
            else:  # every third was looked at before
                new = middles.unflatten(0, (-1, 3))[:, [0, 2]].flatten()
                found = (found + sum(2 * slope(some) for some in new.split(STEPS)) / (len(new) // STEPS)) / 3
            cells = ((own - start) * found).sum(1)
            gaps = wanted - cells.sum((1, 2))
            if steps >= MOST_STEPS or bool((gaps.abs() <= CLOSE * cells.abs().sum((1, 2))).all()):
                return found, gaps
            steps *= 3


class _Lengths:
    """What the heads of a network divide features by, if it is their length: those of maps, to be used on the way to
    these maps."""

    def __init__(self, method: Network) -> None:
        self._heads = [one for one in method.modules() if isinstance(one, LinearClassifier) and one.unit]
        self._found: dict[LinearClassifier, list[Tensor]] = {}

    @contextmanager
    def read(self) -> Iterator[None]:
        """Remember the lengths of the features that come while this lasts."""

        def remember(head: LinearClassifier, given: tuple[Tensor]) -> None:
            self._found.setdefault(head, []).append(head.length(given[0]))

        handles = [one.register_forward_pre_hook(remember) for one in self._heads]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def given(self, times: int) -> Iterator[None]:
        """While this lasts, so many maps in turn are divided by each; not by a head that is asked more than once."""
        for head, found in self._found.items():
            head.given = found[0].repeat(times, 1) if len(found) == 1 else None
        try:
            yield
        finally:
            for head in self._found:
                head.given = None


@contextmanager
def _frozen(method: Network) -> Iterator[None]:
    """While this lasts, parameters want no gradient: nothing is kept for what comes before the map."""
    wanting = [one for one in method.parameters() if one.requires_grad]
    for one in wanting:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in wanting:
            one.requires_grad_(True)
