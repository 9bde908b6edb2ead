"""`Beside`: several networks look at the same image, and their maps are one.

Networks that were made alike and trained alike still err on different images. Joined before the head, they give a
classifier more to read, and one training fits all of them to the task: the two streams of Lin, RoyChowdhury & Maji,
"Bilinear CNN models for fine-grained visual recognition" (2015), joined by concatenation and not by an outer product.

Shapes: B images of S × S pixels, C channels of all networks together, a map of h × w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.core.imports import compiler_on_demand

with compiler_on_demand():
    from timm.models import group_parameters

if TYPE_CHECKING:
    from fieldmark.model.backbone import Normalization

__all__ = ["Beside"]


@final
class Beside(nn.Module):
    """Convolutional timm models beside each other, as one: what `Backbone` asks of a model, it answers."""

    def __init__(self, models: Sequence[Any], normalizations: Sequence[Normalization], *, name: str) -> None:
        """Images come as the first of the models expects them. Raises RecipeError for one that gives no map of the
        form (C, h, w)."""
        super().__init__()
        self.name = name
        if any(
            hasattr(model, "num_prefix_tokens") or getattr(model, "output_fmt", "NCHW") != "NCHW" for model in models
        ):
            raise self._not_convolutional()
        self.models: Any = nn.ModuleList(models)  # timm's models share methods, not a class
        self.num_features = sum(model.num_features for model in models)
        self.head_hidden_size = sum(_width(model) for model in models)
        self.feature_info = [
            {"num_chs": sum(level["num_chs"] for level in alike), "reduction": alike[0]["reduction"], "module": ""}
            for alike in _levels(models)
        ]
        first, *others = normalizations
        self.eyes = nn.ModuleList([nn.Identity(), *(_Eye(first, own) for own in others)])

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, C, h, w). Raises RecipeError where the networks' maps have different cells."""
        return self._joined([model.forward_features(eye(images)) for eye, model in self._each()])

    def forward_head(self, features: Tensor, *, pre_logits: bool = True) -> Tensor:
        """What each network makes of its own channels, one after the other: (B, C, h, w) → (B, D)."""
        own = features.split([model.num_features for model in self.models], dim=1)
        found = [model.forward_head(one, pre_logits=pre_logits) for model, one in zip(self.models, own, strict=True)]
        return torch.cat(found, dim=1)

    def forward_intermediates(self, images: Tensor, *, indices: Sequence[int], **how: Any) -> Any:
        """As timm's: the last map and those of these levels, or the latter alone."""
        every = [model.forward_intermediates(eye(images), indices=indices, **how) for eye, model in self._each()]
        if how.get("intermediates_only"):
            return [self._joined(maps) for maps in zip(*every, strict=True)]
        last, levels = zip(*every, strict=True)
        return self._joined(last), [self._joined(maps) for maps in zip(*levels, strict=True)]

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The stage of each parameter, or its layer. Those of networks with fewer layers count as the later ones."""
        found = [group_parameters(model, model.group_matcher(coarse=coarse), reverse=True) for model in self.models]
        last = max(max(one.values()) for one in found)
        ranks = {
            f"models.{number}.{name}": rank if coarse else rank + last - max(one.values())
            for number, one in enumerate(found)
            for name, rank in one.items()
        }
        return ranks.__getitem__

    def _each(self) -> Iterator[tuple[nn.Module, Any]]:
        return zip(self.eyes, self.models, strict=True)

    def _joined(self, maps: Sequence[Tensor]) -> Tensor:
        if any(one.ndim != 4 for one in maps):
            raise self._not_convolutional()
        if any(one.shape[-2:] != other.shape[-2:] for one, other in pairwise(maps)):
            sizes = " and ".join(" × ".join(map(str, one.shape[-2:])) for one in maps)
            raise RecipeError(
                f"The networks of {self.name!r} see different grids: {sizes} cells", "Choose networks of one stride."
            )
        return torch.cat(list(maps), dim=1)

    def _not_convolutional(self) -> RecipeError:
        return RecipeError(
            f"{self.name!r} names a network that is not convolutional, and only those can stand beside each other",
            "Choose networks such as tf_efficientnet_lite0, resnet50 or mobilenetv2_100, or a single one.",
        )


class _Eye(nn.Module):
    """Images that one network expects, as another one does. Its numbers are weights that a bundle keeps."""

    def __init__(self, given: Normalization, wanted: Normalization) -> None:
        super().__init__()
        mean, std = (torch.tensor([one, other]) for one, other in ((given.mean, wanted.mean), (given.std, wanted.std)))
        self.register_buffer("scale", (std[0] / std[1]).view(1, 3, 1, 1))
        self.register_buffer("shift", ((mean[0] - mean[1]) / std[1]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) of the same shape."""
        return images * self.get_buffer("scale") + self.get_buffer("shift")


def _width(model: Any) -> int:
    width: int = getattr(model, "head_hidden_size", None) or model.num_features
    return width


def _levels(models: Sequence[Any]) -> list[tuple[dict[str, Any], ...]]:
    """The levels that all of them have, with those of one stride together; none where they do not match."""
    every = [getattr(model.feature_info, "info", model.feature_info) for model in models]
    matching = len({tuple(level["reduction"] for level in one) for one in every}) == 1
    return list(zip(*every, strict=True)) if matching else []
