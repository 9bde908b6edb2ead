"""Bilinear attention pooling, crops and drops where it attends, and what attention is worth.

WS-DAN: Hu et al., "See better before looking closer: weakly supervised data augmentation network for fine-grained
visual classification" (2019). CAL: Rao et al., "Counterfactual attention learning for fine-grained visual
categorization and re-identification" (2021).

With features x (C, h, w) and M attention maps a = ReLU(BN(conv₁ₓ₁ x)), one for each part:

- pooling: f_mc = (1/hw) Σᵢ a_mi · x_ci; signed square root; the whole matrix to unit length; times 100 as in the
  authors' code, so that the softmax can become sure;
- centres: L_centre = (1/B) Σ ‖f − c_y / ‖c_y‖‖²; c_y ← c_y + β · (f − c_y) after each batch, so that a map is of the
  same part in every image of a class;
- crop and drop: of maps drawn with chances ∝ √Σᵢ a_mi, one says what to look at closer (the box around all attention
  above a threshold in 0.4–0.6 of its maximum), one what to hide (all above 0.2–0.5);
- counterfactual: the effect of attention, logits(f(a, x)) − logits(f(ã, x)) with ã uniform in [0, 2), should name the
  class by itself.

Loss, as in CAL's code: classification (1/3 image, 1/3 crop, 1/3 drop) + L_centre + the same of the effect.

Deviations:
- the map has a stride (16), not a place: on a convolutional network the last two maps are fused to 512 channels;
- images of one class in a batch move its centre together, by β to their mean; in the authors' code the last one counts,
  and moves by β · (f − c_y / ‖c_y‖), where the paper and this have c_y itself;
- a mixed image is pulled to the centres of both classes by their weights, and moves them by these;
- attention is measured from its minimum to its maximum, as in the paper; their code leaves the minimum out;
- the optimizer and its rates are the recipe's.

Crops and drops are one further forward of 2B images in training. BatchNorm that is not frozen sees it as a batch of its
own, and its statistics follow all three views, as in the authors' code; `batchnorm = "refreshed"` re-estimates them on
images alone, which is what answers see. Nothing of this is done when answering, unless `refine` asks for a second look:
logits averaged with those of a crop by the mean map above 0.1 (their code).

Shapes: B images, T targets, M maps, C channels, h × w cells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.augment.attention import closer, hidden, regions
from fieldmark.core.errors import RecipeError
from fieldmark.core.ranks import gathered
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.feature_map import FeatureMap
from fieldmark.model.head import Heads
from fieldmark.model.method import METHODS, Losses, Method, Prediction

__all__ = ["BilinearAttention", "bilinear_attention_pooling"]

CROP, DROP, REFINE = (0.4, 0.6), (0.2, 0.5), 0.1
"""Thresholds of attention."""
_TINY = 1e-6  # keeps the slope of the root finite


class _Seen(NamedTuple):
    """What the method sees in images."""

    pooled: Tensor
    """(B, F) the backbone's own."""
    cells: Tensor
    """(B, C, h, w)."""
    maps: Tensor
    """(B, M, h, w) attention."""
    matrix: Tensor
    """(B, M · C) of unit length."""


def bilinear_attention_pooling(cells: Tensor, maps: Tensor) -> Tensor:
    """cells (B, C, h, w) pooled by each of the maps (B, M, h, w) → fp32 (B, M · C) of unit length."""
    averages = _averages(cells, maps)
    return F.normalize(averages.sign() * (averages.abs() + _TINY).sqrt(), dim=1)


def _averages(cells: Tensor, maps: Tensor) -> Tensor:
    """Cells (B, C, h, w) averaged by each map (B, M, h, w) → (B, M · C), fp32 whatever the precision: the root takes
    small entries apart."""
    with torch.autocast(cells.device.type, enabled=False):
        return torch.einsum("bmhw,bchw->bmc", maps.float(), cells.float()).flatten(1) / cells[0, 0].numel()


@METHODS.register("bilinear_attention")
@final
class BilinearAttention(Method):
    """backbone → feature map → attention maps → one pooling by each → head.

    The embedding (B, C) is the sum over maps of what the head sees (B, M · C): a gallery or class means of 32 × 512
    numbers an image would outweigh the photographs.
    """

    pools: ClassVar[bool] = True
    adds_layers: ClassVar[bool] = True
    centres: Tensor
    """(K, M · C) where the classes' matrices lie, on average."""

    def __init__(
        self,
        backbone: Backbone,
        heads: Heads,
        *,
        maps: int = 32,
        beta: float = 0.05,
        scale: float = 100.0,
        stride: int = 16,
        counterfactual: bool = True,
        refine: bool = False,
    ) -> None:
        super().__init__(backbone)
        if maps < 2:
            raise RecipeError(
                f"method.maps = {maps} is not allowed", "Expected at least two attention maps; the paper uses 32."
            )
        if not 0 <= beta <= 1:
            raise RecipeError(
                f"method.beta = {beta} is not allowed", "Expected a share in [0, 1]; the paper uses 0.05."
            )
        if scale <= 0:
            raise RecipeError(
                f"method.scale = {scale} is not allowed", "Expected a positive number; the authors' code uses 100."
            )
        self.beta, self.scale = beta, scale
        self.counterfactual, self.refine = counterfactual, refine
        self.feature_map = FeatureMap(backbone.without_pooling(), stride=stride)
        channels = self.feature_map.channels
        self.attention = nn.Sequential(
            nn.Conv2d(channels, maps, 1, bias=False), nn.BatchNorm2d(maps, eps=1e-3), nn.ReLU()
        )
        self.head = heads(maps * channels)
        self.register_buffer("centres", torch.zeros(heads.task.num_classes, maps * channels))

    def forward(self, images: Tensor) -> Prediction:
        """(B, 3, S, S) → logits (B, K), embedding (B, C), attention (B, M, h, w)."""
        seen = self._see(images)
        logits = self.head(self.scale * seen.matrix)
        if self.refine:
            maps, size = seen.maps.mean(1), (images.shape[-2], images.shape[-1])
            boxes = regions(maps, size, maps.new_full((maps.shape[0],), REFINE), padding=0.05)
            logits = (logits + self.head(self.scale * self._see(closer(images, boxes)).matrix)) / 2
        embedding = seen.matrix.unflatten(1, (seen.maps.shape[1], -1)).sum(1)
        return Prediction(logits, embedding, seen.pooled, seen.maps)

    def losses(self, batch: Batch, step: int) -> Losses:
        """Of the images, of their crops and drops, and of the centres."""
        seen = self._see(batch.images)
        views = self._views(batch.images, seen.maps.detach())
        twice = replace(
            batch,
            images=views,
            labels=batch.labels.repeat(2, 1),
            weights=batch.weights.repeat(2, 1),
            rows=batch.rows.repeat(2),
            boxes=None,
            keypoints=None,
        )
        terms = {f"image_{name}": value / 3 for name, value in self._head_losses(seen, batch).items()}
        terms |= {f"views_{name}": value * 2 / 3 for name, value in self._head_losses(self._see(views), twice).items()}
        return Losses(terms | {"centres": self._centre_loss(seen.matrix, batch)}, seen.pooled)

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """(B, h, w) for labels (B,): each cell's share in the label's logit, for a given length of the matrix.

        Cell i adds a_mi · x_ci / (hw · √|f_mc|) to entry (m, c); with a linear head the shares sum to the logit less
        its bias, as closely as the ε under the roots lets them.
        """
        with torch.no_grad():
            seen = self._see(images)
            averages = _averages(seen.cells, seen.maps)
            roots = (averages.abs() + _TINY).sqrt()
            length = (averages.sign() * roots).norm(dim=1, keepdim=True).clamp_min(1e-12)
            pull = self.scale * self.head.directions(self.scale * seen.matrix, labels) / (length * roots)
            pull = pull.unflatten(1, (seen.maps.shape[1], -1)) / seen.cells[0, 0].numel()
            return torch.einsum("bmc,bmhw,bchw->bhw", pull, seen.maps.float(), seen.cells.float())

    def _see(self, images: Tensor) -> _Seen:
        features = self.backbone(images, self.feature_map.levels)
        cells = self.feature_map(features)
        maps = self.attention(cells)
        return _Seen(features.pooled, cells, maps, bilinear_attention_pooling(cells, maps))

    def _head_losses(self, seen: _Seen, batch: Batch) -> dict[str, Tensor]:
        features = self.scale * seen.matrix
        losses = self.head.losses(features, batch)
        if self.counterfactual:
            anywhere = bilinear_attention_pooling(seen.cells, torch.empty_like(seen.maps).uniform_(0, 2))
            effect = self.head.classifier.towards(features, batch.labels)
            effect = self.head.silenced(effect - self.head.classifier(self.scale * anywhere).unsqueeze(1))
            losses["effect"] = self.head.loss(effect, batch.labels, batch.weights)
        return losses

    @torch.no_grad()
    def _views(self, images: Tensor, maps: Tensor) -> Tensor:
        """Crops and drops (2B, 3, S, S) by maps that are drawn for each image."""
        count, size = len(images), (images.shape[-2], images.shape[-1])
        # a training that has diverged is told of by its loss, and gets there
        chances = (maps.float().sum((2, 3)) + _TINY).sqrt().nan_to_num(1.0, posinf=1.0)
        chosen = torch.multinomial(chances, 2, replacement=True)  # (B, 2)
        one, other = (maps[torch.arange(count, device=maps.device), index] for index in chosen.unbind(1))
        crop, drop = (torch.empty(count, device=maps.device).uniform_(*bounds) for bounds in (CROP, DROP))
        crops = closer(images, regions(one, size, crop))
        return torch.cat([crops, hidden(images, other, drop)]).contiguous(memory_format=torch.channels_last)

    def _centre_loss(self, matrix: Tensor, batch: Batch) -> Tensor:
        """Σₜ weightₜ · ‖f − centre of labelₜ‖², over the batch; then the centres follow."""
        targets = F.normalize(self.centres[batch.labels], dim=2)  # (B, T, M · C)
        apart = (matrix.unsqueeze(1) - targets).square().sum(2)
        if self.training:
            self._move_centres(*map(gathered, (matrix.detach(), batch.labels, batch.weights)))
        return (batch.weights * apart).sum() / len(matrix)

    @torch.no_grad()
    def _move_centres(self, matrix: Tensor, labels: Tensor, weights: Tensor) -> None:
        """By β towards the batch's weighted mean of a class; by less where its weights sum to less than one."""
        classes, place = labels.flatten().unique(return_inverse=True)
        weights = weights.flatten().to(matrix.dtype)
        total = matrix.new_zeros(len(classes)).index_add_(0, place, weights).unsqueeze(1)
        members = matrix.repeat_interleave(labels.shape[1], dim=0) * weights.unsqueeze(1)
        sums = matrix.new_zeros(len(classes), matrix.shape[1]).index_add_(0, place, members)
        self.centres[classes] += self.beta * (sums - total * self.centres[classes]) / total.clamp_min(1)
