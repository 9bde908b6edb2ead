"""Where two pictures agree and where they do not: what each cell adds to the log-odds that they are of one class.

PLDA's log-odds are a sum over coordinates: of x · y with positive factors, and of x² and y² with negative ones
(`Plda.terms`). Compared with a picture that shows nothing in particular, x = 0, a picture adds w · x to them, where
w is (factor of x · y) y + (factor of x²) x. That is linear in the embedding, as a class's logit is, and evidence for it
is what it is for a class (`evidence`): exact where the embedding is the mean of the cells, as that of Stylianou,
Souvenir & Pless, "Visualizing deep similarity networks" (2019), is for the cosine; for other methods, an estimate that
adds up. A cell agrees where what it shows, beyond what pictures show on the whole, is in the other picture as well, and
does not where it is in this one alone.

Shapes: D embedding, h × w cells, S × S pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fieldmark.answering.explaining.evidence import find_evidence
from fieldmark.answering.explaining.regions import LEAST_PEAK, Region, find_regions
from fieldmark.answering.explaining.taps import Network, tap
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Thing
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.plda import Plda
from fieldmark.model.backbone import Backbone
from fieldmark.model.method import Prediction

__all__ = ["Side", "agreement"]

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Side:
    """One of two pictures."""

    name: str
    pixels: NDArray[np.uint8]
    """(S, S, 3) as the network sees it."""
    cells: NDArray[np.float32]
    """(h, w) what each adds to the log-odds of being of one class; negative where it speaks against that."""

    def regions(self, sign: int) -> list[Region]:
        """The regions that agree (1) or do not (−1), the strongest first; faint ones beside the other kind are none."""
        least = LEAST_PEAK * float(np.abs(self.cells).max())
        return [one for one in find_regions(sign * self.cells) if (sign * self.cells[one.cells]).max() >= least]


def agreement(predictor: Predictor, plda: Plda, one: Thing, other: Thing) -> tuple[Side, Side]:
    """What each cell of two pictures adds to `plda`'s log-odds that they are of one class, the other picture being what
    it is. Raises ImageError for a picture that cannot be read."""
    (answered,) = stream([one, other], predictor.see, predictor.engine)
    for _, error in answered.skipped:
        raise error
    assert answered.output is not None
    network = _Embedding(predictor.model.unmirrored())
    views = network.backbone.normalization(torch.from_numpy(answered.images).to(predictor.device))
    lengths = np.linalg.norm(answered.output.embedding.astype(np.float64), axis=1)
    first, second = plda.coordinates(unit(answered.output.embedding.astype(np.float64)))
    own, common, _ = plda.terms
    sides = []
    for k, (mine, theirs) in enumerate(((first, second), (second, first))):
        toward = own * mine + common * theirs
        cells = _cells(network, views[k : k + 1], plda.axes @ toward / lengths[k], float(toward @ mine))
        sides.append(Side((one, other)[k].name, answered.shown[k].pixels, cells))
    return sides[0], sides[1]


def _cells(network: Network, view: Tensor, direction: Floats, total: float) -> NDArray[np.float32]:
    """(h, w) what each cell adds to the product of the embedding and a `direction` (D,). What no cell adds, such as
    the mean that coordinates are relative to, is shared by all, so that they add up to `total`."""
    weight = torch.tensor(direction, dtype=torch.float32, device=view.device)
    cells = find_evidence(network, view, lambda embedding: embedding @ weight, tap(network, view.shape[-1])).cells
    return cells + (total - float(cells.sum())) / cells.size


class _Embedding(nn.Module):
    """A network whose answer is its embedding."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @property
    def backbone(self) -> Backbone:
        return self.network.backbone

    def forward(self, images: Tensor) -> Prediction:
        prediction = self.network(images)
        return prediction._replace(logits=prediction.embedding)
