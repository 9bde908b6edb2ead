"""`TorchEngine`: batches of views in, outputs out, by a network in PyTorch.

Shapes: B images of S × S pixels, M part maps of h × w cells, C channels of
the backbone's last map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.answering.pieces import Pieces
from fieldmark.core.errors import RunError
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.model.model import Model
from fieldmark.model.part_maps import part_centres, part_vectors
from fieldmark.model.precision import autocast

__all__ = ["PartEngine", "PartVectorEngine", "Sights", "TorchEngine"]


@final
class TorchEngine:
    """Answers uint8 images (B, 3, S, S) on the device of its model, which it puts into evaluation mode.

    Raises RunError for answers that are not numbers: damaged weights, or an overflow in a narrow precision.
    """

    def __init__(self, model: Model, *, precision: str = "fp32") -> None:
        self.model = model.eval()
        self.precision = precision
        self.device = next(model.parameters()).device
        self._pieces = Pieces(self._answer, joined)

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        return self._pieces(images)

    def _answer(self, images: NDArray[np.uint8]) -> Outputs:
        normal = self.model.backbone.normalization(torch.from_numpy(images).to(self.device))
        return self.answer(*self.model.looks(normal))

    def answer(self, *looks: Tensor) -> Outputs:
        """The same for all looks at normalised images, or stand-ins for them; see `Model.answer`."""
        with torch.inference_mode(), self.autocast():
            prediction = self.model.answer(*looks)
        attributes = tuple(_array(values) for values in prediction.attributes)
        return Outputs(_array(prediction.logits), _array(prediction.embedding), attributes)

    def autocast(self) -> torch.autocast:
        """A context in which it computes in its precision."""
        return autocast(self.precision, self.device)


class Sights(NamedTuple):
    """Where a method sees its parts in some images."""

    centres: NDArray[np.float32]
    """(B, M, 3) x, y, visible; x and y in shares of the view's side."""
    maps: NDArray[np.float32]
    """(B, M + 1, h, w) with the background last if the method has one, else (B, M, h, w)."""


@final
class PartEngine:
    """Finds part maps and their centres for uint8 images (B, 3, S, S); gives None for a method without part maps.

    Raises RunError for maps that are not numbers.
    """

    def __init__(self, model: Model) -> None:
        self.method = model.eval().method
        self.device = next(model.parameters()).device
        self._pieces = Pieces(self._find, _joined_sights)

    def __call__(self, images: NDArray[np.uint8]) -> Sights | None:
        return self._pieces(images)

    def _find(self, images: NDArray[np.uint8]) -> Sights | None:
        with torch.inference_mode():
            maps = self.method(self.method.backbone.normalization(torch.from_numpy(images).to(self.device))).parts
            if maps is None:
                return None
            centres = part_centres(maps, has_background=self.method.has_background)
        return Sights(_array(centres), _array(maps))


@final
class PartVectorEngine:
    """Describes parts in uint8 images (B, 3, S, S) by what the backbone sees there, for a method with part maps.

    Gives (B, M, C) vectors, NaN where a part is not visible. Raises RunError for answers that are not numbers.
    """

    def __init__(self, model: Model) -> None:
        self.method = model.eval().method
        self.device = next(model.parameters()).device
        self._pieces = Pieces(self._describe, np.concatenate)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._pieces(images)

    def _describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            normal = self.method.backbone.normalization(torch.from_numpy(images).to(self.device))
            maps = self.method(normal).parts
            assert maps is not None, "the bundle names parts only where there are maps"
            visible = part_centres(maps, has_background=self.method.has_background)[..., 2] > 0
            parts = maps[:, :-1] if self.method.has_background else maps
            vectors = _array(part_vectors(self.method.backbone(normal).map, parts))
        return np.where(_array(visible)[..., None] > 0, vectors, np.nan).astype(np.float32)


def _joined_sights(pieces: Sequence[Sights | None]) -> Sights | None:
    found = [one for one in pieces if one is not None]
    return Sights(*map(np.concatenate, zip(*found, strict=True))) if found else None


def _array(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.float().cpu().numpy()
    if not np.isfinite(found).all():
        raise RunError(
            "The network answers with NaN or infinite values instead of numbers",
            "Its weights may be damaged: copy the bundle again. If its training diverged, start a new run with a lower "
            "train.lr.",
        )
    return found
