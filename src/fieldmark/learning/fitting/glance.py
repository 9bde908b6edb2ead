"""`Glance`: what is kept of pictures that a frozen backbone looks at, by the engine that is faster here.

PyTorch computes it, or ONNX Runtime where it is installed, gives the same numbers and wins. A job that is long enough
tries both, once in a command, on pictures of its own. That takes seconds.

Shapes: B images of S × S pixels, E numbers kept of each look at one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.onnx import can_make_graphs, opened_graph
from fieldmark.answering.pieces import Pieces
from fieldmark.answering.trial import PAYS, TOLERANCE, WORTH, has_room, off, seconds_each
from fieldmark.core.listener import Listener
from fieldmark.core.reading import reason
from fieldmark.model.fronts import Keeper
from fieldmark.model.model import Model

__all__ = ["Glance"]

Images = NDArray[np.uint8]
_FEW = 200
"""Fewer pictures are looked at without a word."""
_ROUNDS = 3


@final
class _Looks(nn.Module):
    """Images of 8 bits (B, 3, S, S) → for each look, what is kept (B, E)."""

    def __init__(self, model: Model, keeper: Keeper, looks: Sequence[int]) -> None:
        super().__init__()
        self.model, self.keeper, self.looks = model, keeper, tuple(looks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen = self.model.looks(self.model.backbone.normalization(images))
        return tuple(self.keeper.rows(self.model.backbone, seen[look]) for look in self.looks)


@final
class Glance:
    """Some looks at images, such as the one at their mirror images; see `Model.looks`."""

    def __init__(self, engine: TorchEngine, keeper: Keeper, looks: Sequence[int]) -> None:
        self._looks = _Looks(engine.model, keeper, looks).eval()
        self._engine = engine
        self._each: float | None = None
        """How many seconds PyTorch takes for an image."""
        self._tried = engine.device.type != "cpu" or engine.precision != "fp32" or not can_make_graphs()
        self._by_torch = Pieces(self._seen, _joined)
        self._compute: Callable[[Images], list[Tensor]] = self._by_torch

    def __call__(self, images: Images) -> list[Tensor]:
        """Images (B, 3, S, S) → (B, E) for each look."""
        return self._compute(images)

    def _seen(self, images: Images) -> list[Tensor]:
        pixels = torch.from_numpy(images).to(self._engine.device)
        with torch.no_grad(), self._engine.autocast():
            return [rows.cpu() for rows in self._looks(pixels)]

    def try_others(self, some: Callable[[], Images], number: int, listener: Listener) -> None:
        """Compute by ONNX Runtime from now on if a trial on `some` images pays for `number` of them, and is won."""
        if self._tried or number < _FEW or not has_room(sum(one.nbytes for one in self._looks.parameters())):
            return
        images = some()
        self._each = self._each or seconds_each({"torch": self._by_torch}, images, rounds=1)["torch"]
        if self._each * number < PAYS:
            return
        self._tried, begun = True, time.perf_counter()
        with listener.progress("Trying ONNX Runtime"):
            try:
                said = self._trial(images)
            except Exception as error:  # whatever an exporter raises about a network, PyTorch computes
                said = f"it cannot compute this network: {reason(error)[:200]}"
        listener.note(f"Tried ONNX Runtime ({time.perf_counter() - begun:.0f} s): {said}")

    def _trial(self, images: Images) -> str:
        """Make a graph and compare; what came out, as a clause about "it"."""
        from fieldmark.model.graph import IMAGES, exported, serialized

        names = [f"look {look}" for look in self._looks.looks]
        graph = exported(self._looks, images.shape[-1], names, what=self._looks.model.backbone.name)
        session = opened_graph(serialized(graph), "The graph of the backbone")

        def by_onnx(images: Images) -> list[Tensor]:
            found = session.run(names, {IMAGES: np.ascontiguousarray(images)})
            return [torch.from_numpy(rows) for rows in found]

        pairs = zip(self._by_torch(images), by_onnx(images), strict=True)
        differ = max(off(one.numpy(), other.numpy()) for one, other in pairs)
        if not differ <= TOLERANCE:  # as NaN does
            return f"its features differ by up to {differ:.1g}, where {TOLERANCE:g} is rounding"
        seconds = seconds_each({"torch": self._by_torch, "onnx": by_onnx}, images, rounds=_ROUNDS)
        ratio = seconds["torch"] / seconds["onnx"]
        if ratio >= WORTH:
            self._compute = by_onnx
        used = ", and computes the others" if ratio >= WORTH else ""
        return f"it gives the same features {ratio:.3g} times as fast as PyTorch{used}"


def _joined(pieces: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(rows) for rows in zip(*pieces, strict=True)]
