"""A batch at a time: images mixed with one another, and what they then count as.

Pure functions, deterministic given the generator: a CPU generator, so that drawing never waits for a device.
The partner of an image is that of a random permutation; the share is one per batch, as in the authors' code.

Shapes: B images of H × W pixels, T targets per image, 2T once mixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Generator, Tensor

from fieldmark.core.errors import RecipeError, nearest

__all__ = ["KINDS", "MIXES", "WEIGHED", "ClassMaps", "Mixed", "cutmix", "mix", "mixup", "snapmix"]

ClassMaps = Callable[[Tensor, Tensor], Tensor]
"""images (B, 3, H, W), labels (B,) → (B, h, w): what each cell adds to the label's logit, of any scale."""


class Mixed(NamedTuple):
    """A batch and its targets, mixed or not."""

    images: Tensor
    """(B, 3, H, W)."""
    labels: Tensor
    """(B, 2T) int64: own, then the partner's; (B, T) if not mixed."""
    weights: Tensor
    """Like labels; over the batch they sum to what they did before, unless they are weighed by what is seen."""


def mixup(images: Tensor, labels: Tensor, weights: Tensor, *, alpha: float, generator: Generator) -> Mixed:
    """Blend each image with a partner (Zhang et al. 2018): share λ ~ Beta(alpha, alpha) of its own.

    images (B, 3, H, W) floating point, labels (B, T), weights (B, T). RecipeError unless alpha > 0.
    """
    assert images.is_floating_point()
    share = _beta(alpha, generator)
    partner = _partners(images, generator)
    return Mixed(images.lerp(images[partner], 1 - share), *_targets(labels, weights, partner, share))


def cutmix(images: Tensor, labels: Tensor, weights: Tensor, *, alpha: float, generator: Generator) -> Mixed:
    """Paste a rectangle of a partner into each image (Yun et al. 2019); share λ ~ Beta(alpha, alpha) stays its own.

    images (B, 3, H, W) of any type, labels (B, T), weights (B, T). The rectangle is centred anywhere and cut at the
    edge; the targets follow the area that is really pasted. RecipeError unless alpha > 0.
    """
    height, width = images.shape[-2:]
    side = math.sqrt(1 - _beta(alpha, generator))
    partner = _partners(images, generator)
    box = _box(height, width, side, generator)
    mixed = images.clone()
    mixed[box] = images[partner][box]
    share = 1 - mixed[box][0, 0].numel() / (height * width)
    return Mixed(mixed, *_targets(labels, weights, partner, share))


def snapmix(
    images: Tensor, labels: Tensor, weights: Tensor, *, alpha: float, generator: Generator, class_maps: ClassMaps
) -> Mixed:
    """Paste a box of a partner, resized, into another box of each image, and weigh targets by what is seen of them
    (Huang et al., "SnapMix: semantically proportional mixing for augmenting fine-grained data", 2021).

    images (B, 3, H, W) floating point, labels (B, T), weights (B, T). Two shares λ ~ Beta(alpha, alpha), two boxes of
    1 − λ of the area. With s a class activation map from its minimum, of sum 1: an image's own target keeps
    1 − Σ s over the box that is covered, the partner's gets Σ of its s over the box that is taken; they need not sum to
    one. Deviations: where both are of one class its weights add up once; the authors' code counts that sum twice. And
    maps are those of the network as it answers (BatchNorm's running statistics), not of its training mode.
    RecipeError unless alpha > 0.
    """
    assert images.is_floating_point()
    height, width = images.shape[-2:]
    shares = _beta(alpha, generator), _beta(alpha, generator)
    partner = _partners(images, generator)
    into, taken = (_box(height, width, math.sqrt(1 - share), generator) for share in shares)
    mixed, patch = images.clone(), images[partner][taken]
    if not (mixed[into].numel() and patch.numel()):
        return Mixed(images, *_targets(labels, weights, partner, 1.0))
    mixed[into] = F.interpolate(patch, size=mixed[into].shape[-2:], mode="bilinear", align_corners=True)
    maps = torch.stack([_visible(class_maps(images, label), height, width) for label in labels.unbind(1)], dim=1)
    own, others = 1 - maps[into].sum((2, 3)), maps[partner][taken].sum((2, 3))  # (B, T)
    return Mixed(
        mixed,
        torch.cat([labels, labels[partner]], dim=1),
        torch.cat([own * weights, others * weights[partner]], dim=1),
    )


MIXES: dict[str, Callable[..., Mixed]] = {"mixup": mixup, "cutmix": cutmix, "snapmix": snapmix}
"""Ways to mix, by name."""

WEIGHED = frozenset({"snapmix"})
"""Those that weigh targets by class maps."""

KINDS: dict[str, tuple[str, ...]] = {"none": (), **{name: (name,) for name in MIXES}, "both": ("mixup", "cutmix")}
"""What a recipe can ask for → the ways that each batch's is drawn from."""


def mix(
    images: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    kind: str,
    alphas: float | Mapping[str, float] = 1.0,
    probability: float = 1.0,
    generator: Generator,
    class_maps: ClassMaps | None = None,
) -> Mixed:
    """Mix a batch with this probability, else return it as it is (T targets).

    `kind` is one of KINDS; with "both", mixup or CutMix with equal chances. `alphas`: one for all, or by name.
    `class_maps` is asked by the kinds that are WEIGHED, and only when a batch is mixed.
    RecipeError for an unknown kind, an alpha that is missing or not positive, a probability outside [0, 1].
    """
    if kind not in KINDS:
        raise RecipeError(f"There is no mix {kind!r}", nearest(kind, KINDS))
    if not 0 <= probability <= 1:
        raise RecipeError(f"The probability of mixing cannot be {probability}", "Expected a number from 0 to 1.")
    ways = KINDS[kind]
    if not ways or _uniform(generator) >= probability:
        return Mixed(images, labels, weights)
    way = ways[int(_uniform(generator) * len(ways))]
    if isinstance(alphas, Mapping) and way not in alphas:
        raise RecipeError(
            f"No alpha is given for {way!r}", "Expected an alpha for each way to mix, or a single number."
        )
    alpha = alphas[way] if isinstance(alphas, Mapping) else alphas
    asks = {"class_maps": class_maps} if way in WEIGHED else {}
    return MIXES[way](images, labels, weights, alpha=alpha, generator=generator, **asks)


def _uniform(generator: Generator) -> float:
    """In [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _beta(alpha: float, generator: Generator) -> float:
    """A draw from Beta(alpha, alpha), by its quantile function: torch's own sampler takes no generator."""
    if not 0 < alpha < math.inf:
        raise RecipeError(f"Mixing cannot have alpha = {alpha}", "Expected a positive number, such as 1.0.")
    return float(betaincinv(alpha, alpha, _uniform(generator)))


def _partners(images: Tensor, generator: Generator) -> Tensor:
    """(B,) a random permutation."""
    return torch.randperm(len(images), generator=generator).to(images.device)


def _span(length: int, share: float, generator: Generator) -> tuple[int, int]:
    """Start and end of `share` of a side around a random pixel, cut at the edge."""
    centre = int(_uniform(generator) * length)
    half = int(length * share) // 2
    return max(centre - half, 0), min(centre + half, length)


def _box(height: int, width: int, side: float, generator: Generator) -> tuple[EllipsisType, slice, slice]:
    """The index of a rectangle with `side` of each side, in images (…, H, W)."""
    return ..., slice(*_span(height, side, generator)), slice(*_span(width, side, generator))


def _visible(maps: Tensor, height: int, width: int) -> Tensor:
    """Class maps (B, h, w) → each pixel's share (B, H, W): from the least on, of sum 1; even where a map is."""
    maps = maps.float() - maps.float().amin((1, 2), keepdim=True)  # first, so that an even map is exactly that
    maps = F.interpolate(maps.unsqueeze(1), size=(height, width), mode="bilinear").squeeze(1)
    maps = maps - maps.amin((1, 2), keepdim=True)
    total = maps.sum((1, 2), keepdim=True)
    return torch.where(total > 0, maps / total, 1 / (height * width))


def _targets(labels: Tensor, weights: Tensor, partner: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """(B, 2T) each: one's own targets, then the partner's."""
    return (
        torch.cat([labels, labels[partner]], dim=1),
        torch.cat([share * weights, (1 - share) * weights[partner]], dim=1),
    )
