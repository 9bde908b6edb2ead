"""Combinations of pieces that make no sense, refused before any data is read: `check_combination` looks at the recipe,
`rehearse` tries the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fieldmark.augment.mixing import WEIGHED
from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import NONE, Choice, Recipe
from fieldmark.data.task import Task
from fieldmark.learning.training.optimizer import early_stages
from fieldmark.model.backbone import processing
from fieldmark.model.build import build_model, has_usual_size, num_parameters
from fieldmark.model.method import METHODS, Method
from fieldmark.model.necks.neck import NECKS

__all__ = ["check_combination", "no_linear_head", "rehearse"]

MOST_PARAMETERS = 4_000_000_000


def check_combination(recipe: Recipe) -> None:
    """Raise RecipeError for pieces that cannot be combined."""
    _check_method(recipe)
    _check_logistic(recipe)
    _check_batches(recipe)


def rehearse(recipe: Recipe) -> None:
    """Build the recipe's model, without weights and for two classes, and show it an image of noise.

    Raises RecipeError for problems that only show then: stages that the backbone does not have, an image size that it
    cannot process, a map of one cell where several are needed, or no class maps to weight labels by.
    """
    plain = recipe.model_copy(update={"loss": Choice(name="cross_entropy")})  # others need to know the data
    if not has_usual_size(plain) and (number := num_parameters(plain, Task(2))) > MOST_PARAMETERS:
        raise RecipeError(
            f"The recipe names a network of {number:,} parameters, where {MOST_PARAMETERS:,} are the most",
            "Lower the options of its backbone, its method or its neck.",
        )
    model = build_model(plain, Task(2), load_weights=False).eval()
    if recipe.train.solver != "logistic":
        early_stages(model.backbone, recipe.train.freeze_stages)
    method = model.method
    size = method.backbone.fixed_size or min(recipe.images.size, recipe.images.train_size)
    image = torch.rand(1, 3, size, size)
    with processing(recipe.backbone.name, size), torch.no_grad():
        cells = method.backbone(image).map
        maps = method(image).parts
    if maps is not None and maps[0, 0].numel() == 1:
        raise _one_cell(
            recipe,
            size,
            f"The method {recipe.method.name!r} finds parts among several cells",
            "use another method or backbone",
        )
    if recipe.neck.name != NONE and cells[0, 0].numel() == 1:
        raise _one_cell(recipe, size, f"The neck {recipe.neck.name!r} pools several cells", "set neck.name = 'none'")
    if recipe.augment.mix in WEIGHED:
        _check_class_maps(recipe, method, image)


def _check_method(recipe: Recipe) -> None:
    """What methods with layers of their own cannot do."""
    name, train = recipe.method.name, recipe.train
    method = METHODS.get(name)
    if method.pools and recipe.neck.name != NONE:
        raise RecipeError(
            f"The method {name!r} pools the feature map itself, so the neck {recipe.neck.name!r} would have no effect",
            "Leave the neck out, or use it with method.name = 'transfer'.",
        )
    if _needs_unmixed(method, options := recipe.method.options) and recipe.augment.mix != NONE:
        why = [key for key in options if not _needs_unmixed(method, {k: v for k, v in options.items() if k != key})]
        raise RecipeError(
            f"The method {name!r} with these options needs unmixed images, but augment.mix = {recipe.augment.mix!r} "
            "mixes them",
            "Set augment.mix=none" + "".join(f", or leave out method.{key}" for key in why[:1]) + ".",
        )
    if method.adds_layers and "logistic" in (train.solver, train.head_start):
        key, other = ("solver", "gradient") if train.solver == "logistic" else ("head_start", "random")
        raise RecipeError(
            f"train.{key} = 'logistic' fits a head to fixed features, but {name!r} must learn its own",
            f"Set train.{key} = {other!r}, or method.name = 'transfer'.",
        )


def _needs_unmixed(method: type[Method], options: Mapping[str, Any]) -> bool:
    return method.needs_hard_labels(options) or method.needs_keypoints(options)


def _check_logistic(recipe: Recipe) -> None:
    train = recipe.train
    if "logistic" in (train.solver, train.head_start) and recipe.head.name != "linear":
        raise no_linear_head(recipe)
    if train.solver == "logistic" and recipe.loss.name != "cross_entropy":
        raise RecipeError(
            f"A logistic regression minimises cross-entropy and cannot use the loss {recipe.loss.name!r}",
            "Use train.solver = 'gradient', or leave loss.name out.",
        )
    if train.solver == "logistic" and train.members > 1:
        raise RecipeError(
            f"train.solver = 'logistic' has only one solution, so train.members = {train.members} would all be equal",
            "Set train.members = 1, or train.solver = 'gradient'.",
        )
    neck = recipe.neck.name
    if train.head_start == "logistic" and neck != NONE and not NECKS.get(neck).starts_as_mean:
        raise RecipeError(
            f"train.head_start = 'logistic' fits a head to pretrained features, but the neck {neck!r} changes them by "
            "layers that have learnt nothing yet",
            "Set train.head_start = 'random', or leave the neck out.",
        )
    kinds = ("align", "warp", "swap", "mix", "color", "trivial", "erasing")
    changes = [f"augment.{name}" for name in kinds if getattr(recipe.augment, name) not in (NONE, 0, False)]
    if train.solver == "logistic" and changes:
        raise RecipeError(
            f"train.solver = 'logistic' does not augment images, so it cannot be combined with {', '.join(changes)}",
            f"Use a recipe that trains by gradients, such as finetune, or leave {_these(changes)} out.",
        )
    pieces = {"neck": recipe.neck.name, "auxiliary": recipe.auxiliary.name}
    for section, name in pieces.items():
        if train.solver == "logistic" and name != NONE:
            raise RecipeError(
                f"train.solver = 'logistic' trains only the head, so the {section} {name!r} would learn nothing",
                f"Set {section}.name = 'none', or train.solver = 'gradient'.",
            )


def _check_batches(recipe: Recipe) -> None:
    train = recipe.train
    if recipe.auxiliary.name != NONE and train.pseudo_weight:
        raise RecipeError(
            f"The auxiliary {recipe.auxiliary.name!r} compares images by their labels and takes all for certain, but "
            f"train.pseudo_weight = {train.pseudo_weight:g} adds labels that are not",
            "Set train.pseudo_weight = 0 or auxiliary.name = 'none'.",
        )
    if recipe.auxiliary.name != NONE and recipe.augment.mix != NONE:
        raise RecipeError(
            f"The auxiliary {recipe.auxiliary.name!r} needs images of one class each, but augment.mix = "
            f"{recipe.augment.mix!r} makes images of two classes",
            "Set augment.mix = 'none' or auxiliary.name = 'none'.",
        )
    if train.sampling == "class_batches" and (
        train.batch_size % train.images_per_class or train.batch_size < 2 * train.images_per_class
    ):
        fitting = max(2, round(train.batch_size / train.images_per_class)) * train.images_per_class
        raise RecipeError(
            f"train.batch_size = {train.batch_size} cannot be divided into two or more classes of "
            f"train.images_per_class = {train.images_per_class}",
            f"Set train.batch_size to a multiple, such as {fitting}.",
        )
    if train.sampling != "shuffled" and recipe.loss.options.get("logit_adjustment"):
        raise RecipeError(
            f"train.sampling = {train.sampling!r} and loss.logit_adjustment would both compensate for rare classes",
            "Set train.sampling = 'shuffled' or loss.logit_adjustment = 0.",
        )


def _check_class_maps(recipe: Recipe, method: Method, image: Tensor) -> None:
    """Raise RecipeError unless method, neck, head and backbone together give class maps."""
    maps = method.class_maps(image, torch.zeros(1, dtype=torch.int64))
    mix = f"augment.mix = {recipe.augment.mix!r} weights labels by class maps, but"
    if maps is None:
        offers = [name for name in METHODS if METHODS.get(name).class_maps is not Method.class_maps]
        raise RecipeError(
            f"{mix} the method {recipe.method.name!r} has none",
            f"Use augment.mix = 'cutmix', or a method that has class maps: {', '.join(offers)}.",
        )
    if maps[0].numel() == 1:
        what = f"augment.mix = {recipe.augment.mix!r} weights labels by class maps of several cells"
        raise _one_cell(recipe, image.shape[-1], what, "set augment.mix = 'cutmix'")
    if not maps.any():
        raise RecipeError(
            f"{mix} the backbone {recipe.backbone.name!r} answers from a class token and not from the cells of its map",
            "Use augment.mix = 'cutmix' or, if the backbone supports it, average pooling: "
            "backbone.options.global_pool = 'avg', backbone.options.fc_norm = false.",
        )


def _one_cell(recipe: Recipe, size: int, what: str, instead: str) -> RecipeError:
    return RecipeError(
        f"{what}, but the map of {recipe.backbone.name!r} has only one cell at {size} px",
        f"Raise images.size above {size}, or {instead}.",
    )


def _these(options: list[str]) -> str:
    return "this option" if len(options) == 1 else "these options"


def no_linear_head(recipe: Recipe) -> RecipeError:
    """The error for a recipe without a linear head that a logistic regression could fit."""
    return RecipeError(
        f"A logistic regression fits a linear head, but the method {recipe.method.name!r} with the head "
        f"{recipe.head.name!r} has none",
        "Use method.name = 'transfer' with head.name = 'linear', or train.solver = 'gradient' and "
        "train.head_start = 'random'.",
    )
