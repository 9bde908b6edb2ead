"""Parts that are found from class labels alone.

van der Klis et al., "PDiscoNet: Semantically consistent part discovery for fine-grained recognition" (2023), and
Aniraj et al., "PDiscoFormer: Relaxing part discovery constraints with vision transformers" (2024). With prototypes pₖ,
the last of which is the background, a cell with features f of C channels belongs to part k by the share

    aₖ = softmaxₖ(−‖f − pₖ‖² / √C).

A part's vector is the mean of f over cells, weighed by aₖ; the vectors of an image are normalised together and scaled
and shifted part by part (modulation); their mean over parts, some of which are dropped whole in training, is
classified. The shares are led by

    concentration   20 · mean over parts of Σ aₖ · ‖cell − centre of aₖ‖² / Σ aₖ   parts are compact, or
    variation       Σ |differences of neighbouring cells' aₖ| / cells              of any shape, but smooth
      and entropy   mean of −Σₖ aₖ log aₖ                                          (with Gumbel noise in training),
    orthogonality   mean of (cosines of part vectors − identity)²                  parts differ,
    equivariance    1 − cosine(moved aₖ, aₖ of the moved image)                    they move with the picture,
    presence        −meanₖ log maxᵢ max(aₖ of image i, averaged in windows)        off the border of some image,
    background      −2 · log max(r² · background, averaged in windows)             the background is at the border,

with distances in sides of the picture and r² the squared distance from the middle, 1 in the corners. `prior` chooses
the first: concentration is PDiscoNet's, for centres that say where a part is and for any backbone; variation is
PDiscoFormer's, for self-supervised transformers, whose features hold together what belongs together.

With `supervise`, annotated key points lead as well: part k is the k-th key point of the data, and where that is
visible the losses −log aₖ(cell) and −log(aₖ(cell) / Σ aₖ) say that the cell belongs to the part and the part to it.

Deviations. Modulation, part dropout, background, and the presence of parts but not of the background are PDiscoFormer's
with either prior. One head sees the mean of the part vectors, which for the papers' linear classifier is the mean of
its answers for each part. A part's vector is divided by the part's mass, or by that of a cell where it has less, and
not by the number of cells: in vectors that are normalised together, parts of few cells were a fiftieth of the
background's, and the classifier saw next to nothing. Four changes keep parts from vanishing, as all of them did within
ten steps on maps of 4 × 4 cells, where the papers have 28 × 28 and more: concentration is divided by the mass of the
part (published: 1000 · the mean over cells, least where there is no part); presence is a logarithm (published: 1 −
mean), whose gradient outlasts the part; cells are normalised and distances divided by √C, so that prototypes do not
outrun the rest of the head; windows are 3/28 of the side (published: 3 × 3 cells). Each image of a batch is moved by a
transform of its own, and cells without a counterpart are left out of the comparison. Answers are without Gumbel noise.
On a CNN the map of stride 16 is fused from two levels (`model.feature_map`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError, nearest
from fieldmark.core.ranks import gathered
from fieldmark.core.wording import counted, first_few
from fieldmark.data.task import Task
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.feature_map import FeatureMap
from fieldmark.model.head import Heads
from fieldmark.model.method import METHODS, Losses, Method, Prediction
from fieldmark.model.part_maps import cell_centres

__all__ = [
    "PartDiscovery",
    "background_loss",
    "concentration_loss",
    "entropy_loss",
    "equivariance_loss",
    "keypoint_loss",
    "orthogonality_loss",
    "presence_loss",
    "rigid_transforms",
    "variation_loss",
]

_PRIORS = ("concentration", "variation")
_CONCENTRATION, _BACKGROUND = 20.0, 2.0  # all other weights are 1, as published
_WINDOW = 3 / 28
"""Side of what is looked at together, in sides of the map: the papers' 3 × 3 of 28 × 28 cells."""
_MARGIN = 2 / 28
"""What presence leaves out on each side: the papers' 2 of 28 cells."""
_LEAST = 1e-6
"""Added before a logarithm: a clamp would have no gradient where a part is nowhere."""
_TURN, _SHIFT, _SCALE = 90.0, 0.11, (0.8, 1.4)
"""Of the second view: degrees either way, share of the side either way, smallest and largest."""


@METHODS.register("part_discovery")
@final
class PartDiscovery(Method):
    """backbone → cells → shares of K parts and the background → K part vectors → their mean → head.

    `Prediction.parts` is (B, K + 1, h, w): shares that sum to 1 in each cell, the background last.
    """

    pools: ClassVar[bool] = True
    adds_layers: ClassVar[bool] = True
    has_background: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        heads: Heads,
        *,
        parts: int = 8,
        prior: str = "concentration",
        equivariance: float = 1.0,
        part_dropout: float = 0.3,
        supervise: float = 0.0,
    ) -> None:
        super().__init__(backbone)
        if parts < 1:
            raise RecipeError(f"method.parts = {parts} is not allowed", "Expected at least one part; 8 is the default.")
        if prior not in _PRIORS:
            raise RecipeError(f"method.prior = {prior!r} is not allowed", nearest(prior, _PRIORS))
        if not 0 <= part_dropout < 1:
            raise RecipeError(f"method.part_dropout = {part_dropout} is not allowed", "Expected a share in [0, 1).")
        for name, weight in (("equivariance", equivariance), ("supervise", supervise)):
            if weight < 0:
                raise RecipeError(f"method.{name} = {weight} is not allowed", "Expected a weight of 0 (off) or more.")
        if supervise:
            _check_keypoints(heads.task, parts)
        self.prior, self.equivariance, self.part_dropout, self.supervise = prior, equivariance, part_dropout, supervise
        self.cells = FeatureMap(backbone.without_pooling())
        self.prototypes = nn.Parameter(0.5 * torch.randn(parts + 1, self.cells.channels))
        self.modulation = nn.LayerNorm([parts + 1, self.cells.channels])
        self.head = heads(self.cells.channels)

    @classmethod
    def needs_keypoints(cls, options: Mapping[str, Any]) -> bool:
        """Whether parts are supervised."""
        return bool(options.get("supervise"))

    def forward(self, images: Tensor) -> Prediction:
        """(B, 3, S, S) → logits (B, K), embedding (B, C), shares (B, parts + 1, h, w)."""
        features, pooled = self._features(images)
        maps = self._scores(features).softmax(dim=1)
        embedding = self._vectors(features, maps)[:, :-1].mean(dim=1)
        return Prediction(self.head(embedding), embedding, pooled, maps)

    def losses(self, batch: Batch, step: int) -> Losses:
        """The head's, and those that lead the parts."""
        features, pooled = self._features(batch.images)
        scores = self._scores(features)
        maps = self._drawn(scores)
        vectors = self._vectors(features, maps)
        kept = F.dropout1d(vectors[:, :-1], self.part_dropout, self.training)
        losses = self.head.losses(kept.mean(dim=1), batch)
        parts, background = maps[:, :-1], maps[:, -1]
        if self.prior == "concentration":
            losses["concentration"] = _CONCENTRATION * concentration_loss(parts)
        else:
            losses |= {"variation": variation_loss(maps), "entropy": entropy_loss(maps)}
        losses["orthogonality"] = orthogonality_loss(vectors)
        losses["presence"] = presence_loss(gathered(parts))
        losses["background"] = _BACKGROUND * background_loss(background)
        if self.equivariance:
            theta = rigid_transforms(len(batch.images), batch.images)
            again = self._drawn(self._scores(self._features(moved(batch.images, theta))[0]))
            losses["equivariance"] = self.equivariance * equivariance_loss(parts, again[:, :-1], theta)
        if self.supervise:
            assert batch.keypoints is not None, "the data has key points, or the method would not have been made"
            points = gathered(batch.keypoints)  # a mean over those that are visible, wherever they are
            places = points[:, :, :2] / batch.images.shape[-1]
            losses["keypoints"] = self.supervise * keypoint_loss(gathered(scores), places, points[:, :, 2] > 0)
        return Losses(losses, pooled)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w), each cell normalised, and what the backbone pooled (B, F)."""
        seen = self.backbone(images, self.cells.levels)
        cells: Tensor = self.cells(seen)
        return F.layer_norm(cells.permute(0, 2, 3, 1), [cells.shape[1]]).permute(0, 3, 1, 2), seen.pooled

    def _scores(self, features: Tensor) -> Tensor:
        """(B, parts + 1, h, w) −‖f − p‖² / √C, but for ‖f‖², which is the same for all prototypes."""
        products = torch.einsum("bchw,kc->bkhw", features, self.prototypes)
        lengths = self.prototypes.square().sum(dim=1)
        return (2 * products.float() - lengths[:, None, None]) / math.sqrt(features.shape[1])

    def _drawn(self, scores: Tensor) -> Tensor:
        """The shares that are learnt from."""
        if self.prior == "variation" and self.training:
            return F.gumbel_softmax(scores, dim=1)
        return scores.softmax(dim=1)

    def _vectors(self, features: Tensor, maps: Tensor) -> Tensor:
        """(B, parts + 1, C), modulated."""
        mass = maps.sum(dim=(2, 3)).clamp_min(1.0)  # of less than a cell the vector fades
        means = torch.einsum("bkhw,bchw->bkc", maps, features.float()) / mass[..., None]
        vectors: Tensor = self.modulation(means)
        return vectors


def _check_keypoints(task: Task, parts: int) -> None:
    """Raise RecipeError where there are no key points to learn from, or more than there are parts."""
    if task.keypoints is None:  # a bundle: it has learnt already
        return
    if not task.keypoints:
        raise RecipeError(
            "method.supervise learns from key points, but no training image has a visible one",
            "Set it to 0 to find parts from labels alone, or add keypoint.<name>.x and .y to the table.",
        )
    if len(task.keypoints) > parts:
        raise RecipeError(
            f"method.supervise needs a part for each key point, but there are {len(task.keypoints)} key points "
            f"({first_few(task.keypoints)}) and only {counted(parts, 'part')}",
            f"Set method.parts={len(task.keypoints)} or more.",
        )


def concentration_loss(parts: Tensor) -> Tensor:
    """Shares (B, K, h, w) → mean squared distance of a part's mass from its centre, in sides of the picture."""
    cells = cell_centres(*parts.shape[-2:], device=parts.device)  # (h, w, 2)
    mass = parts.sum(dim=(2, 3)).clamp_min(1e-12)  # (B, K)
    centres = torch.einsum("bkhw,hwd->bkd", parts, cells) / mass[..., None]
    distances = (cells - centres[:, :, None, None]).square().sum(dim=-1)  # (B, K, h, w)
    return ((parts * distances).sum(dim=(2, 3)) / mass).mean()


def variation_loss(maps: Tensor) -> Tensor:
    """Shares (B, M, h, w) → Σ |differences of neighbours|, per image and cell."""
    down = (maps[..., 1:, :] - maps[..., :-1, :]).abs().sum()
    right = (maps[..., 1:] - maps[..., :-1]).abs().sum()
    return (down + right) / (len(maps) * maps.shape[2] * maps.shape[3])


def entropy_loss(maps: Tensor) -> Tensor:
    """Shares (B, M, h, w) → mean entropy of a cell in nats: 0 where each cell belongs to one part."""
    return -(maps * maps.clamp_min(1e-12).log()).sum(dim=1).mean()


def orthogonality_loss(vectors: Tensor) -> Tensor:
    """Part vectors (B, M, C) → mean over B and pairs of their squared cosines; a vector and itself count as 0."""
    directions = F.normalize(vectors, dim=2)
    cosines = directions @ directions.transpose(1, 2)
    return (cosines - torch.eye(vectors.shape[1], device=vectors.device)).square().mean()


def presence_loss(parts: Tensor) -> Tensor:
    """Shares (B, K, h, w) → −log of the largest that a part has in some window of some image, off the border; mean over
    parts."""
    height, width = parts.shape[-2:]
    y, x = round(height * _MARGIN), round(width * _MARGIN)  # padding makes corners the easiest cells to tell apart
    inner = parts[..., y : height - y, x : width - x]
    return -(_around(inner, height, width).amax(dim=(0, 2, 3)) + _LEAST).log().mean()


def background_loss(background: Tensor) -> Tensor:
    """The background's shares (B, h, w) → −log of the largest in some window, which counts by r²; mean over images."""
    around = _around(background.unsqueeze(1), *background.shape[-2:]).squeeze(1)  # (B, h', w')
    y, x = (torch.linspace(-1, 1, side, device=around.device) for side in around.shape[-2:])
    radius = y[:, None].square() + x.square()
    largest = (around * radius / radius.max()).amax(dim=(1, 2))
    return -(largest + _LEAST).log().mean()


def _around(maps: Tensor, height: int, width: int) -> Tensor:
    """Means over the windows that lie in `maps`, which are (part of) maps of this size."""
    return F.avg_pool2d(maps, [max(1, round(side * _WINDOW)) for side in (height, width)], stride=1)


def rigid_transforms(count: int, like: Tensor) -> Tensor:
    """(count, 2, 3) drawn from torch's global generator: turns, scales and shifts.

    They say where a point of the new view comes from, in coordinates from −1 to 1 of edge to edge.
    """
    draw = torch.rand(4, count, device=like.device)
    angle = math.radians(_TURN) * (2 * draw[0] - 1)
    scale = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * draw[1]
    x, y = 2 * _SHIFT * (2 * draw[2:] - 1)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    return torch.stack([torch.stack([cos, -sin, x], dim=1), torch.stack([sin, cos, y], dim=1)], dim=1)


def moved(maps: Tensor, theta: Tensor) -> Tensor:
    """Images or maps (B, C, h, w) as the new view has them, 0 where nothing comes from."""
    grid = F.affine_grid(theta.to(maps), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, align_corners=False)


def equivariance_loss(parts: Tensor, again: Tensor, theta: Tensor) -> Tensor:
    """Shares (B, K, h, w) of images and of the same images moved by `theta` (B, 2, 3) → 1 − mean cosine over cells."""
    both = (moved(torch.ones_like(parts[:, :1]), theta) > 0.5).to(parts)  # cells that either view has
    here, there = (moved(parts, theta) * both).flatten(2), (again * both).flatten(2)
    return 1 - F.cosine_similarity(here, there, dim=2).mean()


def keypoint_loss(scores: Tensor, places: Tensor, visible: Tensor) -> Tensor:
    """Scores (B, M, h, w), whose softmax over M are shares a; key points (B, P, 2) in shares of the side, and which of
    them are visible (B, P) → mean over visible ones inside the image of −log a(cell) − log(a(cell) / Σ a), of the part
    with the key point's number. 0 where there is none.
    """
    height, width = scores.shape[-2:]
    inside = visible & (places >= 0).all(dim=2) & (places < 1).all(dim=2)  # false for NaN
    image, part = inside.nonzero(as_tuple=True)
    logs = scores.log_softmax(dim=1)[image, part].flatten(1)  # (n, h·w)
    if not len(logs):
        return scores.new_zeros(())
    at = places[image, part]
    cell = (at[:, 1] * height).long() * width + (at[:, 0] * width).long()
    row = torch.arange(len(logs), device=logs.device)
    return -(logs[row, cell] + logs.log_softmax(dim=1)[row, cell]).mean()
