"""PIM: every cell of several maps answers for itself, and the most certain ones are looked at together.

Chou et al., "A novel plug-in module for fine-grained visual classification" (2022). The maps Fₗ of the last stages are
brought to one width and fused from the coarsest to the finest, Gₗ = project(Fₗ) + enlarge(Gₗ₊₁). With hₗᵢ =
ReLU(BatchNorm(W Gₗᵢ)) of cell i, and zₗᵢ the logits that the stage's head gives it, the kₗ cells with the highest
maximum of softmax(zₗᵢ) are selected and the others dropped. ŷ is the answer from the selected cells of all stages:

    loss(ŷ, y)  +  0.5 · Σₗ loss(meanᵢ zₗᵢ, y)  +  5 · Σₗ mean over dropped cells and classes of (tanh z + 1)²

so that what is dropped learns to speak for no class. The weights are those of the authors' published configuration,
which gives none to a loss of the single selected cells; it is left away. Deviations:

- Attention pooling combines the selected cells instead of a graph whose size is fixed, so that any size works:
  BatchNorm(Σᵢ aᵢ V Gᵢ), with a = softmax over the selected cells of all stages, for each of eight groups of features.
- The number of selected cells is a share of each map. The paper's 2,048, 512, 128 and 32 (a Swin-T at 384 px) are 8/9
  of the cells of each map and 2/9 of the last. One cell at least is selected and, of several, one dropped.
- There are three stages, of strides 8, 16 and 32: those of the paper, which has the last stride twice. A transformer's
  are its blocks at a third, two thirds and the end.
- Maps are 256 wide, as is usual in feature pyramids, not twice as wide as the backbone's last: at 1,536 this would
  take many times the work of a small backbone.
- The backbone's own embedding, or that of a neck, joins the pooled cells: a transformer's class token and what some
  CNNs have behind their last map are part of what the weights know, and so every neck combines with this method.
- meanᵢ zₗᵢ is the head's answer to meanᵢ hₗᵢ: the same for a linear head, and it has a meaning for others.

Shapes: B images, h × w cells of the finest map, N cells of a map or of all, D features, K classes, S stages.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.head import Heads
from fieldmark.model.method import METHODS, Losses, Method, Prediction
from fieldmark.model.stages import last_stages

__all__ = ["CellAttention", "PartSelection", "Selection", "dropped_loss", "num_selected", "select"]

_GROUPS = 8
_DROPOUT = 0.1  # the paper's, before the last head


class Selection(NamedTuple):
    """The cells of a map, parted by how certain they are."""

    selected: Tensor
    """(B, k) indices, the most certain first."""
    dropped: Tensor
    """(B, N − k)."""


def num_selected(share: float, num_cells: int) -> int:
    """k: the share of the cells, but at least one, and one less than all where there are several."""
    return min(max(1, round(share * num_cells)), max(1, num_cells - 1))


def select(logits: Tensor, count: int) -> Selection:
    """Part cells by the probability of their likeliest class; logits (B, N, K)."""
    certainty = logits.float().softmax(-1).amax(-1)
    order = certainty.sort(dim=1, descending=True).indices  # no stable sort: ONNX has none
    return Selection(order[:, :count], order[:, count:])


def dropped_loss(logits: Tensor) -> Tensor:
    """Mean of (tanh z + 1)² over the logits (…, K) of dropped cells: zero where they speak for no class."""
    if not logits.numel():
        return logits.new_zeros((), dtype=torch.float32)
    return (logits.float().tanh() + 1).square().mean()


@final
class CellAttention(nn.Module):
    """Cells (B, N, D) → features (B, D), of which each group is an average of its own over the cells, and the cells'
    weights (B, N)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, groups)
        self.value = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Weights are averaged over the groups; those of an image sum to one."""
        weights = self.score(cells).softmax(dim=1)  # (B, N, groups)
        values = self.value(cells).unflatten(-1, (weights.shape[-1], -1))  # (B, N, groups, D / groups)
        pooled = (weights.unsqueeze(-1) * values).sum(1).flatten(1)
        return self.norm(pooled), weights.mean(-1)


@final
class _Stage(nn.Module):
    """One stage's projection and what its cells answer with."""

    def __init__(self, channels: int, width: int, heads: Heads) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, width, 1))
        self.hidden = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.head = heads(width)

    def answers(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) → hidden cells (B, N, D) and their logits (B, N, K)."""
        hidden = _cells(self.hidden(fused))
        logits: Tensor = self.head(hidden.flatten(0, 1))
        return hidden, logits.unflatten(0, hidden.shape[:2])


class _Seen(NamedTuple):
    """What the losses are made of."""

    pooled: Tensor
    """(B, F) the backbone's own."""
    embedding: Tensor
    hidden: list[Tensor]
    """(B, N, D) of each stage."""
    dropped: list[Tensor]
    """Logits (B, N − k, K) of each stage."""
    parts: Tensor
    """(B, S, h, w)."""


@METHODS.register("part_selection")
@final
class PartSelection(Method):
    """backbone → fused maps → a head for each cell → the most certain cells → attention pooling → head."""

    adds_layers = True

    def __init__(
        self,
        backbone: Backbone,
        heads: Heads,
        *,
        stages: int = 3,
        width: int = 256,
        share: float = 8 / 9,
        last_share: float = 2 / 9,
        stage_weight: float = 0.5,
        dropped_weight: float = 5.0,
    ) -> None:
        """Of the cells of each map this `share` is selected, of the last `last_share`.

        RecipeError for an option out of range or a backbone without feature maps.
        """
        super().__init__(backbone)
        for name, value in (("share", share), ("last_share", last_share)):
            if not 0 < value <= 1:
                raise RecipeError(f"method.{name} = {value} is not allowed", "Expected a share of the cells in (0, 1].")
        if width < 1 or width % _GROUPS:
            raise RecipeError(
                f"method.width = {width} is not allowed", f"Expected a multiple of {_GROUPS}, such as 256."
            )
        self.levels = last_stages(backbone, stages)
        self.shares = (share,) * (len(self.levels) - 1) + (last_share,)
        self.stage_weight, self.dropped_weight = stage_weight, dropped_weight
        found = backbone.levels
        self.stages: Any = nn.ModuleList(_Stage(found[index].channels, width, heads) for index in self.levels)
        self.attention = CellAttention(width, _GROUPS)
        self.head = heads(width + backbone.width)

    def forward(self, images: Tensor) -> Prediction:
        """(B, 3, S, S) → logits (B, K), embedding (B, D), parts (B, S, h, w).

        Parts are the attention that the cells of each stage get, 0 where they are dropped, on the finest map's cells.
        """
        seen = self._see(images)
        return Prediction(self.head(seen.embedding), seen.embedding, seen.pooled, seen.parts)

    def losses(self, batch: Batch, step: int) -> Losses:
        """Of the answer, of each stage, and of what was dropped."""
        seen = self._see(batch.images)
        losses = self.head.losses(F.dropout(seen.embedding, _DROPOUT, self.training), batch)
        for number, (stage, hidden) in enumerate(zip(self.stages, seen.hidden, strict=True), start=1):
            own = stage.head.losses(hidden.mean(1), batch)
            losses |= {f"stage {number} {name}": self.stage_weight * loss for name, loss in own.items()}
        dropped = torch.stack([dropped_loss(logits) for logits in seen.dropped]).sum()
        return Losses(losses | {"dropped": self.dropped_weight * dropped}, seen.pooled)

    def _see(self, images: Tensor) -> _Seen:
        features = self.backbone(images, self.levels)
        maps = self._fused(features.levels)
        hidden, dropped, chosen, places = [], [], [], []
        for stage, fused, share in zip(self.stages, maps, self.shares, strict=True):
            cells, logits = stage.answers(fused)
            parted = select(logits, num_selected(share, cells.shape[1]))
            hidden.append(cells)
            dropped.append(_taken(logits, parted.dropped))
            chosen.append(_taken(_cells(fused), parted.selected))
            places.append(parted.selected)
        pooled, weights = self.attention(torch.cat(chosen, dim=1))
        shares = weights.split([place.shape[1] for place in places], dim=1)
        parts = [_spread(share, place, fused) for share, place, fused in zip(shares, places, maps, strict=True)]
        finest = [F.interpolate(part, size=maps[0].shape[-2:], mode="nearest") for part in parts]
        embedding = torch.cat([pooled, features.pooled], dim=1)
        return _Seen(features.pooled, embedding, hidden, dropped, torch.cat(finest, dim=1))

    def _fused(self, levels: tuple[Tensor, ...]) -> list[Tensor]:
        """(B, D, h', w') each: every map gets what the coarser ones know."""
        projected = [stage.project(level) for stage, level in zip(self.stages, levels, strict=True)]
        fused = projected[-1:]
        for finer in reversed(projected[:-1]):
            enlarged = F.interpolate(fused[0], size=finer.shape[-2:], mode="bilinear", align_corners=False)
            fused.insert(0, finer + enlarged)
        return fused


def _cells(features: Tensor) -> Tensor:
    """(B, D, h, w) → (B, N, D), row by row."""
    return features.flatten(2).transpose(1, 2)


def _taken(cells: Tensor, places: Tensor) -> Tensor:
    """The cells (B, N, D) at these places (B, k): (B, k, D)."""
    return cells.gather(1, places.unsqueeze(-1).expand(-1, -1, cells.shape[-1]))


def _spread(weights: Tensor, places: Tensor, fused: Tensor) -> Tensor:
    """Weights (B, k) at their places (B, k) on a map's cells, 0 elsewhere: (B, 1, h', w')."""
    empty = weights.new_zeros(weights.shape[0], fused.shape[-2] * fused.shape[-1])
    return empty.scatter(1, places, weights).unflatten(1, (1, *fused.shape[-2:]))
