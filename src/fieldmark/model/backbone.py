"""Any timm model as a backbone: feature map, pooled embedding, its own preprocessing and weights.

Shapes: B images of S × S pixels, C channels of the last feature map (h × w), D pooled features.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError, WeightsError
from fieldmark.core.imports import compiler_on_demand
from fieldmark.core.reading import reason
from fieldmark.core.recipe import NONE, Choice
from fieldmark.core.recipe import Backbone as BackboneChoice
from fieldmark.core.wording import counted
from fieldmark.model.beside import Beside
from fieldmark.model.choosing import check_backbone, each_of, settled_weights, sources_of, weights_file
from fieldmark.model.hub import asked_once, configured, not_downloaded
from fieldmark.model.installed import installed_tensors
from fieldmark.model.known import Known
from fieldmark.model.necks.neck import NECKS, Neck

with compiler_on_demand():
    import timm
    from timm.data.config import resolve_model_data_config

__all__ = [
    "Backbone",
    "Features",
    "Level",
    "Normalization",
    "build_backbone",
    "not_numbers",
    "processing",
    "rehearsed_backbone",
]


_OTHER_BACKBONE = "Choose another backbone, such as vit_small_patch14_dinov2 or resnet50."


class Features(NamedTuple):
    """What a backbone sees."""

    map: Tensor
    """(B, C, h, w)."""
    pooled: Tensor
    """(B, D)."""
    levels: tuple[Tensor, ...] = ()
    """The earlier maps that were asked for, (B, C', h', w') each."""


class Level(NamedTuple):
    """One of a backbone's maps."""

    channels: int
    stride: int
    """Pixels per cell."""
    module: str = ""
    """The name of the submodule that makes it, if it is one."""


@dataclass(frozen=True)
class Normalization:
    """How pixels become numbers: (pixel / 255 − mean) / std, and how images are resized."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → float32, channels-last."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class Backbone(nn.Module):
    """A timm model without its classifier, and the neck that pools its feature map."""

    def __init__(
        self, model: Any, *, name: str, normalization: Normalization, size: int, neck: Choice | None = None
    ) -> None:
        """`size`: the side of the images that the model was made for, in pixels."""
        super().__init__()
        self.model = model  # timm's models share methods, not a class
        self.last = nn.Identity()
        """What the last map passes through, as the model gives it: a place for hooks that read it or exchange it."""
        self.name = name
        self.normalization = normalization
        self.channels: int = model.num_features
        """C of the last feature map."""
        self.neck = None if neck is None or neck.name == NONE else _neck(neck, self.channels)
        own: int = getattr(model, "head_hidden_size", None) or model.num_features
        self.width = own if self.neck is None else self.neck.width
        self.pools = True
        self.fixed_size: int | None = _fixed_size(model)
        self._size = self.fixed_size or size

    def forward(self, images: Tensor, levels: tuple[int, ...] = ()) -> Features:
        """Normalised images (B, 3, S, S) → feature map, pooled embedding and the maps of these `levels`."""
        if isinstance(images, Known):
            return images.seen(self, levels)
        return self.features(*self.computed(images, levels))

    def computed(self, images: Tensor, levels: tuple[int, ...] = ()) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the model makes of normalised images: its last map, in a form of its own, and the maps of `levels`."""
        if not levels:
            return self.model.forward_features(images), ()
        # with the last one beside them: some models (Hiera) compute no further than what is asked for
        asked = sorted({*levels, len(self.levels) - 1})
        features, maps = self.model.forward_intermediates(images, indices=asked, output_fmt="NCHW")
        return features, tuple(maps[asked.index(level)] for level in levels)

    def features(self, last: Tensor, levels: tuple[Tensor, ...] = ()) -> Features:
        """What was `computed`, as everybody reads it."""
        last = self.last(last)
        return Features(self.as_map(last), self._pool(last), levels)

    def shares(self, images: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, h, w): what each cell of the map adds to `score`, a function of pooled features (B, D) → (B,).

        Gradient × activation: for a linear score of averaged cells each cell's exact share. Zeros where the pooled
        features are those of a class token.
        """
        with torch.no_grad():
            features = self.model.forward_features(images)
        with torch.enable_grad():
            features = features.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(score(self._pool(features)).sum(), features)
        return self.as_map(features.detach() * gradient).float().sum(1)

    def without_pooling(self) -> Self:
        """Drop the model's layers behind the feature map, which a method that pools by itself would leave without a
        gradient; `pooled` is then the plain mean of the map.
        """
        # Asked of gradients: timm's own pruning takes MobileNetV2's last convolution away, which is before the map, and
        # modules that a model uses without calling them (the rotary positions of EVA and DINOv3) run no hook.
        weights = list(self.model.parameters())
        one = torch.zeros(1, 3, self._size, self._size, device=weights[0].device)
        with torch.enable_grad():
            seen = self.model.eval().forward_features(one).sum()
        gradients = torch.autograd.grad(seen, weights, allow_unused=True)
        used = {weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None}
        for model in self.model.models if isinstance(self.model, Beside) else [self.model]:
            for name, child in list(model.named_children()):
                own = set(child.parameters())
                if own and used.isdisjoint(own):
                    setattr(model, name, nn.Identity())
        self.model.train()
        self.pools, self.width = False, self.channels
        return self

    def level(self, images: Tensor, index: int) -> Tensor:
        """Normalised images (B, 3, S, S) → the map of one level (B, C', h', w'); nothing behind it is computed."""
        (found,) = self.model.forward_intermediates(
            images, indices=[index], output_fmt="NCHW", stop_early=True, intermediates_only=True
        )
        return found

    @property
    def levels(self) -> tuple[Level, ...]:
        """The maps that can be asked for, in the order of computation. Raises RecipeError where there are none."""
        info = getattr(self.model, "feature_info", ()) if hasattr(self.model, "forward_intermediates") else ()
        if not (found := getattr(info, "info", info)):
            raise RecipeError(
                f"The backbone {self.name!r} has no feature maps, which this method needs",
                "Choose a convolutional network or a transformer, such as resnet50 or vit_small_patch14_dinov2; of "
                "several side by side, such as have as many maps of the same strides.",
            )
        return tuple(Level(one["num_chs"], one["reduction"], one["module"]) for one in found)

    def _pool(self, features: Tensor) -> Tensor:
        """What the model computes before its head → (B, D)."""
        if self.neck is not None:
            return self.neck(self.as_map(features))
        if not self.pools:
            return self.as_map(features).mean(dim=(2, 3))
        pooled: Tensor = self.model.forward_head(features, pre_logits=True)
        return pooled

    def as_map(self, features: Tensor) -> Tensor:
        """timm answers (B, C, h, w), (B, h, w, C) or tokens (B, prefix + h·w, C)."""
        if not isinstance(features, Tensor):  # CrossViT's branches
            raise RecipeError(f"The backbone {self.name!r} gives several maps instead of one", _OTHER_BACKBONE)
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else features
        tokens = features[:, getattr(self.model, "num_prefix_tokens", 0) :]
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise RecipeError(
                f"The backbone {self.name!r} gives {tokens.shape[1]} tokens, which do not form a square grid of cells",
                _OTHER_BACKBONE,
            )
        return tokens.transpose(1, 2).unflatten(2, (side, side))

    def with_map(self, features: Tensor, given: Tensor) -> Tensor:
        """`features` as the model gives them, with the map (B, C, h, w) in place of their own: undoes `as_map`."""
        if features.ndim == 4:
            return given.permute(0, 2, 3, 1) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else given
        prefix = features[:, : getattr(self.model, "num_prefix_tokens", 0)]
        return torch.cat([prefix.expand(len(given), -1, -1), given.flatten(2).transpose(1, 2)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.name}, width={self.width}"


def build_backbone(
    choice: BackboneChoice, *, size: int, neck: Choice | None = None, load_weights: bool = True
) -> Backbone:
    """The backbone that a recipe names, with its neck.

    `size` is its input's side in pixels. Raises RecipeError for a name or option that timm does not have, and
    WeightsError for weights that are unavailable or belong to another architecture.
    """
    choice = settled_weights(choice)
    check_backbone(choice, weights=load_weights)
    models, normalizations = [], []
    each = each_of(choice)
    for one in each:
        model = _create(one, size, pretrained=load_weights and one.weights == "hub", alone=len(each) == 1)
        if load_weights and one.weights == "installed":
            _fill(model, installed_tensors(one.name), f"The installed package of {one.name}", one.name)
        config = resolve_model_data_config(model)
        mean, std = one.mean or tuple(config["mean"]), one.std or tuple(config["std"])
        normalizations.append(Normalization(mean=mean, std=std, interpolation=config["interpolation"]))
        models.append(model)
    whole = models[0] if len(models) == 1 else Beside(models, normalizations, name=choice.name)
    if load_weights and sources_of(choice).isdisjoint(("hub", "installed", "none")):
        path = weights_file(choice.weights)
        _fill(whole, _read(path), str(path), choice.name)
    return Backbone(whole, name=choice.name, normalization=normalizations[0], size=size, neck=neck)


def rehearsed_backbone(choice: BackboneChoice, *, size: int) -> Backbone:
    """The same without its weights, which has seen an image of noise. Raises RecipeError for a model that cannot be a
    backbone, or not at this size."""
    with processing(choice.name, size), torch.no_grad():
        backbone = build_backbone(choice.model_copy(update={"weights": NONE}), size=size).eval()
        backbone(torch.rand(1, 3, size, size))
    return backbone


@contextmanager
def processing(name: str, size: int) -> Iterator[None]:
    """Turn what layers say about images that they cannot process into a RecipeError."""
    try:
        yield
    except (AssertionError, RuntimeError, ValueError) as error:  # a convolution larger than what it looks at, and such
        raise RecipeError(
            f"The backbone {name!r} cannot process images of {size} px ({reason(error)})",
            "Choose another images.size, or another backbone.",
        ) from error


def _neck(choice: Choice, channels: int) -> Neck:
    options = NECKS.complete(*choice.pair)
    return NECKS.get(choice.name)(channels, **options)


def _create(choice: BackboneChoice, size: int, *, pretrained: bool, alone: bool) -> nn.Module:
    """Transformers learn their grid's side when they are made; most can interpolate to others afterwards."""
    variants: list[dict[str, Any]] = [{}]
    if getattr(configured(choice.name), "fixed_input_size", False):
        variants = [{"dynamic_img_size": True, "dynamic_img_pad": True, "img_size": size}, {"img_size": size}, {}]
    for extra in variants:
        try:
            with asked_once() if pretrained else nullcontext():
                return timm.create_model(choice.name, pretrained=pretrained, num_classes=0, **(extra | choice.options))
        except (TypeError, AssertionError, ValueError) as error:
            if extra and any(key in str(error) for key in extra):
                continue
            if not choice.options:
                raise
            raise RecipeError(
                f"{choice.name!r} does not accept backbone.options {choice.options!r}: {error}",
                "Change or remove these options.",
            ) from None
        except Exception as error:  # the hub's client raises its own kinds, those of the network and of the file
            if not pretrained:
                raise
            raise not_downloaded(choice.name, error, alone=alone) from error
    raise AssertionError("the last variant either returns or raises")


def _fixed_size(model: nn.Module) -> int | None:
    """The side that a model is bound to, or none."""
    patches = getattr(model, "patch_embed", None)
    if patches is None or getattr(model, "dynamic_img_size", False) or not getattr(patches, "strict_img_size", False):
        return None
    return int(patches.img_size[0])


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error})",
            "Other formats are refused because they can run code: convert it with safetensors.torch.save_file.",
        ) from None


def _fill(model: nn.Module, weights: Mapping[str, Tensor], source: str, name: str) -> None:
    """Put weights into a model; the classifier that came with them is dropped, all else must fit."""
    classifier = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    weights = {
        key.removeprefix("backbone.model."): value
        for key, value in weights.items()
        if not any(key.startswith(f"{head}.") for head in heads)
    }
    own = model.state_dict()
    if any(key not in own for key in weights) and all(key in weights for key in own):
        weights = {key: weights[key] for key in own}  # a Fieldmark bundle: the head stays behind
    if own.keys() == weights.keys():
        weights = _resampled(model, weights)
    _check_fit(weights, own, source, name)
    if wrong := not_numbers(weights):
        raise WeightsError(
            f"{source} contains values that are not finite: {wrong}",
            "The file is damaged, or the training that wrote it diverged: give another with --weights.",
        )
    model.load_state_dict(weights)


def not_numbers(weights: Mapping[str, Tensor]) -> str:
    """How many of the tensors contain NaN or infinite values, in words, or "" if none does."""
    wrong = [key for key, value in weights.items() if not value.isfinite().all()]
    return (
        f"NaN or infinity in {len(wrong):,} of {counted(len(weights), 'tensor')}, such as {wrong[0]}" if wrong else ""
    )


def _resampled(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's tables of positions for its grid at this size, by the filter that timm keeps beside the model."""
    other = [key for key, value in model.state_dict().items() if value.shape != weights[key].shape]
    fit = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    # timm would resample patches too, and so take the weights of another architecture
    return fit(weights, model) if fit and other and all("pos" in key for key in other) else weights


def _check_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str, name: str) -> None:
    missing = sorted(own.keys() - weights.keys())
    foreign = sorted(weights.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    if not (missing or foreign or shapes):
        return
    found = [f"{len(keys)} {what} (such as {keys[0]})" for keys, what in (
        (missing, "missing"), (foreign, "unknown"), (shapes, "of another shape")) if keys]  # fmt: skip
    raise WeightsError(
        f"{source} does not hold the weights of {name!r}: of {len(own)} tensors, {', '.join(found)}",
        "Only weights of the same networks side by side fit, such as those of a bundle."
        if "+" in name
        else "Name the architecture of these weights with --backbone NAME.",
    )
