"""Is an explanation true? Measures for single images, and a baseline to compare with.

- Deletion and insertion: Petsiuk, Das & Saenko, "RISE: randomized input sampling for explanation of black-box models"
  (2018). Deviation: a pixel's rank is that of its enlarged cell, blurred, so that no map gains by its grid.
- Pointing: from the strongest evidence to the nearest key point (Zhang et al. 2016, as a distance).
- Swaps: what exchanging the named region moves, against a random one of its shape and against another image of A.
- Randomised weights: Adebayo et al., "Sanity checks for saliency maps" (2018): evidence that stays the same when what
  was learnt is gone was never about the model.
- Grad-CAM (Selvaraju et al. 2017) of one class on the last map is the baseline.

Shapes: S the side of the image in pixels, h × w cells, P points.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr
from torch import Tensor, nn

from fieldmark.answering.explaining.evidence import Contrast, Evidence
from fieldmark.answering.explaining.examples import Known, counterparts
from fieldmark.answering.explaining.explanation import NUM_EXAMPLES, exchange
from fieldmark.answering.explaining.taps import Tap, answers, read
from fieldmark.evaluation.paired import interval, resampled_means
from fieldmark.model.method import Method
from fieldmark.model.model import Model

__all__ = [
    "Gain", "Swaps", "curves", "gain", "grad_cam", "likeness", "moved", "nearest_point", "peak_of", "pixel_order",
    "randomised", "swaps",
]  # fmt: skip

Floats = NDArray[np.float32]

SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
"""Of the pixels that are deleted or inserted; closer together where the answer changes."""
_BLUR = 0.06
"""Of the side: what insertion begins with shows colours and no marks."""


def grad_cam(method: Method | Model, image: Tensor, label: int, place: Tap) -> Floats:
    """(h, w) Grad-CAM of a class for a normalised image (1, 3, S, S), on the map at `place`."""
    method.eval()
    with torch.no_grad(), read((place,)) as found:
        method(image)
    own = found[place].clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(answers(method, image, place, own)[0, label], own)
    weighed = own.detach() * slope.mean((2, 3), keepdim=True)
    return weighed.sum(1)[0].clamp(min=0).numpy(force=True)


def pixel_order(cells: Floats, side: int, *, blur: float = 0.0) -> NDArray[np.int64]:
    """(side, side) each pixel's rank by its evidence, 0 for the strongest; `blur` is a share of the side."""
    fine = F.interpolate(torch.from_numpy(cells)[None, None], size=(side, side), mode="bicubic", align_corners=False)
    smooth = ndimage.gaussian_filter(fine[0, 0].numpy(), blur * side)
    order = np.argsort(-smooth.ravel(), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank.reshape(side, side)


def curves(method: Method | Model, image: Tensor, cells: Floats, label: int, scale: float = 1.0) -> tuple[float, float]:
    """Areas under the deletion and the insertion curve: the mean probability of `label`, low and high if true.

    image (1, 3, S, S) normalised. Deleted pixels become the mean colour; insertion begins with the blurred image.
    `scale` is what logits are multiplied by before softmax: probabilities of 1.0 throughout hide what happens.
    """
    side = image.shape[-1]
    rank = torch.from_numpy(pixel_order(cells, side, blur=_BLUR)).to(image.device)
    blurred = torch.from_numpy(ndimage.gaussian_filter(image.numpy(force=True), (0, 0, _BLUR * side, _BLUR * side)))
    blurred = blurred.to(image)
    first = [rank < share * side * side for share in SHARES]
    deleted = torch.cat([torch.where(strong, torch.zeros_like(image), image) for strong in first])
    inserted = torch.cat([torch.where(strong, image, blurred) for strong in first])
    with torch.no_grad():
        probability = torch.softmax(scale * method(torch.cat([deleted, inserted])).logits, dim=1)[:, label]
    both = [np.interp(_EVEN, SHARES, half.numpy(force=True)) for half in probability.split(len(SHARES))]
    return float(both[0].mean()), float(both[1].mean())


_EVEN = np.linspace(SHARES[0], SHARES[-1], 100)


def peak_of(cells: Floats, side: int) -> tuple[float, float]:
    """x, y of the strongest evidence in pixels of an image of this side: the peak between the cells."""
    at = int(pixel_order(cells, side).argmin())
    return at % side + 0.5, at // side + 0.5


def nearest_point(cells: Floats, points: NDArray[np.floating], side: int) -> float:
    """Pixels from the peak to the nearest of the points (P, 2) x, y."""
    return float(np.hypot(*(points - peak_of(cells, side)).T).min())


class Swaps(NamedTuple):
    """Changes of the margin, each with its sign."""

    named: float
    """The named region, exchanged for that of B."""
    random: float
    """A region of its shape anywhere, exchanged for its counterpart in B."""
    own: float
    """The named region, exchanged for that of other images of A."""


def swaps(
    method: Method | Model,
    image: Tensor,
    contrast: Contrast,
    place: Tap,
    evidence: Evidence,
    cells: NDArray[np.bool_],
    known: tuple[Known, Known],
    rng: np.random.Generator,
    besides: Collection[str] = (),
) -> Swaps:
    """The swap tests of one region (h, w) of a normalised image (1, 3, S, S); `known` are images of A and of B."""

    def change(region: NDArray[np.bool_], donors: Known) -> float:
        theirs = counterparts(evidence.map, evidence.last, region, donors, besides=besides)[:NUM_EXAMPLES]
        found = exchange(method, image, contrast, place, evidence.map, region, theirs)
        assert found is not None, "there is at least one known image of either class"
        return found.margin - evidence.margin

    return Swaps(change(cells, known[1]), change(moved(cells, rng), known[1]), change(cells, known[0]))


def moved(cells: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A region of the same shape anywhere else; in the same place only where there is no other."""
    rows, columns = np.nonzero(cells)
    window = cells[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    room = np.array(cells.shape) - window.shape + 1
    places = [(r, c) for r in range(room[0]) for c in range(room[1]) if (r, c) != (rows.min(), columns.min())]
    r, c = places[rng.integers(len(places))] if places else (0, 0)
    there = np.zeros_like(cells)
    there[r : r + window.shape[0], c : c + window.shape[1]] = window
    return there


def randomised(method: Method | Model, *, seed: int, whole: bool) -> None:
    """Draw weights anew, in place: those of the last linear layer, or with `whole` of the entire network."""
    generator = torch.Generator().manual_seed(seed)
    layers = [one for one in method.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    for layer in layers if whole else layers[-1:]:
        with torch.no_grad():
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.copy_(layer.weight.std() * drawn)


def likeness(one: Floats, other: Floats) -> float:
    """Spearman's correlation of two maps' cells; 0 where one of them is flat."""
    found = spearmanr(one.ravel(), other.ravel()).statistic if np.ptp(one) and np.ptp(other) else 0.0
    return float(found)


class Gain(NamedTuple):
    """A mean difference and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def gain(differences: Sequence[float], *, seed: int = 0, replicates: int = 2000) -> Gain:
    """The mean of paired differences, with percentiles over resampled images."""
    values = np.asarray(differences, np.float64)
    value = float(values.mean())
    means = resampled_means(values[:, None], np.arange(len(values)), seed=seed, replicates=replicates)[:, 0]
    return Gain(value, *interval(value, means))
