"""Names in bundles and in data mean the same however they were typed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.errors import DataError, RunError
from fieldmark.core.recipe import Backbone, Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.task import Task
from fieldmark.model.build import build_model
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import with_classes_of
from support.models import predictor_of, rewrite


def bundle(folder: Path, *names: str) -> Bundle:
    recipe = Recipe(backbone=Backbone(name="test_resnet", weights="none"))
    placeholder = tuple(f"class {k}" for k in range(len(names)))
    predictor_of(build_model(recipe, Task(len(names))), placeholder, recipe).save(folder)
    rewrite(folder, classes=list(names))
    return Bundle.load(folder)


def catalog(*names: str) -> Catalog:
    labels, empty = np.arange(len(names)), np.full(len(names), "")
    return Catalog("made up", Path(), tuple(f"{k}.jpg" for k in labels), labels, names, empty, empty)


def test_a_bundle_of_before_has_names_as_they_were_typed(tmp_path: Path) -> None:
    found = bundle(tmp_path, unicodedata.normalize("NFD", "ros\u00e9"), " tulip ")
    assert found.classes == ("ros\u00e9", "tulip")
    numbered = with_classes_of(found, catalog("tulip", "ros\u00e9"), np.arange(2))
    assert numbered.labels.tolist() == [1, 0]


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is damaged: classes has a name twice"):
        bundle(tmp_path, "rose ", "rose")


def test_genus_and_epithet_or_the_epithet_alone(tmp_path: Path) -> None:
    """Which of both folders give depends on which others there are."""
    whole = bundle(tmp_path / "whole", "Passerina ciris", "Passerina amoena", "Piranga rubra")
    assert with_classes_of(whole, catalog("amoena", "rubra"), np.arange(2)).labels.tolist() == [1, 2]
    short = bundle(tmp_path / "short", "ciris", "amoena", "rubra")
    assert with_classes_of(short, catalog("Piranga rubra", "ciris"), np.arange(2)).labels.tolist() == [2, 0]
    for names in (("rubra", "unknown"), ("Motacilla ciris",)):
        with pytest.raises(DataError, match="unknown to the model"):
            with_classes_of(whole, catalog(*names), np.arange(len(names)))
    twice = bundle(tmp_path / "twice", "Larus canus", "Picus canus")
    with pytest.raises(DataError, match="1 of 1 classes in made up are unknown to the model: canus"):
        with_classes_of(twice, catalog("canus"), np.arange(1))
