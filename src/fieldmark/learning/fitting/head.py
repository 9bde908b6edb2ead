"""The head of a probe, fitted to what the backbone makes of images, and put in its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.learning.fitting.combinations import no_linear_head
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.fitting.task import codes_of, task_of
from fieldmark.learning.training.probe import STRENGTHS, LinearHead, Reading, fit_linear_head
from fieldmark.model.heads.linear import LinearClassifier
from fieldmark.model.model import Model

__all__ = ["fit_head", "linear_head"]


def fit_head(
    model: Model,
    features: NDArray[np.float32],
    rows: NDArray[np.int64],
    recipe: Recipe,
    data: Prepared,
    listener: Listener,
    strengths: Sequence[float] | None = None,
) -> LinearHead:
    """Give the model the head of a probe, a logistic regression on features (N, D) of the rows or, in its place, a
    discriminant; and its attributes theirs. It chooses its C from `strengths`, the usual ones if not given.

    Raises RecipeError if the method has no linear head.
    """
    classifier = linear_head(model, recipe)
    catalog = data.catalog
    reading: Reading = "unit" if classifier.unit else "standardised"
    fitted = fit_linear_head(
        features,
        catalog.labels[rows],
        data.units[rows],
        len(catalog.classes),
        reading=reading,
        weights=None if data.weights is None else data.weights[rows],
        strengths=strengths or STRENGTHS[reading],
        seed=recipe.seed,
    )
    if fitted.strength is None:
        found = "" if fitted.accuracy is None else f" (accuracy on held-out images {100 * fitted.accuracy:.1f} %)"
        listener.note(f"So many images of so many classes have a discriminant as their head{found}")
    elif fitted.accuracy is None:
        listener.note(f"C = {fitted.strength:g}: with one image of a class, there is none to choose it by")
    else:
        listener.note(f"Chose C = {fitted.strength:g} (cross-validated accuracy {100 * fitted.accuracy:.1f} %)")
    with torch.no_grad():
        classifier.linear.weight.copy_(torch.from_numpy(fitted.weight))
        classifier.linear.bias.copy_(torch.from_numpy(fitted.bias))
    _fit_attributes(model, features, rows, recipe, data)
    return fitted


def _fit_attributes(
    model: Model, features: NDArray[np.float32], rows: NDArray[np.int64], recipe: Recipe, data: Prepared
) -> None:
    """The same for its attributes, by the rows where each is known."""
    if model.attributes is None:
        return
    task = task_of(data.catalog, recipe, rows)
    codes = codes_of(data.catalog, task)[rows]
    for linear, attribute, code in zip(model.attributes.linear, task.attributes, codes.T, strict=True):
        assert isinstance(linear, torch.nn.Linear)
        known = code >= 0
        if len(np.unique(code[known])) < 2:  # in a fold, a rare value may be missing: then nothing is said
            torch.nn.init.zeros_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
            continue
        fitted = fit_linear_head(
            features[known], code[known], data.units[rows][known], len(attribute.values), seed=recipe.seed
        )
        counts = np.array(attribute.counts, np.float32).clip(1)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(fitted.weight))
            # by the adjustment of a head that is learnt step by step; see `AttributeHeads`
            linear.bias.copy_(
                torch.from_numpy(fitted.bias - recipe.labels.attribute_balance * np.log(counts / counts.sum()))
            )


def linear_head(model: Model, recipe: Recipe) -> LinearClassifier:
    """The head that a logistic regression fits. Raises RecipeError if the method has no linear head."""
    classifier = model.method.head.classifier
    if not isinstance(classifier, LinearClassifier):
        raise no_linear_head(recipe)
    return classifier
